//! libFuzzer's way to the properties of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::properties::beacon::hold(input));
