//! The blocking way to a daemon: a connection for each request, and a small runtime inside.
//!
//! Typed requests in, typed answers or a [`ClientError`] out. It never sends a request twice: a
//! connection to a Unix socket is too cheap to keep one open and find it closed when it is needed.

use crate::{
    Connection, DropCount, Info, MarkRule, Operation, Refusal, RefusalBody, Report, ServiceStatus,
    SyncDaemon, Sysctl, Timeouts, Totals, Transaction, VERSION, VERSION_HEADER, key,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lvs_core::ServiceKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The longest that an answer may take to begin, and the longest pause within one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest line of a connection listing that is believed.
const LONGEST_LINE: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("lvsd is not running: nothing listens on {}", .socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is closed to this user.
    #[error("no permission to use {}{} (you must be root)", .socket.display(), .whose)]
    PermissionDenied {
        /// The socket.
        socket: PathBuf,
        /// Whose it is, as a clause; empty if that is not to be seen.
        whose: String,
    },
    /// Whoever listens speaks another version of the protocol, or another protocol.
    #[error(
        "what listens on {} does not speak version {VERSION} of lvsd's protocol{}",
        .socket.display(),
        .theirs.as_ref().map(|v| format!(" but version {v}")).unwrap_or_default()
    )]
    OtherVersion {
        /// The socket.
        socket: PathBuf,
        /// What it says that it speaks.
        theirs: Option<String>,
    },
    /// The daemon understood, and refused.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The position of the operation in its transaction, from 0.
        operation: Option<usize>,
    },
    /// The daemon did not answer in time.
    #[error("lvsd accepted the request on {} but does not answer", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// The conversation broke off or made no sense.
    #[error("the conversation with lvsd on {} failed: {why}", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
}

