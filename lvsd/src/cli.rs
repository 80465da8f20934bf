//! The command line of `lvsd`.
//!
//! Arguments in; a daemon that runs, a report about a configuration, or one sentence and a status
//! out. It decides nothing else.

mod captures;

use crate::config::{Config, ConfigError};
use crate::replay::Tally;
use crate::run::Io;
use crate::{replay, run};
use clap::{Args, Parser, Subcommand};
use lvs_core::ForwardMethod;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A Layer 4 director in user space: what Linux Virtual Server does, over AF_PACKET rings.
///
/// lvsd takes connections to virtual services and hands each to one of the servers behind, by
/// address translation, direct routing or a tunnel, with the schedulers and the behaviour of the
/// kernel's IPVS. lvsadm administers it while it runs.
#[derive(Debug, Parser)]
#[command(name = "lvsd", version, max_term_width = 100, after_long_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
FILES
  /run/lvsd.sock   The control socket, mode 0600 unless [control] in the configuration says
                   otherwise: who may open it may edit the rules.

ENVIRONMENT
  LVSD_LOG         What is logged, instead of the configuration's `log`; a word, or a filter such
                   as info,lvsd::host=debug.

SIGNALS
  SIGTERM, SIGINT  End. The host is left as it was found.
  SIGHUP           Read the rules and timeouts of the configuration again. What has not changed
                   keeps its connections and counters; a file that is wrong changes nothing.

EXIT STATUS
  0  Ended as it was asked to; the configuration is right.
  1  The configuration is wrong, another lvsd runs, or something else is missing; the error
     stream says what.
  2  The command line is wrong, or a recording cannot be read.

SEE ALSO
  lvsadm(8), lvsd.toml(5)";

/// The status when what was given cannot be used.
const UNUSABLE: u8 = 2;

#[derive(Debug, Subcommand)]
enum Command {
    /// Direct traffic in this network namespace until SIGTERM or SIGINT.
    ///
    /// Needs CAP_NET_RAW and CAP_NET_ADMIN over the network namespace; says so if they are missing.
    /// SIGHUP reads the rules of the configuration again. Under systemd it reports when it is
    /// ready (Type=notify).
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Say everything that is wrong in a configuration file; change nothing.
    ///
    /// Reports every problem with its place and what would be right, and exits with 1; a file that
    /// is right gets one line, and 0. It needs no rights and no running lvsd.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Show it at work: a small site in network namespaces, real HTTP through it.
    ///
    /// Builds a client, a director and three servers in network namespaces of their own, sends HTTP
    /// through the director by NAT, direct routing and a tunnel, shows what it does, and takes
    /// everything away again. Needs root, or a user who may make user namespaces; touches nothing
    /// outside.
    Demo(DemoArgs),
    /// Send captured packets through a director in memory, and capture what it sends.
    ///
    /// Reads rules and a capture for each side of the director; the timestamps are the clock. Writes
    /// what the director sends to DIR/SIDE.pcap, and with --explain a verdict a packet. What the
    /// director itself sent in the captures is left out. What the captures do not show of the network
    /// can be said by options. The numbers that a kernel draws (identifications, GUE's source ports)
    /// are the director's own here. It needs no rights, and nothing of the network.
    #[command(after_long_help = captures::EXAMPLES)]
    Replay(Box<captures::ReplayArgs>),
    /// Do again what a kernel's IPVS was recorded to do, and say where it comes out differently.
    ///
    /// Plays each case of the recordings to a director in memory: configuration, packets, edits,
    /// waits (in no time), listings. Writes `ok CASE`, or `FAILED CASE: ` and the first event that
    /// differs; the last line is `N passed, M failed`. Exits with 1 if any failed, with 2 if a file
    /// is no recording. It needs no rights, and nothing of the network.
    ReplayTrace {
        /// Recordings: one case a line, as JSON.
        #[arg(required = true, value_name = "TRACE.jsonl")]
        files: Vec<PathBuf>,
    },
    /// Do again what a kernel's IPVS was captured doing on both of its sides, byte for byte.
    ///
    /// What came to the kernel in each scene goes to a director in memory, on the clock of the
    /// captures; what leaves it has to be what left the kernel, and the connections at the end those
    /// of the kernel. Writes `ok SCENE`, or `FAILED SCENE: ` and the first byte that differs, with its
    /// packet and field; the last line is `N passed, M failed`. Exits with 1 if any failed, with 2 if
    /// there is no index. Fields that the kernel draws (the identification of outer headers and of ICMP
    /// errors, IPv6 fragment identifications, flow labels of answers, GUE's source port) are taken over;
    /// fragments may leave at another moment.
    ReplayScenes {
        /// The folder: index.jsonl, and NAME.client.pcap and NAME.server.pcap of each scene.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Do again what a kernel's connections were recorded to do, packet by packet.
    ///
    /// Plays each conversation of the recordings to a director in memory, and compares the state of
    /// the connection, the seconds that it has left, and where the packet went, after each packet.
    /// Writes `ok FILE: PACKETS`, or `FAILED ` and the first difference; the last line is `N passed, M
    /// failed`. Exits with 1 if any failed, with 2 if a file is no recording.
    ReplayStates {
        /// Recordings: a set-up in the first line, then a conversation a line, as JSON.
        #[arg(required = true, value_name = "STATES.jsonl")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leave the site up until Ctrl-C, and say what to type next.
    #[arg(long)]
    keep: bool,
    /// Seconds of traffic for each forwarding method.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// IPv6 instead of IPv4.
    #[arg(short = '6', long)]
    ipv6: bool,
    /// The forwarding methods to show: nat, dr, tun.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "nat,dr,tun"
    )]
    methods: Vec<ForwardMethod>,
}

