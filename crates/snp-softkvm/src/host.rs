//! What all VMs of one host share: firmware, frames, ASIDs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use snp_abi::kvm::{KVM_X86_SEV_ES_VM, KVM_X86_SEV_VM, KVM_X86_SNP_VM, KVM_X86_SW_PROTECTED_VM};
use snp_abi::{Asid, Errno, GuestPolicy, Pfn, SevFeatures};
use snp_asp::{Firmware, PlatformConfig, RmpUpdate};

use crate::devices::Irqfds;
use crate::frames::FrameAllocator;
use crate::{Engine, UapiProfile, lock};

/// The host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) profile: &'static UapiProfile,
    pub(crate) config: PlatformConfig,
    pub(crate) engine: Arc<dyn Engine>,
    /// KVM_CAP_VM_TYPES.
    pub(crate) vm_types: u32,
    pub(crate) firmware: Mutex<Firmware>,
    pub(crate) frames: Mutex<FrameAllocator>,
    asids: Mutex<Asids>,
    pub(crate) irqfds: Mutex<Irqfds>,
    /// In the order in which they were first asked for, and how often.
    unmodelled: Mutex<Vec<(String, u64)>>,
}

/// Default, software-protected, SEV, SEV-ES and SNP.
const ALL_VM_TYPES: u32 = 0x1f;
/// The most kinds of requests that are remembered as not modelled.
const UNMODELLED_LIMIT: usize = 1000;

#[derive(Debug, Default)]
struct Asids {
    used: BTreeSet<u32>,
    /// Given up by a guest; a flush makes them usable again.
    reclaimable: BTreeSet<u32>,
}

impl Host {
    pub(crate) fn new(config: PlatformConfig, profile: &'static UapiProfile, engine: Arc<dyn Engine>) -> Self {
        Self {
            profile,
            engine,
            vm_types: ALL_VM_TYPES,
            frames: Mutex::new(FrameAllocator::new(config.physical_address_bits)),
            firmware: Mutex::new(Firmware::new(config.clone())),
            config,
            asids: Mutex::default(),
            irqfds: Mutex::default(),
            unmodelled: Mutex::default(),
        }
    }

    /// The VMSA features that user space may ask for: KVM_X86_SEV_VMSA_FEATURES.
    pub(crate) fn supported_vmsa_features(&self) -> u64 {
        SevFeatures::DEBUG_SWAP | SevFeatures::SECURE_TSC
    }

    /// The policy bits that user space may set: KVM_X86_SNP_POLICY_BITS. What the firmware knows, without those that KVM
    /// has no use for: a migration agent cannot be associated through KVM.
    pub(crate) fn supported_policy_bits(&self) -> u64 {
        self.config.policy_bits & GuestPolicy::DEFINED & !GuestPolicy::MIGRATE_MA
    }

    /// The XSAVE components that guests may have: KVM_X86_XCOMP_GUEST_SUPP. Those of the host that KVM knows: x87, SSE, AVX,
    /// AVX-512 and PKRU.
    pub(crate) fn supported_xcr0(&self) -> u64 {
        const KNOWN: u64 = 0x2e7;
        let leaf = self.config.cpuid.iter().find(|leaf| (leaf.eax_in, leaf.ecx_in) == (0xd, 0));
        leaf.map_or(0b11, |leaf| u64::from(leaf.eax) & KNOWN)
    }

    /// Where a vCPU's random numbers begin: another place for each, the same for the same platform.
    pub(crate) fn random_seed(&self, id: u32) -> u64 {
        let seed = self.config.seed.chunks(8).fold(0, |sum: u64, part| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            sum.rotate_left(17) ^ u64::from_le_bytes(word)
        });
        seed ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// An ASID for a VM of that type.
    ///
    /// # Errors
    /// EBUSY: none is left.
    pub(crate) fn allocate_asid(&self, vm_type: u64) -> Result<Asid, Errno> {
        let ranges = self.config.asids;
        let range = if vm_type == KVM_X86_SEV_VM { ranges.es_max + 1..=ranges.max } else { 1..=ranges.es_max };
        let mut asids = lock(&self.asids);
        if let Some(asid) = asids.take(range.clone()) {
            return Ok(asid);
        }
        if asids.reclaimable.range(range.clone()).next().is_none() {
            return Err(Errno::EBUSY);
        }
        lock(&self.firmware).df_flush();
        asids.reclaimable.clear();
        asids.take(range).ok_or(Errno::EBUSY)
    }

