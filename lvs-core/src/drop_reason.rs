//! Why a packet went no further: one closed list for all rooms.

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet went no further. Every drop has one, and each is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// All of them, in order; `ALL[reason as usize] == reason`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name under which it is counted: lower case, words joined by `_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for an operator.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    // Parsing: the frame is not what it says.
    /// The frame ends inside a header.
    Truncated = "truncated",
    /// The IP version does not match the EtherType.
    BadVersion = "bad_version",
    /// An IPv4 header length below 20 bytes or beyond the packet.
    BadHeaderLength = "bad_header_length",
    /// An IP total length below its headers or beyond the frame.
    BadTotalLength = "bad_total_length",
    /// The IPv4 header checksum is wrong.
    BadIpChecksum = "bad_ip_checksum",
    /// IP options that are malformed, or a source route.
    BadIpOptions = "bad_ip_options",
    /// An IPv6 extension-header chain that is too long or runs past the packet.
    BadExtensionHeader = "bad_extension_header",
    /// A source or destination address that cannot stand on the wire.
    BadAddress = "bad_address",
    /// A fragment whose offset and length exceed a packet, or that is too short.
    BadFragment = "bad_fragment",
    /// A TCP data offset below 20 bytes or beyond the segment.
    BadTcpOffset = "bad_tcp_offset",
    /// A UDP length below 8 bytes or beyond the packet.
    BadUdpLength = "bad_udp_length",
    /// An SCTP packet without a whole first chunk.
    BadSctpChunk = "bad_sctp_chunk",
    /// An ICMP error whose checksum is wrong.
    BadIcmpChecksum = "bad_icmp_checksum",
    /// An ICMP error whose quoted packet cannot be read.
    BadIcmpQuote = "bad_icmp_quote",
    /// The TCP or UDP checksum of a packet for a VIP that nobody serves is wrong: no host answers such
    /// a packet.
    BadTransportChecksum = "bad_transport_checksum",
    // Deciding.
    /// A fragment of a datagram whose connection is gone.
    FragmentUnknown = "fragment_unknown",
    /// A fragment that repeats or overlaps another of its datagram, or contradicts its length.
    FragmentOverlap = "fragment_overlap",
    /// A fragment that would have had to wait for others, without room for it.
    FragmentFull = "fragment_full",
    /// A fragment that waited for others which did not come.
    FragmentLost = "fragment_lost",
    /// No destination of the service can take the connection; the client was told.
    NoDestination = "no_destination",
    /// No local port towards the destination is left (FULLNAT); the client was told.
    LocalPortsUsedUp = "local_ports_used_up",
    /// Not a drop: the packet went on, but had no room to tell the server its client.
    ClientUntold = "client_untold",
    /// The connection's destination left, and its connections are reset; the sender was told.
    DestinationLeft = "destination_left",
    /// The connection's destination was removed.
    DestinationGone = "destination_gone",
    /// The connection table is full.
    TableFull = "table_full",
    /// Not a drop: a connection whose client had proved nothing yet made room in a nearly full table.
    HalfOpenEnded = "half_open_ended",
    /// A packet that would have begun a connection was dropped by `drop_packet`.
    DropPacket = "drop_packet",
    /// A message of a service with the persistence engine `sip` that has no Call-ID.
    NoCallId = "no_call_id",
    /// A server's packet belongs to no connection; the server was told (`nat_icmp_send`).
    UnknownReply = "unknown_reply",
    /// TTL or hop limit used up; the sender was told.
    TtlExpired = "ttl_expired",
    /// The packet exceeds the MTU of its way; the sender was told.
    TooBig = "too_big",
    /// The way to the destination leaves a tunnel no room.
    TunnelMtu = "tunnel_mtu",
    /// No route to where the packet would go; the sender was told.
    NoRoute = "no_route",
    /// A packet from a loopback address to a destination on another host.
    LoopbackSource = "loopback_source",
    /// NAT to an address of the director itself, which a tap cannot give it.
    LocalMasquerade = "local_masquerade",
    /// A frame without the room before it that its rewriting needs.
    NoHeadroom = "no_headroom",
    /// The answer to the sender was withheld by the rate limit of ICMP errors.
    RateLimited = "rate_limited",
    // Receiving and sending.
    /// The receive ring was full: the kernel dropped frames before anybody looked at them.
    RingFull = "ring_full",
    /// The frame was larger than a slot of the receive ring.
    RingTruncated = "ring_truncated",
    /// The neighbour's link-layer address is being resolved, and its queue is full.
    NeighbourPending = "neighbour_pending",
    /// The neighbour does not answer.
    NeighbourUnreachable = "neighbour_unreachable",
    /// The transmit ring is full.
    TransmitFull = "transmit_full",
    /// The kernel refused to send the frame.
    TransmitFailed = "transmit_failed",
    /// The interface is down or gone.
    InterfaceDown = "interface_down",
    /// A segmented frame that cannot be cut into packets.
    BadSegmentation = "bad_segmentation",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn the_list_is_in_order_and_names_are_unique() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert!(!reason.description().is_empty());
            let same = DropReason::ALL
                .iter()
                .filter(|r| r.name() == reason.name())
                .count();
            assert_eq!(same, 1, "{reason}");
        }
    }
}
