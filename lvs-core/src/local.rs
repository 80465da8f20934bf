//! The director's own addresses towards servers (FULLNAT's LIPs).

use crate::Addr;
use core::fmt;

/// The local addresses of a service or of a destination: a small list, in the operator's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LocalAddresses {
    /// The first `count` of them; the others are unspecified.
    addresses: [Addr; Self::MAX],
    count: u8,
}

/// There are more addresses than a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAddresses;

impl fmt::Display for TooManyAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} local addresses", LocalAddresses::MAX)
    }
}

impl core::error::Error for TooManyAddresses {}

impl LocalAddresses {
    /// The most addresses of a list. Each gives some 64 thousand connections to each server.
    pub const MAX: usize = 8;
    /// No address.
    pub const NONE: Self = Self {
        addresses: [Addr::UNSPECIFIED; Self::MAX],
        count: 0,
    };

    /// The list of these addresses.
    ///
    /// # Errors
    /// [`TooManyAddresses`] if there are more than [`LocalAddresses::MAX`].
    pub fn new(addresses: &[Addr]) -> Result<Self, TooManyAddresses> {
        let mut list = Self::NONE;
        if addresses.len() > Self::MAX {
            return Err(TooManyAddresses);
        }
        for (to, from) in list.addresses.iter_mut().zip(addresses) {
            *to = *from;
            list.count += 1;
        }
        Ok(list)
    }

    /// Its addresses.
    pub fn iter(&self) -> impl Iterator<Item = Addr> + '_ {
        self.addresses.iter().copied().take(usize::from(self.count))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Debug for LocalAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
