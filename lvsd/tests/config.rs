//! What the configuration says about files that are right and files that are wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lvs_core::{LocalAddresses, OnRemoval};
use lvsd::config::{Config, ConfigError};
use lvsd::control::{Backend, Memory, reload};

const EXAMPLE: &str = include_str!("../lvsd.toml.example");

#[test]
fn the_example_is_right_and_a_director_takes_it() {
    let config = Config::parse("lvsd.toml.example", EXAMPLE).unwrap();
    assert_eq!(
        config.summary(),
        "2 services, 4 destinations, on all interfaces"
    );
    assert_eq!(reload::apply(&config, &Memory::new()).unwrap(), 6);
}

#[test]
fn what_the_example_shows_as_default_is_the_default() {
    // Every line `#key = value` is one; lines that explain have a blank after the mark.
    let shown = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
        _ => line,
    });
    let shown: Vec<&str> = shown
        .filter(|line| {
            let depends = ["interfaces", "workers", "owner", "group", "file"];
            !depends.iter().any(|key| line.starts_with(key))
        })
        .collect();
    let shown = Config::parse("example", &shown.join("\n")).unwrap();
    let plain = Config::parse("example", EXAMPLE).unwrap();
    assert_eq!(shown, plain);
    let default = Config {
        services: plain.services.clone(),
        ..Config::default()
    };
    assert_eq!(plain, default);
}

