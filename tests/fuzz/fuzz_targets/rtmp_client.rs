//! `lianmai_fuzz_bodies::rtmp_client` under libFuzzer. What it checks stands there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lianmai_fuzz_bodies::rtmp_client(data));
