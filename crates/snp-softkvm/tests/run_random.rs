//! Random code, page tables and VMSAs: nothing panics, nothing hangs, and what KVM_RUN says can be said by KVM.

mod common;

use common::*;
use proptest::prelude::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, PageType, SevFeatures, Vmpl, Vmsa};
use snp_softkvm::{Bounds, RunExit, Stop, profiles};
use zerocopy::{FromBytes, IntoBytes};

const CODE: u64 = 5;
const TABLES: u64 = 6;
const VMSA: u64 = 9;

/// A VMSA that VMRUN might take, with some bytes changed.
fn vmsa(changes: &[(usize, u8)], long: bool) -> Vmsa {
    let data = snp_abi::Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
    let mut vmsa = Vmsa {
        cs: snp_abi::Segment { selector: 8, attrib: if long { 0xa9b } else { 0x9b }, limit: u32::MAX, base: 0 },
        ds: data,
        es: data,
        ss: data,
        efer: if long { 0x1d01 } else { 0x1000 },
        cr0: if long { 0x8001_0033 } else { 0x10 },
        cr3: TABLES * PAGE,
        cr4: 0x660,
        rflags: 2,
        rip: CODE * PAGE,
        rsp: CODE * PAGE,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        xcr0: 7,
        mxcsr: 0x1f80,
        x87_fcw: 0x37f,
        ..Vmsa::default()
    };
    let bytes = vmsa.as_mut_bytes();
    for (at, value) in changes {
        bytes[at % 0x670] = *value;
    }
    let mut vmsa = Vmsa::read_from_bytes(vmsa.as_bytes()).unwrap();
    (vmsa.vmpl, vmsa.sev_features) = (Vmpl(0), SevFeatures(SevFeatures::SNP_ACTIVE));
    vmsa
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_guest_of_random_bytes_ends_or_goes_on(
        code in prop::collection::vec(any::<u8>(), 4096),
        tables in prop::collection::vec(any::<u64>(), 1024),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        long in any::<bool>(),
    ) {
        const C_BIT: u64 = 1 << 51;
        let vmm = Vmm::launching_to_run(&profiles::DIRECT_VMSA, 1);
        // Entries that lead to the guest's own few pages, more often than not.
        let entry = |value: &u64| (value % 100) << 12 | value >> 32 & 0x8000_0000_0000_00e7 | if value & 1 << 20 != 0 { C_BIT | 7 } else { 1 };
        let tables: Vec<u64> = tables.iter().map(entry).collect();
        prop_assert_eq!(vmm.launch_pages(PageType::NORMAL, CODE, &code), OK);
        prop_assert_eq!(vmm.launch_pages(PageType::NORMAL, TABLES, tables.as_bytes()), OK);
        prop_assert_eq!(vmm.launch_vmsa(VMSA, &vmsa(&changes, long)), OK);
        prop_assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        let vcpu = &vmm.vcpus[0];
        for _ in 0..8 {
            let bounds = Bounds { instructions: 500, wait: false, ..Bounds::default() };
            match vcpu.run_within(&vmm.process, &bounds) {
                Ok(Stop::Limit | Stop::Exit | Stop::Waiting | Stop::Stuck) => {}
                Ok(Stop::Breakpoint) => prop_assert!(false, "there are none"),
                Err(errno) => prop_assert!(matches!(errno, Errno::EFAULT | Errno::EINVAL | Errno::EIO | Errno::ENOSYS), "{errno}"),
            }
            if let RunExit::Other(reason) = vcpu.run_area().exit() {
                prop_assert_eq!(reason, 0);
            }
        }
    }
}
