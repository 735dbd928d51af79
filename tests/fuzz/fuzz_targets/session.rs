//! `lianmai_fuzz_bodies::session` under libFuzzer. See there for what it checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lianmai_fuzz_bodies::session(data));
