//! What parsing and rewriting one packet costs, beside the parsers one could take instead.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench may stop where something is not as it says"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::SlicedPacket;
use lvs_core::{Addr, Endpoint, TunnelChecksum, TunnelKind};
use lvs_packet::swift::{Headers, HeadersV4, HeadersV6};
use lvs_packet::{Frame, Offload, build, checksum, nat, parse, ttl, tunnel};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};
use std::hint::black_box;

const HEADROOM: usize = 64;

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

/// A TCP segment in a frame of `length` bytes, with room before it.
fn frame(src: &str, dst: &str, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM + 2048];
    let ip = build::Ip::new(addr(src), addr(dst));
    let header = if ip.src.is_v4() { 54 } else { 74 };
    let payload = vec![0x5a; length - header];
    let tcp = build::Tcp::syn(40000, 80);
    let built = build::tcp(&mut buffer[HEADROOM..], &ip, &tcp, &payload).unwrap();
    assert_eq!(built, length);
    buffer.truncate(HEADROOM + length);
    buffer
}

fn v4() -> Vec<u8> {
    frame("198.51.100.7", "192.0.2.10", 64)
}

fn v6() -> Vec<u8> {
    frame("fd01::5", "fd00::1", 78)
}

/// Ports and flags, through smoltcp's checked views; with the IPv4 header checksum.
fn smoltcp_ports(bytes: &[u8]) -> Option<(u16, u16, bool)> {
    let ethernet = EthernetFrame::new_checked(bytes).ok()?;
    let tcp = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            if !ip.verify_checksum() {
                return None;
            }
            black_box((ip.src_addr(), ip.dst_addr()));
            TcpPacket::new_checked(ip.payload()).ok()?
        }
        _ => {
            let ip = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            black_box((ip.src_addr(), ip.dst_addr()));
            TcpPacket::new_checked(ip.payload()).ok()?
        }
    };
    Some((tcp.src_port(), tcp.dst_port(), tcp.syn()))
}

/// Frames as a ring hands them over: a processor that sees only one of them would wait for its own
/// last write to it.
const BATCH: usize = 64;

