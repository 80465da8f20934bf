//! What a TUN server does with the packets it gets, where the kernel has no `ipip`, `sit`, `ip6tnl`.
//!
//! In: IP packets of protocol 4 or 41 that arrive on the server's interface. Out: the packets inside
//! them, on the same namespace's `lo`, with their unfinished checksums and segmentation as they
//! came. Outer fragments are counted, not joined. Never: anything to packets of other protocols.
//!
//! The kernel would answer an unknown protocol by an ICMP error; sockets that want those protocols
//! and take nothing keep it quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::raw::{RawSocket, VNET_HEADER};
use crate::{Error, Namespace, Result};

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const DESTINATION_OPTIONS: u8 = 60;
const ETHERNET: usize = 14;

/// Takes the outer header off, in a thread of its own, until dropped.
#[derive(Debug)]
pub struct Decapsulator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What a [`Decapsulator`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecapsulatedCounts {
    /// Inner packets handed to the stack.
    pub delivered: u64,
    /// Outer fragments, thrown away.
    pub fragments: u64,
    /// Malformed, or refused by the stack.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    delivered: AtomicU64,
    fragments: AtomicU64,
    refused: AtomicU64,
}

impl Decapsulator {
    /// Starts on `interface`.
    ///
    /// # Errors
    ///
    /// No such interface, or no `CAP_NET_RAW`.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let opened = namespace.run(|| -> Result<_> {
            let input = RawSocket::open_with_offloads(interface)?;
            input.set_filter(&only_tunnels())?;
            input.set_timeout(Some(Duration::from_millis(50)))?;
            let output = RawSocket::open_with_offloads("lo")?;
            output.set_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
            output.bypass_qdisc()?;
            Ok((input, output, listeners()?))
        })?;
        let (input, output, listeners) = opened?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = namespace.spawn_thread(move || {
            let _quiet = listeners;
            run(&theirs, &input, &output);
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> DecapsulatedCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DecapsulatedCounts {
            delivered: read(&self.shared.delivered),
            fragments: read(&self.shared.fragments),
            refused: read(&self.shared.refused),
        }
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Raw sockets for every tunnel protocol and family. A filter turns away what they get: a socket whose
/// buffer is full counts as none, and then the kernel answers after all.
fn listeners() -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for domain in [Domain::IPV4, Domain::IPV6] {
        for protocol in [IPIP, IPV6] {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))
                .map_err(Error::io("open a raw socket"))?;
            let nothing = [SockFilter::new(0x06, 0, 0, 0)];
            socket
                .attach_filter(&nothing)
                .map_err(Error::io("filter a raw socket"))?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Ethernet frames of IPv4 or IPv6 whose next protocol is 4, 41, or an option header before them.
fn only_tunnels() -> [SockFilter; 11] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP: u16 = 0x05;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 0, 2, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(JUMP, 0, 0, 2),
        SockFilter::new(IF_EQUAL, 0, 4, 0x86dd),
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(IF_EQUAL, 3, 0, u32::from(IPIP)),
        SockFilter::new(IF_EQUAL, 2, 0, u32::from(IPV6)),
        SockFilter::new(IF_EQUAL, 1, 0, u32::from(DESTINATION_OPTIONS)),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, 0x4_0000),
    ]
}

fn run(shared: &Shared, input: &RawSocket, output: &RawSocket) {
    let mut buffer = vec![0; 1 << 17];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((mut header, length)) = input.receive(&mut buffer) else {
            continue;
        };
        let counter = match buffer.get_mut(..length).map(|frame| inner(frame)) {
            Some(Inner::At { offset, protocol }) => {
                let start = offset - ETHERNET;
                shift(&mut header, start);
                if let Some([addresses @ .., high, low]) = buffer.get_mut(start..offset) {
                    addresses.fill(0);
                    [*high, *low] = protocol.to_be_bytes();
                }
                match buffer.get(start..length).map(|f| output.send(&header, f)) {
                    Some(Ok(())) => &shared.delivered,
                    _ => &shared.refused,
                }
            }
            Some(Inner::Fragment) => &shared.fragments,
            Some(Inner::Not) => continue,
            None => &shared.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The virtio-net header counts from the start of the frame, which moves by `start`.
fn shift(header: &mut [u8; VNET_HEADER], start: usize) {
    const NEEDS_CHECKSUM: u8 = 1;
    const DATA_VALID: u8 = 2;
    let [flags, gso, hdr_low, hdr_high, _, _, csum_low, csum_high, ..] = header;
    let start = u16::try_from(start).unwrap_or(u16::MAX);
    // Valid until someone else says so: the outer frame was looked at, not the inner one.
    *flags &= !DATA_VALID;
    let back = |low: &mut u8, high: &mut u8| {
        let moved = u16::from_ne_bytes([*low, *high]).saturating_sub(start);
        [*low, *high] = moved.to_ne_bytes();
    };
    if *flags & NEEDS_CHECKSUM != 0 {
        back(csum_low, csum_high);
    }
    if *gso != 0 {
        back(hdr_low, hdr_high);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Inner {
    At { offset: usize, protocol: u16 },
    Fragment,
    Not,
}

/// Where the inner packet starts, and its Ethernet type.
fn inner(frame: &[u8]) -> Inner {
    let byte = |at: usize| frame.get(at).copied().unwrap_or(0);
    let (length, protocol) = match (byte(12), byte(13)) {
        (0x08, 0x00) => {
            if byte(ETHERNET + 6) & 0x3f != 0 || byte(ETHERNET + 7) != 0 {
                return Inner::Fragment;
            }
            (usize::from(byte(ETHERNET) & 15) * 4, byte(ETHERNET + 9))
        }
        (0x86, 0xdd) => match byte(ETHERNET + 6) {
            // A destination options header (the tunnel encapsulation limit) may stand between.
            DESTINATION_OPTIONS => (
                48 + 8 * usize::from(byte(ETHERNET + 41)),
                byte(ETHERNET + 40),
            ),
            44 => return Inner::Fragment,
            next => (40, next),
        },
        _ => return Inner::Not,
    };
    let protocol = match protocol {
        IPIP => 0x0800,
        IPV6 => 0x86dd,
        _ => return Inner::Not,
    };
    Inner::At {
        offset: ETHERNET + length,
        protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_inner_packet() {
        let mut frame = [0; 80];
        frame[12..15].copy_from_slice(&[0x08, 0x00, 0x46]);
        frame[14 + 9] = 41;
        let at = |offset, protocol| Inner::At { offset, protocol };
        assert_eq!(inner(&frame), at(14 + 24, 0x86dd));
        frame[14 + 7] = 9;
        assert_eq!(inner(&frame), Inner::Fragment);
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[14 + 6] = 4;
        assert_eq!(inner(&frame), at(14 + 40, 0x0800));
        frame[14 + 6] = 60;
        frame[14 + 40] = 4;
        assert_eq!(inner(&frame), at(14 + 48, 0x0800));
    }
}
