//! `lvsd demo`: a site in network namespaces, this very program as its director, real HTTP through
//! it with each forwarding method, and a live table of what it does.
//!
//! In: [`Options`]. Out: text on stdout, and an error when a request failed or the director ended.
//! Root is not needed where user namespaces are allowed. It must be the first thing a process does,
//! since a user namespace can be entered only before there are threads. Never: anything outside the
//! namespaces it made, which vanish with it.
//!
//! ```no_run
//! # fn main() -> Result<(), lvsd::demo::DemoError> {
//! lvsd::demo::run(&lvsd::demo::Options::default())
//! # }
//! ```

mod interrupt;
mod load;
mod view;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, io};

use lvs_core::ForwardMethod;
use lvs_testbed::{
    Daemon, DaemonConfig, Rule, Site, SiteConfig, Target, Vip, check, enter_user_namespace,
};

use interrupt::Interrupt;
use load::{Load, Tally};
use view::View;

/// The port of everything.
const PORT: u16 = 80;

/// Between two looks at the director.
const REDRAW: Duration = Duration::from_millis(200);

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Leave the site up at the end, until Ctrl-C.
    pub keep: bool,
    /// Seconds of traffic for each method, at least 1.
    pub seconds: u32,
    /// The methods, in order: masquerade, direct route, tunnel. Others are passed over.
    pub methods: Vec<ForwardMethod>,
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// The director's program; none for this one.
    pub program: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep: false,
            seconds: 4,
            methods: Vip::ALL.map(Vip::method).into(),
            ipv6: false,
            program: None,
        }
    }
}

/// Why the demo could not be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The site could not be built or something in it failed.
    #[error(transparent)]
    Site(#[from] lvs_testbed::Error),
    /// The director ended in the middle.
    #[error("lvsd ended ({how}); it said:\n{said}")]
    Ended {
        /// Its exit status.
        how: String,
        /// Its stderr.
        said: String,
    },
    /// Requests failed.
    #[error(
        "{failed} of {all} requests by {method} failed, the first: {first}; lvsd said:\n{said}"
    )]
    Requests {
        /// The forwarding method.
        method: &'static str,
        /// How many failed.
        failed: u64,
        /// How many there were.
        all: u64,
        /// What the first failure was.
        first: String,
        /// The director's stderr.
        said: String,
    },
    /// The director does not answer on its control socket.
    #[error(transparent)]
    Control(#[from] lvs_api::ClientError),
    /// Our own program cannot be found, or stdout is closed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Gives the demo.
///
/// # Errors
///
/// When something is missing on this machine, the director ends, or a request fails.
pub fn run(options: &Options) -> Result<(), DemoError> {
    enter_user_namespace()?;
    let started = Instant::now();
    let program = match &options.program {
        Some(program) => program.clone(),
        None => env::current_exe()?,
    };
    let mut interrupt = Interrupt::new()?;
    let mut out = io::stdout().lock();
    let live = out.is_terminal();
    writeln!(out, "Building a site: a client, a director, three servers.")?;
    check(true)?;
    let site = Site::new(SiteConfig::default())?;
    let _servers = site.start_http(PORT)?;
    let config = config(&site);
    let mut daemon = Daemon::start(&program, site.director(), &config)?;
    writeln!(
        out,
        "lvsd directs in a namespace of its own, process {}, after {:.1} s.\n",
        daemon.child().id(),
        started.elapsed().as_secs_f64()
    )?;
    let mut view = View::connect(daemon.socket(), live)?;
    let mut results = Vec::new();
    let wanted = Vip::ALL.into_iter();
    let wanted: Vec<Vip> = options
        .methods
        .iter()
        .filter_map(|method| wanted.clone().find(|vip| vip.method() == *method))
        .collect();
    for vip in wanted {
        let tally = show(
            options,
            vip,
            &site,
            &mut daemon,
            &mut view,
            &mut interrupt,
            &mut out,
        )?;
        if tally.failed > 0 {
            return Err(DemoError::Requests {
                method: name(vip),
                failed: tally.failed,
                all: tally.failed + tally.requests,
                first: tally.first_failure.unwrap_or_default(),
                said: daemon.said(),
            });
        }
        results.push((vip, tally));
        if interrupt.came() {
            break;
        }
    }
    view.finish(&mut out)?;
    writeln!(out, "What the client saw:")?;
    for (vip, tally) in &results {
        let to = vip.endpoint(options.ipv6, PORT);
        writeln!(out, "  {:<6} {to:<18}  {tally}", name(*vip))?;
    }
    if options.keep && !interrupt.came() {
        keep(options, &site, &mut daemon, &mut interrupt, &mut out)?;
    }
    drop(view);
    daemon.stop()?;
    let seconds = started.elapsed().as_secs_f64();
    writeln!(out, "\nEverything is gone again, after {seconds:.1} s.")?;
    Ok(())
}

/// What people call the method of a VIP.
const fn name(vip: Vip) -> &'static str {
    match vip {
        Vip::Nat => "NAT",
        Vip::DirectRoute => "DR",
        Vip::Tunnel => "TUN",
    }
}

