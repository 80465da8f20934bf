//! FTP through a director that translates: data connections are found, texts and numbers follow.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CLIENTS, Out, SERVERS, Site, checksums_are_right, endpoint, service};
use lvs_core::{ForwardMethod, Protocol};
use lvs_director::{Expected, Helper, Opener, Verdict};
use lvs_packet::{Frame, Offload, TcpFlags, build, stream};
use std::sync::Arc;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

/// One control connection, and what each end thinks of the stream.
struct Talk {
    site: Site,
    client: &'static str,
    vip: &'static str,
    server: &'static str,
    /// The next number of each side, as its sender counts.
    sent: [u32; 2],
}

/// A segment with these numbers.
fn segment(from: &str, to: &str, flags: TcpFlags, numbers: (u32, u32), text: &[u8]) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let mut buffer = vec![0; 512];
    let header = build::Tcp {
        flags,
        sequence: numbers.0,
        acknowledged: numbers.1,
        ..build::Tcp::syn(from.port, to.port)
    };
    let ip = build::Ip::new(from.addr, to.addr);
    let length = build::tcp(&mut buffer, &ip, &header, text).unwrap();
    buffer.truncate(length);
    buffer
}

/// Text and numbers of what came out.
fn read(out: &Out) -> (String, u32, u32) {
    assert!(checksums_are_right(&out.bytes));
    let mut bytes = out.bytes.clone();
    let length = bytes.len();
    let frame = Frame::new(&mut bytes, 0, length, Offload::default());
    let packet = lvs_packet::parse(&frame).unwrap();
    let (sequence, acknowledged) = stream::numbers(&frame, &packet).unwrap();
    let text = String::from_utf8_lossy(stream::payload(&frame, &packet).unwrap()).into_owned();
    (text, sequence, acknowledged)
}

impl Talk {
    fn new(client: &'static str, vip: &'static str, server: &'static str) -> Self {
        let site = Site::with(
            Protocol::Tcp,
            vip,
            "rr",
            ForwardMethod::Masquerade,
            &[server],
        );
        let mut talk = Self {
            site,
            client,
            vip,
            server,
            sent: [1000, 5000],
        };
        let syn = segment(client, vip, SYN, (999, 0), b"");
        assert_eq!(talk.site.send(&syn).verdict, Verdict::Forward(SERVERS));
        talk.site
            .send(&segment(server, client, SYN | ACK, (4999, 1000), b""));
        talk.site
            .send(&segment(client, vip, ACK, (1000, 5000), b""));
        talk
    }

    fn client(&mut self, text: &str, acknowledged: u32) -> Out {
        let [sent, _] = self.sent;
        let numbers = (sent, acknowledged);
        let bytes = segment(self.client, self.vip, ACK, numbers, text.as_bytes());
        self.sent[0] += u32::try_from(text.len()).unwrap();
        self.site.send(&bytes)
    }

    fn server(&mut self, text: &str) -> Out {
        let [acknowledged, sent] = self.sent;
        let numbers = (sent, acknowledged);
        let bytes = segment(self.server, self.client, ACK, numbers, text.as_bytes());
        self.sent[1] += u32::try_from(text.len()).unwrap();
        self.site.send(&bytes)
    }
}

#[test]
fn passive_the_clients_data_finds_its_server() {
    let mut talk = Talk::new("10.1.0.5:40000", "10.0.0.100:21", "10.2.0.1:21");
    assert_eq!(
        talk.client("PASV\r\n", 5000).verdict,
        Verdict::Forward(SERVERS)
    );
    let before = "227 Entering Passive Mode (10,2,0,1,4,1).\r\n";
    let after = "227 Entering Passive Mode (10,0,0,100,4,1).\r\n";
    let out = talk.server(before);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(read(&out), (after.to_owned(), 5000, 1006));
    // The client has read more than the server has sent.
    let read_by_client = 5000 + u32::try_from(after.len()).unwrap();
    let out = talk.client("RETR x\r\n", read_by_client);
    let sent = talk.sent;
    assert_eq!(read(&out), ("RETR x\r\n".to_owned(), 1006, sent[1]));
    let out = talk.server("150 here it comes\r\n");
    assert_eq!(read(&out).1, read_by_client);
    // Sent again, it reads the same.
    let again = segment(
        talk.server,
        talk.client,
        ACK,
        (5000, 1006),
        before.as_bytes(),
    );
    assert_eq!(
        read(&talk.site.send(&again)),
        (after.to_owned(), 5000, 1006)
    );

    // The data connection, from a port that nobody knew.
    let site = &mut talk.site;
    let out = site.tcp("10.1.0.5:41234", "10.0.0.100:1025", SYN);
    assert_eq!(out.verdict, Verdict::Forward(SERVERS));
    assert_eq!(out.flow(), "10.1.0.5:41234 > 10.2.0.1:1025");
    let out = site.tcp("10.2.0.1:1025", "10.1.0.5:41234", SYN | ACK);
    assert_eq!(out.flow(), "10.0.0.100:1025 > 10.1.0.5:41234");
    let out = site.tcp("10.1.0.5:41234", "10.0.0.100:1025", ACK);
    assert_eq!(out.flow(), "10.1.0.5:41234 > 10.2.0.1:1025");
    // One only.
    let out = site.tcp("10.1.0.5:41235", "10.0.0.100:1025", SYN);
    assert_eq!(out.verdict, Verdict::Answer(None));
    // And of nobody else.
    let out = site.tcp("10.1.0.6:41235", "10.0.0.100:1025", SYN);
    assert_eq!(out.verdict, Verdict::Answer(None));
    site.wait(2000);
    assert!(site.director.table().is_empty());
    let key = service(Protocol::Tcp, "10.0.0.100:21");
    assert_eq!(site.counts(&key), [("10.2.0.1:21".to_owned(), 0, 0)]);
}

