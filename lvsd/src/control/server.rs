//! The loop that accepts clients, and what none of them may exceed.

use super::backend::Backend;
use super::routes;
use super::socket::ControlSocket;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// What no client may exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at a time; the others wait in the kernel's queue.
    pub clients: usize,
    /// The longest body of a request, in bytes.
    pub body: usize,
    /// The longest time for the head of a request, and for silence between two requests.
    pub head: Duration,
    /// The longest time from the head of a request to the head of its answer.
    pub request: Duration,
    /// The longest time that running requests get to finish once the daemon stops.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 128,
            body: 32 << 20,
            head: Duration::from_secs(10),
            request: Duration::from_secs(30),
            farewell: Duration::from_secs(2),
        }
    }
}

/// Answers on the socket until `stop` completes, then lets running requests finish.
///
/// # Errors
/// When the socket cannot be used; a failing client is no error.
pub async fn serve(
    socket: &ControlSocket,
    backend: Arc<dyn Backend>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_with(socket, backend, stop, Limits::default()).await
}

/// [`serve`] with other limits.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    socket: &ControlSocket,
    backend: Arc<dyn Backend>,
    stop: impl Future<Output = ()>,
    limits: Limits,
) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener().try_clone()?)?;
    let router = routes::router(backend, &limits);
    let seats = Arc::new(Semaphore::new(limits.clients));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (seat, accepted) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let client = converse(stream, router.clone(), limits, stopped.clone());
                tokio::spawn(async move {
                    client.await;
                    drop(seat);
                });
            }
            Err(why) => {
                // Out of descriptors, most likely: wait for somebody to leave.
                tracing::warn!(%why, "cannot accept a client of the control socket");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    let everyone = u32::try_from(limits.clients).unwrap_or(u32::MAX);
    let _ = timeout(limits.farewell, seats.acquire_many(everyone)).await;
    Ok(())
}

async fn converse(
    stream: UnixStream,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = async { let _ = stopped.wait_for(|&stopped| stopped).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = outcome {
        tracing::debug!(%why, "a client of the control socket failed");
    }
}
