//! How a claim begins and ends; `nft` is the judge.

use crate::host::claim::{Claim, ClaimError, ClaimSet};
use crate::host::testing::{attempt, in_namespace, interface_index, ip, run, until};
use lvs_core::Protocol;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn index(name: &str) -> u32 {
    interface_index(name).try_into().unwrap()
}

fn ruleset() -> String {
    run("nft", "list ruleset")
}

#[test]
fn nft_lists_what_is_claimed() {
    in_namespace(|| {
        ip("link add n0 type veth peer name p0");
        let mut claim = Claim::open().unwrap();
        claim.add_interface(index("n0"), "n0").unwrap();
        let mut set = ClaimSet::default();
        set.services
            .push((Protocol::Tcp, "192.0.2.10:80".parse().unwrap()));
        set.services
            .push((Protocol::Udp, "[2001:db8::10]:0".parse().unwrap()));
        set.replies
            .push((Protocol::Sctp, "10.0.0.2:8080".parse().unwrap()));
        set.owned_vips.push("2001:db8::11".parse().unwrap());
        let local = "10.0.0.1".parse().unwrap();
        set.local_ports.push((local, 1024..=32767));
        claim.replace(&set).unwrap();
        let list = ruleset();
        for part in [
            &format!("table netdev {}", claim.table()),
            "flags owner",
            "192.0.2.10 . tcp . 80",
            "2001:db8::10 . udp",
            "10.0.0.2 . sctp . 8080",
            "elements = { 2001:db8::11 }",
            "elements = { 10.0.0.1 . 1024-32767 }",
            r#"hook ingress device "n0" priority -500; policy accept;"#,
            "meta protocol ip jump claim4",
            "meta l4proto . th dport @services4 counter packets 0 bytes 0 drop",
            "icmpv6 type @icmp-errors6",
        ] {
            assert!(list.contains(part), "{part} in {list}");
        }
    });
}

#[test]
fn a_claim_ends_with_its_value() {
    in_namespace(|| {
        let claim = Claim::open().unwrap();
        let other = Claim::open().unwrap();
        assert_ne!(claim.table(), other.table());
        let (ok, text) = attempt("nft", &format!("delete table netdev {}", claim.table()));
        assert!(!ok, "nobody else may remove it: {text}");
        run("nft", "flush ruleset");
        assert!(ruleset().contains(claim.table()));
        drop(claim);
        drop(other);
        until("no table", || ruleset().is_empty());
    });
}

/// What the next test starts: claims, says so, and waits for its end.
#[test]
fn child() {
    if std::env::var_os("LVSD_TEST_CLAIM").is_none() {
        return;
    }
    let mut claim = Claim::open().unwrap();
    claim.add_interface(index("n0"), "n0").unwrap();
    println!("claimed");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_claim_ends_with_its_process_even_if_killed() {
    in_namespace(|| {
        ip("link add n0 type veth peer name p0");
        let name = format!("{}::child", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env("LVSD_TEST_CLAIM", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|l| l.ends_with("claimed")));
        assert!(ruleset().contains("hook ingress device"));
        // SIGKILL: the process cannot clean up.
        child.kill().unwrap();
        child.wait().unwrap();
        until("an empty ruleset", || ruleset().is_empty());
    });
}

#[test]
fn interfaces_come_and_go() {
    in_namespace(|| {
        let add = || {
            ip("link add n0 type veth peer name p0");
            index("n0")
        };
        let hooks = || ruleset().matches("hook ingress device \"n0\"").count();
        let mut claim = Claim::open().unwrap();
        let first = add();
        claim.add_interface(first, "n0").unwrap();
        claim.add_interface(first, "n0").unwrap();
        assert_eq!(hooks(), 1);
        ip("link del n0");
        let second = add();
        assert_ne!(first, second);
        // The new one may be heard of before the end of the old one.
        claim.add_interface(second, "n0").unwrap();
        claim.remove_interface(first).unwrap();
        assert_eq!(hooks(), 1);
        claim.remove_interface(first).unwrap();
        ip("link set n0 name n9");
        claim.add_interface(second, "n9").unwrap();
        assert!(ruleset().contains("hook ingress device \"n9\""));
        assert_eq!(claim.interfaces().collect::<Vec<_>>(), [(second, "n9")]);
        claim.remove_interface(second).unwrap();
        assert!(!ruleset().contains("hook ingress"));
    });
}

#[test]
fn what_is_not_possible_is_said() {
    in_namespace(|| {
        let mut claim = Claim::open().unwrap();
        let name = "a-name-that-no-interface-can-have";
        let error = claim.add_interface(99, name).unwrap_err();
        assert!(
            matches!(error, ClaimError::Kernel { .. } | ClaimError::NoInterface),
            "{error}"
        );
        assert_eq!(claim.interfaces().count(), 0);
        // A transaction that failed leaves the next one alone.
        let mut set = ClaimSet::default();
        set.owned_vips.push("192.0.2.1".parse().unwrap());
        claim.replace(&set).unwrap();
    });
}