#[test]
fn the_control_socket_is_whose_the_file_says() {
    let parse = |text: &str| Config::parse("t", text);
    let text = "[control]\nsocket = '/run/a.sock'\nowner = 'root'\ngroup = 7\nmode = '0660'";
    let control = parse(text).unwrap().control;
    assert_eq!(
        (control.owner, control.group, control.mode),
        (Some(0), Some(7), 0o660)
    );
    assert_eq!(control.socket, std::path::Path::new("/run/a.sock"));
    assert_eq!(
        parse("[control]\nmode = 0o640").unwrap().control.mode,
        0o640
    );
    assert_eq!(
        parse("socket = '/x'\n[control]").unwrap().control.socket,
        std::path::Path::new("/x")
    );
    for (text, why) in [
        (
            "mode = 660",
            "`mode` is no mode of a file; write it in octal",
        ),
        ("mode = '1777'", "`mode` is no mode"),
        (
            "owner = 'no-such-user'",
            "and there is no such user; name a user of this host",
        ),
        ("group = 'no-such-group'", "there is no such group"),
        ("socket = 'lvsd.sock'", "`socket` is not an absolute path"),
        ("users = 7", "unknown key `users` in [control]"),
    ] {
        let error = parse(&format!("[control]\n{text}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    let twice = parse("socket = '/x'\n[control]\nsocket = '/y'").unwrap_err();
    assert!(
        twice
            .to_string()
            .contains("stands at the top of the file too")
    );
}

#[test]
fn marks_and_settings_are_read() {
    let text = "[sysctl]\nsecure_tcp = 3\nsloppy_tcp = true\n[[mark]]\nmark = 7\n\
                destination = ['10.5.0.0-10.5.255.255', '!10.5.0.9']\ndestination_port = [80, '8000-8080']\n\
                interface = 'eth*'\n[[service]]\nlisten = 'fwmark://7'\npersistence = '1m'\n\
                [[service.destination]]\naddress = '10.0.0.1'\nmethod = 'dr'";
    let config = Config::parse("t", text).unwrap();
    let value = |name| {
        let all = config.sysctl.iter();
        all.clone()
            .find(|(found, _)| found.name() == name)
            .unwrap()
            .1
    };
    assert_eq!(
        (
            value("secure_tcp"),
            value("sloppy_tcp"),
            value("am_droprate")
        ),
        (3, 1, 10)
    );
    let rule = config.marks.first().unwrap();
    assert_eq!(rule.destination, ["10.5.0.0/16", "!10.5.0.9"]);
    assert_eq!(rule.destination_port, ["80", "8000-8080"]);
    let memory = Memory::new();
    assert_eq!(reload::apply(&config, &memory).unwrap(), 5);
    assert_eq!(reload::apply(&config, &memory).unwrap(), 0);
    assert_eq!(reload::apply(&Config::default(), &memory).unwrap(), 4);
    assert_eq!(memory.marks(), []);
}

#[test]
fn fullnat_and_removal_are_read() {
    let text = "[[service]]\nlisten = 'tcp://192.0.2.10:80'\nlocal = ['10.0.0.250', '10.0.0.251']\n\
                toa = true\non_removal = 'drain 1m'\n[[service.destination]]\naddress = '10.0.0.2:8080'\n\
                method = 'fullnat'\n[[service.destination]]\naddress = '10.0.0.3:8080'\nmethod = 'fullnat'\n\
                local = ['10.0.0.252']\non_removal = 'reset'";
    let config = Config::parse("t", text).unwrap();
    let rule = config.services.first().unwrap();
    let locals = |list: Option<LocalAddresses>| {
        let list = list.unwrap_or_default();
        let texts: Vec<String> = list.iter().map(|addr| addr.to_string()).collect();
        texts.join(" ")
    };
    assert_eq!(locals(rule.service.local), "10.0.0.250 10.0.0.251");
    assert_eq!(rule.service.toa, Some(true));
    assert_eq!(rule.service.on_removal, Some(OnRemoval::DrainFor(60)));
    let servers = rule.destinations.iter();
    let servers: Vec<_> = servers.map(|d| (locals(d.local), d.on_removal)).collect();
    let own = (String::from("10.0.0.252"), Some(OnRemoval::Reset));
    assert_eq!(servers, [(String::new(), None), own]);
    let memory = Memory::new();
    assert_eq!(reload::apply(&config, &memory).unwrap(), 3);
    assert_eq!(reload::apply(&config, &memory).unwrap(), 0);
}

#[test]
fn an_empty_file_is_right() {
    assert_eq!(Config::parse("empty", "").unwrap(), Config::default());
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = include_str!("golden/wrong.toml");
    let error = Config::parse("wrong.toml", text).unwrap_err();
    insta::assert_snapshot!("wrong_plain", error.to_string());
    insta::assert_snapshot!("wrong_drawn", error.render(false));
    assert!(error.render(true).contains("\u{1b}["));
}

/// The report about a text, one line a problem.
fn report(text: &str) -> String {
    Config::parse("t", text).unwrap_err().to_string()
}

fn service(more: &str) -> String {
    report(&format!(
        "[[service]]\nlisten = 'tcp://192.0.2.10:80'\n{more}"
    ))
}

fn destination(more: &str) -> String {
    service(&format!("[[service.destination]]\n{more}"))
}

#[test]
fn each_mistake_has_its_sentence_and_place() {
    let cases = [
        (report("log = info"), "t:1:7: "),
        (
            report("socket = 'lvsd.sock'"),
            "t:1:10: `socket` is not an absolute path; begin it with /",
        ),
        (
            report("dataplane = 1"),
            "t:1:13: `dataplane` is an integer, not a table; write [dataplane]",
        ),
        (
            report("[dataplane]\ninterfaces = 'eth0'"),
            "t:2:14: `interfaces` is a string, not a list; write a list of strings, such as \
             [\"eth0\", \"eth1\"]",
        ),
        (
            report("[dataplane]\ninterfaces = ['a', 'b', 'a']"),
            "t:2:14: `a` is named twice",
        ),
        (
            report("[dataplane]\nclaim = 'yes'"),
            "t:2:9: `claim` is a string, not true or false; write true or false, without \
             quotation marks",
        ),
        (
            report("[connections]\ncapacity = 1_000"),
            "t:2:12: `capacity` is out of range; it can be 1024 to 134217728",
        ),
        (
            report("[connections]\nfile = 'lvsd.connections'"),
            "t:2:8: `file` is not an absolute path; begin it with /",
        ),
        (
            report("[timeouts]\ntcp = '32d'"),
            "t:2:7: `tcp` is out of range; it can be 1 to 2678400 seconds",
        ),
        (
            report("[timeouts]\nudp = 'soon'"),
            "t:2:7: `udp` is `soon`, which is no length of time; write seconds, or \"90s\", \
             \"15m\", \"1h30m\", \"2d\"",
        ),
        (
            report("[dataplane]\nlog = 'info'"),
            "t:2:1: unknown key `log` in [dataplane]; `log` belongs to the top of the file, before \
             the first table",
        ),
        (
            report("[metrics]\nlisten = 1"),
            "t:1:2: `metrics`: metrics are not part of this version; remove it",
        ),
        (
            report("[[service]]"),
            "t:1:1: `listen` is missing in [[service]]; add listen = \"tcp://192.0.2.10:80\"",
        ),
        (
            report("[service]\nlisten = 'tcp://192.0.2.10:80'"),
            "t:1:1: `service` is a table, not a list of tables; start each with a line of its \
             own: [[service]]",
        ),
        (
            report("[[service]]\nlisten = 'tcp://192.0.2.10:0'"),
            "t:2:10: port 0 means every port, which only works with persistence; name a port, or \
             add persistence = \"6m\"",
        ),
        (
            report("[sysctl]\ndrop_entry = 4"),
            "t:2:14: `drop_entry` is out of range; it can be 0 to 3",
        ),
        (
            report("[sysctl]\nslopy_tcp = 1"),
            "t:2:1: unknown key `slopy_tcp` in [sysctl]; did you mean `sloppy_tcp`?",
        ),
        (
            report("[[mark]]\nmark = 7\nsource = '10.0.0.0/40'"),
            "t:3:10: `source`: `10.0.0.0/40` is no address, prefix or range, such as 10.1.0.7, \
             10.1.0.0/16, fd00::/8 or 10.1.0.1-10.1.0.9",
        ),
        (
            report("[[mark]]\nmark = 7\nsource = '10.0.0.0/8'\ndestination = 'fd00::/8'"),
            "t:1:1: the rule for mark 7 can match no packet: its addresses are of different \
             families; write one rule for each family",
        ),
        (
            service("persistence_engine = 'sip'\npersistence = '6m'"),
            "t:3:22: the engine `sip` is for UDP: it would drop every packet of \
             tcp://192.0.2.10:80; remove it",
        ),
        (
            service("one_packet = true"),
            "t:3:14: `one_packet` is for UDP and firewall marks only; remove it",
        ),
        (
            service("scheduler = 'rr'\nflags = ['sh-port']"),
            "t:4:9: `flags` do not fit `rr`: the scheduler flag `sh-port` belongs to another \
             scheduler",
        ),
        (
            service("persistence = { timeout = '5m', netmask = 24 }"),
            "t:3:15: the netmask does not fit the family of tcp://192.0.2.10:80; for IPv4 it is a \
             mask, \"255.255.255.0\"; for IPv6 a prefix length, 64",
        ),
        (
            report("[[service]]\nlisten = 'udp://192.0.2.10:5060'\npersistence_engine = 'sip'"),
            "t:3:22: `persistence_engine` without `persistence` does nothing; add persistence = \
             \"6m\"",
        ),
        (
            destination("address = '10.0.0.1'"),
            "t:3:1: `method` is missing in [[service.destination]]; add method = \"nat\", \"dr\", \
             \"tun\" or \"fullnat\"",
        ),
        (
            destination("address = 'web1'\nmethod = 'dr'"),
            "t:4:11: `address` is `web1`, which is no address; write \"10.0.0.2:8080\" or \
             \"[fd00::2]:8080\"; without a port, the service's",
        ),
        (
            destination("address = '224.0.0.1'\nmethod = 'dr'"),
            "t:4:11: 224.0.0.1 is not the address of one host",
        ),
        (
            destination("address = '10.0.0.1'\nmethod = 'dr'\nlower_threshold = 5"),
            "t:6:19: `lower_threshold` exceeds `upper_threshold`; raise upper_threshold",
        ),
        (
            destination("address = '10.0.0.1'\nmethod = 'dr'\ntunnel = 'gre'"),
            "t:6:10: `tunnel` is for the method `tun` only; remove it, or say method = \"tun\"",
        ),
        (
            destination("address = '10.0.0.1'\nmethod = 'fullnat'"),
            "t:5:10: destination 10.0.0.1:80 of service TCP  192.0.2.10:80 is reached by fullnat, \
             which needs a local address: give one to the service or to the destination",
        ),
        (
            destination("address = '10.0.0.1'\nmethod = 'nat'\nlocal = ['10.0.0.250']"),
            "t:6:9: `local` is for the method `fullnat` only; remove it, or say method = \
             \"fullnat\"",
        ),
        (
            service("local = ['10.0.0.250', '10.0.0']"),
            "t:3:9: `local` has `10.0.0`, which is no address; write ",
        ),
        (
            service("local = ['fd00::250']"),
            "t:3:9: local address fd00::250 of service TCP  192.0.2.10:80 is of the other address \
             family; write one of the service's",
        ),
        (
            service("local = ['192.0.2.10']"),
            "t:3:9: local address 192.0.2.10 of service TCP  192.0.2.10:80 is a service's address \
             too; give FULLNAT one of its own",
        ),
        (
            service("on_removal = 'drop'"),
            "t:3:14: `on_removal` is `drop`, which does not exist; there are \"drain\", \"drain \
             30s\", \"reset\" and \"reschedule\"",
        ),
        (
            service("on_removal = 'drain 40d'"),
            "t:3:14: `on_removal` is out of range; it can be 1 to 2678400 seconds",
        ),
        (
            destination("address = '10.0.0.1'\nmethod = 'tun'\ntunnel = { type = 'gue' }"),
            "t:6:10: `tunnel` lacks the `port` of gue; write \"ipip\", { type = \"gre\", checksum \
             = \"full\" } or { type = \"gue\", port = 6080 }",
        ),
    ];
    for (said, expected) in cases {
        assert!(
            said.starts_with(expected),
            "\n    said: {said}\nexpected: {expected}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load("/nonexistent/lvsd.toml".as_ref()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert_eq!(
        error.to_string(),
        "cannot read /nonexistent/lvsd.toml: No such file or directory (os error 2)"
    );
}
