//! `lianmai_fuzz_bodies::engine` under libFuzzer. See there for what it checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lianmai_fuzz_bodies::engine(data));