/// A way to a daemon.
///
/// ```no_run
/// let mut client = lvs_api::Client::connect("/run/lvsd.sock")?;
/// for service in client.services(None)? {
///     println!("{}", lvs_api::key::format(&service.config.key));
/// }
/// # Ok::<(), lvs_api::ClientError>(())
/// ```
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Finds out whether somebody listens.
    ///
    /// # Errors
    /// When nobody listens there, or this user may not.
    pub fn connect(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| broken(&socket, &why))?;
        drop(runtime.block_on(open(&socket))?);
        Ok(Self { socket, runtime })
    }

    /// The socket that this client was given.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// About the daemon.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn info(&mut self) -> Result<Info, ClientError> {
        self.get("/v1/info")
    }

    /// All services, or one.
    ///
    /// # Errors
    /// See [`ClientError`]; refused with `ESRCH` if the one does not exist.
    pub fn services(
        &mut self,
        only: Option<&ServiceKey>,
    ) -> Result<Vec<ServiceStatus>, ClientError> {
        self.get(&with_service("/v1/services", only))
    }

    /// What has passed altogether.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn totals(&mut self) -> Result<Totals, ClientError> {
        self.get("/v1/totals")
    }

    /// The drops by reason.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn drops(&mut self) -> Result<Vec<DropCount>, ClientError> {
        self.get("/v1/drops")
    }

    /// The settings, in the order of their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn sysctl(&mut self) -> Result<Vec<Sysctl>, ClientError> {
        self.get("/v1/sysctl")
    }

    /// The rules of firewall marks, in order.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn marks(&mut self) -> Result<Vec<MarkRule>, ClientError> {
        self.get("/v1/marks")
    }

    /// The timeouts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn timeouts(&mut self) -> Result<Timeouts, ClientError> {
        self.get("/v1/timeouts")
    }

    /// The synchronisation daemons that run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn daemons(&mut self) -> Result<Vec<SyncDaemon>, ClientError> {
        self.get("/v1/daemons")
    }

    /// One change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn apply(&mut self, operation: Operation) -> Result<(), ClientError> {
        self.transaction(&Transaction {
            operations: vec![operation],
            ..Transaction::default()
        })
        .map(drop)
    }

    /// Several changes; each entry of the report tells what became of one.
    ///
    /// # Errors
    /// See [`ClientError`]. In the mode `AllOrNothing` a refusal is an error; in the mode
    /// `OneByOne` it stands in the report.
    pub fn transaction(&mut self, transaction: &Transaction) -> Result<Report, ClientError> {
        self.send(Method::POST, "/v1/transaction", Some(transaction))
    }

    /// Hands every connection to `each`, in the table's order, as they arrive.
    ///
    /// # Errors
    /// See [`ClientError`]; and whatever `each` returns, which ends the listing.
    pub fn connections<E: From<ClientError>>(
        &mut self,
        mut each: impl FnMut(Connection) -> Result<(), E>,
    ) -> Result<(), E> {
        let response = self.exchange(Method::GET, "/v1/connections", Bytes::new())?;
        let Self { socket, runtime } = self;
        runtime.block_on(async {
            let mut body = response.into_body();
            let mut pending = Vec::new();
            while let Some(frame) = wait(socket, body.frame()).await? {
                let frame = frame.map_err(|why| broken(socket, &why))?;
                let Ok(bytes) = frame.into_data() else {
                    continue;
                };
                for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                    if pending.len() + piece.len() > LONGEST_LINE {
                        return Err(broken(socket, &"a line of the listing has no end").into());
                    }
                    pending.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        each(decode(socket, &pending)?)?;
                        pending.clear();
                    }
                }
            }
            if pending.is_empty() {
                Ok(())
            } else {
                Err(broken(socket, &"the listing breaks off").into())
            }
        })
    }

    fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.send::<(), T>(Method::GET, path, None)
    }

    fn send<B: Serialize, T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|why| broken(&self.socket, &why))?,
            None => Vec::new(),
        };
        let response = self.exchange(method, path, body.into())?;
        let bytes = self.collect(response)?;
        decode(&self.socket, &bytes)
    }

    /// Sends a request and reads the head of its answer; an answer that is a refusal is read whole.
    fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "lvsd")
            .header("connection", "close")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|why| broken(&self.socket, &why))?;
        let socket = &self.socket;
        let response = self.runtime.block_on(async {
            let mut sender = open(socket).await?;
            wait(socket, sender.send_request(request))
                .await?
                .map_err(|why| match why.is_parse() {
                    // No HTTP at all.
                    true => ClientError::OtherVersion {
                        socket: socket.clone(),
                        theirs: None,
                    },
                    false => broken(socket, &why),
                })
        })?;
        self.judge(response)
    }

    /// Passes on a success of our version, and turns everything else into an error.
    fn judge(&mut self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let theirs = response
            .headers()
            .get(VERSION_HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        if theirs.as_deref() != Some(VERSION.to_string().as_str()) {
            return Err(ClientError::OtherVersion {
                socket: self.socket.clone(),
                theirs,
            });
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.collect(response)?;
        match serde_json::from_slice::<RefusalBody>(&bytes) {
            Ok(body) => Err(ClientError::Refused {
                refusal: body.error,
                operation: body.operation,
            }),
            Err(_) if status == StatusCode::NOT_FOUND => Err(ClientError::OtherVersion {
                socket: self.socket.clone(),
                theirs,
            }),
            Err(_) => Err(broken(&self.socket, &format!("it answers {status}"))),
        }
    }

    fn collect(&mut self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let socket = &self.socket;
        self.runtime.block_on(async {
            let body = wait(socket, response.into_body().collect()).await?;
            Ok(body.map_err(|why| broken(socket, &why))?.to_bytes())
        })
    }
}

async fn open(socket: &Path) -> Result<SendRequest<Full<Bytes>>, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                socket: socket.to_owned(),
            },
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied {
                socket: socket.to_owned(),
                whose: whose(socket),
            },
            _ => broken(socket, &why),
        })?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| broken(socket, &why))?;
    // Its errors also reach whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// Whom a socket belongs to, if this user may see it.
fn whose(socket: &Path) -> String {
    let Ok(found) = std::fs::metadata(socket) else {
        return String::new();
    };
    format!(
        ", which is of user {} and group {} with mode {:04o}",
        found.uid(),
        found.gid(),
        found.mode() & 0o7777
    )
}

async fn wait<F: Future>(socket: &Path, future: F) -> Result<F::Output, ClientError> {
    timeout(PATIENCE, future)
        .await
        .map_err(|_| ClientError::Silent {
            socket: socket.to_owned(),
        })
}

fn decode<T: DeserializeOwned>(socket: &Path, bytes: &[u8]) -> Result<T, ClientError> {
    // Changes that have nothing to tell answer with an empty body.
    let bytes = if bytes.is_empty() { b"null" } else { bytes };
    serde_json::from_slice(bytes).map_err(|why| broken(socket, &why))
}

fn broken(socket: &Path, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Broken {
        socket: socket.to_owned(),
        why: why.to_string(),
    }
}

fn with_service(path: &str, service: Option<&ServiceKey>) -> String {
    match service {
        // The brackets of an IPv6 address may not stand in a query as they are.
        Some(service) => format!(
            "{path}?service={}",
            key::format(service).replace('[', "%5B").replace(']', "%5D")
        ),
        None => path.to_owned(),
    }
}
