//! What lvsadm has beyond ipvsadm, and what it says when there is no daemon.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Daemon, LocalNames, Seen};
use lvs_api::{Connection, DestinationStatus, ServiceStatus, key};
use lvs_core::{Counters, Rates};
use lvsadm::{Surroundings, run};
use lvsd::control::{Backend, Memory};
use std::sync::Arc;

fn start() -> (Arc<Memory>, Daemon) {
    let director = Arc::new(Memory::new());
    let daemon = Daemon::start(Arc::clone(&director) as Arc<dyn Backend>);
    (director, daemon)
}

fn alone(args: &[&str]) -> Seen {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let status = run(
        &args,
        &mut Surroundings {
            input: &mut std::io::empty(),
            output: &mut output,
            errors: &mut errors,
            socket: Some("/nonexistent/lvsd.sock".into()),
            names: &LocalNames,
        },
    );
    Seen {
        status,
        stdout: String::from_utf8(output).unwrap(),
        stderr: String::from_utf8(errors).unwrap(),
    }
}

#[test]
fn without_a_daemon_it_names_the_socket() {
    for args in [&["lvsadm"][..], &["lvsadm", "-C"], &["lvsadm", "-R"]] {
        assert_eq!(
            alone(args),
            Seen {
                status: 2,
                stdout: String::new(),
                stderr: "lvsd is not running: nothing listens on /nonexistent/lvsd.sock\n\
                         Start it, or name its socket with --socket or LVSD_SOCKET.\n"
                    .to_owned(),
            }
        );
    }
    let named = alone(&["lvsadm", "-Ln", "--socket", "/nonexistent/other.sock"]);
    assert!(named.stderr.contains("listens on /nonexistent/other.sock"));
    // What needs no daemon asks none, and a wrong line is wrong all the same.
    assert_eq!(alone(&["lvsadm", "-v"]).status, 0);
    assert_eq!(alone(&["lvsadm", "-A"]).stderr.lines().count(), 1);
}

#[test]
fn help_is_ipvsadms_or_a_manual() {
    let short = alone(&["lvsadm", "-h"]);
    assert_eq!(short, alone(&["/usr/sbin/ipvsadm", "-h"]));
    assert_eq!(short, alone(&["ipvsadm", "--help"]));
    insta::assert_snapshot!("manual", alone(&["lvsadm", "--help"]).stdout);
}

#[test]
fn the_program_calls_itself_as_it_was_called() {
    let named = |program| alone(&[program, "--bogus"]).stderr;
    assert!(named("lvsadm").starts_with("Try `lvsadm -h' or 'lvsadm --help'"));
    assert!(named("/sbin/ipvsadm").starts_with("Try `ipvsadm -h' or 'ipvsadm --help'"));
}

#[test]
fn the_socket_may_be_named_before_the_command() {
    let (_, daemon) = start();
    let socket = daemon.socket.to_str().unwrap();
    for args in [
        &["lvsadm", "--socket", socket, "-Ln"][..],
        &["lvsadm", "-Ln", &format!("--socket={socket}")],
        &["lvsadm", "--socket", socket],
    ] {
        let seen = alone(args);
        assert_eq!((seen.status, seen.stdout.lines().count()), (0, 3));
    }
}

#[test]
fn restoring_is_line_by_line_or_all_or_nothing() {
    let (director, daemon) = start();
    let rules = "-A -t 192.0.2.1:80 -s rr\n\n-A -t 192.0.2.1:80 -s rr\nipvsadm -a -t \
                 192.0.2.1:80 -r 10.0.0.1 -m\n-a -t 192.0.2.9:80 -r 10.0.0.1 -m\n";
    let seen = daemon.run(&["-R"], rules);
    // The status is that of the last line.
    assert_eq!(seen.status, 255);
    assert_eq!(seen.stderr, "Service already exists\nService not defined\n");
    assert_eq!(director.services()[0].destinations.len(), 1);

    daemon.run(&["-C"], "");
    let seen = daemon.run(&["-R", "--atomic"], rules);
    assert_eq!(seen.status, 255);
    assert_eq!(
        seen.stderr,
        "line 3: Service already exists; nothing was changed\n"
    );
    assert!(director.services().is_empty());
    let seen = daemon.run(&["-R", "--atomic"], "-A -t 192.0.2.1:80\n-A -t\n");
    assert_eq!(
        seen.stderr,
        "line 2: -t: missing argument; nothing was changed\n"
    );
    assert!(director.services().is_empty());

    // An unknown option is skipped, a wrong value and a comment end the run.
    let seen = daemon.run(&["-R"], "-A -t 192.0.2.1:80 --bogus\n-A -t 192.0.2.2:80\n");
    assert_eq!(
        (seen.status, seen.stderr.as_str()),
        (0, "--bogus: unknown option\n")
    );
    let seen = daemon.run(&["-R"], "-A -t 192.0.2.3:80\n-A -t x\n-A -t 192.0.2.4:80\n");
    assert_eq!(seen.status, 2);
    let seen = daemon.run(&["-R"], "-A -t 192.0.2.5:80\n# rules\n-A -t 192.0.2.6:80\n");
    assert_eq!(seen.status, 255);
    assert!(seen.stderr.starts_with("Try `ipvsadm -h'"));
    assert_eq!(director.services().len(), 3);
}