fn parsing(c: &mut Criterion) {
    for (name, buffer) in [("ipv4", v4()), ("ipv6", v6())] {
        let mut group = c.benchmark_group(format!("parse/{name}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        let length = buffer.len() - HEADROOM;
        let bytes = vec![buffer[HEADROOM..].to_vec(); BATCH];
        let mut buffers = vec![buffer; BATCH];
        let frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .map(|buffer| Frame::new(buffer, HEADROOM, length, Offload::default()))
            .collect();
        group.bench_function("lvs", |b| {
            b.iter(|| {
                for frame in &frames {
                    black_box(&parse(black_box(frame)));
                }
            });
        });
        group.bench_function("etherparse", |b| {
            b.iter(|| {
                for bytes in &bytes {
                    black_box(&SlicedPacket::from_ethernet(black_box(bytes)));
                }
            });
        });
        group.bench_function("smoltcp", |b| {
            b.iter(|| {
                for bytes in &bytes {
                    black_box(&smoltcp_ports(black_box(bytes)));
                }
            });
        });
        group.finish();
    }
}

/// NAT, or both ends, and the TTL, of a frame that is known to be plain.
#[inline]
fn plainly(frame: &mut Frame<'_>, from: Option<Endpoint>, to: Endpoint) -> bool {
    if to.addr.is_v4() {
        HeadersV4::<true>::of(frame).is_some_and(|mut headers| headers.rewrite(from, Some(to)))
    } else {
        HeadersV6::<true>::of(frame).is_some_and(|mut headers| headers.rewrite(from, Some(to)))
    }
}

fn rewriting(c: &mut Criterion) {
    let mut group = c.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, buffer, server) in [
        ("ipv4", v4(), "10.2.0.1:8080"),
        ("ipv6", v6(), "[fd02::1]:8080"),
    ] {
        let server: Endpoint = server.parse().unwrap();
        let length = buffer.len() - HEADROOM;
        let mut buffers = vec![buffer; BATCH];
        let mut frames: Vec<Frame<'_>> = buffers
            .iter_mut()
            .map(|buffer| Frame::new(buffer, HEADROOM, length, Offload::default()))
            .collect();
        let packet = parse(&frames[0]).unwrap();
        group.bench_function(format!("nat-{name}"), |b| {
            b.iter(|| {
                for frame in &mut frames {
                    nat::rewrite_destination(black_box(frame), &packet, black_box(server));
                }
            });
        });
        group.bench_function(format!("nat-and-ttl-{name}"), |b| {
            b.iter(|| {
                for frame in &mut frames {
                    let done = plainly(black_box(frame), None, black_box(server));
                    black_box(done);
                }
            });
        });
        let director: Endpoint = match name {
            "ipv4" => "10.2.0.254:5000",
            _ => "[fd02::fe]:5000",
        }
        .parse()
        .unwrap();
        group.bench_function(format!("both-ends-and-ttl-{name}"), |b| {
            b.iter(|| {
                for frame in &mut frames {
                    // By reference, as from a connection's entry: a pair would be copied octet by
                    // octet.
                    let (director, server) = (*black_box(&director), *black_box(&server));
                    let done = plainly(black_box(frame), Some(director), server);
                    black_box(done);
                }
            });
        });
        group.bench_function(format!("ttl-{name}"), |b| {
            b.iter(|| {
                for frame in &mut frames {
                    ttl::decrement(black_box(frame), &packet);
                }
            });
        });
    }
    let gue = TunnelKind::Gue {
        port: 6080,
        checksum: TunnelChecksum::None,
    };
    for (name, kind, director, server) in [
        ("ipip-over-ipv4", TunnelKind::Ipip, "10.2.0.254", "10.2.0.1"),
        ("ipip-over-ipv6", TunnelKind::Ipip, "fd02::fe", "fd02::1"),
        ("gue-over-ipv4", gue, "10.2.0.254", "10.2.0.1"),
    ] {
        let mut buffers = vec![v4(); BATCH];
        let length = buffers[0].len() - HEADROOM;
        let (director, server) = (addr(director), addr(server));
        let options = tunnel::Options::default();
        let first = Frame::new(&mut buffers[0], HEADROOM, length, Offload::default());
        let packet = parse(&first).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                for buffer in &mut buffers {
                    // The inner packet stays where it is; only the link layer moves, and costs
                    // the same whatever it contains.
                    let mut frame = Frame::new(buffer, HEADROOM, length, Offload::default());
                    let done =
                        tunnel::encapsulate(&mut frame, &packet, kind, director, server, &options);
                    // One by one: a pair would be copied, which is not the tunnel's.
                    black_box(&done);
                    black_box(&frame);
                }
            });
        });
    }
    group.finish();
}

/// RFC 1071, 4.1, word by word.
fn plain_loop(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        let high = u32::from(word[0]) << 8;
        sum += high | u32::from(word.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap()
}

fn checksums(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..1500_u32).map(|i| i.to_le_bytes()[0]).collect();
    assert_eq!(checksum::full(&bytes), plain_loop(&bytes));
    let theirs = internet_checksum::checksum(&bytes);
    assert_eq!(u16::from_be_bytes(theirs), plain_loop(&bytes));
    let mut group = c.benchmark_group("checksum/1500");
    group.throughput(Throughput::Bytes(1500));
    group.bench_function("lvs", |b| b.iter(|| checksum::full(black_box(&bytes))));
    group.bench_function("plain", |b| b.iter(|| plain_loop(black_box(&bytes))));
    group.bench_function("smoltcp", |b| {
        b.iter(|| smoltcp_sum(black_box(&bytes)));
    });
    group.bench_function("internet-checksum", |b| {
        b.iter(|| internet_checksum::checksum(black_box(&bytes)));
    });
    group.bench_function("crc32c", |b| b.iter(|| checksum::crc32c(black_box(&bytes))));
    group.finish();
}

/// smoltcp's sum is private; a UDP-less ICMP message is nothing but one.
fn smoltcp_sum(bytes: &[u8]) -> bool {
    smoltcp::wire::Icmpv4Packet::new_unchecked(bytes).verify_checksum()
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = parsing, rewriting, checksums
}
criterion_main!(benches);
