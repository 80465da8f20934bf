//! Numbers and fixed pieces in a slice of bytes, network order, with the end always checked.
//!
//! Reading past the end gives `None`; writing past it does nothing.

#[inline]
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

#[inline]
pub(crate) fn array_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(|field| u16::from_be_bytes(*field))
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(|field| u32::from_be_bytes(*field))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(|field| u64::from_be_bytes(*field))
}

#[inline]
pub(crate) fn set<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = array_mut(bytes, at) {
        *field = value;
    }
}

#[inline]
pub(crate) fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    set(bytes, at, value.to_be_bytes());
}

/// A length as a header's 16-bit field holds it; what does not fit (BIG TCP) is written as 0.
#[inline]
pub(crate) fn length_field(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(0)
}