#[test]
fn many_rules_are_restored_in_batches() {
    let (director, daemon) = start();
    let mut rules = String::from("-A -t 192.0.2.1:80 -s wrr\n");
    for i in 0..2500 {
        let line = format!("-a -t 192.0.2.1:80 -r 10.0.{}.{} -m\n", i >> 8, i & 255);
        rules.push_str(&line);
    }
    // 10.0.0.0 is as good as any other address here.
    let seen = daemon.run(&["-R"], &rules);
    assert_eq!((seen.status, seen.stderr.as_str()), (0, ""));
    assert_eq!(director.services()[0].destinations.len(), 2500);
    let saved = daemon.run(&["-S", "-n"], "").stdout;
    assert_eq!(saved.lines().count(), 2501);
    daemon.run(&["-C"], "");
    assert_eq!(daemon.run(&["-R", "--atomic"], &saved).status, 0);
    assert_eq!(daemon.run(&["-S", "-n"], "").stdout, saved);
}

#[test]
fn json_is_what_the_daemon_says() {
    let (director, daemon) = start();
    daemon.run(
        &["-A", "-t", "192.0.2.1:80", "-s", "sh", "-b", "sh-port"],
        "",
    );
    let seen = daemon.run(&["-L", "--json"], "");
    let services: Vec<ServiceStatus> = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(services, director.services());
    assert!(
        seen.stdout.contains(r#""flags":["sh-port"]"#),
        "{}",
        seen.stdout
    );
    let connection: Connection = serde_json::from_str(r#"{"protocol":"udp","client":"198.51.100.1:5000","virtual":"192.0.2.1:53","destination":"10.0.0.1:53","method":"dr","state":"UDP","expires":299}"#).unwrap();
    director.set_connections(vec![connection.clone(); 3]);
    let lines = daemon.run(&["-Lc", "--json"], "").stdout;
    assert_eq!(lines.lines().count(), 3);
    for line in lines.lines() {
        assert_eq!(
            serde_json::from_str::<Connection>(line).unwrap(),
            connection
        );
    }
    let timeouts = daemon.run(&["-L", "--timeout", "--json"], "").stdout;
    assert_eq!(timeouts, "{\"tcp\":900,\"tcp_fin\":120,\"udp\":300}\n");
    assert_eq!(daemon.run(&["-L", "--daemon", "--json"], "").stdout, "[]\n");
    // Nothing but the option is the listing of rules, as nothing at all is.
    assert_eq!(daemon.run(&["--json"], "").stdout, seen.stdout);
}

/// An option that could do nothing is refused, not passed over.
#[test]
fn options_of_our_own_have_their_commands() {
    let (_, daemon) = start();
    for (args, message) in [
        (
            &["-S", "--json"][..],
            "Illegal 'json' option with the 'save' command",
        ),
        (
            &["--json", "-C"],
            "Illegal 'json' option with the 'flush' command",
        ),
        (
            &["--atomic"],
            "Try `ipvsadm -h' or 'ipvsadm --help' for more information.",
        ),
        (
            &["-L", "--atomic"],
            "Illegal 'atomic' option with the 'list' command",
        ),
        (
            &["--atomic", "--json"],
            "Illegal 'atomic' option with the 'list' command",
        ),
        (
            &["-Z", "--drops"],
            "Illegal 'drops' option with the 'zero' command",
        ),
        (
            &["-L", "--drops", "--stats"],
            "options conflicts in the list command",
        ),
        (
            &["-L", "--drops", "-t", "192.0.2.1:80"],
            "options conflicts in the list command",
        ),
    ] {
        let seen = daemon.run(args, "");
        assert_eq!(seen.stderr.trim_end(), message, "{args:?}");
        assert_eq!(seen.stdout, "", "{args:?}");
    }
}

/// What IPVS has not: said, listed, saved, and restored to the same.
#[test]
fn fullnat_goes_there_and_back() {
    let (_, daemon) = start();
    let rules = "\
-A -t 192.0.2.1:80 -s wlc --local 10.0.0.250,10.0.0.251 --toa --on-removal drain:30
-a -t 192.0.2.1:80 -r 10.0.0.2:8080 --fullnat -w 2 --local 10.0.0.252 --on-removal reset
-a -t 192.0.2.1:80 -r 10.0.0.3:80 -m -w 1
";
    assert_eq!(daemon.run(&["-R"], rules).stderr, "");
    assert_eq!(daemon.run(&["-S", "-n"], "").stdout, rules);
    let listed = daemon.run(&["-Ln"], "").stdout;
    let lines: Vec<&str> = listed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "TCP  192.0.2.1:80 wlc local 10.0.0.250,10.0.0.251 toa on-removal drain:30",
            "  -> 10.0.0.2:8080                FullNat 2      0          0         ",
            "  -> 10.0.0.3:80                  Masq    1      0          0         ",
        ]
    );
    daemon.run(&["-C"], "");
    assert_eq!(daemon.run(&["-R", "--atomic"], rules).status, 0);
    assert_eq!(daemon.run(&["-S", "-n"], "").stdout, rules);

    let service = ["-t", "192.0.2.1:80"];
    let wrong = |more: &[&str]| {
        let all: Vec<&str> = more[..1]
            .iter()
            .chain(&service)
            .chain(&more[1..])
            .copied()
            .collect();
        let seen = daemon.run(&all, "");
        (seen.status, seen.stderr)
    };
    let (status, text) = wrong(&["-a", "-r", "10.0.0.9", "-m", "--local", "10.0.0.8"]);
    assert_eq!(status, 2);
    assert!(text.contains("for the fullnat forwarding method"), "{text}");
    let (status, text) = wrong(&["-E", "--local", "10.0.0.8,x"]);
    assert_eq!(
        (status, text.as_str()),
        (2, "illegal local address `x' specified\n")
    );
    let (status, text) = wrong(&["-E", "--on-removal", "soon"]);
    assert_eq!(status, 2);
    assert!(text.contains("`soon'; there are drain"), "{text}");
    let (status, text) = wrong(&["-a", "-r", "10.0.0.9", "--toa"]);
    assert_eq!(status, 2);
    assert!(
        text.starts_with("Illegal 'toa' option with the 'add-server'"),
        "{text}"
    );
    let (status, text) = wrong(&["-a", "-r", "10.0.0.9", "--fullnat", "-m"]);
    assert_eq!(status, 2);
    assert!(text.contains("multiple 'forwarding-method'"), "{text}");
}

