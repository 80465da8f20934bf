//! nginx behind lvsd, reached by curl: who gets how many connections, and whether what arrives is
//! what was sent.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test needs fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use common::{LIMIT, Nginx, Running, WEB, WEIGHTED, curl, every_way};
use lvs_api::Operation;
use lvs_testbed::http::pattern;
use lvs_testbed::test::networked;
use lvs_testbed::{SiteConfig, TemporaryDirectory, Vip, program};

/// How many answers each server gave.
fn shares(answers: &str) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for server in answers.lines() {
        *shares.entry(server.to_owned()).or_default() += 1;
    }
    shares
}

#[test]
fn connections_are_shared_out_exactly() {
    networked(&["nginx", "curl"], || {
        let running = Running::start(SiteConfig::default());
        // A client may soon take a port again. By DR and tunnel its last connection is then in FIN_WAIT, and
        // by default (1), as with the kernel, the new one would go to the same server, unscheduled.
        let every_port_anew = Operation::SetSysctl {
            name: "conn_reuse_mode".to_owned(),
            value: 3,
        };
        running.control().apply(every_port_anew).unwrap();
        let files = TemporaryDirectory::new().unwrap();
        let _nginx = Nginx::everywhere(&running.site, files.path());
        let close = ["--header", "Connection: close"];
        for (vip, ipv6) in every_way() {
            let to = vip.endpoint(ipv6, WEB);
            let url = format!("http://{to}/name?[1-999]");
            let found = shares(&curl(&running, &[close[0], close[1], &url]));
            let expected = [1, 2, 3].map(|n| (format!("server-{n}"), 333));
            assert_eq!(found, expected.into(), "rr by {vip:?} to {to}");

            let to = vip.endpoint(ipv6, WEIGHTED);
            let url = format!("http://{to}/name?[1-600]");
            let found = shares(&curl(&running, &[close[0], close[1], &url]));
            let expected = [(1, 300), (2, 200), (3, 100)];
            let expected = expected.map(|(n, share)| (format!("server-{n}"), share));
            assert_eq!(found, expected.into(), "wrr by {vip:?} to {to}");
        }
    });
}

#[test]
fn a_connection_stays_with_its_server_for_a_thousand_requests() {
    networked(&["nginx", "curl"], || {
        let running = Running::start(SiteConfig::default());
        let files = TemporaryDirectory::new().unwrap();
        let _nginx = Nginx::everywhere(&running.site, files.path());
        for (vip, ipv6) in every_way() {
            let url = format!("http://{}/name?[1-1000]", vip.endpoint(ipv6, WEB));
            let found = shares(&curl(&running, &[&url]));
            assert_eq!(found.len(), 1, "{found:?} by {vip:?}");
            assert_eq!(found.values().sum::<u32>(), 1000);
        }
        let services = running.control().services(None).unwrap();
        let conns: u64 = services.iter().map(|service| service.counters.conns).sum();
        assert_eq!(conns, 6, "one connection for each method and family");
    });
}

const MANY: u64 = 100_000_000;

fn download_and_upload(mtu: u32, offloads: bool) {
    let running = Running::start(SiteConfig {
        mtu,
        offloads,
        ..SiteConfig::default()
    });
    let files = TemporaryDirectory::new().unwrap();
    let content: Vec<u8> = (0..MANY).map(pattern).collect();
    files.write("bulk", &content).unwrap();
    let _nginx = Nginx::everywhere(&running.site, files.path());
    for (vip, ipv6) in every_way() {
        let what = format!("{vip:?} ipv6={ipv6} mtu={mtu} offloads={offloads}");
        download(
            &running,
            &format!("http://{}/bulk", vip.endpoint(ipv6, WEB)),
            &content,
            &what,
        );
        upload(&running, vip, ipv6, &content[..20_000_000], &what);
    }
}

fn download(running: &Running, url: &str, content: &[u8], what: &str) {
    let mut curl = program::command("curl").unwrap();
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "100",
        url,
    ]);
    curl.stdout(Stdio::piped());
    let mut child = running.site.client().spawn(curl).unwrap();
    let mut pipe = child.std().stdout.take().unwrap();
    let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
    loop {
        let read = pipe.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        let same = content.get(offset..offset + read) == Some(&buffer[..read]);
        assert!(same, "{what}: another content from octet {offset} on");
        offset += read;
    }
    let status = child.wait_timeout(LIMIT).unwrap();
    let whole = status.success() && offset == content.len();
    assert!(
        whole,
        "{what}: {status}, {offset} octets\n{}",
        running.explain()
    );
}

/// From the client to the first server, where a socket of ours compares.
fn upload(running: &Running, vip: Vip, ipv6: bool, content: &[u8], what: &str) {
    let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), common::IPERF);
    let server = &running.site.servers()[0];
    let listener = server.run(|| TcpListener::bind(any)).unwrap().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::with_capacity(content.len());
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.read_to_end(&mut received).map(|_| received)
        });
        let to = vip.endpoint(ipv6, common::IPERF);
        let connect = || TcpStream::connect_timeout(&to, LIMIT);
        let sent = running
            .site
            .client()
            .run(connect)
            .unwrap()
            .and_then(|mut stream| {
                stream.set_write_timeout(Some(LIMIT))?;
                std::io::Write::write_all(&mut stream, content)
            });
        assert!(sent.is_ok(), "{what}: {sent:?}\n{}", running.explain());
        let received = receiver.join().unwrap().unwrap();
        assert!(
            received == content,
            "{what}: {} octets arrived",
            received.len()
        );
    });
}

#[test]
fn bulk_arrives_whole_in_segmented_frames() {
    networked(&["nginx", "curl"], || download_and_upload(1500, true));
}

#[test]
fn bulk_arrives_whole_in_plain_frames() {
    networked(&["nginx", "curl"], || download_and_upload(1500, false));
}

#[test]
fn bulk_arrives_whole_in_jumbo_frames() {
    networked(&["nginx", "curl"], || {
        download_and_upload(9000, true);
        download_and_upload(9000, false);
    });
}
