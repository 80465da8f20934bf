//! See [`lvs_fuzz::rewrite`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::rewrite(data));
