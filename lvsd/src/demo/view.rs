//! The table: what the director says of each destination, drawn over itself on a terminal, one line
//! a second otherwise.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use lvs_api::{Client, ClientError, DestinationStatus, ServiceStatus, key};
use lvs_core::{Counters, Endpoint, Protocol, ServiceKey};

use super::DemoError;

/// How often a line is printed where nothing can be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Asks the director and draws.
#[derive(Debug)]
pub(super) struct View {
    client: Client,
    live: bool,
    drawn: usize,
    title: &'static str,
    last_line: Option<Instant>,
    before: HashMap<(ServiceKey, Endpoint), (Instant, Counters)>,
}

impl View {
    pub(super) fn connect(socket: &Path, live: bool) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::connect(socket)?,
            live,
            drawn: 0,
            title: "",
            last_line: None,
            before: HashMap::new(),
        })
    }

    /// Shows the service at `to` as it is now.
    pub(super) fn show(
        &mut self,
        title: &'static str,
        to: SocketAddr,
        out: &mut impl Write,
    ) -> Result<(), DemoError> {
        let vip = Endpoint::new(to.ip().into(), to.port());
        let protocol = Protocol::Tcp;
        let wanted = ServiceKey::Endpoint { protocol, vip };
        let services = self.client.services(Some(&wanted))?;
        let Some(service) = services.first() else {
            return Ok(());
        };
        if self.title != title {
            self.title = title;
            self.drawn = 0;
            self.last_line = None;
        }
        if self.live {
            self.draw(title, service, out)?;
        } else if self
            .last_line
            .is_none_or(|last| last.elapsed() >= LINE_EVERY)
        {
            self.last_line = Some(Instant::now());
            print_line(title, service, out)?;
        }
        Ok(())
    }

    /// Leaves the last table as it stands.
    pub(super) fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.drawn = 0;
        writeln!(out)
    }

    fn draw(
        &mut self,
        title: &str,
        service: &ServiceStatus,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        } else {
            writeln!(out)?;
        }
        let listen = key::format(&service.config.key);
        let mut lines = vec![
            format!("\x1b[1m{title:<4} {listen}\x1b[0m"),
            format!(
                "  {:<24} {:>8} {:>8} {:>10} {:>10} {:>9} {:>9} {:>8} {:>8}",
                "destination",
                "active",
                "conns",
                "packets",
                "replies",
                "MB in",
                "MB out",
                "conns/s",
                "MB/s"
            ),
        ];
        for destination in &service.destinations {
            let rates = self.rates(service, destination);
            lines.push(row(destination, rates));
        }
        for line in &lines {
            writeln!(out, "\x1b[2K{line}")?;
        }
        self.drawn = lines.len();
        out.flush()
    }

    /// Connections and megabytes a second since this was last asked.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn rates(&mut self, service: &ServiceStatus, destination: &DestinationStatus) -> (f64, f64) {
        let key = (service.config.key, destination.config.address);
        let now = (Instant::now(), destination.counters);
        let Some((then, before)) = self.before.insert(key, now) else {
            return (0.0, 0.0);
        };
        let passed = destination.counters - before;
        let seconds = then.elapsed().as_secs_f64().max(1e-3);
        let bytes = passed.in_bytes + passed.out_bytes;
        (passed.conns as f64 / seconds, bytes as f64 / 1e6 / seconds)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn row(destination: &DestinationStatus, (conns, megabytes): (f64, f64)) -> String {
    let counters = &destination.counters;
    format!(
        "  {:<24} {:>8} {:>8} {:>10} {:>10} {:>9.1} {:>9.1} {:>8.0} {:>8.1}",
        destination.config.address.to_string(),
        destination.active,
        counters.conns,
        counters.in_packets,
        counters.out_packets,
        counters.in_bytes as f64 / 1e6,
        counters.out_bytes as f64 / 1e6,
        conns,
        megabytes,
    )
}

fn print_line(title: &str, service: &ServiceStatus, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{title:<4}")?;
    for destination in &service.destinations {
        let counters = &destination.counters;
        write!(
            out,
            "  {} {} conns {} packets",
            destination.config.address,
            counters.conns,
            counters.in_packets + counters.out_packets
        )?;
    }
    writeln!(out)?;
    out.flush()
}
