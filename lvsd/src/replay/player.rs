//! Plays one case to a director.
//!
//! A case in; nothing, or its first difference, out. An event takes one tick, in which connections
//! end whose time is over; a wait takes its seconds.

use super::host;
use super::lab::Lab;
use super::packets::{self, HEADROOM};
use super::setup::{self, Status};
use super::tables;
use super::trace::{Case, Event, ServiceRow, Side, Transport, shown};
use crate::control;
use lvs_core::{Endpoint, Tick};
use lvs_director::{Director, DirectorConfig, Verdict, Worker};
use lvs_packet::{Frame, Offload};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Connections that a case may have at once.
const CONNECTIONS: usize = 4096;

/// Where a case came out differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of the event, from 1; 0: what comes before the first.
    pub event: usize,
    /// What kind of event.
    pub kind: &'static str,
    /// What was expected and what happened.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            0 => write!(f, "{}: {}", self.kind, self.what),
            event => write!(f, "event {event} ({}): {}", self.kind, self.what),
        }
    }
}

/// Timers of 2 to 16 seconds are looked at every 64 ticks (IPVS 2.4).
const STEP: u32 = 64;

/// Plays a case.
///
/// # Errors
/// The first difference.
pub fn play(case: &Case) -> Result<(), Difference> {
    let at = |event, kind| move |what| Difference { event, kind, what };
    let mut player = Player::new().map_err(at(0, "set-up"))?;
    // How connections are told to another director changes nothing in one.
    let own = |(name, _): &(&String, &u32)| !name.starts_with("sync_");
    for (name, value) in case.sysctl.iter().filter(own) {
        setup::set(&player.director, name, *value).map_err(at(0, "sysctl"))?;
    }
    setup::mark(&player.director, &case.fwmark).map_err(at(0, "fwmark"))?;
    for line in &case.config {
        let status = player.command(line);
        if status.code != 0 {
            return Err(at(0, "config")(format!("`{line}`: {}", status.reason)));
        }
    }
    for (place, event) in case.events.iter().enumerate() {
        let (kind, outcome) = player.event(event);
        outcome.map_err(at(place + 1, kind))?;
        // A listing comes before what an edit sets going in the background.
        let next = case.events.get(place + 1);
        let lists = matches!(next, Some(Event::Conns { .. } | Event::Check { .. }));
        if !(lists && matches!(event, Event::Edit { .. })) {
            player.moment();
        }
    }
    Ok(())
}

/// A connection that packets were sent for.
#[derive(Clone, Copy)]
struct Known {
    transport: Transport,
    client: Endpoint,
    vip: Endpoint,
    /// Where its first packet came out.
    server: Option<Endpoint>,
}

/// Where a packet came out.
enum Delivered {
    /// At a server, whatever took it there.
    Server(Endpoint),
    /// At the client's side: from whom, to whom, and in words.
    Client(Endpoint, Endpoint, String),
    /// Nowhere; why.
    Nowhere(String),
}

impl Delivered {
    fn words(&self) -> String {
        match self {
            Self::Server(server) => server.to_string(),
            Self::Client(.., words) => words.clone(),
            Self::Nowhere(reason) => format!("nothing ({reason})"),
        }
    }
}

struct Player {
    director: Arc<Director>,
    rules: control::Rules,
    worker: Worker,
    lab: Lab,
    now: Tick,
    known: HashMap<u64, Known>,
}

impl Player {
    fn new() -> Result<Self, String> {
        let config = DirectorConfig {
            connections: CONNECTIONS,
            workers: 1,
        };
        let director = Director::new(&config).map_err(|error| error.to_string())?;
        let worker = director.worker().ok_or("no worker")?;
        Ok(Self {
            rules: control::Rules::new(Arc::clone(&director), || {}),
            director,
            worker,
            lab: Lab::default(),
            now: Tick::from_millis(1_000_000),
            known: HashMap::new(),
        })
    }

    fn command(&self, line: &str) -> Status {
        setup::command(&self.rules, line)
    }

    /// A moment between two events, in which what has ended goes.
    fn moment(&mut self) {
        self.now = self.now + 1;
        self.end();
    }

