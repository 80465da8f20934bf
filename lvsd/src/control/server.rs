//! The loop that accepts clients, and what none of them may exceed.

use super::backend::Backend;
use super::routes;
use super::seats::{Guest, Seat, Seats};
use super::socket::ControlSocket;
use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lvs_api::{Errno, Refusal, RefusalBody, VERSION, VERSION_HEADER};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What no client may exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at a time; the others wait in the kernel's queue.
    pub clients: usize,
    /// How long a client may be silent while others wait for its place.
    pub courtesy: Duration,
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
            courtesy: Duration::from_millis(250),
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
    let seats = Seats::new(limits.clients, limits.courtesy);
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let accepted = listener.accept().await;
            (accepted, seats.take().await)
        };
        let (accepted, seat) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let client = converse(stream, router.clone(), limits, seat, stopped.clone());
                tokio::spawn(client);
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
    seats.emptied(limits.clients, limits.farewell).await;
    Ok(())
}

/// How a conversation ends before the client ends it.
enum Farewell {
    /// The daemon stops: what runs may finish.
    Stopping,
    /// Others wait for the place.
    Crowded,
}

async fn converse(
    stream: UnixStream,
    router: Router,
    limits: Limits,
    seat: Seat,
    mut stopped: watch::Receiver<bool>,
) {
    // For a last word, which hyper has not for a client that never finishes its request.
    let handle = stream.as_fd().try_clone_to_owned();
    let guest = Arc::clone(&seat.guest);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Arc::clone(&guest));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let end = tokio::select! {
        outcome = connection.as_mut() => Ok(outcome),
        () = async { let _ = stopped.wait_for(|&stopped| stopped).await; } => Err(Farewell::Stopping),
        () = seat.guest.asked_to_leave() => Err(Farewell::Crowded),
    };
    match end {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            tracing::debug!(%why, "a client of the control socket failed");
            if why.is_timeout() {
                let sentence = "the request did not arrive in time";
                last_word(handle, &seat.guest, "408 Request Timeout", sentence);
            }
        }
        Err(Farewell::Stopping) => {
            connection.as_mut().graceful_shutdown();
            if let Err(why) = connection.await {
                tracing::debug!(%why, "a client of the control socket failed");
            }
        }
        Err(Farewell::Crowded) => {
            let sentence = "others wait for this connection's place, and its request did not come";
            last_word(handle, &seat.guest, "503 Service Unavailable", sentence);
        }
    }
}

/// Tells a client that was never answered why it is sent away, as far as its socket takes it.
fn last_word(handle: io::Result<OwnedFd>, guest: &Guest, status: &str, sentence: &str) {
    let body = RefusalBody {
        error: Refusal::new(Errno::Failed, sentence),
        operation: None,
    };
    let (Ok(handle), Ok(body), false) =
        (handle, serde_json::to_string(&body), guest.was_answered())
    else {
        return;
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{VERSION_HEADER}: {VERSION}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A client that does not listen either is beyond help.
    let _ = rustix::io::write(handle, answer.as_bytes());
}
