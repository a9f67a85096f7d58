//! Any bytes as the certificate table of an extended guest request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_attest::certificate::Crl;
use snp_attest::certificate_table::{build, parse, revocation_lists};

fuzz_target!(|data: &[u8]| {
    if let Ok(certificates) = parse(data) {
        assert_eq!(parse(&build(&certificates)).as_ref(), Ok(&certificates));
    }
    for list in revocation_lists(data).into_iter().flatten() {
        assert_eq!(Crl::from_der(list.der()).as_ref(), Ok(&list));
    }
});
