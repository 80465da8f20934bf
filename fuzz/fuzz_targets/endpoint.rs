//! See [`lvs_fuzz::endpoint`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| lvs_fuzz::endpoint(data));
