//! The memory of a VM as one of its processors sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use snp_abi::kvm::{KVM_X86_SEV_ES_VM, KVM_X86_SEV_VM, KVM_X86_SNP_VM, KVM_X86_SW_PROTECTED_VM};
use snp_abi::{Asid, Gpa, Pfn};
use snp_asp::{GuestAccess, GuestPage, PermissionChange, RmpAnswer, RmpFault, RmpUpdate};
use snp_memory::HostPage;
use snp_vcpu::{Access, AccessKind, GuestMemory, MappedPage, NestedFault, Pvalidate, RmpAdjust, RmpResult};

use super::Refusal;
use crate::observer::{RmpCause, RmpChange};
use crate::vm::VmInner;
use crate::{UserSpace, lock};

/// The C-bit's position.
pub(crate) const C_BIT: u8 = 51;

/// Memory for one vCPU's run.
pub(crate) struct VcpuMemory<'a> {
    pub(crate) vm: &'a VmInner,
    pub(crate) user: &'a dyn UserSpace,
    /// The guest's, in VMs with SEV.
    pub(crate) asid: Asid,
    /// Of a guest of plain SEV.
    pub(crate) sev_handle: u32,
    /// Index of the vCPU, for who watches.
    pub(crate) vcpu: u32,
}

/// A page of the guest.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) page: HostPage,
    pub(crate) writable: bool,
    /// The frame of the guest_memfd, of a private page.
    pub(crate) pfn: Option<Pfn>,
}

impl VcpuMemory<'_> {
    /// Whether an access counts as private: by the C-bit where the processor has one, else by the attributes.
    fn is_private(&self, access: &Access, attribute: bool) -> bool {
        match self.vm.vm_type {
            KVM_X86_SNP_VM => access.private,
            KVM_X86_SW_PROTECTED_VM => attribute,
            _ => false,
        }
    }

    /// The page behind an access.
    pub(crate) fn find(&self, access: &Access) -> Result<Found, Refusal> {
        let gfn = access.gpa >> 12;
        let layout = self.vm.memory.layout();
        let attribute = layout.private.contains(gfn);
        let private = self.is_private(access, attribute);
        if private != attribute && self.vm.has_private_memory() {
            return Err(Refusal::Attributes { private });
        }
        let Some(slot) = layout.slots.find(gfn) else {
            return Err(if private { Refusal::Attributes { private } } else { Refusal::Device });
        };
        if private {
            let bound = slot.guest_memfd.as_ref();
            let memfd = bound.and_then(|(memfd, first)| Some((memfd.upgrade()?, first + (gfn - slot.base_gfn))));
            drop(layout);
            let (memfd, index) = memfd.ok_or(Refusal::Attributes { private })?;
            let pfn = memfd.pfn(index);
            // It is in the guest_memfd from now on, also if the RMP refuses, so that its entry goes with it.
            let page = memfd.host_page(index);
            if self.vm.is_snp() {
                self.check_rmp(access, pfn).map_err(Refusal::Rmp)?;
            }
            return Ok(Found { page, writable: true, pfn: Some(pfn) });
        }
        let (address, read_only) = (slot.user_address(gfn), slot.is_read_only());
        drop(layout);
        if read_only && access.kind == AccessKind::Write {
            return Err(Refusal::Device);
        }
        let encrypted = matches!(self.vm.vm_type, KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM) && access.private;
        if encrypted {
            let page = self
                .vm
                .memory
                .shadows
                .page((&self.vm.host, self.sev_handle), self.user, address)
                .map_err(|_| Refusal::Unmapped)?;
            return Ok(Found { page, writable: !read_only, pfn: None });
        }
        let writable = self.user.host_page(address, true).ok().filter(|_| !read_only);
        match writable {
            Some(page) => Ok(Found { page, writable: true, pfn: None }),
            None if access.kind == AccessKind::Write => Err(Refusal::Unmapped),
            None => {
                let page = self.user.host_page(address, false).map_err(|_| Refusal::Unmapped)?;
                Ok(Found { page, writable: false, pfn: None })
            }
        }
    }

    /// The RMP's word on a private access. A page that the guest touches first is given to it, as KVM's fault handler does:
    /// not validated.
    fn check_rmp(&self, access: &Access, pfn: Pfn) -> Result<(), RmpFault> {
        let page = self.give(access.gpa, pfn);
        let Some(vmpl) = access.vmpl else { return Ok(()) };
        let wants = match (access.kind, access.user) {
            (AccessKind::Read, _) => GuestAccess::Read,
            (AccessKind::Write, _) => GuestAccess::Write,
            (AccessKind::Execute, true) => GuestAccess::ExecuteUser,
            (AccessKind::Execute, false) => GuestAccess::ExecuteSupervisor,
        };
        lock(&self.vm.host.firmware).check_guest_access(page, vmpl, wants)?;
        // A processor runs from this page.
        if access.kind == AccessKind::Write && self.vm.memory.is_in_use(pfn) {
            return Err(RmpFault::Entry);
        }
        Ok(())
    }

    /// Gives a page of a guest_memfd to the guest if it is still the hypervisor's.
    fn give(&self, gpa: u64, pfn: Pfn) -> GuestPage {
        let page = GuestPage { pfn, asid: self.asid, gpa: Gpa(gpa & !0xfff) };
        let mut firmware = lock(&self.vm.host.firmware);
        let before = firmware.rmp().entry(pfn);
        if !before.assigned {
            firmware
                .rmp_update(pfn, RmpUpdate::guest(self.asid, page.gpa))
                .expect("a page of the hypervisor is mutable");
            let after = firmware.rmp().entry(pfn);
            drop(firmware);
            self.tell(RmpCause::Fault, page, before, after, None);
        }
        page
    }

    /// The page that PVALIDATE or RMPADJUST names.
    fn private_page(&self, gpa: u64) -> Result<GuestPage, NestedFault> {
        let gfn = gpa >> 12;
        let layout = self.vm.memory.layout();
        if !layout.private.contains(gfn) {
            return Err(NestedFault::NotMapped);
        }
        let slot = layout.slots.find(gfn).ok_or(NestedFault::NotMapped)?;
        let (memfd, first) = slot.guest_memfd.as_ref().ok_or(NestedFault::NotMapped)?;
        let index = first + (gfn - slot.base_gfn);
        let memfd = memfd.upgrade().ok_or(NestedFault::NotMapped)?;
        drop(layout);
        // It is in the guest_memfd from now on, so that it goes with it.
        memfd.host_page(index);
        Ok(self.give(gpa, memfd.pfn(index)))
    }

    fn answer(
        &self,
        cause: RmpCause,
        page: GuestPage,
        change: impl FnOnce(&mut snp_asp::Firmware) -> RmpAnswer,
    ) -> RmpResult {
        let mut firmware = lock(&self.vm.host.firmware);
        let before = firmware.rmp().entry(page.pfn);
        let answer = change(&mut firmware);
        let after = firmware.rmp().entry(page.pfn);
        drop(firmware);
        if before != after && before.validated {
            self.vm.memory.invalidate();
        }
        self.tell(cause, page, before, after, Some(answer));
        match answer {
            RmpAnswer::Success { changed } => RmpResult::Done { changed },
            RmpAnswer::FailInput => RmpResult::Input,
            RmpAnswer::FailPermission => RmpResult::Permission,
            RmpAnswer::FailSizeMismatch => RmpResult::SizeMismatch,
            RmpAnswer::Fault(fault) => RmpResult::Fault(Refusal::Rmp(fault).into()),
        }
    }

    fn tell(
        &self,
        cause: RmpCause,
        page: GuestPage,
        before: snp_abi::RmpEntry,
        after: snp_abi::RmpEntry,
        answer: Option<RmpAnswer>,
    ) {
        if let Some(observer) = self.vm.observer() {
            observer.rmp(&RmpChange { vcpu: self.vcpu, cause, gpa: page.gpa, before, after, answer });
        }
    }
}

