//! The server: one thread accepts on each address, one serves each connection.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::net::Shutdown;

use super::{MAX_BYTES, pattern};
use crate::{Error, Namespace, Result};

/// How much of a body is written at a time; a multiple of the pattern's period.
const CHUNK: usize = 251 * 1024;

/// A server in a namespace; stops when dropped, with its connections.
#[derive(Debug)]
pub struct HttpServer {
    shared: Arc<Shared>,
    listeners: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

/// What an [`HttpServer`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServedCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Octets of bodies written.
    pub bytes: u64,
}

#[derive(Debug)]
struct Shared {
    name: String,
    chunk: Vec<u8>,
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Open connections, none once the server has stopped.
    open: Mutex<Option<HashMap<u64, TcpStream>>>,
}

impl HttpServer {
    /// Listens on each of `addresses` inside `namespace` and answers as `name`.
    ///
    /// # Errors
    ///
    /// When an address is not there or taken.
    pub fn start(namespace: &Namespace, addresses: &[SocketAddr], name: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            chunk: (0..CHUNK as u64).map(pattern).collect(),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            open: Mutex::new(Some(HashMap::new())),
        });
        let mut server = Self {
            shared,
            listeners: Vec::new(),
            threads: Vec::new(),
        };
        for &address in addresses {
            let doing = format!("listen on {address} in {}", namespace.name());
            let listener = namespace
                .run(|| TcpListener::bind(address))?
                .map_err(Error::io(doing.clone()))?;
            let listener = Arc::new(listener);
            let (shared, theirs) = (Arc::clone(&server.shared), Arc::clone(&listener));
            let thread = thread::Builder::new()
                .name(format!("{name} accepts"))
                .spawn(move || accept(&shared, &theirs))
                .map_err(Error::io(doing))?;
            server.listeners.push(listener);
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// The name it answers with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> ServedCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServedCounts {
            connections: read(&self.shared.connections),
            requests: read(&self.shared.requests),
            bytes: read(&self.shared.bytes),
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Ends the accept that blocks on it.
            let _ = rustix::net::shutdown(listener, Shutdown::Both);
        }
        if let Some(open) = self.shared.open().take() {
            for connection in open.values() {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, TcpStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let id = shared.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(ours) = stream.try_clone() else {
            continue;
        };
        match shared.open().as_mut() {
            Some(open) => drop(open.insert(id, ours)),
            None => return,
        }
        let theirs = Arc::clone(shared);
        let _ = thread::Builder::new()
            .name(shared.name.clone())
            .stack_size(128 << 10)
            .spawn(move || {
                let _ = serve(&theirs, &stream);
                if let Some(open) = theirs.open().as_mut() {
                    open.remove(&id);
                }
            });
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut close = line.trim_end().ends_with("HTTP/1.0");
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let header = line.trim_end().to_ascii_lowercase();
            close |= header == "connection: close";
            if header.is_empty() {
                break;
            }
        }
        answer(shared, stream, &target, close)?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if close {
            return Ok(());
        }
    }
}

fn answer(shared: &Shared, mut stream: &TcpStream, target: &str, close: bool) -> io::Result<()> {
    let name = &shared.name;
    let bulk: Option<u64> = target
        .strip_prefix("/bytes/")
        .map(|n| n.parse().unwrap_or(0));
    let length = bulk.map_or(name.len() as u64 + 1, |n| n.min(MAX_BYTES));
    let connection = if close { "close" } else { "keep-alive" };
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    );
    if bulk.is_none() {
        head.push_str(name);
        head.push('\n');
    }
    stream.write_all(head.as_bytes())?;
    if bulk.is_some() {
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            stream.write_all(shared.chunk.get(..now).unwrap_or_default())?;
            left -= now as u64;
            shared.bytes.fetch_add(now as u64, Ordering::Relaxed);
        }
    } else {
        shared.bytes.fetch_add(length, Ordering::Relaxed);
    }
    Ok(())
}
