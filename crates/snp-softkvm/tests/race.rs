//! Invariant 1: what is checked is what is measured, though another thread rewrites the source page all the time.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, Gpa, LaunchDigest, PAGE_SIZE, PageInfo, PageType, Vmpl, VmplPermissions, Vmsa};
use snp_softkvm::{Fault, GuestMemfd, Process, UapiProfile, UserSpace, profiles};
use zerocopy::{FromBytes, IntoBytes};

/// Where the page lies that is rewritten.
const RACED: u64 = 0x6000_0000_0000;

/// A user space whose one page is shared with a thread that writes it: the words are atomic, the page is not.
struct Raced<'a> {
    process: &'a Process,
    page: &'a [AtomicU64],
}

impl UserSpace for Raced<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        if address != RACED {
            return self.process.read(address, buffer);
        }
        for (bytes, word) in buffer.chunks_mut(8).zip(self.page) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        self.process.write(address, data)
    }

    fn is_sev_device(&self, fd: u32) -> bool {
        self.process.is_sev_device(fd)
    }

    fn guest_memfd(&self, fd: u32) -> Result<Arc<GuestMemfd>, Errno> {
        self.process.guest_memfd(fd)
    }
}

fn words(vmsa: &Vmsa) -> Vec<u64> {
    vmsa.as_bytes().chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// The digest after a first page, computed here from the layout alone.
fn digest_of(page: &[u8; PAGE_SIZE], gpa: Gpa) -> LaunchDigest {
    let mut measured = *page;
    measured[0x2f0..0x300].fill(0);
    let info = PageInfo {
        digest_cur: LaunchDigest::ZERO,
        contents: snp_sha384::sha384(&measured),
        length: PageInfo::LENGTH,
        page_type: PageType::VMSA,
        imi_page: 0,
        reserved_0x64: 0,
        vmpl1_perms: VmplPermissions(0),
        vmpl2_perms: VmplPermissions(0),
        vmpl3_perms: VmplPermissions(0),
        gpa: gpa.0,
    };
    LaunchDigest(snp_sha384::sha384(info.as_bytes()))
}

/// One launch of the raced page; whether it was accepted.
fn round(profile: &'static UapiProfile, page: &[AtomicU64]) -> bool {
    const GFN: u64 = 5;
    let vmm = Vmm::launching(profile, 0);
    let params = vmm.process.buffer(update(PageType::VMSA, GFN, RACED, PAGE).as_bytes());
    let command = kvm_sev_cmd { id: KVM_SEV_SNP_LAUNCH_UPDATE, data: params, sev_fd: 3, ..kvm_sev_cmd::default() };
    let command = vmm.process.buffer(command.as_bytes());
    let user = Raced { process: &vmm.process, page };
    let answer = vmm.vm.memory_encrypt_op(&user, command);
    let memfd = vmm.process.guest_memfd(vmm.memfds[0]).unwrap();
    let kept = memfd.with_page(GFN, |page| *page.as_bytes());
    match answer {
        Ok(()) => {
            let kept = kept.expect("an accepted page is kept");
            let vmsa = Vmsa::read_from_bytes(&kept).unwrap();
            assert_eq!(
                (vmsa.vmpl, vmsa.sev_features),
                (Vmpl(0), good_vmsa().sev_features),
                "what was measured is good"
            );
            assert_eq!(vmm.vm.launch_digest(), Some(digest_of(&kept, Gpa(GFN * PAGE))), "what is kept was measured");
            true
        }
        Err(errno) => {
            assert_eq!(errno, profile.refused_vmsa);
            assert_eq!((kept, vmm.vm.launch_digest()), (None, Some(LaunchDigest::ZERO)), "nothing was measured");
            false
        }
    }
}

#[test]
fn what_was_measured_is_what_was_checked() {
    const ROUNDS: usize = 4000;
    let variants = [
        good_vmsa(),
        Vmsa { vmpl: Vmpl(1), rip: 0x1111, ..good_vmsa() },
        Vmsa { rip: 0x2222, r15: 7, fpreg_ymm: [3; 256], ..good_vmsa() },
        Vmsa { sev_features: snp_abi::SevFeatures(0x21), ..good_vmsa() },
    ]
    .map(|vmsa| words(&vmsa));
    let page: Vec<AtomicU64> = variants[0].iter().map(|word| AtomicU64::new(*word)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for variant in &variants {
                    page.iter().zip(variant).for_each(|(word, value)| word.store(*value, Ordering::Relaxed));
                }
            }
        });
        let (mut accepted, mut refused, mut rounds) = (0, 0, 0);
        // On a busy machine the writer may hardly run: go on until both outcomes were seen, within bounds.
        while rounds < ROUNDS || (accepted.min(refused) == 0 && rounds < 50 * ROUNDS) {
            let profile = if rounds % 2 == 0 { &profiles::DIRECT_VMSA } else { &profiles::VCPU_STATE };
            if round(profile, &page) {
                accepted += 1
            } else {
                refused += 1
            }
            rounds += 1;
        }
        done.store(true, Ordering::Relaxed);
        assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused: there was no race");
    });
}
