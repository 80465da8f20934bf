//! Settings that change what becomes of connections, under the kernel's names (IPVS 2.14).
//!
//! In: values, at any time and from any thread. Out: the same, to workers, who read a word and
//! never wait. A change counts from the next packet on.
//!
//! ```
//! use lvs_director::{Setting, Settings};
//! let settings = Settings::default();
//! assert_eq!(settings.get(Setting::ConnReuseMode), 1);
//! let setting: Setting = "expire_nodest_conn".parse()?;
//! settings.set(setting, 1);
//! assert_eq!(settings.get(Setting::ExpireNodestConn), 1);
//! # Ok::<(), lvs_director::UnknownSetting>(())
//! ```

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use thiserror::Error;

/// One of the settings; a switch is on with any value but 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(usize)]
pub enum Setting {
    /// Which connections a SYN with their flow begins anew (IPVS 2.12): 0 none; otherwise those in
    /// TIME_WAIT and CLOSE, and with bit 2 also in FIN_WAIT where replies do not pass. 1 unless set.
    ConnReuseMode,
    /// A switch: connections end with the deletion of their destination, and a SYN of one whose
    /// destination has weight 0 is scheduled anew (IPVS 0.4, 2.12).
    ExpireNodestConn,
    /// A switch: a destination of weight 0 gets no new connections of its persistent clients either
    /// (IPVS 2.5).
    ExpireQuiescentTemplate,
    /// A switch: any first packet of TCP but a RST begins a connection (IPVS 4.2).
    SloppyTcp,
    /// A switch: any first chunk of SCTP but ABORT begins a connection (IPVS 4.2).
    SloppySctp,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ConnReuseMode,
        Self::ExpireNodestConn,
        Self::ExpireQuiescentTemplate,
        Self::SloppyTcp,
        Self::SloppySctp,
    ];

    /// The kernel's name, under `net.ipv4.vs`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnReuseMode => "conn_reuse_mode",
            Self::ExpireNodestConn => "expire_nodest_conn",
            Self::ExpireQuiescentTemplate => "expire_quiescent_template",
            Self::SloppyTcp => "sloppy_tcp",
            Self::SloppySctp => "sloppy_sctp",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no setting has, or none that this director follows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the setting `{0}` is not supported")]
pub struct UnknownSetting(String);

impl FromStr for Setting {
    type Err = UnknownSetting;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|setting| setting.name() == name)
            .ok_or_else(|| UnknownSetting(name.to_owned()))
    }
}

/// The settings of one director.
#[derive(Debug)]
pub struct Settings([AtomicU32; Setting::ALL.len()]);

impl Default for Settings {
    /// The kernel's defaults.
    fn default() -> Self {
        let settings = Self([const { AtomicU32::new(0) }; Setting::ALL.len()]);
        settings.set(Setting::ConnReuseMode, 1);
        settings
    }
}

impl Settings {
    /// The value of a setting.
    #[inline]
    #[must_use]
    pub fn get(&self, setting: Setting) -> u32 {
        self.0
            .get(setting as usize)
            .map_or(0, |value| value.load(Relaxed))
    }

    /// Whether a switch is on.
    #[inline]
    pub(crate) fn is_on(&self, setting: Setting) -> bool {
        self.get(setting) != 0
    }

    /// Gives a setting another value.
    pub fn set(&self, setting: Setting, value: u32) {
        if let Some(place) = self.0.get(setting as usize) {
            place.store(value, Relaxed);
        }
    }
}
