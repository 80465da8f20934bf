//! One handler for each line of the protocol's table.

use super::backend::Backend;
use super::seats::Guest;
use super::server::Limits;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Extension, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use lvs_api::{
    Connection, Errno, MarkRule, Mode, Operation, Refusal, RefusalBody, Report, Timeouts,
    Transaction, VERSION_HEADER, key,
};
use lvs_core::ServiceKey;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

type Shared = State<Arc<dyn Backend>>;

/// How many connections are read from the table at a time.
const CHUNK: usize = 1024;

/// The whole protocol.
pub(super) fn router(backend: Arc<dyn Backend>, limits: &Limits) -> Router {
    let (patience, body) = (limits.request, limits.body);
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/services", get(services))
        .route("/v1/connections", get(connections))
        .route("/v1/totals", get(totals))
        .route("/v1/drops", get(drops))
        .route("/v1/daemons", get(daemons))
        .route("/v1/timeouts", get(timeouts).put(set_timeouts))
        .route("/v1/sysctl", get(sysctl).put(set_sysctl))
        .route("/v1/marks", get(marks).put(set_marks))
        .route("/v1/zero", post(zero))
        .route("/v1/flush", post(flush))
        .route("/v1/transaction", post(transaction))
        .route("/v1/openapi.json", get(openapi))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        // Bodies are read, within their limit, before a handler sees them.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(
            move |Extension(guest): Extension<Arc<Guest>>, request: Request, next: Next| {
                within(patience, body, guest, request, next)
            },
        ))
        .with_state(backend)
}

/// Limits the time until an answer begins and what a body may be, and stamps the answer with our
/// version.
async fn within(
    patience: std::time::Duration,
    limit: usize,
    guest: Arc<Guest>,
    request: Request,
    next: Next,
) -> Response {
    let working = Arc::clone(&guest);
    let answer = async move {
        match whole(request, limit).await {
            Ok(request) => {
                working.asked();
                next.run(request).await
            }
            Err(refusal) => refusal,
        }
    };
    let mut response = match tokio::time::timeout(patience, answer).await {
        Ok(response) => response,
        Err(_) => plain(
            StatusCode::REQUEST_TIMEOUT,
            Refusal::new(Errno::Invalid, "the request did not arrive in time"),
        ),
    };
    guest.answered();
    // What an extractor of the framework refused has a text of its own.
    let json = HeaderValue::from_static("application/json");
    let status = response.status();
    if (status.is_client_error() || status.is_server_error())
        && response.headers().get(header::CONTENT_TYPE) != Some(&json)
    {
        let sentence = status.canonical_reason().unwrap_or("refused");
        response = plain(
            status,
            Refusal::new(Errno::Invalid, sentence.to_lowercase()),
        );
    }
    response
        .headers_mut()
        .insert(VERSION_HEADER, HeaderValue::from_static("1"));
    response
}

/// The request with its body read, or what is answered instead.
async fn whole(request: Request, limit: usize) -> Result<Request, Response> {
    let refuse = |status, sentence: String| plain(status, Refusal::new(Errno::Invalid, sentence));
    let too_large = || {
        let sentence = format!("the request is too large: a body has at most {limit} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let (head, body) = request.into_parts();
    match to_bytes(body, limit).await {
        Ok(body) => Ok(Request::from_parts(head, body.into())),
        Err(why) if is_limit(&why) => Err(too_large()),
        Err(why) => Err(refuse(
            StatusCode::BAD_REQUEST,
            format!("the body of the request cannot be read: {why}"),
        )),
    }
}

/// Whether a body was longer than its limit.
fn is_limit(why: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(why);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The description of this protocol for other programs.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

async fn openapi() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, OPENAPI).into_response()
}

async fn info(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.info())).await
}

async fn services(State(backend): Shared, RawQuery(query): RawQuery) -> Response {
    let which = match service_of(query.as_deref()) {
        Ok(which) => which,
        Err(refusal) => return refused(refusal, None),
    };
    answer(backend, move |backend| match which {
        Some(key) => backend.service(&key).map(|service| vec![service]),
        None => Ok(backend.services()),
    })
    .await
}

async fn totals(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.totals())).await
}

async fn drops(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.drops())).await
}

async fn daemons(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.daemons())).await
}

async fn timeouts(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.timeouts())).await
}

async fn set_timeouts(State(backend): Shared, body: Bytes) -> Response {
    let timeouts: Timeouts = match decode(&body) {
        Ok(timeouts) => timeouts,
        Err(refusal) => return refused(refusal, None),
    };
    answer(backend, move |backend| {
        backend.apply(&Operation::SetTimeouts { timeouts })?;
        Ok(backend.timeouts())
    })
    .await
}

async fn sysctl(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.sysctl())).await
}

async fn set_sysctl(State(backend): Shared, body: Bytes) -> Response {
    let values: BTreeMap<String, u32> = match decode(&body) {
        Ok(values) => values,
        Err(refusal) => return refused(refusal, None),
    };
    let set = |(name, value)| Operation::SetSysctl { name, value };
    let operations: Vec<_> = values.into_iter().map(set).collect();
    answer(backend, move |backend| {
        let done = backend.transaction(&operations);
        done.map_err(|(_, refusal)| refusal)?;
        Ok(backend.sysctl())
    })
    .await
}

async fn marks(State(backend): Shared) -> Response {
    answer(backend, |backend| Ok(backend.marks())).await
}