    /// Lets time pass.
    fn pass(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now = self.now + 1;
            if self.now.0.is_multiple_of(STEP) {
                self.end();
            }
            if self.now.0.is_multiple_of(Tick::PER_SECOND) {
                self.director.tick(self.now);
                setup::defend(&self.director, self.now);
            }
        }
    }

    /// Ends connections whose time is over, as late as the kernel does.
    fn end(&self) {
        let looked_at = Tick(self.now.0 / STEP * STEP);
        self.director.collect(looked_at, usize::MAX);
    }

    fn event(&mut self, event: &Event) -> (&'static str, Result<(), String>) {
        match event {
            Event::Connect {
                id,
                proto,
                src,
                sport,
                dst,
                dport,
                what,
                payload,
                chosen,
                reply,
                ..
            } => {
                let known = Known {
                    transport: *proto,
                    client: endpoint(*src, *sport),
                    vip: endpoint(*dst, *dport),
                    server: None,
                };
                self.known.insert(*id, known);
                let payload = payload.as_deref().unwrap_or_default();
                let came = self.request(known, what.as_deref(), payload);
                // Its server stays who got the first packet, whoever gets others.
                if let (Ok(Delivered::Server(server)), Some(known)) =
                    (&came, self.known.get_mut(id))
                {
                    known.server = Some(*server);
                }
                let outcome = came.and_then(|came| match chosen {
                    Some(server) => expect_server(server, &came),
                    None => expect_words(reply, &came),
                });
                ("connect", outcome)
            }
            Event::Packet {
                id,
                from,
                what,
                to,
                out,
            } => {
                let outcome = self.packet(*id, *from, what.as_deref());
                let outcome = outcome.and_then(|(known, came)| match (out, to.as_deref()) {
                    (Some(out), _) => expect_words(out, &came),
                    (None, None) => expect_words(&[], &came),
                    (None, Some("client")) => match came {
                        Delivered::Client(from, to, _)
                            if from == known.vip && to == known.client =>
                        {
                            Ok(())
                        }
                        other => Err(format!(
                            "expected at the client, from {}; came {}",
                            known.vip,
                            other.words()
                        )),
                    },
                    (None, Some(server)) => expect_server(server, &came),
                });
                (
                    match from {
                        Side::Client => "packet of the client",
                        Side::Server => "packet of the server",
                    },
                    outcome,
                )
            }
            Event::Edit { cmd, rc, .. } => {
                let status = self.command(cmd);
                let outcome = if status.code == *rc {
                    Ok(())
                } else {
                    Err(format!(
                        "`{cmd}`: expected status {rc}, came {}: {}",
                        status.code, status.reason
                    ))
                };
                ("edit", outcome)
            }
            Event::Wait { seconds } => {
                self.pass(Tick::seconds(*seconds));
                ("wait", Ok(()))
            }
            Event::Check { table } => ("check", self.check(table)),
            Event::Conns { conns } => {
                let ours = tables::connections(&self.director, self.now);
                ("conns", tables::compare_connections(conns, &ours))
            }
        }
    }

    fn check(&self, table: &[ServiceRow]) -> Result<(), String> {
        tables::compare_services(table, &tables::services(&self.director))
    }

    fn packet(
        &mut self,
        id: u64,
        from: Side,
        what: Option<&str>,
    ) -> Result<(Known, Delivered), String> {
        let known = *self.known.get(&id).ok_or("no such connection")?;
        let came = match from {
            Side::Client => self.request(known, what, "")?,
            Side::Server => {
                let server = known.server.ok_or("the connection has no server")?;
                let flow = (server, known.client);
                self.send(known.transport, flow, what, "", Side::Server)?
            }
        };
        Ok((known, came))
    }

    fn request(
        &mut self,
        known: Known,
        what: Option<&str>,
        payload: &str,
    ) -> Result<Delivered, String> {
        let flow = (known.client, known.vip);
        let came = self.send(known.transport, flow, what, payload, Side::Client)?;
        Ok(came)
    }

    /// Sends a packet through the director, and through its host if it is left to that.
    fn send(
        &mut self,
        transport: Transport,
        flow: (Endpoint, Endpoint),
        what: Option<&str>,
        payload: &str,
        from: Side,
    ) -> Result<Delivered, String> {
        let (mut buffer, length) = packets::make(transport, flow, what, payload)?;
        let mut frame = Frame::new(&mut buffer, HEADROOM, length, Offload::default());
        self.lab.from = from;
        match self.decide(&mut frame) {
            Verdict::Drop(reason) => Ok(Delivered::Nowhere(format!("dropped: {reason:?}"))),
            Verdict::Answer(_) => came_back(&frame, from),
            Verdict::Forward(hop) => self.forwarded(&frame, hop),
            Verdict::ForwardSegments { .. } | Verdict::ForwardPieces { .. } => {
                Err("a packet to be cut".to_owned())
            }
            Verdict::Held => Err("a fragment".to_owned()),
            Verdict::Pass | Verdict::ToHost => self.left_to_the_host(&mut frame, from),
        }
    }

    fn decide(&mut self, frame: &mut Frame<'_>) -> Verdict {
        let mut verdicts = [Verdict::Pass];
        let frames = core::slice::from_mut(frame);
        self.worker
            .process(self.now, &mut self.lab, frames, &mut verdicts);
        let [verdict] = verdicts;
        verdict
    }

    /// What the director's host makes of a packet that it has kept: its own are answered, others
    /// forwarded. Its answers pass the director as a server's do.
    fn left_to_the_host(&mut self, frame: &mut Frame<'_>, from: Side) -> Result<Delivered, String> {
        let packet = packets::examine(frame)?;
        let flow = packet.flow;
        if Lab::is_host(flow.dst.addr) {
            return match host::stack(frame, &packet, Lab::answers_from(flow.dst.addr)) {
                Ok(true) if from == Side::Client => self.answered_by_the_host(frame),
                Ok(true) => came_back(frame, from),
                Ok(false) => Ok(Delivered::Nowhere("left to the host".to_owned())),
                Err(reason) => Ok(Delivered::Nowhere(format!("the host drops it: {reason:?}"))),
            };
        }
        if Lab::is_client(flow.dst.addr) {
            let words = format!("client {}", packets::describe(frame, &packet));
            return Ok(Delivered::Client(flow.src, flow.dst, words));
        }
        if Lab::is_server(flow.dst.addr) {
            return Ok(Delivered::Server(flow.dst));
        }
        Ok(Delivered::Nowhere("the host has no route".to_owned()))
    }

    fn answered_by_the_host(&mut self, frame: &mut Frame<'_>) -> Result<Delivered, String> {
        self.lab.from_host = true;
        let verdict = self.decide(frame);
        self.lab.from_host = false;
        match verdict {
            Verdict::Forward(_) | Verdict::Pass | Verdict::ToHost => came_back(frame, Side::Client),
            Verdict::Drop(reason) => Ok(Delivered::Nowhere(format!("dropped: {reason:?}"))),
            other => Err(format!("the host's answer became {other:?}")),
        }
    }

    /// What arrives at a next hop.
    fn forwarded(&self, frame: &Frame<'_>, hop: u32) -> Result<Delivered, String> {
        let packet = packets::examine(frame)?;
        let hop = self
            .lab
            .hop(hop)
            .ok_or("sent to a hop that does not exist")?;
        let flow = packet.flow;
        if Lab::is_client(hop) {
            let words = format!("client {}", packets::describe(frame, &packet));
            return Ok(Delivered::Client(flow.src, flow.dst, words));
        }
        if !Lab::is_server(hop) {
            return Err(format!("sent to {hop}, where nobody is"));
        }
        // Direct routing changes nothing but the hop; translation makes it the destination.
        let inner = packets::inside(frame, &packet).unwrap_or(packet);
        Ok(Delivered::Server(Endpoint {
            addr: hop,
            port: inner.flow.dst.port,
        }))
    }
}

