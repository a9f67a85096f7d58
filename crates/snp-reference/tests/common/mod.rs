//! Reference values to test with.
#![allow(dead_code, reason = "each test file uses its part")]

use snp_reference::{ReferenceValue, ReferenceValues};

/// Nothing but digests, each of one repeated byte.
pub(crate) fn sample(values: &[(u8, &str)]) -> ReferenceValues {
    let values = values
        .iter()
        .map(|(byte, label)| ReferenceValue { digest: [*byte; 48], label: (*label).to_owned(), vmpl: None })
        .collect();
    ReferenceValues { name: "OVMF.fd".to_owned(), values, ..ReferenceValues::default() }
}

/// Every field set; two values, the first for VMPL 2.
pub(crate) fn full() -> ReferenceValues {
    let mut full = ReferenceValues {
        version: Some("2026-08".to_owned()),
        policy: Some(0x3001f),
        guest_svn: Some(7),
        family_id: Some([0xfa; 16]),
        image_id: Some([0x1a; 16]),
        host_data: Some([0xda; 32]),
        id_key_digest: Some([0x1d; 48]),
        author_key_digest: Some([0xa0; 48]),
        ..sample(&[(0x11, "1 vCPU, EPYC-Milan"), (0x22, "2 vCPUs, EPYC-Milan")])
    };
    full.values[0].vmpl = Some(2);
    full
}
