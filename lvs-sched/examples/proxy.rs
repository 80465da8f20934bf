//! A proxy for any protocol over TCP: one listener, some servers, least connections first.
//!
//! ```sh
//! cargo run -p lvs-sched --example proxy -- 127.0.0.1:8080 wlc 10.0.0.1:80=1 10.0.0.2:80=3
//! ```
//!
//! What the schedulers need of a program is in `serve`: choose, report that the connection opened,
//! report that it closed.
#![expect(clippy::print_stdout, reason = "it tells what it does")]

use lvs_core::{Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Pool, Request};
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().into(), address.port())
}

/// Copies one direction until it ends, and says so to the other side.
fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}

fn serve(pool: &Pool, client: TcpStream, start: Instant) -> io::Result<()> {
    let now = Tick::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(0));
    let (src, dst) = (
        endpoint(client.peer_addr()?),
        endpoint(client.local_addr()?),
    );
    let Some(backend) = pool.pick(&Request::new(src, dst, now)) else {
        return Ok(()); // Nobody may be given a connection: the client is closed upon.
    };
    backend.opened(true);
    let to = backend.endpoint();
    println!("{src} > {to} ({} there)", backend.active());
    let relayed =
        TcpStream::connect((std::net::IpAddr::from(to.addr), to.port)).and_then(|server| {
            let (upstream, downstream) = (client.try_clone()?, server.try_clone()?);
            thread::scope(|scope| {
                let up = scope.spawn(|| copy(upstream, downstream));
                let down = copy(server, client);
                up.join().unwrap_or(Ok(())).and(down)
            })
        });
    backend.closed(true);
    relayed
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(scheduler)) = (arguments.next(), arguments.next()) else {
        return Err("usage: proxy LISTEN SCHEDULER SERVER[=WEIGHT]...".into());
    };
    let mut pool = Pool::new(&scheduler, SchedFlags::default())?;
    for (id, argument) in (0..).zip(arguments) {
        let (server, weight) = argument.split_once('=').unwrap_or((&argument, "1"));
        pool.add(Backend::new(
            id,
            server.parse()?,
            weight.parse()?,
            Thresholds::default(),
        ))?;
    }
    let (pool, start) = (Arc::new(pool), Instant::now());
    for client in TcpListener::bind(listen)?.incoming() {
        let (client, pool) = (client?, Arc::clone(&pool));
        thread::spawn(move || serve(&pool, client, start));
    }
    Ok(())
}