/// A frame that went back to its sender.
fn came_back(frame: &Frame<'_>, from: Side) -> Result<Delivered, String> {
    let packet = packets::examine(frame)?;
    let words = packets::describe(frame, &packet);
    Ok(match from {
        Side::Client => {
            let words = format!("client {words}");
            Delivered::Client(packet.flow.src, packet.flow.dst, words)
        }
        Side::Server => {
            let words = format!("server {words}");
            Delivered::Client(packet.flow.src, packet.flow.dst, words)
        }
    })
}

fn expect_server(server: &str, came: &Delivered) -> Result<(), String> {
    let ours = match came {
        Delivered::Server(ours) => ours.to_string(),
        other => other.words(),
    };
    if ours == server {
        return Ok(());
    }
    Err(format!("expected {server}, came {ours}"))
}

/// At most one packet comes out of a director for one that went in.
fn expect_words(words: &[String], came: &Delivered) -> Result<(), String> {
    let same = match (words, came) {
        ([], Delivered::Nowhere(_)) => true,
        ([expected], Delivered::Client(.., ours)) => expected == ours,
        _ => false,
    };
    if same {
        return Ok(());
    }
    let expected = (!words.is_empty()).then(|| words.join(", "));
    Err(format!(
        "expected {}, came {}",
        shown(expected.as_deref()),
        came.words()
    ))
}

fn endpoint(addr: IpAddr, port: u16) -> Endpoint {
    Endpoint::new(addr.into(), port)
}
