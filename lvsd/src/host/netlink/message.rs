//! Writing and reading netlink messages (RFC 3549, 2.3; `linux/netlink.h`).
//!
//! In: bytes of the kernel, or values to send to it. Out: headers and attributes. Never a panic:
//! what is shorter than it says ends the iteration.

/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// `NLA_F_NET_BYTEORDER | NLA_F_NESTED`: not part of the number.
const FLAGS: u16 = 0xc000;

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The octets `at..at + N` of a slice.
pub(crate) fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A 16-bit number in the machine's byte order.
pub(crate) fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    octets(bytes, at).map(u16::from_ne_bytes)
}

/// A 32-bit number in the machine's byte order.
pub(crate) fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    octets(bytes, at).map(u32::from_ne_bytes)
}

/// A 64-bit number in network byte order.
pub(crate) fn be_u64(bytes: &[u8]) -> Option<u64> {
    octets(bytes, 0).map(u64::from_be_bytes)
}

/// One message of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// The message type.
    pub(crate) kind: u16,
    /// The `NLM_F_` flags.
    pub(crate) flags: u16,
    /// Of the request that it answers; 0 for a notification.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// The error number of an `NLMSG_ERROR`; 0 is an acknowledgement.
    pub(crate) fn error(&self) -> Option<i32> {
        if self.kind != ERROR {
            return None;
        }
        octets(self.payload, 0).map(|code| i32::from_ne_bytes(code).saturating_neg())
    }

    /// The error with which a dump ended, if it says so.
    pub(crate) fn done_code(&self) -> Option<i32> {
        octets(self.payload, 0).map(|code| i32::from_ne_bytes(code).saturating_neg())
    }

    /// Whether a dump ends here.
    pub(crate) const fn is_done(&self) -> bool {
        self.kind == DONE
    }
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(native_u32(self.0, 0)?).ok()?;
        let message = Message {
            kind: native_u16(self.0, 4)?,
            flags: native_u16(self.0, 6)?,
            sequence: native_u32(self.0, 8)?,
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// Attributes: their number without flags, and their value.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes behind a fixed header of that many bytes.
    pub(crate) fn after(payload: &'a [u8], header: usize) -> Self {
        Self(payload.get(aligned(header)..).unwrap_or_default())
    }

    /// The value of the first attribute of that number.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(native_u16(self.0, 0)?);
        let kind = native_u16(self.0, 2)? & !FLAGS;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Messages under construction, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

impl Writer {
    /// What has been written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A whole message: the header, the fixed part, and what `attributes` adds.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        fixed: &[u8],
        attributes: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        // The port is the kernel's to fill in.
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        attributes(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Adds flags to the last message.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        if let Some(field) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            for (octet, flag) in field.iter_mut().zip(flags.to_ne_bytes()) {
                *octet |= flag;
            }
        }
    }

    /// An attribute with that value.
    pub(crate) fn octets(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.bytes.extend_from_slice(value));
    }

    /// An attribute that is a text, with the final zero that the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |writer| {
            writer.bytes.extend_from_slice(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// A 32-bit number in network byte order, as all of nfnetlink's are.
    pub(crate) fn be_u32(&mut self, kind: u16, value: u32) {
        self.octets(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, inner);
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        value(self);
        let length = self.bytes.len() - start;
        debug_assert!(u16::try_from(length).is_ok(), "attribute of {length} bytes");
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.message(20, 5, 7, &[1, 2, 3], |w| {
            w.text(1, "lo");
            w.nest(2, |w| w.be_u32(3, 0x0102_0304));
        });
        writer.message(21, 0x100, 8, &[], |_| {});
        writer.flag_last(0x4);
        let mut messages = Messages(writer.bytes());
        let first = messages.next().unwrap();
        assert_eq!((first.kind, first.flags, first.sequence), (20, 5, 7));
        let attributes = Attributes::after(first.payload, 3);
        assert_eq!(attributes.clone().find(1), Some(&b"lo\0"[..]));
        let inner = Attributes(attributes.find(2).unwrap());
        assert_eq!(inner.collect::<Vec<_>>(), [(3, &[1, 2, 3, 4][..])]);
        let second = messages.next().unwrap();
        assert_eq!((second.kind, second.flags), (21, 0x104));
        assert!(messages.next().is_none());
    }

    #[test]
    fn what_lies_about_its_length_ends_the_iteration() {
        for bytes in [
            &[][..],
            &[1],
            &[255; 16],
            &[0; 16],
            &[15, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(Messages(bytes).next().is_none(), "{bytes:?}");
        }
        assert!(Attributes(&[3, 0, 1, 0]).next().is_none());
        assert!(Attributes(&[9, 0, 1, 0, 1, 1, 1, 1]).next().is_none());
    }
}
