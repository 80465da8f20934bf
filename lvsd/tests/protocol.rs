//! What the control server does with clients that are broken, slow, greedy or many.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lvs_api::{Client, ClientError, Connection, Errno, MarkRule, Method, Mode, Operation, Service};
use lvs_api::{Transaction, key};
use lvsd::control::{ControlSocket, Limits, Memory, serve_with};
use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

struct Server {
    socket: PathBuf,
    director: Arc<Memory>,
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Limits that a test can wait for.
const SHORT: Limits = Limits {
    clients: 8,
    courtesy: Duration::from_millis(300),
    body: 64 << 10,
    head: Duration::from_millis(300),
    request: Duration::from_millis(300),
    farewell: Duration::from_secs(2),
};

impl Server {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(dir.path().join("lvsd.sock")).unwrap();
        let path = socket.path().to_owned();
        let director = Arc::new(Memory::new());
        let backend = Arc::clone(&director);
        let (stop, stopped) = oneshot::channel();
        let thread = spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            let served = serve_with(&socket, backend, stopped, limits);
            runtime.block_on(served).unwrap();
        });
        Self {
            socket: path,
            director,
            dir,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// Sends bytes and reads until the server hangs up.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // A server that refuses early may have hung up before it has read all.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(why) => assert_eq!(why.kind(), ErrorKind::ConnectionReset, "{why}"),
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(&self, line: &str, body: &str) -> String {
        self.exchange(
            format!(
                "{line} HTTP/1.1\r\nhost: lvsd\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn add(word: &str) -> Operation {
    Operation::AddService {
        config: Service::new(key::parse(word).unwrap(), "rr"),
    }
}

#[test]
fn a_client_sees_what_it_has_done() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.apply(add("tcp://[2001:db8::10]:80")).unwrap();
    let key = key::parse("tcp://[2001:db8::10]:80").unwrap();
    assert_eq!(client.services(Some(&key)).unwrap().len(), 1);
    assert_eq!(client.services(None).unwrap()[0].config.scheduler, "rr");
    assert_eq!(client.info().unwrap().table_size, 4096);
    assert_eq!(client.timeouts().unwrap().tcp, 900);
    assert!(client.drops().unwrap().len() > 10);
    assert_eq!(client.totals().unwrap().counters.conns, 0);
    assert!(client.daemons().unwrap().is_empty());
    client.apply(Operation::Flush {}).unwrap();
    let error = client.services(Some(&key)).unwrap_err();
    let ClientError::Refused { refusal, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(refusal.errno, Errno::NoService);
    assert_eq!(
        refusal.message,
        "there is no service tcp://[2001:db8::10]:80"
    );
}

#[test]
fn all_or_nothing_and_one_by_one() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let operations = vec![add("tcp://192.0.2.1:80"), add("tcp://192.0.2.1:80")];
    let error = client
        .transaction(&Transaction {
            mode: Mode::AllOrNothing,
            operations: operations.clone(),
        })
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Refused {
                operation: Some(1),
                ..
            }
        ),
        "{error}"
    );
    assert!(client.services(None).unwrap().is_empty());
    let report = client
        .transaction(&Transaction {
            mode: Mode::OneByOne,
            operations,
        })
        .unwrap();
    assert_eq!(report.results[0], None);
    assert_eq!(report.results[1].as_ref().unwrap().errno, Errno::Exists);
    assert_eq!(client.services(None).unwrap().len(), 1);
}

