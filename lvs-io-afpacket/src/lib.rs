//! lvs-io-afpacket
