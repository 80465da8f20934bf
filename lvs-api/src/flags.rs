//! The names of the three scheduler flags (`-b`), which depend on the scheduler.
//!
//! ```
//! use lvs_api::flags;
//! let both = flags::parse("sh", ["sh-port", "sh-fallback"])?;
//! assert_eq!(flags::names("sh", both), ["sh-fallback", "sh-port"]);
//! assert_eq!(flags::parse("rr", ["sh-port"]), Err(flags::FlagError::Incompatible("sh-port".into())));
//! # Ok::<(), flags::FlagError>(())
//! ```

use lvs_core::SchedFlags;

/// What is wrong with the name of a flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No flag is called that.
    #[error(
        "no scheduler flag is called `{0}`; there are sh-fallback and sh-port for sh, mh-fallback \
         and mh-port for mh, and flag-1, flag-2 and flag-3"
    )]
    Unknown(String),
    /// The flag belongs to another scheduler.
    #[error("the scheduler flag `{0}` belongs to another scheduler")]
    Incompatible(String),
}

/// Name, the scheduler that it belongs to (any if empty), and the bit.
const FLAGS: [(&str, &str, u8); 7] = [
    ("sh-fallback", "sh", 1),
    ("sh-port", "sh", 2),
    ("mh-fallback", "mh", 1),
    ("mh-port", "mh", 2),
    ("flag-1", "", 1),
    ("flag-2", "", 2),
    ("flag-3", "", 4),
];

/// The names of the flags that are set, as listings show them for this scheduler.
#[must_use]
pub fn names(scheduler: &str, flags: SchedFlags) -> Vec<&'static str> {
    let set = [(1, flags.flag1), (2, flags.flag2), (4, flags.flag3)];
    let name_of = |bit| {
        let own = FLAGS.iter().find(|f| f.2 == bit && f.1 == scheduler);
        own.or_else(|| FLAGS.iter().find(|f| f.2 == bit && f.1.is_empty()))
            .map(|f| f.0)
    };
    set.into_iter()
        .filter(|&(_, on)| on)
        .filter_map(|(bit, _)| name_of(bit))
        .collect()
}

/// The flags of a list of names.
///
/// # Errors
/// On the first name that is unknown or belongs to another scheduler.
pub fn parse<'a>(
    scheduler: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<SchedFlags, FlagError> {
    let mut bits = 0;
    for name in names {
        let Some(flag) = FLAGS.iter().find(|f| f.0 == name) else {
            return Err(FlagError::Unknown(name.to_owned()));
        };
        if !flag.1.is_empty() && flag.1 != scheduler {
            return Err(FlagError::Incompatible(name.to_owned()));
        }
        bits |= flag.2;
    }
    Ok(SchedFlags {
        flag1: bits & 1 != 0,
        flag2: bits & 2 != 0,
        flag3: bits & 4 != 0,
    })
}
