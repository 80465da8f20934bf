//! An lvsd that ends, gently and by SIGKILL, and the next one on the same file: connections go on.

#![expect(clippy::unwrap_used, reason = "what a test needs fails by panicking")]

mod common;

use std::path::Path;

use common::{LIMIT, LVSD, Running, WEB, every_way};
use lvs_testbed::http::HttpClient;
use lvs_testbed::test::networked;
use lvs_testbed::{Daemon, DaemonConfig, Site, SiteConfig, TemporaryDirectory, VipPlace};

fn with_file(site: &Site, file: &Path) -> DaemonConfig {
    DaemonConfig {
        top: format!(
            "connections = {{ file = {:?} }}",
            file.display().to_string()
        ),
        ..common::daemon_config(site)
    }
}

/// Active and inactive connections of each destination that has any.
fn counts(running: &Running) -> Vec<String> {
    let services = running.control().services(None).unwrap();
    let mut rows = Vec::new();
    for service in services {
        for found in &service.destinations {
            let (active, inactive) = (found.active, found.inactive);
            if active + inactive > 0 {
                let (key, to) = (service.config.key, found.config.address);
                rows.push(format!("{key:?} {to}: {active} {inactive}"));
            }
        }
    }
    rows
}

#[test]
fn connections_go_on_after_the_end_of_lvsd() {
    networked(&[], || {
        for vips in [VipPlace::Front, VipPlace::Nowhere] {
            let site = Site::new(SiteConfig {
                vips,
                ..SiteConfig::default()
            })
            .unwrap();
            let _servers = site.start_http(WEB).unwrap();
            let directory = TemporaryDirectory::new().unwrap();
            let config = with_file(&site, &directory.path().join("connections"));
            let mut running = Running::with(site, config);
            let mut talks = Vec::new();
            for (vip, ipv6) in every_way() {
                let to = vip.endpoint(ipv6, WEB);
                let client = running.site.client();
                let mut talk = HttpClient::connect(client, to, LIMIT).unwrap();
                let server = talk.get("/").unwrap().0.server;
                talks.push((talk, server));
            }
            for round in 0..3 {
                let before = counts(&running);
                assert!(before.len() >= talks.len());
                // The next start kills it where it has not been asked to end.
                if round == 1 {
                    running.daemon.stop().unwrap();
                }
                let Running {
                    site,
                    daemon,
                    config,
                } = running;
                let daemon = daemon
                    .restart(Path::new(LVSD), site.director(), &config)
                    .unwrap();
                running = Running {
                    site,
                    daemon,
                    config,
                };
                assert_eq!(counts(&running), before, "{}", running.explain());
                for (talk, server) in &mut talks {
                    let answer = talk.get("/");
                    let same = answer
                        .as_ref()
                        .is_ok_and(|(found, _)| found.server == *server);
                    assert!(
                        same,
                        "{answer:?} instead of {server}\n{}",
                        running.explain()
                    );
                }
                running.ask_everything();
            }
        }
    });
}

#[test]
fn what_is_no_table_is_refused_and_left_alone() {
    networked(&[], || {
        let site = Site::new(SiteConfig::default()).unwrap();
        let directory = TemporaryDirectory::new().unwrap();
        let file = directory.write("notes", "not a table").unwrap();
        let config = with_file(&site, &file);
        let refused = Daemon::start(Path::new(LVSD), site.director(), &config).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains("holds no connection table"), "{said}");
        assert!(said.contains("remove this one"), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a table");
    });
}
