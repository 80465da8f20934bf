//! The packets of a recording: made from its words, and put into its words again.
//!
//! Flags and chunks by name in, a frame out; a frame in, `client tcp A:1>B:2 RA` out.

use super::trace::Transport;
use lvs_core::Endpoint;
use lvs_packet::{Frame, Kind, Offload, Packet, TcpFlags, build, parse};

/// Bytes before a frame, as a ring leaves them: enough for an ICMP error or a tunnel.
pub(crate) const HEADROOM: usize = 128;
/// Bytes of an SCTP header.
const SCTP_LEN: usize = 12;
/// Bytes of headers and a chunk.
const ROOM: usize = 256;

/// The letters of the flags, in the order in which they are written.
const FLAGS: [(char, TcpFlags); 6] = [
    ('S', TcpFlags::SYN),
    ('F', TcpFlags::FIN),
    ('R', TcpFlags::RST),
    ('P', TcpFlags::PSH),
    ('A', TcpFlags::ACK),
    ('U', TcpFlags::URG),
];

/// The types of chunks (RFC 9260, 3.2).
const CHUNKS: [(&str, u8); 13] = [
    ("DATA", 0),
    ("INIT", 1),
    ("INIT_ACK", 2),
    ("SACK", 3),
    ("HEARTBEAT", 4),
    ("HEARTBEAT_ACK", 5),
    ("ABORT", 6),
    ("SHUTDOWN", 7),
    ("SHUTDOWN_ACK", 8),
    ("ERROR", 9),
    ("COOKIE_ECHO", 10),
    ("COOKIE_ACK", 11),
    ("SHUTDOWN_COMPLETE", 14),
];

/// Makes a frame behind [`HEADROOM`] bytes; gives the buffer and the frame's length.
///
/// # Errors
/// A word that names no flags or chunk.
pub(crate) fn make(
    transport: Transport,
    (from, to): (Endpoint, Endpoint),
    what: Option<&str>,
    payload: &str,
) -> Result<(Vec<u8>, usize), String> {
    let mut buffer = vec![0; HEADROOM + ROOM + payload.len()];
    let space = buffer.get_mut(HEADROOM..).unwrap_or_default();
    let ip = build::Ip::new(from.addr, to.addr);
    let length = match transport {
        Transport::Tcp => {
            let header = build::Tcp {
                flags: flags(what.unwrap_or("S"))?,
                acknowledged: 1,
                ..build::Tcp::syn(from.port, to.port)
            };
            build::tcp(space, &ip, &header, payload.as_bytes())
        }
        Transport::Udp => build::udp(space, &ip, from.port, to.port, payload.as_bytes()),
        Transport::Sctp => {
            let chunk = chunk(what.unwrap_or("INIT"))?;
            build::sctp(space, &ip, from.port, to.port, 1, &chunk)
        }
    };
    let length = length.map_err(|error| error.to_string())?;
    Ok((buffer, length))
}

fn flags(word: &str) -> Result<TcpFlags, String> {
    let flag = |letter| FLAGS.iter().find(|(known, _)| *known == letter);
    word.chars().try_fold(TcpFlags(0), |sum, letter| {
        let (_, flag) = flag(letter).ok_or_else(|| format!("`{word}` are no TCP flags"))?;
        Ok(TcpFlags(sum.0 | flag.0))
    })
}

fn chunk(word: &str) -> Result<[u8; 20], String> {
    let known = CHUNKS.iter().find(|(name, _)| *name == word);
    let (_, number) = known.ok_or_else(|| format!("`{word}` is no SCTP chunk"))?;
    let mut chunk = [0; 20];
    chunk[0] = *number;
    chunk[3] = 20;
    Ok(chunk)
}

/// Understands a frame and checks what a director must keep true.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn examine(frame: &Frame<'_>) -> Result<Packet, String> {
    let packet = parse(frame).map_err(|reason| format!("a malformed packet ({reason:?})"))?;
    if lvs_packet::checksum::verify(frame, &packet) == Some(false) {
        let words = describe(frame, &packet);
        return Err(format!("a packet with a wrong checksum: {words}"));
    }
    Ok(packet)
}

/// The packet that a tunnel's packet carries, and its own.
pub(crate) fn inside(frame: &Frame<'_>, packet: &Packet) -> Option<Packet> {
    /// IP's numbers of IPv4 and of IPv6.
    const NUMBERS: [(u8, [u8; 2]); 2] = [(4, [0x08, 0x00]), (41, [0x86, 0xdd])];
    let (_, ethertype) = NUMBERS
        .iter()
        .find(|(number, _)| *number == packet.protocol)?;
    // The same packet with an Ethernet header of its own.
    let mut inner = vec![0; 12];
    inner.extend_from_slice(ethertype);
    inner.extend_from_slice(frame.bytes().get(usize::from(packet.l4)..)?);
    let length = inner.len();
    parse(&Frame::new(&mut inner, 0, length, Offload::default())).ok()
}

/// A packet in the words of the recordings.
pub(crate) fn describe(frame: &Frame<'_>, packet: &Packet) -> String {
    let flow = packet.flow;
    match packet.kind {
        Kind::Tcp => {
            let letters: String = FLAGS
                .iter()
                .filter(|(_, flag)| packet.tcp_flags.contains(*flag))
                .map(|(letter, _)| letter)
                .collect();
            format!("tcp {}>{} {letters}", flow.src, flow.dst)
        }
        Kind::Udp => format!("udp {}>{}", flow.src, flow.dst),
        Kind::Sctp => {
            // The chunk itself, and not what the director takes it for.
            let first = frame.bytes().get(usize::from(packet.l4) + SCTP_LEN);
            let first = first.copied().unwrap_or_default();
            let known = CHUNKS.iter().find(|(_, number)| *number == first);
            let chunk = known.map_or_else(|| first.to_string(), |(name, _)| (*name).to_owned());
            format!("sctp {}>{} {chunk}", flow.src, flow.dst)
        }
        _ => {
            let at = usize::from(packet.l4);
            let byte = |place| frame.bytes().get(place).copied().unwrap_or_default();
            let (from, to) = (flow.src.addr, flow.dst.addr);
            let (icmp_type, code) = (byte(at), byte(at + 1));
            match packet.protocol {
                1 => format!("icmp {icmp_type}/{code} {from}>{to}"),
                58 => format!("icmp6 {icmp_type}/{code} {from}>{to}"),
                number => format!("protocol {number} {from}>{to}"),
            }
        }
    }
}
