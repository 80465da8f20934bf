//! ipvsadm's order of services and destinations.
//!
//! Marks and 32-bit words of addresses compare by the sign of their 32-bit difference. That is no
//! total order (three numbers can be in a circle), so the standard library's sort, which may
//! panic on such, is out; a plain merge sort gives some order for circles and the right one else.

use lvs_api::{DestinationStatus, ServiceStatus};
use lvs_core::{Addr, Family, ServiceKey};
use std::cmp::Ordering;

/// Services by mark, family, protocol, address and port; destinations by address and port.
pub(crate) fn sorted(mut services: Vec<ServiceStatus>) -> Vec<ServiceStatus> {
    for service in &mut services {
        let destinations = std::mem::take(&mut service.destinations);
        service.destinations = merge_sort(destinations, &by_address);
    }
    merge_sort(services, &by_key)
}

fn by_key(a: &ServiceStatus, b: &ServiceStatus) -> Ordering {
    let (a, b) = (&a.config.key, &b.config.key);
    let parts = |key: &ServiceKey| match *key {
        ServiceKey::Endpoint { protocol, vip } => (0, protocol.number(), vip.addr, vip.port),
        ServiceKey::FwMark { mark, .. } => (mark, 0, Addr::UNSPECIFIED, 0),
    };
    let (mark_a, protocol_a, addr_a, port_a) = parts(a);
    let (mark_b, protocol_b, addr_b, port_b) = parts(b);
    word(mark_a, mark_b)
        .then((a.family() as u8).cmp(&(b.family() as u8)))
        .then(protocol_a.cmp(&protocol_b))
        .then_with(|| address(addr_a, addr_b))
        .then(port_a.cmp(&port_b))
}

fn by_address(a: &DestinationStatus, b: &DestinationStatus) -> Ordering {
    let (a, b) = (a.config.address, b.config.address);
    address(a.addr, b.addr).then(a.port.cmp(&b.port))
}

/// By the sign of the difference, as a subtraction of C sees it.
fn word(a: u32, b: u32) -> Ordering {
    a.wrapping_sub(b).cast_signed().cmp(&0)
}

/// Word by word; of a mixed pair only the first word of the IPv6 address counts.
fn address(a: Addr, b: Addr) -> Ordering {
    if let (Family::V6, Family::V6) = (a.family(), b.family()) {
        let pairs = words(a).into_iter().zip(words(b));
        return pairs
            .map(|(a, b)| word(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
    }
    word(first(a), first(b))
}

fn first(addr: Addr) -> u32 {
    addr.v4_bits().unwrap_or_else(|| words(addr)[0])
}

fn words(addr: Addr) -> [u32; 4] {
    let bits = (u128::from(addr.hi) << 64) | u128::from(addr.lo);
    [96, 64, 32, 0].map(|shift| u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or_default())
}

fn merge_sort<T>(mut items: Vec<T>, compare: &impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let length = items.len();
    let right = merge_sort(items.split_off(length / 2), compare);
    let left = merge_sort(items, compare);
    let mut merged = Vec::with_capacity(length);
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if compare(a, b).is_le() {
            left.next()
        } else {
            right.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_api::{Destination, Method, Service, key};

    #[test]
    fn services_and_destinations_in_ipvsadms_order() {
        let order = [
            "fwmark://4294967295",
            "tcp://192.0.2.1:80",
            "tcp://10.2.0.1:80",
            "tcp://10.2.0.1:443",
            "udp://10.0.0.1:53",
            "tcp://[fd00::1]:80",
            "tcp://[fd00::2]:80",
            "fwmark://7",
            "fwmark6://7",
            "fwmark://8",
        ];
        let mut services: Vec<ServiceStatus> = order
            .iter()
            .rev()
            .map(|word| ServiceStatus::new(Service::new(key::parse(word).unwrap(), "rr")))
            .collect();
        for address in ["10.2.0.1:80", "192.0.2.1:1", "[fd02::9]:80", "[fd02::9]:8"] {
            let config = Destination::new(address.parse().unwrap(), Method::Tun);
            services[0]
                .destinations
                .push(DestinationStatus::new(config));
        }
        let services = sorted(services);
        let names: Vec<String> = services
            .iter()
            .map(|s| key::format(&s.config.key))
            .collect();
        assert_eq!(names, order);
        let last = services.last().unwrap();
        let addresses: Vec<String> = last
            .destinations
            .iter()
            .map(|d| d.config.address.to_string())
            .collect();
        assert_eq!(
            addresses,
            ["192.0.2.1:1", "[fd02::9]:8", "[fd02::9]:80", "10.2.0.1:80"]
        );
    }
}
