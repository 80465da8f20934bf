//! Addresses and endpoints, in the form in which the data path compares them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// The upper 32 bits of the lower half of an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
const MAPPED: u64 = 0x0000_ffff_0000_0000;

/// An IPv4 or IPv6 address as two 64-bit words, so that both families compare and hash alike.
///
/// An IPv4 address is held in its IPv4-mapped form (`::ffff:a.b.c.d`). Such an address never stands
/// in an IPv6 header that we accept (RFC 4942, 2.2), so the two families cannot be confused.
///
/// ```
/// use lvs_core::{Addr, Family};
/// let a: Addr = core::net::Ipv4Addr::new(192, 0, 2, 1).into();
/// assert_eq!(a.family(), Family::V4);
/// assert_eq!(a.v4_bits(), Some(0xc000_0201));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct Addr {
    /// The first eight octets, most significant first.
    pub hi: u64,
    /// The last eight octets, most significant first.
    pub lo: u64,
}

impl Addr {
    /// `::`, the address of nothing.
    pub const UNSPECIFIED: Self = Self { hi: 0, lo: 0 };

    /// An IPv4 address from its 32 bits in host order.
    #[inline]
    #[must_use]
    pub const fn from_v4_bits(bits: u32) -> Self {
        Self {
            hi: 0,
            lo: MAPPED | bits as u64,
        }
    }

    /// An IPv4 address from the octets of a header.
    #[inline]
    #[must_use]
    pub const fn from_v4_octets(octets: [u8; 4]) -> Self {
        Self::from_v4_bits(u32::from_be_bytes(octets))
    }

