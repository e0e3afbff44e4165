#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sbx_fuzz::target("config")(bytes));
