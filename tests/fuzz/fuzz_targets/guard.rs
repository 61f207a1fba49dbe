//! See the body, in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sse_sunset_fuzz::guard(data));