    /// An IPv6 address from the octets of a header.
    #[inline]
    #[must_use]
    pub const fn from_v6_octets(octets: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(octets);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves, on purpose"
        )]
        Self {
            hi: (bits >> 64) as u64,
            lo: bits as u64,
        }
    }

    /// The 32 bits of an IPv4 address in host order; `None` for IPv6.
    #[inline]
    #[must_use]
    pub const fn v4_bits(self) -> Option<u32> {
        if self.is_v4() {
            Some(self.low_word())
        } else {
            None
        }
    }

    /// The last 32 bits, whatever the family: for IPv4 the whole address.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low word, on purpose")]
    pub const fn low_word(self) -> u32 {
        self.lo as u32
    }

    /// The 16 octets as they stand in an IPv6 header (IPv4 in its mapped form).
    #[inline]
    #[must_use]
    pub const fn v6_octets(self) -> [u8; 16] {
        (((self.hi as u128) << 64) | self.lo as u128).to_be_bytes()
    }

    /// The four octets as they stand in an IPv4 header; meaningful for IPv4 only.
    #[inline]
    #[must_use]
    pub const fn v4_octets(self) -> [u8; 4] {
        self.low_word().to_be_bytes()
    }

    /// Whether this is an IPv4 address.
    #[inline]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.hi == 0 && (self.lo >> 32) == (MAPPED >> 32)
    }

    /// The family.
    #[inline]
    #[must_use]
    pub const fn family(self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// IPVS's fold: the 32 bits of an IPv4 address, or the XOR of the four words of an IPv6
    /// address, in host order. The hashing schedulers start from it.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u32 {
        if self.is_v4() {
            return self.low_word();
        }
        let x = self.hi ^ self.lo;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves, on purpose"
        )]
        let folded = (x >> 32) as u32 ^ x as u32;
        folded
    }

    /// Whether this is a loopback address (`127.0.0.0/8`, `::1`).
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        match self.v4_bits() {
            Some(bits) => bits >> 24 == 127,
            None => self.hi == 0 && self.lo == 1,
        }
    }

    /// Whether this is a multicast address (`224.0.0.0/4`, `ff00::/8`).
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        match self.v4_bits() {
            Some(bits) => bits >> 28 == 0xe,
            None => self.hi >> 56 == 0xff,
        }
    }

    /// Whether one host can own this address: not unspecified, multicast, broadcast or reserved.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        match self.v4_bits() {
            Some(bits) => bits >> 24 != 0 && bits >> 28 < 0xe,
            None => !self.is_multicast() && (self.hi != 0 || self.lo != 0),
        }
    }

    /// Whether IPVS takes this for the address of a real server (IPVS 0.1): of IPv4 all but `0.0.0.0`,
    /// multicast and broadcast, reserved ones included; of IPv6 unicast that is not link-local.
    #[must_use]
    pub const fn may_be_server(self) -> bool {
        match self.v4_bits() {
            // The broadcast of the loopback is the one that every host has.
            Some(bits) => bits != 0 && bits >> 28 != 0xe && bits != u32::MAX && bits != 0x7fff_ffff,
            None => self.is_unicast() && self.hi >> 54 != 0xfe80 >> 6,
        }
    }

    /// The first `length` bits of the address, the others zero; for IPv4 of its 32 bits.
    #[must_use]
    pub const fn masked(self, length: u8) -> Self {
        match self.v4_bits() {
            Some(_) if length == 0 => Self::from_v4_bits(0),
            Some(bits) if length < 32 => Self::from_v4_bits(bits & (u32::MAX << (32 - length))),
            Some(_) => self,
            None if length == 0 => Self::UNSPECIFIED,
            None if length < 64 => Self {
                hi: self.hi & (u64::MAX << (64 - length)),
                lo: 0,
            },
            None if length == 64 => Self { hi: self.hi, lo: 0 },
            None if length < 128 => Self {
                hi: self.hi,
                lo: self.lo & (u64::MAX << (128 - length)),
            },
            None => self,
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4_octets(address.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_v6_octets(address.octets())
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> Self {
        match address.v4_bits() {
            Some(bits) => Self::V4(Ipv4Addr::from_bits(bits)),
            None => Self::V6(Ipv6Addr::from(address.v6_octets())),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Addr {
    type Err = core::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

/// An address and a port: `192.0.2.10:80`, `[2001:db8::10]:80`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Endpoint {
    /// The address.
    pub addr: Addr,
    /// The port in host order; 0 where there is none.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint of its two parts.
    #[inline]
    #[must_use]
    pub const fn new(addr: Addr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr.into(), self.port).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `address:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseEndpointError;

impl fmt::Display for ParseEndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address and port such as 192.0.2.10:80 or [2001:db8::10]:80")
    }
}

impl core::error::Error for ParseEndpointError {}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: SocketAddr = text.parse().map_err(|_| ParseEndpointError)?;
        Ok(Self::new(parsed.ip().into(), parsed.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn both_families_keep_their_text() {
        for text in ["192.0.2.10:80", "[2001:db8::10]:443", "0.0.0.0:0", "[::]:0"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.10".parse::<Endpoint>(), Err(ParseEndpointError));
    }

    #[test]
    fn fold_is_the_xor_of_the_words() {
        let v6: Addr = "2001:db8::10".parse().unwrap();
        assert_eq!(v6.fold(), 0x2001_0db8 ^ 0x10);
        let v4: Addr = "198.51.100.1".parse().unwrap();
        assert_eq!(v4.fold(), 0xc633_6401);
    }

    #[test]
    fn masks_cut_at_the_bit() {
        let v4: Addr = "10.1.2.3".parse().unwrap();
        assert_eq!(v4.masked(24).to_string(), "10.1.2.0");
        assert_eq!(v4.masked(0).to_string(), "0.0.0.0");
        assert_eq!(v4.masked(32), v4);
        let v6: Addr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        assert_eq!(v6.masked(48).to_string(), "2001:db8:1::");
        assert_eq!(v6.masked(64).to_string(), "2001:db8:1:2::");
        assert_eq!(v6.masked(96).to_string(), "2001:db8:1:2:3:4::");
        assert_eq!(v6.masked(0).to_string(), "::");
        assert_eq!(v6.masked(128), v6);
    }

    #[test]
    fn kinds_of_addresses() {
        let is = |f: fn(Addr) -> bool, text: &str| f(text.parse().unwrap());
        assert!(is(Addr::is_loopback, "127.1.2.3") && is(Addr::is_loopback, "::1"));
        assert!(is(Addr::is_multicast, "224.0.0.81") && is(Addr::is_multicast, "ff02::1"));
        for not in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert!(!is(Addr::is_unicast, not), "{not}");
        }
        assert!(is(Addr::is_unicast, "10.0.0.1") && is(Addr::is_unicast, "fd00::1"));
        for server in [
            "10.0.0.1",
            "0.0.0.1",
            "240.0.0.1",
            "127.0.0.1",
            "::1",
            "fd00::1",
        ] {
            assert!(is(Addr::may_be_server, server), "{server}");
        }
        for not in [
            "0.0.0.0",
            "239.1.2.3",
            "255.255.255.255",
            "127.255.255.255",
            "fe80::1",
            "::",
        ] {
            assert!(!is(Addr::may_be_server, not), "{not}");
        }
    }
}
