//! The reverse map table.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use snp_abi::{Asid, Gpa, PageSize, PageState, Pfn, RmpEntry, VmplPermissions};
use thiserror::Error;

/// Entries of one chunk of the sparse table: 2 MiB of memory.
const CHUNK: u64 = 512;

/// The reverse map table: one entry per system-physical page, sparse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rmp {
    chunks: BTreeMap<u64, Box<Chunk>>,
}

/// The entries of 2 MiB of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    entries: [RmpEntry; CHUNK as usize],
    /// How many are not the hypervisor's; a chunk without any is dropped.
    used: u16,
}

/// The new state that RMPUPDATE gives an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpUpdate {
    /// Assigned.
    pub assigned: bool,
    /// Immutable: for the firmware's use.
    pub immutable: bool,
    /// The owner.
    pub asid: Asid,
    /// Guest-physical address.
    pub gpa: Gpa,
    /// Size.
    pub page_size: PageSize,
}

impl RmpUpdate {
    /// Makes the page the hypervisor's again.
    pub const SHARED: Self =
        Self { assigned: false, immutable: false, asid: Asid(0), gpa: Gpa(0), page_size: PageSize::Size4K };

    /// Gives the page to the firmware.
    pub const FIRMWARE: Self = Self { assigned: true, immutable: true, ..Self::SHARED };

    /// Gives the page to a guest, immutable, as SNP_LAUNCH_UPDATE wants it.
    pub const fn pre_guest(asid: Asid, gpa: Gpa) -> Self {
        Self { asid, gpa, ..Self::FIRMWARE }
    }

    /// Gives the page to a running guest, which must validate it.
    pub const fn guest(asid: Asid, gpa: Gpa) -> Self {
        Self { immutable: false, ..Self::pre_guest(asid, gpa) }
    }
}

/// The RMPUPDATE instruction failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RmpUpdateError {
    /// FAIL_PERMISSION: the entry is immutable.
    #[error("RMPUPDATE: the entry is immutable")]
    Permission,
    /// FAIL_INPUT: illegal input values.
    #[error("RMPUPDATE: illegal input")]
    Input,
    /// Not an answer of the processor: 2 MiB entries are not modelled.
    #[error("RMPUPDATE of a 2 MiB entry is not modelled")]
    Unmodelled,
}

impl Rmp {
    /// The entry of a page; pages never touched are the hypervisor's.
    pub fn entry(&self, pfn: Pfn) -> RmpEntry {
        self.chunks.get(&(pfn.0 / CHUNK)).map_or(RmpEntry::HYPERVISOR, |chunk| chunk.entries[(pfn.0 % CHUNK) as usize])
    }

    /// The RMPUPDATE instruction.
    pub(crate) fn update(&mut self, pfn: Pfn, update: RmpUpdate) -> Result<(), RmpUpdateError> {
        if update.page_size != PageSize::Size4K {
            return Err(RmpUpdateError::Unmodelled);
        }
        if !update.gpa.is_page_aligned() || (!update.assigned && update != RmpUpdate::SHARED) {
            return Err(RmpUpdateError::Input);
        }
        // A page of no guest that the firmware may not write either: there is no such state.
        if update.assigned && update.asid == Asid(0) && !update.immutable {
            return Err(RmpUpdateError::Input);
        }
        let state = match (update.assigned, update.asid, update.immutable) {
            (false, ..) => PageState::Hypervisor,
            (true, Asid(0), _) => PageState::Firmware,
            (true, _, true) => PageState::PreGuest,
            (true, _, false) => PageState::GuestInvalid,
        };
        let mut permissions = [VmplPermissions::default(); 4];
        if update.assigned {
            permissions[0] = VmplPermissions::ALL;
        }
        let entry = RmpEntry {
            assigned: update.assigned,
            validated: false,
            immutable: update.immutable,
            vmsa: false,
            asid: update.asid,
            gpa: update.gpa,
            page_size: update.page_size,
            permissions,
            state,
        };
        self.change(pfn, |old| {
            if old.immutable {
                return Err(RmpUpdateError::Permission);
            }
            *old = entry;
            Ok(())
        })
    }

