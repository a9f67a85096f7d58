//! What user space may give a vCPU: CPUID, and the registers that depend on it; eventfds that raise interrupts.

use std::sync::Arc;

use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_asp::PlatformConfig;
use snp_softkvm::{Interpreters, Process, SoftKvm, Vcpu, Vm, profiles};

/// EFER.LME, LMA; CR4.OSXSAVE, PKE; CR0.PE, PG.
const LONG: u64 = 1 << 8 | 1 << 10;
const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;

fn vm(kvm: &SoftKvm) -> (Vm, Vcpu) {
    let vm = kvm.create_vm(KVM_X86_DEFAULT_VM).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    (vm, vcpu)
}

fn kvm() -> SoftKvm {
    SoftKvm::with_engine(PlatformConfig::genoa(), &profiles::MAINLINE, Arc::new(Interpreters))
}

fn leaf(table: &[kvm_cpuid_entry2], function: u32) -> kvm_cpuid_entry2 {
    *table.iter().find(|leaf| leaf.function == function).unwrap()
}

#[test]
fn cpuid_follows_cr4() {
    let kvm = kvm();
    let (_vm, vcpu) = vm(&kvm);
    let offered = kvm.supported_cpuid();
    assert_eq!((leaf(&offered, 1).ecx >> 27 & 1, leaf(&offered, 7).ecx >> 4 & 1), (0, 0));
    vcpu.set_cpuid2(&offered).unwrap();
    let sregs = vcpu.sregs().unwrap();
    vcpu.set_sregs(&kvm_sregs { cr4: OSXSAVE | PKE, ..sregs }).unwrap();
    let now = vcpu.cpuid2();
    assert_eq!((leaf(&now, 1).ecx >> 27 & 1, leaf(&now, 7).ecx >> 4 & 1), (1, 1));
}

#[test]
fn registers_are_what_cpuid_offers() {
    let kvm = kvm();
    let (_vm, vcpu) = vm(&kvm);
    let sregs = vcpu.sregs().unwrap();
    let long = kvm_sregs { efer: LONG, cr0: 0x8000_0011, cr4: 0x20, ..sregs };
    let pkeys = kvm_sregs { cr4: PKE, ..sregs };
    // Without KVM_SET_CPUID2 there is nothing.
    for refused in [long, pkeys] {
        assert_eq!(vcpu.set_sregs(&refused), Err(Errno::EINVAL));
        assert_eq!(vcpu.sregs().unwrap(), sregs);
    }
    vcpu.set_cpuid2(&kvm.supported_cpuid()).unwrap();
    assert_eq!(vcpu.set_sregs(&long), Ok(()));
    assert_eq!(vcpu.set_sregs(&pkeys), Ok(()));
    // SVM is not offered, whatever CPUID says; an APIC base that is in no mode, and one past the guest's memory.
    for refused in [
        kvm_sregs { efer: 1 << 12, ..sregs },
        kvm_sregs { apic_base: 1 << 10, ..sregs },
        kvm_sregs { apic_base: 1 << 60 | 1 << 11, ..sregs },
    ] {
        assert_eq!(vcpu.set_sregs(&refused), Err(Errno::EINVAL), "{refused:x?}");
    }
}

#[test]
fn who_has_run_keeps_his_cpuid() {
    let kvm = kvm();
    let (vm, vcpu) = vm(&kvm);
    let mut table = kvm.supported_cpuid();
    let wrong = kvm_cpuid_entry2 { function: 0x8000_0008, eax: 0x2f30, ..kvm_cpuid_entry2::default() };
    assert_eq!(vcpu.set_cpuid2(&[wrong]), Err(Errno::EINVAL), "47 bits of linear addresses");
    vcpu.set_cpuid2(&table).unwrap();
    let process = Process::new();
    let userspace_addr = process.buffer(&[0xf4; 4096]);
    let region = kvm_userspace_memory_region2 {
        guest_phys_addr: 0xffff_f000,
        memory_size: 4096,
        userspace_addr,
        ..kvm_userspace_memory_region2::default()
    };
    vm.set_user_memory_region2(&process, &region).unwrap();
    vcpu.run(&process).unwrap();
    // Also with other bits of what KVM keeps up to date.
    table.iter_mut().filter(|leaf| leaf.function == 1).for_each(|leaf| leaf.ecx |= 1 << 27);
    assert_eq!(vcpu.set_cpuid2(&table), Ok(()));
    table[0].eax -= 1;
    assert_eq!(vcpu.set_cpuid2(&table), Err(Errno::EINVAL));
}

#[test]
fn a_processor_that_halts_in_the_guest_is_not_woken_by_hypercalls() {
    const PV_UNHALT: u32 = 1 << 7;
    let kvm = kvm();
    let vm = kvm.create_vm(KVM_X86_DEFAULT_VM).unwrap();
    let cap = kvm_enable_cap { cap: KVM_CAP_X86_DISABLE_EXITS, args: [1 << 1, 0, 0, 0], ..kvm_enable_cap::default() };
    vm.enable_cap(&cap).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_cpuid2(&kvm.supported_cpuid()).unwrap();
    assert_ne!(leaf(&kvm.supported_cpuid(), 0x4000_0001).eax & PV_UNHALT, 0);
    assert_eq!(leaf(&vcpu.cpuid2(), 0x4000_0001).eax & PV_UNHALT, 0);
    assert_eq!(vm.enable_cap(&cap), Err(Errno::EINVAL), "there is a vCPU");
}

#[test]
fn an_eventfd_raises_one_interrupt() {
    const DEASSIGN: u32 = 1;
    let kvm = kvm();
    let process = Process::new();
    let vms = [(); 2].map(|()| {
        let vm = kvm.create_vm(KVM_X86_DEFAULT_VM).unwrap();
        vm.create_irqchip().unwrap();
        vm
    });
    let irqfd = |vm: &Vm, fd, gsi, flags| vm.irqfd(&process, &kvm_irqfd { fd, gsi, flags, ..kvm_irqfd::default() });
    assert_eq!(irqfd(&vms[0], 5, 10, 0), Ok(()));
    assert_eq!(irqfd(&vms[0], 5, 11, 0), Err(Errno::EBUSY));
    assert_eq!(irqfd(&vms[1], 5, 10, 0), Err(Errno::EBUSY), "another VM's");
    // What was never assigned can be taken away; what is assigned stays.
    for (vm, gsi) in [(0, 11), (1, 10)] {
        assert_eq!(irqfd(&vms[vm], 5, gsi, DEASSIGN), Ok(()));
    }
    assert_eq!(irqfd(&vms[1], 5, 10, 0), Err(Errno::EBUSY));
    assert_eq!(irqfd(&vms[0], 5, 10, DEASSIGN), Ok(()));
    assert_eq!(irqfd(&vms[1], 5, 10, 0), Ok(()));
    // It goes with its VM.
    let [first, second] = vms;
    drop(second);
    assert_eq!(irqfd(&first, 5, 10, 0), Ok(()));
    assert_eq!(irqfd(&first, 6, 10, 4), Err(Errno::EINVAL), "an unknown flag");
    let without = kvm.create_vm(KVM_X86_DEFAULT_VM).unwrap();
    assert_eq!(irqfd(&without, 7, 10, 0), Err(Errno::EINVAL), "no irqchip");
}
