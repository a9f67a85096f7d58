//! Any text as a policy file, a list of TCB levels and REPORT_DATA.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(policy) = snp_policy::parse(text) {
        assert_eq!(snp_policy::parse(text).as_ref(), Ok(&policy));
    }
    let _ = snp_policy::min_tcb(text);
    let _ = snp_policy::report_data(text);
    let names: Vec<_> = text.split(',').collect();
    let _ = snp_policy::GUEST_POLICY.bits("policy-forbid", &names);
    let _ = snp_policy::PLATFORM.bits("platform-forbid", &names);
});
