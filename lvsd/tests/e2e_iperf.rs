//! iperf3 through lvsd: TCP both ways and UDP, by every method and family.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test needs fails by panicking"
)]

mod common;

use std::net::SocketAddr;

use common::{IPERF, Running, every_way};
use lvs_testbed::iperf::{Amount, IperfReport, IperfServer, IperfTest};
use lvs_testbed::test::networked;
use lvs_testbed::{SiteConfig, Vip};

fn streams(mtu: u32, offloads: bool) {
    let running = Running::start(SiteConfig {
        servers: 1,
        mtu,
        offloads,
        ..SiteConfig::default()
    });
    for (vip, ipv6) in every_way() {
        let address = match vip {
            Vip::Nat => running.site.server_address(0, ipv6),
            Vip::DirectRoute | Vip::Tunnel => vip.address(ipv6),
        };
        let listen = SocketAddr::new(address, IPERF);
        let tcp = IperfTest::tcp(vip.endpoint(ipv6, IPERF), Amount::Bytes(20_000_000));
        let udp = IperfTest {
            udp: Some(10_000_000),
            amount: Amount::Bytes(600_000),
            length: Some(1200),
            ..tcp.clone()
        };
        for mut test in [tcp, udp] {
            for reverse in [false, true] {
                test.reverse = reverse;
                let what = format!("{vip:?} mtu={mtu} offloads={offloads} {test:?}");
                stream(&running, &test, listen, &what);
            }
        }
    }
}

/// Runs one. UDP may have lost datagrams because the machine was busy with other things: lvsd is to
/// blame for what is lost three times.
fn stream(running: &Running, test: &IperfTest, listen: SocketAddr, what: &str) {
    let mut report = IperfReport::default();
    for _ in 0..3 {
        let _server = IperfServer::start(&running.site.servers()[0], listen).unwrap();
        report = match test.run(running.site.client()) {
            Ok(report) => report,
            Err(error) => panic!("{what}: {error}\n{}", running.explain()),
        };
        assert!(report.bits_per_second > 1e6, "{what}: {report:?}");
        if report.lost_percent < 1.0 {
            return;
        }
    }
    panic!("{what}: {report:?}\n{}", running.explain());
}

#[test]
fn streams_in_segmented_frames() {
    networked(&["iperf3"], || streams(1500, true));
}

#[test]
fn streams_in_plain_frames() {
    networked(&["iperf3"], || streams(1500, false));
}

#[test]
fn streams_in_jumbo_frames() {
    networked(&["iperf3"], || streams(9000, true));
}
