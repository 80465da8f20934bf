//! Help and version.

use crate::manual;
use std::io::{self, Write};

/// The version of ipvsadm whose command line this is.
const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// ipvsadm's own help.
const USAGE: &str = include_str!("usage.txt");

/// `-v`: what scripts compare.
pub(crate) fn version(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{VERSION}")
}

/// `-h` is ipvsadm's help to the letter; `lvsadm --help` is the manual.
pub(crate) fn help(program: &str, long: bool, out: &mut dyn Write) -> io::Result<()> {
    if long && program != "ipvsadm" {
        return out.write_all(manual::lvsadm().to_string().as_bytes());
    }
    version(out)?;
    out.write_all(USAGE.as_bytes())
}