#[test]
fn settings_are_listed_shown_and_set() {
    let (_, daemon) = start();
    let all = daemon.run(&["--sysctl"], "").stdout;
    assert!(all.contains("net.ipv4.vs.conn_reuse_mode = 1\n"), "{all}");
    for args in [
        &["--sysctl", "expire_nodest_conn=1"][..],
        &["--sysctl=net.ipv4.vs.expire_nodest_conn=1"],
    ] {
        let seen = daemon.run(args, "");
        assert_eq!((seen.status, seen.stderr.as_str()), (0, ""));
        let shown = daemon.run(&["--sysctl", "expire_nodest_conn"], "").stdout;
        assert_eq!(shown, "net.ipv4.vs.expire_nodest_conn = 1\n");
        daemon.run(&["--sysctl", "expire_nodest_conn=0"], "");
    }
    let json = daemon.run(&["--sysctl", "pmtu_disc", "--json"], "").stdout;
    assert!(
        json.starts_with(r#"[{"name":"pmtu_disc","value":1"#),
        "{json}"
    );
    for (args, status, text) in [
        ("nosuch", 1, "there is no setting nosuch"),
        ("nosuch=1", 255, "there is no setting `nosuch`"),
        (
            "drop_entry=9",
            255,
            "the setting `drop_entry` is 0 to 3, not 9",
        ),
        (
            "drop_entry=x",
            2,
            "invalid value `x' of the setting drop_entry",
        ),
    ] {
        let seen = daemon.run(&["--sysctl", args], "");
        assert_eq!(seen.status, status, "{args}: {}", seen.stderr);
        assert!(seen.stderr.contains(text), "{args}: {}", seen.stderr);
    }
    let seen = daemon.run(&["--sysctl", "pmtu_disc", "-n"], "");
    assert_eq!(
        seen.stderr,
        "Illegal 'numeric' option with the 'sysctl' command\n"
    );
    let lines = "--sysctl pmtu_disc=0\n--sysctl pmtu_disc\n";
    assert_eq!(
        daemon.run(&["-R"], lines).stdout,
        "net.ipv4.vs.pmtu_disc = 0\n"
    );
}

#[test]
fn drops_that_never_happened_are_not_listed() {
    let (_, daemon) = start();
    assert_eq!(
        daemon.run(&["-L", "--drops"], "").stdout,
        "     Packets Reason                   Meaning\n"
    );
}

/// The fixture of the reference: the widths, units and blanks of every listing.
#[test]
fn listings_to_the_column() {
    let (director, daemon) = start();
    let rules = "\
-A -t 192.0.2.10:80 -s rr
-a -t 192.0.2.10:80 -r 10.0.0.2 -g -w 100 -x 100 -y 75
-a -t 192.0.2.10:80 -r 10.0.0.3 -i -w 65535
-a -t 192.0.2.10:80 -r 10.0.0.4 -i --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 192.0.2.10:80 -r 10.0.0.5 -i --tun-type gre --tun-csum
-a -t 192.0.2.10:80 -r 10.0.0.11 -m
-A -t 192.0.2.10:443 -s mh -p 300 -M 255.255.255.0 -b mh-fallback
-A -f 7 -s lc -p 60 --pe sip
";
    assert_eq!(daemon.run(&["-R"], rules).stderr, "");
    let counters = Counters {
        conns: 123_456,
        in_packets: 1_234_567,
        out_packets: 7_654_321,
        in_bytes: 99_999_999,
        out_bytes: 100_000_000,
    };
    director.touch(&key::parse("tcp://192.0.2.10:80").unwrap(), |service| {
        service.counters = counters;
        service.rates = Rates {
            cps: 123_456_789,
            in_pps: 1,
            out_pps: 2,
            in_bps: 123_456_789,
            out_bps: 3,
        };
        for destination in &mut service.destinations {
            let DestinationStatus { config, .. } = destination;
            if config.address.to_string() == "10.0.0.11:80" {
                (destination.active, destination.inactive) = (12, 345);
                destination.persistent = 3;
                destination.rates = service.rates;
                destination.counters = Counters {
                    conns: 61_728,
                    in_packets: 617_283,
                    out_packets: 1,
                    in_bytes: 1_000_000_000,
                    out_bytes: 123_456_789_012,
                };
            }
        }
    });
    let listed = |args: &[&str], skip: usize| -> Vec<String> {
        let text = daemon.run(args, "").stdout;
        text.lines().skip(skip).map(str::to_owned).collect()
    };
    assert_eq!(
        listed(&["-Ln"], 3),
        [
            "TCP  192.0.2.10:80 rr",
            "  -> 10.0.0.2:80                  Route   100    0          0         ",
            "  -> 10.0.0.3:80                  Tunnel  65535  0          0         ",
            "  -> 10.0.0.4:80                  Tunnel  1      0          0         ",
            "  -> 10.0.0.5:80                  Tunnel  1      0          0         ",
            "  -> 10.0.0.11:80                 Masq    1      12         345       ",
            "TCP  192.0.2.10:443 mh (mh-fallback) persistent 300 mask 255.255.255.0",
            "FWM  7 lc persistent 60 pe sip",
        ]
    );
    let stats = listed(&["-Ln", "--stats"], 3);
    assert_eq!(
        stats[0],
        "TCP  192.0.2.10:80                  123456  1234567  7654321 99999999  100000K"
    );
    assert_eq!(
        stats[5],
        "  -> 10.0.0.11:80                    61728   617283        1    1000M     123G"
    );
    let exact = listed(&["-Ln", "--stats", "--exact"], 3);
    assert_eq!(
        exact[0],
        "TCP  192.0.2.10:80                  123456  1234567  7654321 99999999 100000000"
    );
    assert_eq!(
        exact[5],
        "  -> 10.0.0.11:80                    61728   617283        1 1000000000 123456789012"
    );
    // Of a destination's rates only the bytes are shortened.
    let rates = listed(&["-Ln", "--rate"], 3);
    assert_eq!(
        rates[0],
        "TCP  192.0.2.10:80                 123456K        1        2  123456K        3"
    );
    assert_eq!(
        rates[5],
        "  -> 10.0.0.11:80                 123456789        1        2  123456K        3"
    );
    assert_eq!(
        listed(&["-Ln", "--thresholds"], 4)[0],
        "  -> 10.0.0.2:80                  100        75         0          0         "
    );
    assert_eq!(
        listed(&["-Ln", "--persistent-conn"], 8)[0],
        "  -> 10.0.0.11:80                 1         3           12         345       "
    );
    let tunnels = listed(&["-Ln", "--tun-info"], 1);
    assert_eq!(
        tunnels[..7],
        [
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn",
            "TCP  192.0.2.10:80 rr",
            "  -> 10.0.0.2:80                  Route   n/a           100    0          0         ",
            "  -> 10.0.0.3:80                  Tunnel  ipip          65535  0          0         ",
            "  -> 10.0.0.4:80                  Tunnel  gue:6080:r+c  1      0          0         ",
            "  -> 10.0.0.5:80                  Tunnel  gre:+c        1      0          0         ",
        ]
    );
}

/// Whom the socket is not for: told so, with its owner and mode, and changes nothing.
#[test]
fn whom_the_socket_is_not_for() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (director, daemon) = start();
    if std::fs::metadata(&daemon.socket).unwrap().uid() != 0 {
        println!("left out: whom_the_socket_is_not_for, because it takes root to be somebody else");
        return;
    }
    // Where anybody gets to it, and to the program.
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(dir.path(), 0o755);
    open(daemon.socket.parent().unwrap(), 0o755);
    let program = dir.path().join("lvsadm");
    std::fs::copy(env!("CARGO_BIN_EXE_lvsadm"), &program).unwrap();
    let nobody = || {
        let mut command = std::process::Command::new(&program);
        command.args(["-A", "-t", "192.0.2.1:80"]);
        let command = command
            .env("LVSD_SOCKET", &daemon.socket)
            .uid(65534)
            .gid(65534);
        command.output().unwrap()
    };
    let seen = nobody();
    assert_eq!(seen.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&seen.stderr),
        format!(
            "no permission to use {}, which is of user 0 and group 0 with mode 0600 (you must be \
             root)\n",
            daemon.socket.display()
        )
    );
    assert!(director.services().is_empty());
    open(&daemon.socket, 0o666);
    assert_eq!(nobody().status.code(), Some(0));
    assert_eq!(director.services().len(), 1);
}

/// The program itself, under ipvsadm's name, told by the environment where the daemon is.
#[test]
fn the_program_takes_ipvsadms_place() {
    let (_, daemon) = start();
    let dir = tempfile::tempdir().unwrap();
    let ipvsadm = dir.path().join("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvsadm"), &ipvsadm).unwrap();
    let command = |args: &[&str], stdin: &str| {
        let output = assert_cmd::Command::new(&ipvsadm)
            .args(args)
            .env("LVSD_SOCKET", &daemon.socket)
            .write_stdin(stdin)
            .output()
            .unwrap();
        Seen {
            status: output.status.code().unwrap().try_into().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let rules = "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 1\n";
    assert_eq!(command(&["-R"], rules).status, 0);
    assert_eq!(command(&["-S", "-n"], "").stdout, rules);
    let again = command(&["-A", "-t", "192.0.2.1:80"], "");
    assert_eq!(
        (again.status, again.stderr.as_str()),
        (255, "Service already exists\n")
    );
}

/// A listing that could not be written is no success, and says why.
#[test]
fn a_full_disk_is_told() {
    let (_, daemon) = start();
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lvsadm"))
        .args(["-Ln", "--socket"])
        .arg(&daemon.socket)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("cannot write: No space left"), "{said}");
}
