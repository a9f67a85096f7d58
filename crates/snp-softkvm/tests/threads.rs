//! VMs are used from several threads at once: every answer an errno, no deadlock, no panic, and a digest that one order of the
//! commands explains.

mod common;

use common::*;
use snp_abi::kvm::*;
use snp_abi::{PageType, Vmsa};
use snp_softkvm::profiles;

#[test]
fn one_vm_many_threads() {
    for profile in profiles::ALL {
        let vmm = Vmm::launching(profile, 4);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let vmm = &vmm;
                scope.spawn(move || {
                    for round in 0..60 {
                        let gfn = (thread * 7 + round) % FIRST_SLOT;
                        match (thread + round) % 6 {
                            0 => {
                                let _ = vmm.launch_pages(PageType::NORMAL, gfn, &[thread as u8; 2 * 4096]);
                            }
                            1 => {
                                let _ = vmm.launch_vmsa(gfn, &Vmsa { rip: round, ..good_vmsa() });
                            }
                            2 => vmm.set_private(gfn, 1, round % 2 == 0),
                            3 => {
                                let _ = vmm.vcpus[thread as usize % 4].set_regs(&kvm_regs::default());
                            }
                            4 => {
                                let _ = vmm.vm.create_vcpu(100 + thread * 100 + round);
                            }
                            _ if round > 50 => {
                                let _ = vmm.finish(&kvm_sev_snp_launch_finish::default());
                            }
                            _ => {
                                let _ = vmm.vm.launch_digest();
                            }
                        }
                    }
                });
            }
        });
        let _ = vmm.finish(&kvm_sev_snp_launch_finish::default());
        assert!(vmm.vcpus.iter().all(|vcpu| vcpu.regs().is_err()), "{}: finished in the end", profile.name);
    }
}

/// Two guests on one host do not touch each other: each has the digest that it has alone.
#[test]
fn two_vms_at_once() {
    let launch = |vmm: &Vmm, fill: u8| {
        for gfn in 0..40 {
            assert_eq!(vmm.launch_pages(PageType::NORMAL, gfn, &[fill; 4096]), OK);
        }
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        vmm.vm.launch_digest().unwrap()
    };
    let alone = [1, 2].map(|fill| launch(&Vmm::launching(&profiles::MAINLINE, 2), fill));
    let host = Vmm::launching(&profiles::MAINLINE, 0);
    let together = std::thread::scope(|scope| {
        [1, 2]
            .map(|fill| {
                let kvm = host.kvm.clone();
                scope.spawn(move || {
                    let vm = kvm.create_vm(KVM_X86_SNP_VM).unwrap();
                    let mut vmm = Vmm {
                        kvm,
                        vm,
                        process: Default::default(),
                        vcpus: Vec::new(),
                        memfds: Vec::new(),
                        shared_memory: false,
                    };
                    assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
                    assert_eq!(vmm.start(&start()), OK);
                    vmm.add_memory();
                    for id in 0..2 {
                        vmm.vcpus.push(vmm.vm.create_vcpu(id).unwrap());
                    }
                    launch(&vmm, fill)
                })
            })
            .map(|thread| thread.join().unwrap())
    });
    assert_eq!(together, alone);
}