    /// Changes an entry, as only the firmware can.
    pub(crate) fn change<T>(&mut self, pfn: Pfn, change: impl FnOnce(&mut RmpEntry) -> T) -> T {
        let index = (pfn.0 % CHUNK) as usize;
        match self.chunks.entry(pfn.0 / CHUNK) {
            Entry::Vacant(vacant) => {
                let mut entry = RmpEntry::HYPERVISOR;
                let result = change(&mut entry);
                if entry != RmpEntry::HYPERVISOR {
                    let mut entries = [RmpEntry::HYPERVISOR; CHUNK as usize];
                    entries[index] = entry;
                    vacant.insert(Box::new(Chunk { entries, used: 1 }));
                }
                result
            }
            Entry::Occupied(mut occupied) => {
                let chunk = occupied.get_mut();
                let place = &mut chunk.entries[index];
                let used = *place != RmpEntry::HYPERVISOR;
                let result = change(place);
                chunk.used -= u16::from(used);
                chunk.used += u16::from(*place != RmpEntry::HYPERVISOR);
                if chunk.used == 0 {
                    // Guests come and go: what they leave behind must not add up.
                    occupied.remove();
                }
                result
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_update() -> impl Strategy<Value = RmpUpdate> {
        let size = prop_oneof![9 => Just(PageSize::Size4K), 1 => Just(PageSize::Size2M)];
        (any::<bool>(), any::<bool>(), 0u32..3, 0u64..0x4000, size).prop_map(
            |(assigned, immutable, asid, gpa, page_size)| RmpUpdate {
                assigned,
                immutable,
                asid: Asid(asid),
                gpa: Gpa(if gpa % 3 == 0 { gpa } else { gpa & !0xfff }),
                page_size,
            },
        )
    }

    proptest! {
        /// The sparse table against a plain map, and a refused update against the entry before it.
        #[test]
        fn sparse_is_as_good_as_dense(updates in prop::collection::vec((0u64..1500, any_update()), 1..200)) {
            let mut rmp = Rmp::default();
            let mut dense = std::collections::HashMap::new();
            for (pfn, update) in updates {
                let before = rmp.entry(Pfn(pfn));
                prop_assert_eq!(before, dense.get(&pfn).copied().unwrap_or_default());
                match rmp.update(Pfn(pfn), update) {
                    Ok(()) => {
                        prop_assert!(!before.immutable);
                        let after = rmp.entry(Pfn(pfn));
                        prop_assert_eq!((after.assigned, after.immutable), (update.assigned, update.immutable));
                        prop_assert_eq!((after.asid, after.gpa), (update.asid, update.gpa));
                        dense.insert(pfn, after);
                    }
                    Err(_) => prop_assert_eq!(rmp.entry(Pfn(pfn)), before),
                }
            }
        }
    }

    #[test]
    fn a_table_of_hypervisor_pages_is_empty() {
        let mut rmp = Rmp::default();
        let guest = RmpUpdate { immutable: false, ..RmpUpdate::pre_guest(Asid(1), Gpa(0x1000)) };
        for pfn in [0, 511, 512, 1 << 40] {
            rmp.update(Pfn(pfn), guest).unwrap();
            assert_eq!(rmp.entry(Pfn(pfn)).state, PageState::GuestInvalid);
        }
        for pfn in [0, 511, 512, 1 << 40] {
            rmp.update(Pfn(pfn), RmpUpdate::SHARED).unwrap();
        }
        assert_eq!(rmp, Rmp::default());
    }

    #[test]
    fn an_immutable_entry_stays() {
        let mut rmp = Rmp::default();
        rmp.update(Pfn(3), RmpUpdate::FIRMWARE).unwrap();
        assert_eq!(rmp.update(Pfn(3), RmpUpdate::SHARED), Err(RmpUpdateError::Permission));
        assert_eq!(rmp.entry(Pfn(3)).state, PageState::Firmware);
    }
}