#[test]
fn active_the_servers_data_finds_its_client() {
    let mut talk = Talk::new("10.1.0.5:40000", "10.0.0.1:21", "10.2.0.1:21");
    let text = "PORT 10,1,0,5,160,1\r\n";
    let out = talk.client(text, 5000);
    assert_eq!(read(&out).0, text);
    let site = &mut talk.site;
    let out = site.tcp("10.2.0.1:20", "10.1.0.5:40961", SYN);
    assert_eq!(out.verdict, Verdict::Forward(CLIENTS));
    assert_eq!(out.flow(), "10.0.0.1:20 > 10.1.0.5:40961");
    let out = site.tcp("10.1.0.5:40961", "10.0.0.1:20", SYN | ACK);
    assert_eq!(out.flow(), "10.1.0.5:40961 > 10.2.0.1:20");
}

#[test]
fn the_extended_commands_of_both_families() {
    for (client, vip, server, addr, vip_data, server_data, client_data) in [
        (
            "[fd01::5]:40000",
            "[fd00::1]:21",
            "[fd02::1]:21",
            "|2|fd01::5|",
            "[fd00::1]:6446",
            "[fd02::1]:6446",
            "[fd01::5]:40961",
        ),
        (
            "10.1.0.5:40000",
            "10.0.0.1:21",
            "10.2.0.1:21",
            "|1|10.1.0.5|",
            "10.0.0.1:6446",
            "10.2.0.1:6446",
            "10.1.0.5:40961",
        ),
    ] {
        let mut talk = Talk::new(client, vip, server);
        let text = "229 Entering Extended Passive Mode (|||6446|)\r\n";
        assert_eq!(read(&talk.server(text)), (text.to_owned(), 5000, 1000));
        let from = client.replace("40000", "41000");
        let out = talk.site.tcp(&from, vip_data, SYN);
        assert_eq!(out.flow(), format!("{from} > {server_data}"));
        talk.client(&format!("eprt {addr}40961|\r\n"), 5000);
        let from = server.replace(":21", ":20");
        let out = talk.site.tcp(&from, client_data, SYN);
        assert_eq!(
            out.flow(),
            format!("{} > {client_data}", vip.replace(":21", ":20"))
        );
    }
}

#[test]
fn nothing_is_expected_before_the_connection_stands_or_of_others() {
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:21",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:21"],
    );
    let (client, vip) = ("10.1.0.5:40000", "10.0.0.1:21");
    site.send(&segment(
        client,
        vip,
        SYN,
        (1, 0),
        b"PORT 10,1,0,5,160,1\r\n",
    ));
    let out = site.tcp("10.2.0.1:20", "10.1.0.5:40961", SYN);
    assert_eq!(out.verdict, Verdict::ToHost);
    // Direct routing has no helper.
    let mut site = Site::with(
        Protocol::Tcp,
        vip,
        "rr",
        ForwardMethod::DirectRoute,
        &["10.2.0.1:21"],
    );
    site.tcp(client, vip, SYN);
    site.tcp(client, vip, ACK);
    site.send(&segment(
        client,
        vip,
        ACK,
        (2, 1),
        b"PORT 10,1,0,5,160,1\r\n",
    ));
    assert_eq!(site.director.table().len(), 1);
}

/// A helper of somebody else's.
#[test]
fn another_protocol_can_have_one_too() {
    #[derive(Debug)]
    struct Data;
    impl Helper for Data {
        fn server_said(&self, payload: &[u8]) -> Option<Expected> {
            Some(Expected {
                opener: Opener::Client,
                port: u16::from_be_bytes(*payload.first_chunk()?),
                replace: None,
            })
        }
    }
    let mut site = Site::with(
        Protocol::Tcp,
        "10.0.0.1:5000",
        "rr",
        ForwardMethod::Masquerade,
        &["10.2.0.1:5000"],
    );
    site.director.set_helpers(&[(5000, Arc::new(Data))]);
    let (client, vip, server) = ("10.1.0.5:40000", "10.0.0.1:5000", "10.2.0.1:5000");
    site.tcp(client, vip, SYN);
    site.tcp(server, client, SYN | ACK);
    site.tcp(client, vip, ACK);
    site.send(&segment(server, client, ACK, (1, 1), &[0x10, 0x00]));
    let out = site.tcp("10.1.0.5:777", "10.0.0.1:4096", SYN);
    assert_eq!(out.flow(), "10.1.0.5:777 > 10.2.0.1:4096");
}
