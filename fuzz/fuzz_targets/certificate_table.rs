//! Any bytes as the certificate table of an extended guest request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_attest::certificate_table::{build, parse};

fuzz_target!(|data: &[u8]| {
    if let Ok(certificates) = parse(data) {
        assert_eq!(parse(&build(&certificates)).as_ref(), Ok(&certificates));
    }
});