impl GuestMemory for VcpuMemory<'_> {
    fn map(&self, access: &Access) -> Result<MappedPage, NestedFault> {
        let Found { page, writable, pfn } = self.find(access)?;
        // What may be written depends on the VMPL's rights; a read does not tell.
        let writable = writable && (access.kind == AccessKind::Write || pfn.is_none());
        Ok(MappedPage { code: self.vm.memory.code(&page), page, writable })
    }

    fn generation(&self) -> &AtomicU64 {
        &self.vm.memory.generation
    }

    fn watch_code(&self, page: &HostPage) -> Arc<AtomicU32> {
        self.vm.memory.watch_code(page)
    }

    fn pvalidate(&self, request: &Pvalidate) -> RmpResult {
        match self.private_page(request.gpa) {
            Err(fault) => RmpResult::Fault(fault),
            Ok(page) => self.answer(RmpCause::Pvalidate { validate: request.validate }, page, |firmware| {
                firmware.pvalidate(page, request.large, request.validate)
            }),
        }
    }

    fn rmpadjust(&self, request: &RmpAdjust) -> RmpResult {
        let RmpAdjust { gpa, large, target, permissions, vmsa, executing } = *request;
        let page = match self.private_page(gpa) {
            Err(fault) => return RmpResult::Fault(fault),
            Ok(page) => page,
        };
        if self.vm.memory.is_in_use(page.pfn) {
            return RmpResult::Fault(NestedFault::Rmp);
        }
        let change = PermissionChange { large, target, permissions, vmsa, executing };
        self.answer(RmpCause::Rmpadjust(change), page, |firmware| firmware.rmpadjust(page, change))
    }

    fn physical_address_bits(&self) -> u8 {
        // Where there is SEV, bits above the C-bit's reduction do not exist in a guest-physical address.
        self.vm.host.config.physical_address_bits.min(C_BIT)
    }

    fn c_bit(&self) -> u8 {
        C_BIT
    }
}

impl VcpuMemory<'_> {
    /// What KVM does about a nested page fault of that access.
    pub(crate) fn resolve(&self, access: &Access) -> super::Resolution {
        match self.find(access) {
            Ok(_) => super::Resolution::Retry,
            Err(refusal) => refusal.into(),
        }
    }
}
