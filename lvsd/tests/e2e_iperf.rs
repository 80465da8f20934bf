//! iperf3 through lvsd: TCP both ways and UDP, by every method and family.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test needs fails by panicking"
)]

mod common;

use common::{IPERF, Running, every_way};
use lvs_testbed::SiteConfig;
use lvs_testbed::iperf::{Amount, IperfServer, IperfTest};
use lvs_testbed::test::networked;

fn streams(mtu: u32, offloads: bool) {
    let running = Running::start(SiteConfig {
        servers: 1,
        mtu,
        offloads,
        ..SiteConfig::default()
    });
    let _server = IperfServer::start(&running.site.servers()[0], IPERF).unwrap();
    for (vip, ipv6) in every_way() {
        let tcp = IperfTest::tcp(vip.endpoint(ipv6, IPERF), Amount::Bytes(20_000_000));
        let back = IperfTest {
            reverse: true,
            ..tcp.clone()
        };
        let udp = IperfTest {
            udp: Some(50_000_000),
            amount: Amount::Bytes(2_000_000),
            length: Some(1200),
            ..tcp.clone()
        };
        let udp_back = IperfTest {
            reverse: true,
            ..udp.clone()
        };
        for test in [tcp, back, udp, udp_back] {
            let what = format!("{vip:?} mtu={mtu} offloads={offloads} {test:?}");
            let report = match test.run(running.site.client()) {
                Ok(report) => report,
                Err(error) => panic!("{what}: {error}\n{}", running.explain()),
            };
            assert!(report.bits_per_second > 1e6, "{what}: {report:?}");
            // The machine may be busy with other things; lvsd itself has room for this.
            assert!(
                report.lost_percent < 5.0,
                "{what}: {report:?}\n{}",
                running.explain()
            );
        }
    }
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
