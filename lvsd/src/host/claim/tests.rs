//! Claims in network namespaces of their own.

use super::*;
use crate::host::testing::*;

#[test]
fn nft_reads_the_table() {
    in_namespace(|| {
        ip("link add va type veth peer name vb");
        let mut claim = Claim::open().unwrap();
        claim.add_interface(3, "va").unwrap();
        let mut set = ClaimSet::default();
        set.services
            .push((Protocol::Tcp, "192.0.2.10:80".parse().unwrap()));
        set.services
            .push((Protocol::Udp, "[2001:db8::10]:0".parse().unwrap()));
        set.replies
            .push((Protocol::Tcp, "10.0.0.2:80".parse().unwrap()));
        set.owned_vips.push("2001:db8::11".parse().unwrap());
        claim.replace(&set).unwrap();
        println!("{}", run("nft", "-a list ruleset"));
        println!("{:?}", claim.counters());
    });
}
