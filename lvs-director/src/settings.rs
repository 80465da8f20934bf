//! Settings that change what becomes of packets and connections, under the kernel's names
//! (`net.ipv4.vs.*`, IPVS 2.14).
//!
//! In: values, at any time and from any thread. Out: the same, to workers, who read a word and
//! never wait. A change counts from the next packet on; one that is refused changes nothing.
//!
//! ```
//! use lvs_director::{Setting, SettingError, Settings};
//! let settings = Settings::default();
//! assert_eq!(settings.get(Setting::ConnReuseMode), 1);
//! let setting: Setting = "expire_nodest_conn".parse()?;
//! settings.set(setting, 1)?;
//! assert_eq!(settings.get(Setting::ExpireNodestConn), 1);
//! let refused = settings.set(Setting::DropEntry, 4).unwrap_err();
//! assert_eq!(refused.to_string(), "the setting `drop_entry` is 0 to 3, not 4");
//! # Ok::<(), SettingError>(())
//! ```

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use thiserror::Error;

/// The largest value of a setting that counts something: the kernel's signed 32 bits.
const MOST: u32 = i32::MAX as u32;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $default:literal, $most:expr;)+) => {
        /// One of the settings; a switch is 0 or 1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(usize)]
        pub enum Setting { $($(#[doc = $doc])+ $variant,)+ }

        impl Setting {
            /// All of them, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The kernel's name, under `net.ipv4.vs`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The kernel's default.
            #[must_use]
            pub const fn default_value(self) -> u32 {
                match self { $(Self::$variant => $default,)+ }
            }

            /// The largest value that it can have.
            const fn most(self) -> u32 {
                match self { $(Self::$variant => $most,)+ }
            }

            /// What it does, in a sentence or two.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

settings! {
    /// With `drop_packet` 3: one packet in so many that would begin a connection is dropped; 0: none.
    AmDropRate = "am_droprate", 10, MOST;
    /// Memory is short when fewer pages than these are free (IPVS 2.13).
    AmemThresh = "amemthresh", 1024, MOST;
    /// A switch: a director that receives connections from another one leaves packets alone.
    BackupOnly = "backup_only", 0, 1;
    /// A switch: what a mark's service has no destination for goes to where it was sent (IPVS 4.4).
    CacheBypass = "cache_bypass", 0, 1;
    /// Which connections a SYN with their flow begins anew (IPVS 2.12): 0 none; otherwise those in
    /// TIME_WAIT and CLOSE, and with bit 2 also in FIN_WAIT where replies do not pass.
    ConnReuseMode = "conn_reuse_mode", 1, MOST;
    /// Of no effect: frames do not pass netfilter, which would keep these connections.
    Conntrack = "conntrack", 0, 1;
    /// Whether connections that are not worth it end early (IPVS 2.13): 0 never, 1 and 2 when
    /// memory is short (2 is 1 while it is), 3 always.
    DropEntry = "drop_entry", 0, 3;
    /// Whether packets that would begin a connection are dropped: as `drop_entry` (IPVS 2.13).
    DropPacket = "drop_packet", 0, 3;
    /// A switch: connections end with the deletion of their destination, and a SYN of one whose
    /// destination has weight 0 is scheduled anew (IPVS 0.4, 2.12).
    ExpireNodestConn = "expire_nodest_conn", 0, 1;
    /// A switch: a destination of weight 0 gets no new connections of its persistent clients either
    /// (IPVS 2.5).
    ExpireQuiescentTemplate = "expire_quiescent_template", 0, 1;
    /// Of no effect: packets of other protocols are the host's whatever it says.
    IgnoreTunneled = "ignore_tunneled", 0, 1;
    /// Seconds after which `lblc` forgets an address.
    LblcExpiration = "lblc_expiration", 86_400, 7_776_000;
    /// Seconds after which `lblcr` forgets an address.
    LblcrExpiration = "lblcr_expiration", 86_400, 7_776_000;
    /// A switch: a server's packet that belongs to no connection is answered with "port
    /// unreachable" (IPVS 4.3).
    NatIcmpSend = "nat_icmp_send", 0, 1;
    /// A switch: tunnels keep "don't fragment" and tell clients what fits (IPVS 3.4).
    PmtuDisc = "pmtu_disc", 1, 1;
    /// A switch: rates are estimated (IPVS 7.2).
    RunEstimation = "run_estimation", 1, 1;
    /// A switch: an ICMP error about a packet of a service may begin a connection (IPVS 3.6).
    ScheduleIcmp = "schedule_icmp", 0, 1;
    /// Whether TCP's strict table is in use: as `drop_entry` (IPVS 2.8, 2.13).
    SecureTcp = "secure_tcp", 0, 3;
    /// A switch: any first chunk of SCTP but ABORT begins a connection (IPVS 4.2).
    SloppySctp = "sloppy_sctp", 0, 1;
    /// A switch: any first packet of TCP but a RST begins a connection (IPVS 4.2).
    SloppyTcp = "sloppy_tcp", 0, 1;
    /// Of no effect: replies take the way of the main table whatever it says.
    SnatReroute = "snat_reroute", 1, 1;
}

impl Setting {
    /// Whether it can have this value.
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`].
    pub fn check(self, value: u32) -> Result<(), SettingError> {
        let setting = self;
        if self.range().contains(&value) {
            Ok(())
        } else {
            Err(SettingError::OutOfRange { setting, value })
        }
    }

    /// The values that it can have.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u32> {
        0..=self.most()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A setting was refused; all are as they were.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A name that no setting has.
    #[error("there is no setting `{0}`; there are {known}", known = names())]
    Unknown(String),
    /// A value that it cannot have (the kernel's `EINVAL`).
    #[error("the setting `{setting}` is 0 to {most}, not {value}", most = .setting.most())]
    OutOfRange {
        /// Of which.
        setting: Setting,
        /// The value.
        value: u32,
    },
}

fn names() -> String {
    let names: Vec<_> = Setting::ALL.iter().map(|setting| setting.name()).collect();
    names.join(", ")
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|setting| setting.name() == name);
        found
            .copied()
            .ok_or_else(|| SettingError::Unknown(name.to_owned()))
    }
}

/// The settings of one director.
#[derive(Debug)]
pub struct Settings([AtomicU32; Setting::ALL.len()]);

impl Default for Settings {
    /// The kernel's defaults.
    fn default() -> Self {
        let settings = Self([const { AtomicU32::new(0) }; Setting::ALL.len()]);
        for setting in Setting::ALL {
            settings.store(*setting, setting.default_value());
        }
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

    /// All settings with their values, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (Setting, u32)> + '_ {
        Setting::ALL
            .iter()
            .map(|setting| (*setting, self.get(*setting)))
    }

    /// Gives a setting another value. The levels of defence (`drop_entry`, `drop_packet`,
    /// `secure_tcp`) are looked at once a second: see [`Director::defend`](crate::Director::defend).
    ///
    /// # Errors
    /// [`SettingError::OutOfRange`]; the setting is as it was.
    pub fn set(&self, setting: Setting, value: u32) -> Result<(), SettingError> {
        setting.check(value)?;
        self.store(setting, value);
        Ok(())
    }

    pub(crate) fn store(&self, setting: Setting, value: u32) {
        if let Some(place) = self.0.get(setting as usize) {
            place.store(value, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_defaults_and_names() {
        let settings = Settings::default();
        let mut names: Vec<_> = Vec::new();
        for (setting, value) in settings.iter() {
            assert_eq!(value, setting.default_value());
            assert!(setting.range().contains(&value));
            assert_eq!(setting.name().parse(), Ok(setting));
            assert!(!setting.description().is_empty());
            names.push(setting.name());
        }
        assert!(names.is_sorted());
    }

    #[test]
    fn an_unknown_name_is_told_which_there_are() {
        let error = "drop_entries".parse::<Setting>().unwrap_err().to_string();
        assert!(error.starts_with("there is no setting `drop_entries`; there are am_droprate, "));
        assert!(error.ends_with("sloppy_tcp, snat_reroute"));
    }

    #[test]
    fn a_value_out_of_range_changes_nothing() {
        let settings = Settings::default();
        for setting in Setting::ALL {
            let value = *setting.range().end();
            assert_eq!(settings.set(*setting, value), Ok(()));
            let refused = settings.set(*setting, value + 1);
            let error = SettingError::OutOfRange {
                setting: *setting,
                value: value + 1,
            };
            assert_eq!(refused, Err(error));
            assert_eq!(settings.get(*setting), value);
        }
    }
}
