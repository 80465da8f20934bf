//! The network in which scenes are recorded.
//!
//! Clients are 10.1.0.0/16 and fd01::/64 behind 10.9.0.2 and fd09::2; servers 10.2.0.0/24 and
//! fd02::/64 on the other side; the director has 10.9.0.1 and fd09::1, 10.2.0.254 and fd02::fe; the
//! VIPs 10.0.0.1 to 9 and fd00::1 to 9 are on its `lo`, and so is everything in 10.5.0.0/16 and
//! fd05::/64. The MTU is 1500 unless the scene says otherwise.

use super::super::capture::Captured;
use super::super::site::{Leg, Prefix, Side, Site, made_up};
use super::index::Scene;
use lvs_core::Addr;

/// The number of the clients' side, and of the servers'.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;
/// The names of the sides, by number.
pub(crate) const NAMES: [&str; 2] = ["client", "server"];
/// The director's Ethernet addresses.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0, 10, 9, 0, 1], [2, 0, 10, 2, 0, 0xfe]];

const USUAL_MTU: u32 = 1500;
/// How many servers have a permanent neighbour entry.
const SERVERS: u8 = 32;
const VIPS: u8 = 9;

const fn v4(octets: [u8; 4]) -> Addr {
    Addr::from_v4_octets(octets)
}

/// `fdNN::last`.
const fn v6(second: u8, last: u64) -> Addr {
    Addr {
        hi: 0xfd00_0000_0000_0000 | ((second as u64) << 48),
        lo: last,
    }
}

/// The network of a scene; `captured` are its captures by side.
pub(crate) fn site(scene: &Scene, captured: &[Vec<Captured>; 2]) -> Site {
    let mut site = plain();
    for (number, side) in site.sides.iter_mut().enumerate() {
        side.mtu = mtu(scene, number).unwrap_or(USUAL_MTU);
    }
    // A server with a real stack has one Ethernet address for both families; a made-up one has
    // two. The captures show which it is.
    let [_, towards_servers] = captured;
    let seen = |mac: [u8; 6]| {
        let mut frames = towards_servers.iter();
        frames.any(|frame| frame.bytes.starts_with(&mac))
    };
    for number in 1..=SERVERS {
        let own = [0x02, 0x06, 2, 0, 0, number];
        let shared = made_up(v4([10, 2, 0, number]));
        if seen(shared) && !seen(own) {
            let server = v6(2, u64::from(number));
            site.neighbours.insert((SERVER, server), shared);
        }
    }
    site
}

/// The network without anything that a scene could change.
pub(crate) fn plain() -> Site {
    let side = |number: usize, addresses: [Addr; 2]| Side {
        name: NAMES.get(number).copied().unwrap_or_default().to_owned(),
        mac: MACS.get(number).copied().unwrap_or_default(),
        addresses: addresses.to_vec(),
        mtu: USUAL_MTU,
    };
    let leg = |to: Addr, bits, side, via| Leg {
        to: Prefix::new(to, bits),
        side,
        via,
    };
    let (router4, router6) = (v4([10, 9, 0, 2]), v6(9, 2));
    let mut site = Site {
        sides: vec![
            side(CLIENT, [v4([10, 9, 0, 1]), v6(9, 1)]),
            side(SERVER, [v4([10, 2, 0, 254]), v6(2, 0xfe)]),
        ],
        local: vec![
            Prefix::new(v4([10, 5, 0, 0]), 16),
            Prefix::new(v6(5, 0), 64),
        ],
        routes: vec![
            leg(v4([10, 1, 0, 0]), 16, CLIENT, Some(router4)),
            leg(v6(1, 0), 64, CLIENT, Some(router6)),
            leg(v4([10, 9, 0, 0]), 24, CLIENT, None),
            leg(v6(9, 0), 64, CLIENT, None),
            leg(v4([10, 2, 0, 0]), 24, SERVER, None),
            leg(v6(2, 0), 64, SERVER, None),
        ],
        ..Site::default()
    };
    for vip in 1..=VIPS {
        site.local.push(Prefix::single(v4([10, 0, 0, vip])));
        site.local.push(Prefix::single(v6(0, u64::from(vip))));
    }
    let neighbours = &mut site.neighbours;
    for router in [router4, router6] {
        neighbours.insert((CLIENT, router), [2, 0, 10, 9, 0, 2]);
    }
    for number in 1..=SERVERS {
        let server = v4([10, 2, 0, number]);
        neighbours.insert((SERVER, server), made_up(server));
        let server = v6(2, u64::from(number));
        neighbours.insert((SERVER, server), [0x02, 0x06, 2, 0, 0, number]);
    }
    site
}

/// The MTU of a side as the index gives it, or as the description says it: "the server side has MTU
/// 1400", "MTU 1400 on the server side", and without a side: the servers'.
fn mtu(scene: &Scene, side: usize) -> Option<u32> {
    let name = NAMES.get(side).copied()?;
    if let Some(mtu) = scene.mtu.get(name) {
        return Some(*mtu);
    }
    scene.desc.split(';').find_map(|clause| {
        let (_, behind) = clause.split_once("MTU ")?;
        let digits = behind
            .split(|letter: char| !letter.is_ascii_digit())
            .next()?;
        let client = clause.contains("client side");
        let meant = if side == CLIENT {
            client
        } else {
            clause.contains("server side") || !client
        };
        digits.parse().ok().filter(|_| meant)
    })
}