/// A service for each method and family, with every server.
fn config(site: &Site) -> DaemonConfig {
    let rule = |vip: Vip, ipv6| Rule {
        protocol: "tcp",
        vip: vip.endpoint(ipv6, PORT),
        scheduler: "rr",
        targets: (0..site.config().servers)
            .map(|index| Target {
                address: SocketAddr::new(site.server_address(index, ipv6), PORT),
                method: vip.word(),
                weight: 1,
            })
            .collect(),
    };
    let both = |ipv6| Vip::ALL.map(|vip| rule(vip, ipv6));
    DaemonConfig {
        interfaces: vec!["d0".into(), "d1".into()],
        rules: [both(false), both(true)].concat(),
        log: Some("warn".into()),
        ..DaemonConfig::default()
    }
}

/// Traffic to one VIP, and the table meanwhile.
fn show(
    options: &Options,
    vip: Vip,
    site: &Site,
    daemon: &mut Daemon,
    view: &mut View,
    interrupt: &mut Interrupt,
    out: &mut impl Write,
) -> Result<Tally, DemoError> {
    let to = vip.endpoint(options.ipv6, PORT);
    let time = Duration::from_secs(options.seconds.max(1).into());
    let load = Load::start(site.client(), to);
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || interrupt.came() {
            break;
        }
        if let Some(how) = daemon.child().try_wait()? {
            return Err(DemoError::Ended {
                how: how.to_string(),
                said: daemon.said(),
            });
        }
        interrupt.sleep(left.min(REDRAW));
        view.show(name(vip), to, out)?;
    }
    Ok(load.stop())
}

/// Leaves everything as it is until Ctrl-C, and says what can be done with it.
fn keep(
    options: &Options,
    site: &Site,
    daemon: &mut Daemon,
    interrupt: &mut Interrupt,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    let socket = daemon.socket().display();
    let (client, director) = (site.client().nsenter(), site.director().nsenter());
    let url = format!("http://{}/", Vip::Nat.address(options.ipv6));
    let url = if options.ipv6 {
        format!("http://[{}]/", Vip::Nat.address(true))
    } else {
        url
    };
    let first = SocketAddr::new(site.server_address(0, options.ipv6), PORT);
    let vip = Vip::Nat.endpoint(options.ipv6, PORT);
    write!(
        out,
        "\nThe site stays up until Ctrl-C. In another terminal:\n\n\
         \x20 {client} curl {url}\n\
         \x20 lvsadm --socket {socket} -Ln --stats\n\
         \x20 lvsadm --socket {socket} -d -t {vip} -r {first}\n\
         \x20 {director} tcpdump -ni d0\n\n"
    )?;
    out.flush()?;
    while !interrupt.sleep(REDRAW) {
        if let Some(how) = daemon.child().try_wait()? {
            let (how, said) = (how.to_string(), daemon.said());
            return Err(DemoError::Ended { how, said });
        }
    }
    Ok(())
}
