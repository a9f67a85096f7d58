//! Any page as a VMSA: checked, shown, compared, and changed by any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_abi::{Gpa, PAGE_SIZE, Vmsa};
use snp_vmsa::check::{LaunchRules, launch_findings, vmrun_findings};
use snp_vmsa::{diff, fields};
use zerocopy::FromBytes;

fuzz_target!(|data: &[u8]| {
    let mut page = [0; PAGE_SIZE];
    let len = data.len().min(PAGE_SIZE);
    page[..len].copy_from_slice(&data[..len]);
    let vmsa = Vmsa::read_from_bytes(&page).expect("a page");
    let _ = vmrun_findings(&vmsa);
    for rules in [LaunchRules::DirectVmsa, LaunchRules::VcpuState, LaunchRules::Mainline] {
        let _ = launch_findings(&vmsa, Some(Gpa(vmsa.rip)), vmsa.sev_features, rules);
    }
    assert!(diff::differences(&vmsa, &vmsa).is_empty());
    for field in fields::fields() {
        let _ = field.get(&vmsa).to_string();
    }
    let mut changed = vmsa;
    for line in String::from_utf8_lossy(data).lines().take(16) {
        if fields::assign(&mut changed, line).is_err() {
            continue;
        }
        // An assignment that is accepted is visible, or gave the field the value that it had.
        let _ = diff::differences(&vmsa, &changed);
    }
});