    /// Takes an ASID back; it is used again after the next flush.
    pub(crate) fn release_asid(&self, asid: Asid) {
        let mut asids = lock(&self.asids);
        asids.used.remove(&asid.0);
        asids.reclaimable.insert(asid.0);
    }

    /// A frame that the firmware may write.
    pub(crate) fn allocate_firmware_frame(&self) -> Result<Pfn, Errno> {
        let pfn = lock(&self.frames).allocate(1)?;
        lock(&self.firmware).rmp_update(pfn, RmpUpdate::FIRMWARE).expect("a fresh frame is the hypervisor's");
        Ok(pfn)
    }

    /// Takes back a frame of the firmware.
    pub(crate) fn release_firmware_frame(&self, pfn: Pfn) {
        let mut firmware = lock(&self.firmware);
        firmware.page_reclaim(pfn).expect("a firmware page can be reclaimed");
        firmware.rmp_update(pfn, RmpUpdate::SHARED).expect("a reclaimed page is mutable");
        drop(firmware);
        lock(&self.frames).release(pfn, 1);
    }

    /// Takes back frames that may be a guest's.
    pub(crate) fn release_frames(&self, start: Pfn, count: u64, touched: impl Iterator<Item = u64>) {
        let mut firmware = lock(&self.firmware);
        for index in touched {
            let pfn = Pfn(start.0 + index);
            firmware.rmp_update(pfn, RmpUpdate::SHARED).expect("a guest page outside of a command is mutable");
        }
        drop(firmware);
        lock(&self.frames).release(start, count);
    }

    /// Makes frames of a guest_memfd the hypervisor's, which keeps them.
    pub(crate) fn take_back(&self, start: Pfn, indices: &[u64]) {
        let mut firmware = lock(&self.firmware);
        for index in indices {
            let pfn = Pfn(start.0 + index);
            firmware.rmp_update(pfn, RmpUpdate::SHARED).expect("a guest page outside of a command is mutable");
        }
    }

    /// Notes that something was asked for that is not modelled, and gives the errno that says so: KVM itself never answers
    /// ENOSYS to an ioctl that it knows.
    pub(crate) fn unmodelled(&self, what: impl Into<String>) -> Errno {
        let what = what.into();
        let mut so_far = lock(&self.unmodelled);
        if let Some((_, times)) = so_far.iter_mut().find(|(known, _)| *known == what) {
            *times += 1;
        } else if so_far.len() < UNMODELLED_LIMIT {
            // A program that asks for everything must not fill the memory.
            so_far.push((what, 1));
        }
        Errno::ENOSYS
    }

    pub(crate) fn unmodelled_so_far(&self) -> Vec<(String, u64)> {
        lock(&self.unmodelled).clone()
    }

    pub(crate) fn unmodelled_kinds(&self) -> usize {
        lock(&self.unmodelled).len()
    }

    pub(crate) fn unmodelled_since(&self, known: usize) -> Vec<String> {
        lock(&self.unmodelled).iter().skip(known).map(|(what, _)| what.clone()).collect()
    }
}

impl Asids {
    fn take(&mut self, mut range: std::ops::RangeInclusive<u32>) -> Option<Asid> {
        let asid = range.find(|asid| !self.used.contains(asid) && !self.reclaimable.contains(asid))?;
        self.used.insert(asid);
        Some(Asid(asid))
    }
}

/// Whether a VM type has a guest context and a VMSA per vCPU.
pub(crate) fn is_snp(vm_type: u64) -> bool {
    vm_type == KVM_X86_SNP_VM
}

/// Whether the guest's registers are out of user space's reach once it is launched.
pub(crate) fn is_protected(vm_type: u64) -> bool {
    matches!(vm_type, KVM_X86_SEV_ES_VM | KVM_X86_SNP_VM)
}

/// Whether memory may be private, by attributes.
pub(crate) fn has_private_memory(vm_type: u64) -> bool {
    matches!(vm_type, KVM_X86_SW_PROTECTED_VM | KVM_X86_SNP_VM)
}
