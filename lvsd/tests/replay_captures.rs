//! Captures through a director in memory, as anybody may send them: what comes out is what the kernel
//! that was captured sent, and what is wrong with the input is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::{DataLink, PcapError};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const NAT: &str = "\
# as ipvsadm -S -n writes them
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.2.0.1:8080 -m -w 1
";
const DIRECTOR: [[u8; 6]; 2] = [[2, 0, 10, 9, 0, 1], [2, 0, 10, 2, 0, 0xfe]];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../lvs-packet/tests/golden")
        .join(name)
}

/// Frames with their moments.
fn frames(file: &Path) -> Vec<(Duration, Vec<u8>)> {
    let mut reader = PcapReader::new(File::open(file).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet: Result<_, PcapError> = packet;
        let packet = packet.unwrap();
        frames.push((packet.timestamp, packet.data.into_owned()));
    }
    frames
}

fn run(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvsd"));
    let output = command
        .current_dir(folder.path())
        .arg("replay")
        .args(args)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder with rules, and the arguments for a scene's captures.
fn scene(name: &str, rules: &str) -> (TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules"), rules).unwrap();
    let mut args = vec!["--rules".to_owned(), "rules".to_owned()];
    for side in ["client", "server"] {
        let file = golden(&format!("{name}.{side}.pcap"));
        args.push("--in".to_owned());
        args.push(format!("{side}={}", file.display()));
    }
    args.extend(["--out".to_owned(), "out".to_owned()]);
    (folder, args)
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn what_leaves_is_what_the_kernel_sent() {
    for (name, rules) in [
        ("tcp-nat-v4", NAT),
        (
            "tcp-dr-v6",
            "ipvsadm -A -t [fd00::1]:80 -s rr\n\nipvsadm -a -t [fd00::1]:80 -r [fd02::1]:80 -g\n",
        ),
    ] {
        let (folder, args) = scene(name, rules);
        let (status, stdout, stderr) = run(&folder, &words(&args));
        assert_eq!((status, stderr.as_str()), (0, ""));
        assert!(stdout.ends_with("packets sent\n"), "{stdout}");
        for (side, own) in ["client", "server"].iter().zip(DIRECTOR) {
            let captured = frames(&golden(&format!("{name}.{side}.pcap")));
            let sent: Vec<_> = captured
                .into_iter()
                .filter(|(_, frame)| frame[6..12] == own)
                .collect();
            let ours = frames(&folder.path().join(format!("out/{side}.pcap")));
            assert_eq!(ours.len(), sent.len(), "{name} {side}");
            for ((_, ours), (_, sent)) in ours.iter().zip(&sent) {
                assert_eq!(ours, sent, "{name} {side}");
            }
        }
    }
}

#[test]
fn each_packet_is_explained() {
    let (folder, mut args) = scene("tcp-refused-nat-v4", &NAT.replace("8080", "80"));
    args.push("--explain".to_owned());
    let (status, stdout, _) = run(&folder, &words(&args));
    assert_eq!(status, 0);
    let lines: Vec<&str> = stdout.lines().collect();
    let [request, reply, summary, client, server] = lines.as_slice() else {
        panic!("{stdout}");
    };
    assert_eq!(
        *request,
        "0.000000 client 1 tcp 10.1.0.5:4000>10.0.0.1:80 S, 54 bytes: forward -> server: tcp 10.1.0.5:4000>10.2.0.1:80 S, 54 bytes"
    );
    assert!(
        reply.ends_with(
            " server 2 tcp 10.2.0.1:80>10.1.0.5:4000 RA, 54 bytes: forward -> client: tcp 10.0.0.1:80>10.1.0.5:4000 RA, 54 bytes"
        ),
        "{reply}"
    );
    assert_eq!(
        *summary,
        "2 packets for the director, 2 of its own or for others left out"
    );
    assert_eq!(*client, "out/client.pcap: 1 packets sent");
    assert_eq!(*server, "out/server.pcap: 1 packets sent");
}

#[test]
fn options_say_what_captures_do_not() {
    let (folder, mut args) = scene("tcp-refused-nat-v4", NAT);
    for option in [
        "--mac=server=02:00:00:00:00:99",
        "--neighbour=10.2.0.1=02:00:00:00:00:98",
        "--route=10.2.0.0/24=server",
        "--mtu=server=1400",
        "--address=server=10.2.0.254",
        "--sysctl=nat_icmp_send=1",
        "--mark=ip daddr 10.5.0.0/16 tcp dport 80=7",
        "--no-host",
        "--explain",
    ] {
        args.push(option.to_owned());
    }
    let (status, stdout, stderr) = run(&folder, &words(&args));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let [(_, sent)] = &frames(&folder.path().join("out/server.pcap"))[..] else {
        panic!("{stdout}");
    };
    assert_eq!(sent[..6], [2, 0, 0, 0, 0, 0x98]);
    assert_eq!(sent[6..12], [2, 0, 0, 0, 0, 0x99]);
    assert_eq!(sent[36..38], 8080_u16.to_be_bytes());
}

#[test]
fn what_nobody_serves_is_answered_by_the_host_or_by_the_director() {
    for (alone, verdict) in [(false, "pass, the host answers"), (true, "answer")] {
        let (folder, mut args) = scene("noservice-v4", NAT);
        args.push("--explain".to_owned());
        if alone {
            args.push("--no-host".to_owned());
        }
        let (status, stdout, _) = run(&folder, &words(&args));
        assert_eq!(status, 0);
        let expected = format!(": {verdict} -> client: tcp 10.0.0.1:81>10.1.0.5:4000 RA, 54 bytes");
        assert!(stdout.contains(&expected), "{stdout}");
        assert_eq!(frames(&folder.path().join("out/client.pcap")).len(), 2);
    }
}

/// A capture as Wireshark writes it, on a clock of nanoseconds and on the usual one.
#[test]
fn pcapng_is_read_too() {
    let captured = frames(&golden("tcp-refused-nat-v4.client.pcap"));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules"), NAT).unwrap();
    let mut writer =
        PcapNgWriter::new(File::create(folder.path().join("a.pcapng")).unwrap()).unwrap();
    writer
        .write_pcapng_block(InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0xffff))
        .unwrap();
    for (time, frame) in &captured {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            // The writer takes every clock for one of nanoseconds; this one is of microseconds.
            timestamp: Duration::from_nanos(u64::try_from(time.as_micros()).unwrap() + 2_000_000),
            original_len: u32::try_from(frame.len()).unwrap(),
            data: frame.as_slice().into(),
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).unwrap();
    }
    drop(writer);
    let args = [
        "--rules",
        "rules",
        "--in",
        "client=a.pcapng",
        "--out",
        "out",
    ];
    let (status, stdout, stderr) = run(&folder, &args);
    assert_eq!((status, stderr.as_str()), (0, ""), "{stdout}");
    let ours = frames(&folder.path().join("out/client.pcap"));
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].0, Duration::from_secs(2) + captured[0].0);
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_written() {
    let (folder, args) = scene("tcp-refused-nat-v4", NAT);
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let whole = fs::read(golden("tcp-refused-nat-v4.client.pcap")).unwrap();
    write("none", b"no capture at all, not even one");
    write("torn", &whole[..whole.len() - 3]);
    let mut other_link = whole.clone();
    other_link[20] = 113;
    write("cooked", &other_link);
    write(
        "refused",
        b"-A -t 10.0.0.1:80 -s rr\n\n-A -t 10.0.0.1:80 -s rr\n",
    );
    write("nonsense", b"-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80\n");
    let with = |from: &str, to: &str| {
        let changed = args
            .iter()
            .map(|arg| if arg == from { to } else { arg.as_str() });
        changed.map(str::to_owned).collect::<Vec<_>>()
    };
    let client = args[3].clone();
    let plus = |option: &str| {
        let mut args = args.clone();
        args.push(option.to_owned());
        args
    };
    for (args, told) in [
        (
            with("rules", "missing"),
            "lvsd: cannot read missing: No such file",
        ),
        (
            with("rules", "refused"),
            "lvsd: refused, line 3: `-A -t 10.0.0.1:80 -s rr`: ",
        ),
        (
            with("rules", "nonsense"),
            "lvsd: nonsense, line 2: `-a -t 10.0.0.1:80`: ",
        ),
        (
            with(&client, "client=missing"),
            "lvsd: cannot read missing: No such file",
        ),
        (
            with(&client, "client=none"),
            "lvsd: none: neither pcap nor pcapng: ",
        ),
        (
            with(&client, "client=torn"),
            "lvsd: torn, packet 2: the file ends in the middle",
        ),
        (
            with(&client, "client=cooked"),
            "lvsd: cooked: captured on link type 113, not on Ethernet",
        ),
        (with(&client, "client"), "expected SIDE=FILE"),
        (
            plus("--mtu=lan=1400"),
            "lvsd: --mtu: there is no side `lan`; there are client, server",
        ),
        (plus("--mac=server=1:2"), "`1:2` is no Ethernet address"),
        (
            plus("--sysctl=nonsense=1"),
            "lvsd: there is no setting `nonsense`",
        ),
        (plus("--mark=ip daddr nonsense=7"), "lvsd: "),
        (
            plus("--route=10.2.0.0/24=lan"),
            "lvsd: --route: there is no side `lan`",
        ),
    ] {
        let (status, stdout, stderr) = run(&folder, &words(&args));
        assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(told), "{told}: {stderr}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_capture_that_does_not_show_the_director_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules"), "-A -t 192.0.2.1:80 -s rr\n").unwrap();
    let file = golden("tcp-refused-nat-v4.client.pcap");
    let side = format!("client={}", file.display());
    let args = ["--rules", "rules", "--in", side.as_str(), "--out", "out"];
    let (status, _, stderr) = run(&folder, &args);
    assert_eq!(status, 0);
    assert!(
        stderr.contains("which address is the director's does not show"),
        "{stderr}"
    );
    assert!(stderr.contains("--mac client=ADDRESS says it"), "{stderr}");
}
