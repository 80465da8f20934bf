//! The command line of `lvsd`.

use crate::config::{Config, ConfigError};
use crate::run;
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// A Layer 4 director in user space: what Linux Virtual Server does, over AF_PACKET rings.
#[derive(Debug, Parser)]
#[command(name = "lvsd", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Directs traffic in this network namespace until SIGTERM or SIGINT; SIGHUP reads the rules of
    /// the configuration again.
    Run(RunArgs),
    /// Says what is wrong in a configuration file; changes nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration file; without one the director starts empty on all interfaces, to be
    /// filled by lvsadm.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// The control socket, instead of the configuration's.
    #[arg(short, long)]
    socket: Option<PathBuf>,
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
    }
}

fn run(args: RunArgs) -> ExitCode {
    if args.die_with_parent {
        let signal = Some(rustix::process::Signal::KILL);
        // Without it the process merely lives on.
        let _ = rustix::process::set_parent_process_death_signal(signal);
    }
    let mut config = match args.config.as_deref().map(Config::load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => return refuse(&error),
    };
    if let Some(socket) = args.socket {
        config.socket = socket;
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("LVSD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(config.log.word()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run::run(config, args.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn check(file: &std::path::Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            let line = format!("{}: {}\n", file.display(), config.summary());
            match std::io::stdout().write_all(line.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    let text = match error {
        ConfigError::Unreadable { .. } => return fail(&error.to_string()),
        _ => error.to_string(),
    };
    fail(&text)
}

fn fail(text: &str) -> ExitCode {
    // With no one to tell, the status has to do.
    let _ = writeln!(std::io::stderr(), "lvsd: {text}");
    ExitCode::FAILURE
}