const RUN_EXAMPLES: &str = "\
EXAMPLES
  lvsd run /etc/lvsd.toml
  lvsd run                  # no rules yet: lvsadm brings them
  lvsd run --io none --socket /tmp/try.sock   # then: lvsadm --socket /tmp/try.sock ...
  kill -HUP \"$(pidof lvsd)\"";

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration file.
    ///
    /// Without one the director starts without rules on all interfaces but the loopback, to be
    /// filled by lvsadm.
    file: Option<PathBuf>,
    /// The same as FILE.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// The control socket, instead of the configuration's.
    #[arg(short, long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How packets come and go.
    ///
    /// With `none` there are none, no rights are needed and nothing of the host is touched: for
    /// trying rules and scripts. Rules, listings and refusals are those of a director that works.
    #[arg(long, value_enum, default_value_t)]
    io: Io,
    /// End when the parent process ends, however it ends.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

/// Does what the arguments of the process say.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Check { file } => check(&file),
        Command::Demo(args) => demo(args),
        Command::Replay(args) => replay_captures(*args),
        Command::ReplayTrace { files } => replay(&files),
        Command::ReplayScenes { folder } => replay_scenes(&folder),
        Command::ReplayStates { files } => replay_states(&files),
    }
}

fn replay(files: &[PathBuf]) -> ExitCode {
    compared(replay::read_all(files), |cases, out| {
        replay::run(&cases, out)
    })
}

fn replay_captures(args: captures::ReplayArgs) -> ExitCode {
    use replay::captures::{CaptureError, CapturesError};
    let mut out = BufWriter::new(io::stdout().lock());
    let played = replay::captures::run(&args.into(), &mut out, &mut io::stderr());
    match played.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(CapturesError::Unwritable(why)) if why.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::FAILURE
        }
        Err(error) => {
            let failed = fail(&error.to_string());
            match error {
                CapturesError::Unwritable(_)
                | CapturesError::NoFolder(..)
                | CapturesError::Capture(CaptureError::Unwritable(..)) => failed,
                _ => ExitCode::from(UNUSABLE),
            }
        }
    }
}

fn replay_scenes(folder: &Path) -> ExitCode {
    compared(replay::scenes::index::read(folder), |scenes, out| {
        replay::run_scenes(folder, &scenes, out)
    })
}

fn replay_states(files: &[PathBuf]) -> ExitCode {
    let read: Result<Vec<_>, _> = files
        .iter()
        .map(|file| replay::states::read(file))
        .collect();
    compared(read, |recordings, out| replay::run_states(&recordings, out))
}

/// Plays what was read, if it could be, and writes what came out.
fn compared<T>(
    read: Result<T, impl Display>,
    play: impl FnOnce(T, &mut dyn Write) -> io::Result<Tally>,
) -> ExitCode {
    let recordings = match read {
        Ok(recordings) => recordings,
        Err(error) => {
            fail(&error.to_string());
            return ExitCode::from(UNUSABLE);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let played = play(recordings, &mut out).and_then(|tally| out.flush().map(|()| tally));
    match played {
        Ok(tally) if tally.failed == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // The reader has seen enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(why) => fail(&format!("cannot write: {why}")),
    }
}

fn run(args: RunArgs) -> ExitCode {
    if args.die_with_parent {
        let signal = Some(rustix::process::Signal::KILL);
        // Without it the process merely lives on.
        let _ = rustix::process::set_parent_process_death_signal(signal);
    }
    let file = args.file.or(args.config);
    let mut config = match file.as_deref().map(Config::load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => return refuse(&error),
    };
    if let Some(socket) = args.socket {
        config.control.socket = socket;
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("LVSD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(config.log.word()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run::run(config, file, args.io) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn demo(args: DemoArgs) -> ExitCode {
    let options = crate::demo::Options {
        keep: args.keep,
        seconds: args.seconds,
        methods: args.methods,
        ipv6: args.ipv6,
        program: None,
    };
    match crate::demo::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            let line = format!("{}: {}\n", file.display(), config.summary());
            match io::stdout().write_all(line.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => refuse(&error),
    }
}

/// Shows what is wrong with a configuration: with its lines, and in colour on a terminal.
fn refuse(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Invalid { .. } => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            // With no one to tell, the status has to do.
            let _ = io::stderr().write_all(error.render(colour).as_bytes());
            ExitCode::FAILURE
        }
        _ => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    // As above.
    let _ = writeln!(io::stderr(), "lvsd: {text}");
    ExitCode::FAILURE
}
