//! See [`lvs_fuzz::conn`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::conn(data));
