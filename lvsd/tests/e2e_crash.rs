//! The end of lvsd, gentle and not, and what it leaves: nothing.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{LIMIT, LVSD, Running, WEB, ask, every_way, output, wait_until};
use lvs_testbed::test::networked;
use lvs_testbed::{Namespace, Site, SiteConfig, VipPlace, program};

/// Everything that could be left on the director's host, as text: filters, queueing disciplines,
/// addresses, routes, packet sockets.
fn traces(host: &Namespace) -> String {
    let mut traces = String::new();
    let questions: [(&str, &[&str]); 5] = [
        ("nft", &["list", "ruleset"]),
        ("tc", &["qdisc", "show"]),
        ("ip", &["-brief", "address"]),
        ("ip", &["route", "show", "table", "all"]),
        ("ip", &["-details", "-oneline", "link"]),
    ];
    for (name, arguments) in questions {
        if program::find(name).is_some() {
            let answer = output(host, name, arguments);
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            traces.push_str(&text);
        }
    }
    let sockets = output(host, "cat", &["/proc/net/packet"]);
    traces.push_str(&String::from_utf8_lossy(&sockets.stdout));
    traces
}

fn clean_again(running: &Running, before: &str) {
    let mut after = String::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while std::time::Instant::now() < deadline {
        after = traces(running.site.director());
        if after == before {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(before, after, "something is left on the host");
}

#[test]
fn killed_it_leaves_nothing_and_starts_again() {
    networked(&["nft", "ip"], || {
        for vips in [VipPlace::Front, VipPlace::Nowhere] {
            let site = Site::new(SiteConfig {
                vips,
                ..SiteConfig::default()
            })
            .unwrap();
            let _servers = site.start_http(WEB).unwrap();
            let before = traces(site.director());
            let config = common::daemon_config(&site);
            let mut running = Running::with(site, config);
            for round in 0..3 {
                running.ask_everything();
                running.daemon.child().kill().unwrap();
                running.daemon.child().wait_timeout(LIMIT).unwrap();
                clean_again(&running, &before);
                let (vip, ipv6) = every_way().nth(round).unwrap();
                let to = vip.endpoint(ipv6, WEB);
                let short = Duration::from_millis(200);
                let answer = ask(running.site.client(), to, short);
                assert!(answer.is_err(), "nobody directs, and yet {answer:?}");
                running = restart(running);
            }
            running.ask_everything();
            running.daemon.stop().unwrap();
            clean_again(&running, &before);
        }
    });
}

fn restart(running: Running) -> Running {
    let Running {
        site,
        daemon,
        config,
    } = running;
    let daemon = daemon
        .restart(Path::new(LVSD), site.director(), &config)
        .unwrap();
    Running {
        site,
        daemon,
        config,
    }
}

#[test]
fn asked_to_end_it_ends_at_once_and_well() {
    networked(&[], || {
        let mut running = Running::start(SiteConfig::default());
        let _servers = running.site.start_http(WEB).unwrap();
        running.ask_everything();
        let socket = running.daemon.socket().to_owned();
        let started = std::time::Instant::now();
        let status = running.daemon.stop().unwrap();
        assert!(status.success(), "{status}\n{}", running.daemon.said());
        assert!(started.elapsed() < Duration::from_secs(5));
        wait_until("the socket is gone", LIMIT, || !socket.exists());
    });
}