#[test]
fn any_http_tool_will_do() {
    let server = Server::start(Limits::default());
    let added = server.request(
        "POST /v1/transaction",
        r#"{"operations":[{"op":"add_service","config":{"service":"udp://192.0.2.1:53","scheduler":"wlc"}}]}"#,
    );
    assert!(added.starts_with("HTTP/1.1 200"), "{added}");
    assert!(added.ends_with(r#"{"results":[null]}"#), "{added}");
    let listed = server.request("GET /v1/services?service=udp://192.0.2.1:53", "");
    assert!(listed.contains(r#""scheduler":"wlc""#), "{listed}");
    assert!(listed.contains("lvs-api-version: 1"), "{listed}");
    let set = server.request("PUT /v1/timeouts", r#"{"tcp":60,"tcp_fin":0,"udp":0}"#);
    assert!(
        set.ends_with(r#"{"tcp":60,"tcp_fin":120,"udp":300}"#),
        "{set}"
    );
    assert!(
        server
            .request("POST /v1/zero", "")
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        server
            .request("POST /v1/flush", "")
            .starts_with("HTTP/1.1 200")
    );
    assert!(server.request("GET /v1/services", "").ends_with("[]"));
}

#[test]
fn what_is_not_understood_is_answered_with_a_sentence() {
    let server = Server::start(SHORT);
    for (line, body, status, sentence) in [
        (
            "GET /v2/info",
            "",
            "404",
            "serves version 1 of its protocol",
        ),
        (
            "GET /v1/sevices",
            "",
            "404",
            "nothing is served at /v1/sevices",
        ),
        (
            "DELETE /v1/services",
            "",
            "405",
            "/v1/services is not for DELETE",
        ),
        (
            "GET /v1/services?service=web",
            "",
            "400",
            "protocol://address:port",
        ),
        (
            "GET /v1/services?name=web",
            "",
            "400",
            "`name=web` is not service=KEY",
        ),
        (
            "POST /v1/zero?service=tcp://192.0.2.1:80",
            "",
            "404",
            "there is no service",
        ),
        (
            "POST /v1/transaction",
            "{",
            "400",
            "the request is not valid",
        ),
        (
            "POST /v1/transaction",
            r#"{"operations":[{"op":"destroy"}]}"#,
            "400",
            "destroy",
        ),
        (
            "POST /v1/transaction",
            r#"{"operation":[]}"#,
            "400",
            "unknown field `operation`",
        ),
        (
            "PUT /v1/timeouts",
            r#"{"tcp":-1,"tcp_fin":1,"udp":1}"#,
            "400",
            "-1",
        ),
    ] {
        let answer = server.request(line, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("lvs-api-version: 1"), "{answer}");
        assert!(answer.contains(r#"{"error":{"errno":"#), "{answer}");
        assert!(answer.contains(sentence), "{answer}");
    }
}

#[test]
fn noise_is_refused_and_the_server_goes_on() {
    let server = Server::start(SHORT);
    for noise in [
        &b"\0\x01\x02\xff garbage\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /v1/info HTTP/9.9\r\n\r\n",
        b"POST /v1/flush HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/transaction HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let answer = server.exchange(noise);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    // A head without an end, and a body beyond the limit, announced and not.
    let long = format!("GET /v1/info HTTP/1.1\r\nx: {}", "x".repeat(1 << 20));
    assert!(server.exchange(long.as_bytes()).starts_with("HTTP/1.1 431"));
    let large = "x".repeat(SHORT.body + 1);
    let answer = server.request("POST /v1/transaction", &large);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("at most 65536 bytes"), "{answer}");
    let chunked = format!(
        "POST /v1/transaction HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let answer = server.exchange(chunked.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("at most 65536 bytes"), "{answer}");
    let announced = "POST /v1/transaction HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                     content-length: 99999999999\r\n\r\n";
    let answer = server.exchange(announced.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Nesting that would exhaust a naive parser's stack.
    let nested = format!(r#"{{"operations":{}"#, "[".repeat(60_000));
    assert!(
        server
            .request("POST /v1/transaction", &nested)
            .starts_with("HTTP/1.1 400")
    );
    assert_eq!(server.client().info().unwrap().connections, 0);
}

#[test]
fn silence_ends_by_itself() {
    let server = Server::start(SHORT);
    let begin = Instant::now();
    // Nothing at all, half a head, half a body.
    for silence in [&b""[..], b"GET /v1/info HT"] {
        let answer = server.exchange(silence);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("did not arrive in time"), "{answer}");
    }
    let half = "POST /v1/transaction HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-length: 100\r\n\r\n{\"operations\":";
    let answer = server.exchange(half.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("did not arrive in time"), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn more_clients_than_seats_all_get_their_turn() {
    let server = Server::start(SHORT);
    // Some sit there and say nothing until they are sent away.
    let idle: Vec<UnixStream> = (0..SHORT.clients)
        .map(|_| UnixStream::connect(&server.socket).unwrap())
        .collect();
    let clients: Vec<_> = (0..50)
        .map(|i| {
            let socket = server.socket.clone();
            spawn(move || {
                let mut client = Client::connect(socket).unwrap();
                client.apply(add(&format!("tcp://192.0.2.1:{}", 1000 + i)))
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap().unwrap();
    }
    drop(idle);
    assert_eq!(server.client().services(None).unwrap().len(), 50);
}

#[test]
fn a_long_table_is_streamed_whole_and_in_order() {
    let server = Server::start(Limits::default());
    let connection = |i: u32| Connection {
        protocol: lvs_core::Protocol::Tcp,
        client: format!("10.1.{}.{}:4000", i >> 8, i & 255).parse().unwrap(),
        virtual_: "192.0.2.10:80".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
        local: None,
        method: Method::Nat,
        state: Cow::Borrowed("ESTABLISHED"),
        expires: i,
        engine: None,
        engine_data: None,
    };
    for count in [0, 1, 1023, 1024, 1025, 10_000] {
        server
            .director
            .set_connections((0..count).map(connection).collect());
        let mut seen = 0;
        server
            .client()
            .connections(|found| {
                assert_eq!(found, connection(seen));
                seen += 1;
                Ok::<(), ClientError>(())
            })
            .unwrap();
        assert_eq!(seen, count);
    }
    // A reader that has seen enough leaves; the next request is answered.
    let mut client = server.client();
    let broken_off = client.connections(|_| Err(None));
    let broken_off: Result<(), Option<ClientError>> = broken_off;
    assert!(matches!(broken_off, Err(None)));
    assert_eq!(client.info().unwrap().connections, 10_000);
}

#[test]
fn settings_and_marks_are_read_and_set() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    let value = |client: &mut Client, name: &str| {
        let all = client.sysctl().unwrap();
        all.iter().find(|found| found.name == name).unwrap().value
    };
    assert_eq!(value(&mut client, "conn_reuse_mode"), 1);
    let set = |name: &str, value| Operation::SetSysctl {
        name: name.to_owned(),
        value,
    };
    client.apply(set("expire_nodest_conn", 1)).unwrap();
    assert_eq!(value(&mut client, "expire_nodest_conn"), 1);
    let refused = client.apply(set("drop_entry", 9)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("the setting `drop_entry` is 0 to 3, not 9"),
        "{text}"
    );
    let refused = client.apply(set("drop_entries", 1)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("there is no setting `drop_entries`"),
        "{text}"
    );

    let rule = MarkRule {
        mark: 7,
        destination: vec!["10.5.0.0-10.5.255.255".to_owned(), "!10.5.0.9".to_owned()],
        destination_port: vec!["80".to_owned()],
        ..MarkRule::default()
    };
    let set = |rule: &MarkRule| Operation::SetMarks {
        rules: vec![rule.clone()],
    };
    client.apply(set(&rule)).unwrap();
    let found = client.marks().unwrap();
    assert_eq!(
        found.first().unwrap().destination,
        ["10.5.0.0/16", "!10.5.0.9"]
    );
    client.apply(set(found.first().unwrap())).unwrap();
    assert_eq!(client.marks().unwrap(), found);
    let wrong = MarkRule {
        source: vec!["10.5.0.0/33".to_owned()],
        ..rule
    };
    let text = client.apply(set(&wrong)).unwrap_err().to_string();
    assert!(
        text.contains("the rule for mark 7: in `source`, `10.5.0.0/33` is no address"),
        "{text}"
    );
    assert_eq!(client.marks().unwrap(), found);
}

#[test]
fn stopping_removes_the_socket_and_finishes_what_runs() {
    let server = Server::start(Limits::default());
    let mut client = server.client();
    client.apply(add("tcp://192.0.2.1:80")).unwrap();
    let socket = server.socket.clone();
    let begin = Instant::now();
    drop(server);
    // An idle client does not hold the daemon up.
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(!socket.exists());
    assert!(matches!(
        client.info().unwrap_err(),
        ClientError::NotRunning { .. }
    ));
}

#[test]
fn nobody_home_no_permission_somebody_else() {
    let server = Server::start(Limits::default());
    let path = server.dir.path().join("nobody.sock");
    let error = Client::connect(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("lvsd is not running: nothing listens on {}", path.display())
    );
    // The socket of a dead daemon is nobody too.
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(
        Client::connect(&path).unwrap_err(),
        ClientError::NotRunning { .. }
    ));
    let mode = std::fs::metadata(&server.socket).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    // Somebody else is there: a later lvsd, or something that speaks no HTTP.
    for (answer, end) in [
        (
            &b"HTTP/1.1 200 OK\r\nlvs-api-version: 7\r\ncontent-length: 2\r\n\r\n{}"[..],
            "version 1 of lvsd's protocol but version 7",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "version 1 of lvsd's protocol"),
    ] {
        let path = server.dir.path().join(format!("{}.sock", answer.len()));
        let listener = UnixListener::bind(&path).unwrap();
        let other = spawn(move || {
            // The client looks first whether somebody is there.
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = Client::connect(&path).unwrap().info().unwrap_err();
        other.join().unwrap();
        assert!(error.to_string().ends_with(end), "{error}");
    }
}

/// Every path and method that is served is in the published description, and the other way round.
#[test]
fn the_description_is_that_of_what_is_served() {
    let server = Server::start(SHORT);
    let answer = server.request("GET /v1/openapi.json", "");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let description: serde_json::Value = serde_json::from_str(body).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let routes = include_str!("../src/control/routes.rs");
    let served = routes.matches(".route(\"").count();
    assert_eq!(paths.len(), served);
    for (path, methods) in paths {
        assert!(routes.contains(&format!(".route(\"{path}\"")), "{path}");
        for method in ["get", "put", "post", "delete"] {
            let line = format!("{} {path}", method.to_uppercase());
            let refused = server.request(&line, "?").starts_with("HTTP/1.1 405");
            assert_eq!(refused, methods.get(method).is_none(), "{line}");
        }
    }
    // Every reference leads somewhere.
    let text = description.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        let schema = &description["components"]["schemas"][name];
        assert!(schema.is_object(), "{name}");
    }
}

/// A thousand clients that hold on and say nothing, or half of something, keep nobody out, however
/// patient the server is with each, and change nothing. Who has to go is told why.
#[test]
fn a_thousand_silent_clients_keep_nobody_out() {
    let hour = Duration::from_secs(3600);
    let server = Server::start(Limits {
        clients: 64,
        courtesy: Duration::from_millis(100),
        head: hour,
        request: hour,
        ..SHORT
    });
    server.client().apply(add("tcp://192.0.2.1:80")).unwrap();
    let half = b"POST /v1/transaction HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    let mut crowd = Vec::new();
    for i in 0..1000 {
        let socket = without_waiting(&server.socket);
        let Some(mut stream) = socket else { continue };
        if i % 2 == 0 {
            let _ = stream.write_all(half);
        }
        crowd.push(stream);
    }
    // The queue of the kernel may be shorter than a thousand: those beyond it are told at once.
    assert!(crowd.len() > 64, "{}", crowd.len());
    let services = server.client().services(None).unwrap();
    assert_eq!(services.len(), 1);
    for mut first in crowd.drain(..2) {
        let mut answer = String::new();
        first.set_nonblocking(false).unwrap();
        first.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("others wait"), "{answer}");
    }
}

/// A stream, or `None` if the queue is full: connecting would wait for a place in it.
fn without_waiting(path: &std::path::Path) -> Option<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok()?;
    Some(UnixStream::from(socket))
}