async fn set_marks(State(backend): Shared, body: Bytes) -> Response {
    let rules: Vec<MarkRule> = match decode(&body) {
        Ok(rules) => rules,
        Err(refusal) => return refused(refusal, None),
    };
    answer(backend, move |backend| {
        backend.apply(&Operation::SetMarks { rules })?;
        Ok(backend.marks())
    })
    .await
}

async fn zero(State(backend): Shared, RawQuery(query): RawQuery) -> Response {
    let service = match service_of(query.as_deref()) {
        Ok(which) => which,
        Err(refusal) => return refused(refusal, None),
    };
    answer(backend, move |backend| {
        backend.apply(&Operation::Zero { service })
    })
    .await
}

async fn flush(State(backend): Shared) -> Response {
    answer(backend, |backend| backend.apply(&Operation::Flush {})).await
}

async fn transaction(State(backend): Shared, body: Bytes) -> Response {
    let transaction: Transaction = match decode(&body) {
        Ok(transaction) => transaction,
        Err(refusal) => return refused(refusal, None),
    };
    let operations = transaction.operations;
    let done = match transaction.mode {
        Mode::AllOrNothing => {
            call(backend, move |backend| {
                let count = operations.len();
                backend.transaction(&operations).map(|()| Report {
                    results: vec![None; count],
                })
            })
            .await
        }
        Mode::OneByOne => {
            call(backend, move |backend| {
                let results = operations.iter().map(|op| backend.apply(op).err());
                Ok(Report {
                    results: results.collect(),
                })
            })
            .await
        }
    };
    match done {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err((place, refusal))) => refused(refusal, Some(place)),
        Err(refusal) => refused(refusal, None),
    }
}

/// Streams the table in slices, so that a listing of millions costs the daemon kilobytes.
async fn connections(State(backend): Shared, Extension(guest): Extension<Arc<Guest>>) -> Response {
    let slices = stream::unfold(Some(0), move |from| {
        let (backend, guest) = (Arc::clone(&backend), Arc::clone(&guest));
        async move {
            let from = from?;
            guest.answered();
            let slice = call(backend, move |backend| {
                let mut connections = Vec::with_capacity(CHUNK);
                let next = backend.connections(from, CHUNK, &mut connections);
                (lines(&connections), next)
            })
            .await;
            Some(match slice {
                Ok((Ok(lines), next)) => (Ok(Bytes::from(lines)), next),
                Ok((Err(why), _)) => (Err(why.to_string()), None),
                Err(refusal) => (Err(refusal.message), None),
            })
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(slices)).into_response()
}

fn lines(connections: &[Connection]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::with_capacity(connections.len() * 192);
    for connection in connections {
        serde_json::to_writer(&mut lines, connection)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let sentence = if path.starts_with("/v1/") {
        format!("nothing is served at {path}")
    } else {
        format!("this daemon serves version 1 of its protocol, at /v1/...; not {path}")
    };
    plain(
        StatusCode::NOT_FOUND,
        Refusal::new(Errno::Invalid, sentence),
    )
}

async fn wrong_method(request: Request) -> Response {
    let sentence = format!("{} is not for {}", request.uri().path(), request.method());
    plain(
        StatusCode::METHOD_NOT_ALLOWED,
        Refusal::new(Errno::Invalid, sentence),
    )
}

/// Which service a request is about: `service=KEY`, or none.
fn service_of(query: Option<&str>) -> Result<Option<ServiceKey>, Refusal> {
    let invalid = |sentence: String| Refusal::new(Errno::Invalid, sentence);
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let word = query
        .strip_prefix("service=")
        .ok_or_else(|| invalid(format!("`{query}` is not service=KEY")))?;
    // The only characters of a key that may not stand in a query as they are.
    let mut word = word.to_owned();
    for (code, character) in [("%5b", "["), ("%5d", "]"), ("%3a", ":"), ("%2f", "/")] {
        word = word.replace(code, character);
        word = word.replace(&code.to_uppercase(), character);
    }
    key::parse(&word)
        .map(Some)
        .map_err(|why| invalid(why.to_string()))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|why| Refusal::new(Errno::Invalid, format!("the request is not valid: {why}")))
}

/// Asks the backend on a thread that may block.
async fn call<T: Send + 'static>(
    backend: Arc<dyn Backend>,
    question: impl FnOnce(&dyn Backend) -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(move || question(&*backend))
        .await
        .map_err(|_| Refusal::new(Errno::Failed, "the daemon failed while it did this"))
}

async fn answer<T: serde::Serialize + Send + 'static>(
    backend: Arc<dyn Backend>,
    question: impl FnOnce(&dyn Backend) -> Result<T, Refusal> + Send + 'static,
) -> Response {
    match call(backend, question).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(refusal)) | Err(refusal) => refused(refusal, None),
    }
}

fn refused(error: Refusal, operation: Option<usize>) -> Response {
    let status = match error.errno {
        Errno::Exists => StatusCode::CONFLICT,
        Errno::NotFound | Errno::NoService | Errno::NoDevice => StatusCode::NOT_FOUND,
        Errno::Permission => StatusCode::FORBIDDEN,
        Errno::Memory => StatusCode::INSUFFICIENT_STORAGE,
        Errno::NotAvailable => StatusCode::NOT_IMPLEMENTED,
        Errno::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, Json(RefusalBody { error, operation })).into_response()
}

fn plain(status: StatusCode, error: Refusal) -> Response {
    let body = RefusalBody {
        error,
        operation: None,
    };
    (status, Json(body)).into_response()
}
