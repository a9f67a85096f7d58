//! Memory slots: which guest frames there are, and what is behind them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use snp_abi::kvm::{KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region2};
use snp_abi::{Errno, PAGE_SIZE};

use crate::{GuestMemfd, UserSpace, vm::VmInner};

/// KVM_USER_MEM_SLOTS, which KVM_CAP_NR_MEMSLOTS answers. Three more are KVM's own.
pub(crate) const USER_SLOTS: u32 = 32764;
/// The most pages of a user's slot.
const PAGES_LIMIT: u64 = (1 << 31) - 1;
/// The end of user addresses (47 bits and a guard page).
const USER_ADDRESS_LIMIT: u64 = 0x7fff_ffff_f000;

const PAGE: u64 = PAGE_SIZE as u64;

/// One slot.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) base_gfn: u64,
    pub(crate) pages: u64,
    flags: u32,
    userspace_addr: u64,
    /// The guest_memfd and the first page of it. The slot does not keep it alive, as in Linux: a closed guest_memfd leaves
    /// a slot without memory.
    pub(crate) guest_memfd: Option<(Weak<GuestMemfd>, u64)>,
}

/// The slots of a VM, by address space and number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(BTreeMap<(u32, u32), Slot>);

impl Slot {
    /// The user address of a frame.
    pub(crate) fn user_address(&self, gfn: u64) -> u64 {
        self.userspace_addr + (gfn - self.base_gfn) * PAGE
    }

    /// KVM_MEM_READONLY: what the guest writes is a device's.
    pub(crate) fn is_read_only(&self) -> bool {
        self.flags & KVM_MEM_READONLY != 0
    }

    fn end(&self) -> u64 {
        self.base_gfn + self.pages
    }
}

impl Slots {
    /// The slot of address space 0 that holds the frame.
    pub(crate) fn find(&self, gfn: u64) -> Option<&Slot> {
        self.0.range((0, 0)..(1, 0)).map(|(_, slot)| slot).find(|slot| (slot.base_gfn..slot.end()).contains(&gfn))
    }

    /// KVM_SET_USER_MEMORY_REGION2: the checks in Linux's order (`kvm_set_memory_region`).
    pub(crate) fn set(
        &mut self,
        vm: &VmInner,
        user: &dyn UserSpace,
        region: &kvm_userspace_memory_region2,
        address_spaces: u32,
    ) -> Result<(), Errno> {
        let (space, id) = (region.slot >> 16, region.slot & 0xffff);
        check(region, space, id, address_spaces)?;
        if region.memory_size == 0 {
            return self.0.remove(&(space, id)).map(drop).ok_or(Errno::EINVAL);
        }
        let new = Slot {
            base_gfn: region.guest_phys_addr / PAGE,
            pages: region.memory_size / PAGE,
            flags: region.flags,
            userspace_addr: region.userspace_addr,
            guest_memfd: None,
        };
        match self.0.get(&(space, id)) {
            None => self.create(vm, user, region, (space, id), new),
            Some(old) => {
                let new = change(old, new)?;
                if new.base_gfn != old.base_gfn && self.overlaps((space, id), &new) {
                    return Err(Errno::EEXIST);
                }
                self.0.insert((space, id), new);
                Ok(())
            }
        }
    }

    fn create(
        &mut self,
        vm: &VmInner,
        user: &dyn UserSpace,
        region: &kvm_userspace_memory_region2,
        key: (u32, u32),
        mut new: Slot,
    ) -> Result<(), Errno> {
        if self.overlaps(key, &new) {
            return Err(Errno::EEXIST);
        }
        if region.flags & KVM_MEM_GUEST_MEMFD != 0 {
            let memfd = user.guest_memfd(region.guest_memfd)?;
            new.guest_memfd = Some(self.bind(vm, &memfd, region)?);
        }
        self.0.insert(key, new);
        Ok(())
    }

    /// The part of the guest_memfd that a new slot shows.
    fn bind(
        &self,
        vm: &VmInner,
        memfd: &Arc<GuestMemfd>,
        region: &kvm_userspace_memory_region2,
    ) -> Result<(Weak<GuestMemfd>, u64), Errno> {
        let end = region.guest_memfd_offset.checked_add(region.memory_size).ok_or(Errno::EINVAL)?;
        if !memfd.is_of(vm) || end > memfd.size() {
            return Err(Errno::EINVAL);
        }
        let (first, last) = (region.guest_memfd_offset / PAGE, end / PAGE);
        let taken = self.0.values().any(|slot| {
            slot.guest_memfd.as_ref().is_some_and(|(other, start)| {
                std::ptr::eq(other.as_ptr(), Arc::as_ptr(memfd)) && *start < last && first < start + slot.pages
            })
        });
        // Two slots may not show the same page of a guest_memfd.
        if taken { Err(Errno::EEXIST) } else { Ok((Arc::downgrade(memfd), first)) }
    }

    fn overlaps(&self, key: (u32, u32), new: &Slot) -> bool {
        self.0.iter().any(|(&other, slot)| {
            other != key && other.0 == key.0 && slot.base_gfn < new.end() && new.base_gfn < slot.end()
        })
    }
}

/// What Linux checks before it looks at the slots.
fn check(region: &kvm_userspace_memory_region2, space: u32, id: u32, address_spaces: u32) -> Result<(), Errno> {
    let private = region.flags & KVM_MEM_GUEST_MEMFD != 0;
    let allowed = if private { KVM_MEM_GUEST_MEMFD } else { KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY };
    let aligned = |value: u64| value.is_multiple_of(PAGE);
    let user_end = region.userspace_addr.checked_add(region.memory_size);
    let good = region.flags & !allowed == 0
        && aligned(region.memory_size)
        && aligned(region.guest_phys_addr)
        && aligned(region.userspace_addr)
        && user_end.is_some_and(|end| end <= USER_ADDRESS_LIMIT)
        && (!private
            || aligned(region.guest_memfd_offset)
                && region.guest_memfd_offset.checked_add(region.memory_size).is_some())
        && space < address_spaces
        && id < USER_SLOTS
        && region.guest_phys_addr.checked_add(region.memory_size).is_some()
        && region.memory_size / PAGE <= PAGES_LIMIT;
    if good { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What an existing slot may become: moved, or with other flags; slots with a guest_memfd can only be deleted.
fn change(old: &Slot, new: Slot) -> Result<Slot, Errno> {
    let fixed = KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD;
    let allowed = new.flags & KVM_MEM_GUEST_MEMFD == 0
        && new.userspace_addr == old.userspace_addr
        && new.pages == old.pages
        && (new.flags ^ old.flags) & fixed == 0;
    if allowed { Ok(new) } else { Err(Errno::EINVAL) }
}
