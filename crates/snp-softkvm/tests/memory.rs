//! Memory slots, guest_memfds, attributes, and what is left when they go.

mod common;

use common::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, PageState, PageType};
use snp_softkvm::profiles;

fn region(slot: u32, start: u64, pages: u64, guest_memfd: u32) -> kvm_userspace_memory_region2 {
    kvm_userspace_memory_region2 {
        slot,
        flags: KVM_MEM_GUEST_MEMFD,
        guest_phys_addr: start * PAGE,
        memory_size: pages * PAGE,
        guest_memfd,
        ..kvm_userspace_memory_region2::default()
    }
}

#[test]
fn guest_memfd_sizes() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SNP_VM);
    let create = |size, flags| {
        let args = kvm_create_guest_memfd { size, flags, ..kvm_create_guest_memfd::default() };
        vmm.vm.create_guest_memfd(&args).map(|memfd| memfd.size())
    };
    assert_eq!(create(4096, 0), Ok(4096));
    // 1 TiB costs nothing until it is used.
    assert_eq!(create(1 << 40, 0), Ok(1 << 40));
    for (size, flags) in [(0, 0), (4095, 0), (1 << 63, 0), (u64::MAX, 0), (4096, 2), (4096, 4)] {
        assert_eq!(create(size, flags), Err(Errno::EINVAL), "{size:#x} {flags}");
    }
    assert_eq!(create(1 << 60, 0), Err(Errno::ENOMEM));
    assert_eq!(create(4096, 1), Ok(4096), "GUEST_MEMFD_FLAG_MMAP");
}

#[test]
fn slots_that_are_refused() {
    let vmm = Vmm::launching(&profiles::MAINLINE, 0);
    let fd = vmm.memfds[0];
    let other = Vmm::launching(&profiles::MAINLINE, 0);
    let foreign = vmm.process.install(snp_softkvm::UserSpace::guest_memfd(&other.process, other.memfds[0]).unwrap());
    let good = region(7, 1000, 4, fd);
    type Region = kvm_userspace_memory_region2;
    let cases: [(&str, Errno, Region); 18] = [
        ("unknown flag", Errno::EINVAL, Region { flags: 8, ..good }),
        ("dirty log", Errno::EINVAL, Region { flags: 5, ..good }),
        ("read-only", Errno::EINVAL, Region { flags: 6, ..good }),
        ("size", Errno::EINVAL, Region { memory_size: 100, ..good }),
        ("address", Errno::EINVAL, Region { guest_phys_addr: 8, ..good }),
        ("user address", Errno::EINVAL, Region { userspace_addr: 8, ..good }),
        ("kernel address", Errno::EINVAL, Region { userspace_addr: 1 << 63, ..good }),
        ("offset", Errno::EINVAL, Region { guest_memfd_offset: 8, ..good }),
        ("offset that wraps", Errno::EINVAL, Region { guest_memfd_offset: 0u64.wrapping_sub(4096), ..good }),
        ("offset past the end", Errno::EINVAL, Region { guest_memfd_offset: 61 * PAGE, ..good }),
        ("address that wraps", Errno::EINVAL, Region { guest_phys_addr: 0u64.wrapping_sub(4096), ..good }),
        ("address space", Errno::EINVAL, Region { slot: 1 << 16 | 7, ..good }),
        ("slot number of KVM's own", Errno::EINVAL, Region { slot: 32764, ..good }),
        ("delete what is not", Errno::EINVAL, Region { memory_size: 0, ..good }),
        ("closed descriptor", Errno::EBADF, Region { guest_memfd: 77, ..good }),
        ("not a guest_memfd", Errno::EINVAL, Region { guest_memfd: 3, ..good }),
        ("another VM's", Errno::EINVAL, Region { guest_memfd: foreign, ..good }),
        ("overlap", Errno::EEXIST, Region { guest_phys_addr: 63 * PAGE, ..good }),
    ];
    for (name, errno, region) in cases {
        assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &region), Err(errno), "{name}");
    }
    // The pages of the guest_memfd are already behind slot 0.
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &good), Err(Errno::EEXIST));
    // A slot with a guest_memfd cannot be changed, but deleted and made anew, as QEMU does.
    let slot = region(0, 0, FIRST_SLOT, fd);
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &slot), Err(Errno::EINVAL));
    let delete = Region { flags: 0, memory_size: 0, ..slot };
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &delete), Ok(()));
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &good), Ok(()));
    // Moving a slot without guest_memfd.
    let plain = Region { slot: 2, flags: 0, ..region(2, 2000, PLAIN_SLOT, 0) };
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &plain), Ok(()));
    let onto = Region { guest_phys_addr: 1000 * PAGE, ..plain };
    assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &onto), Err(Errno::EEXIST));
}

#[test]
fn attributes() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SNP_VM);
    let good = kvm_memory_attributes { address: 0, size: PAGE, attributes: 8, flags: 0 };
    let set = |attributes: kvm_memory_attributes| vmm.vm.set_memory_attributes(&attributes);
    assert_eq!(set(kvm_memory_attributes { size: 1 << 52, ..good }), Ok(()), "a huge range costs nothing");
    for wrong in [
        kvm_memory_attributes { flags: 1, ..good },
        kvm_memory_attributes { attributes: 4, ..good },
        kvm_memory_attributes { attributes: 9, ..good },
        kvm_memory_attributes { size: 0, ..good },
        kvm_memory_attributes { size: 100, ..good },
        kvm_memory_attributes { address: 100, ..good },
        kvm_memory_attributes { address: 0u64.wrapping_sub(4096), size: 8192, ..good },
    ] {
        assert_eq!(set(wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    let plain = Vmm::new(&profiles::MAINLINE, KVM_X86_DEFAULT_VM);
    assert_eq!(plain.vm.set_memory_attributes(&good), Err(Errno::EINVAL), "no private memory");
    assert_eq!(plain.vm.set_memory_attributes(&kvm_memory_attributes { attributes: 0, ..good }), Ok(()));
}

/// Guests come and go on one host: frames, ASIDs and contexts come back, and the RMP holds nothing of them.
#[test]
fn nothing_is_left_of_a_guest() {
    let first = Vmm::launching(&profiles::MAINLINE, 2);
    let kvm = first.kvm.clone();
    assert_eq!(first.launch_pages(PageType::NORMAL, 0, &[1; 3 * 4096]), OK);
    assert_eq!(first.finish(&kvm_sev_snp_launch_finish::default()), OK);
    assert_eq!(first.vm.rmp_entry(0).unwrap().state, PageState::GuestValid);
    drop(first);
    for _ in 0..300 {
        let vm = kvm.create_vm(KVM_X86_SNP_VM).unwrap();
        let mut vmm = Vmm {
            kvm: kvm.clone(),
            vm,
            process: Default::default(),
            vcpus: Vec::new(),
            memfds: Vec::new(),
            shared_memory: false,
        };
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        assert_eq!(vmm.start(&start()), OK);
        vmm.add_memory();
        assert_eq!(vmm.vm.rmp_entry(0).unwrap().state, PageState::Hypervisor);
        vmm.vcpus.push(vmm.vm.create_vcpu(0).unwrap());
        assert_eq!(vmm.launch_pages(PageType::NORMAL, 0, &[1; 4096]), OK);
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
    }
}

/// A VM lives as long as anything of it does.
#[test]
fn a_vcpu_keeps_its_vm() {
    let vmm = Vmm::launching(&profiles::MAINLINE, 1);
    let vcpu = vmm.vcpus[0].clone();
    drop(vmm);
    assert!(vcpu.regs().is_ok());
}
