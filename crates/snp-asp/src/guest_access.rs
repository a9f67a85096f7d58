//! The RMP as a guest meets it: the checks of its accesses, PVALIDATE and RMPADJUST.
//!
//! # Source
//! AMD 24593 (APM volume 2), "RMP and VMPL Access Checks" and "Page Validation"; AMD 24594 (APM volume 3), "PVALIDATE" and
//! "RMPADJUST". All RMP entries of this model describe 4 KiB.

use snp_abi::{Asid, Gpa, PageState, Pfn, RmpEntry, Vmpl, VmplPermissions};

use crate::Firmware;

/// What an access wants of its VMPL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestAccess {
    /// Data are read.
    Read,
    /// Data are written.
    Write,
    /// Instructions are fetched at CPL 3.
    ExecuteUser,
    /// Instructions are fetched at CPL 0 to 2.
    ExecuteSupervisor,
}

impl GuestAccess {
    /// The right that it wants.
    pub const fn right(self) -> VmplPermissions {
        match self {
            Self::Read => VmplPermissions::READ,
            Self::Write => VmplPermissions::WRITE,
            Self::ExecuteUser => VmplPermissions::EXECUTE_USER,
            Self::ExecuteSupervisor => VmplPermissions::EXECUTE_SUPERVISOR,
        }
    }
}

/// Why the RMP refuses a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmpFault {
    /// #NPF: the page is not this guest's, or not at this address, or immutable.
    Entry,
    /// #VC: the page is not validated.
    NotValidated,
    /// #NPF: the VMPL has not the right.
    Vmpl,
}

/// How PVALIDATE or RMPADJUST ends. Only [`RmpAnswer::Success`] may have changed the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmpAnswer {
    /// EAX = 0.
    Success {
        /// The entry is another than before; PVALIDATE sets CF if not.
        changed: bool,
    },
    /// EAX = 1, FAIL_INPUT.
    FailInput,
    /// EAX = 2, FAIL_PERMISSION.
    FailPermission,
    /// EAX = 6, FAIL_SIZEMISMATCH.
    FailSizeMismatch,
    /// The instruction faults.
    Fault(RmpFault),
}

/// A guest's page: which one, whose, and where the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPage {
    /// The system-physical page that nested paging gives.
    pub pfn: Pfn,
    /// The guest.
    pub asid: Asid,
    /// The guest-physical address.
    pub gpa: Gpa,
}

/// RMPADJUST's arguments beside the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionChange {
    /// RCX: a 2 MiB page.
    pub large: bool,
    /// RDX 7:0, TARGET_VMPL.
    pub target: Vmpl,
    /// RDX 15:8, TARGET_PERM_MASK.
    pub permissions: VmplPermissions,
    /// RDX 16, VMSA.
    pub vmsa: bool,
    /// The VMPL that executes the instruction.
    pub executing: Vmpl,
}

/// VMPLs that there are.
const VMPLS: u8 = 4;

impl Firmware {
    /// Whether a guest may access its private page.
    ///
    /// # Errors
    /// [`RmpFault`], in the order in which the processor looks.
    pub fn check_guest_access(&self, page: GuestPage, vmpl: Vmpl, access: GuestAccess) -> Result<RmpEntry, RmpFault> {
        let entry = self.owned(page)?;
        if !entry.validated {
            return Err(RmpFault::NotValidated);
        }
        if entry.permissions[usize::from(vmpl.0 % VMPLS)].0 & access.right().0 == 0 {
            return Err(RmpFault::Vmpl);
        }
        Ok(entry)
    }

    /// PVALIDATE by VMPL 0 at CPL 0. A 2 MiB page has 512 entries of 4 KiB here, which is FAIL_SIZEMISMATCH.
    pub fn pvalidate(&mut self, page: GuestPage, large: bool, validate: bool) -> RmpAnswer {
        if let Some(answer) = wrong_size(page.gpa, large) {
            return answer;
        }
        match self.owned(page) {
            Err(fault) => RmpAnswer::Fault(fault),
            Ok(entry) if entry.validated == validate => RmpAnswer::Success { changed: false },
            Ok(_) => {
                self.set_state(page.pfn, |entry| {
                    entry.validated = validate;
                    entry.state = if validate { PageState::GuestValid } else { PageState::GuestInvalid };
                });
                RmpAnswer::Success { changed: true }
            }
        }
    }

    /// RMPADJUST at CPL 0: rights of a less privileged VMPL, never more than the executing VMPL has, and, by VMPL 0, whether
    /// the page is a VMSA.
    pub fn rmpadjust(&mut self, page: GuestPage, change: PermissionChange) -> RmpAnswer {
        if change.target.0 >= VMPLS || change.permissions.0 & VmplPermissions::RESERVED != 0 {
            return RmpAnswer::FailInput;
        }
        if let Some(answer) = wrong_size(page.gpa, change.large) {
            return answer;
        }
        if change.target.0 <= change.executing.0 || (change.vmsa && change.executing.0 != 0) {
            return RmpAnswer::FailPermission;
        }
        let entry = match self.owned(page) {
            Err(fault) => return RmpAnswer::Fault(fault),
            Ok(entry) if !entry.validated => return RmpAnswer::Fault(RmpFault::NotValidated),
            Ok(entry) => entry,
        };
        let own = entry.permissions[usize::from(change.executing.0)];
        if change.permissions.0 & !own.0 != 0 {
            return RmpAnswer::FailPermission;
        }
        let mut new = entry;
        new.permissions[usize::from(change.target.0)] = change.permissions;
        if change.executing.0 == 0 {
            new.vmsa = change.vmsa;
        }
        self.set_state(page.pfn, |entry| *entry = new);
        RmpAnswer::Success { changed: new != entry }
    }

    /// The entry, if the guest has the page at that address.
    fn owned(&self, page: GuestPage) -> Result<RmpEntry, RmpFault> {
        let entry = self.rmp.entry(page.pfn);
        let owned = entry.assigned && !entry.immutable && entry.asid == page.asid && entry.gpa == page.gpa;
        if owned { Ok(entry) } else { Err(RmpFault::Entry) }
    }
}

/// FAIL_INPUT for a 2 MiB page that does not begin at one, FAIL_SIZEMISMATCH for one that does: its entries are of 4 KiB.
fn wrong_size(gpa: Gpa, large: bool) -> Option<RmpAnswer> {
    match large {
        false => None,
        true if !gpa.is_2mib_aligned() => Some(RmpAnswer::FailInput),
        true => Some(RmpAnswer::FailSizeMismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PlatformConfig, RmpUpdate};

    const GUEST: Asid = Asid(3);
    const PAGE: GuestPage = GuestPage { pfn: Pfn(0x300), asid: GUEST, gpa: Gpa(0x20_0000) };

    fn firmware() -> Firmware {
        let mut firmware = Firmware::new(PlatformConfig::genoa());
        firmware.rmp_update(PAGE.pfn, RmpUpdate::guest(GUEST, PAGE.gpa)).unwrap();
        firmware
    }

    fn adjust(target: u8, permissions: u8) -> PermissionChange {
        let (target, permissions) = (Vmpl(target), VmplPermissions(permissions));
        PermissionChange { large: false, target, permissions, vmsa: false, executing: Vmpl(0) }
    }

    /// Pages that the guest does not have, each wrong in one way.
    fn foreign() -> [GuestPage; 3] {
        [
            GuestPage { pfn: Pfn(0x301), ..PAGE },
            GuestPage { asid: Asid(4), ..PAGE },
            GuestPage { gpa: Gpa(0x20_1000), ..PAGE },
        ]
    }

    #[test]
    fn pvalidate_by_its_table() {
        let mut firmware = firmware();
        let unchanged = |firmware: &mut Firmware, page, large, validate, answer| {
            let before = firmware.clone();
            assert_eq!(firmware.pvalidate(page, large, validate), answer, "{page:?} {large} {validate}");
            assert!(*firmware == before, "{answer:?} changes nothing");
        };
        for page in foreign() {
            unchanged(&mut firmware, page, false, true, RmpAnswer::Fault(RmpFault::Entry));
        }
        let odd = GuestPage { gpa: Gpa(0x1000), ..PAGE };
        unchanged(&mut firmware, odd, true, true, RmpAnswer::FailInput);
        unchanged(&mut firmware, PAGE, true, true, RmpAnswer::FailSizeMismatch);
        unchanged(&mut firmware, PAGE, false, false, RmpAnswer::Success { changed: false });
        assert_eq!(firmware.pvalidate(PAGE, false, true), RmpAnswer::Success { changed: true });
        assert_eq!(firmware.rmp().entry(PAGE.pfn).state, PageState::GuestValid);
        unchanged(&mut firmware, PAGE, false, true, RmpAnswer::Success { changed: false });
        assert_eq!(firmware.pvalidate(PAGE, false, false), RmpAnswer::Success { changed: true });
        assert_eq!(firmware.rmp().entry(PAGE.pfn).state, PageState::GuestInvalid);

        firmware.rmp_update(PAGE.pfn, RmpUpdate::pre_guest(GUEST, PAGE.gpa)).unwrap();
        unchanged(&mut firmware, PAGE, false, true, RmpAnswer::Fault(RmpFault::Entry));
    }

    #[test]
    fn rmpadjust_by_its_table() {
        let mut firmware = firmware();
        let unchanged = |firmware: &mut Firmware, page, change, answer| {
            let before = firmware.clone();
            assert_eq!(firmware.rmpadjust(page, change), answer, "{page:?} {change:?}");
            assert!(*firmware == before, "{answer:?} changes nothing");
        };
        unchanged(&mut firmware, PAGE, adjust(1, 1), RmpAnswer::Fault(RmpFault::NotValidated));
        firmware.pvalidate(PAGE, false, true);
        for page in foreign() {
            unchanged(&mut firmware, page, adjust(1, 1), RmpAnswer::Fault(RmpFault::Entry));
        }
        unchanged(&mut firmware, PAGE, adjust(4, 1), RmpAnswer::FailInput);
        unchanged(&mut firmware, PAGE, adjust(1, 0x20), RmpAnswer::FailInput);
        let large = PermissionChange { large: true, ..adjust(1, 1) };
        unchanged(&mut firmware, PAGE, large, RmpAnswer::FailSizeMismatch);
        unchanged(&mut firmware, GuestPage { gpa: Gpa(0x1000), ..PAGE }, large, RmpAnswer::FailInput);
        unchanged(&mut firmware, PAGE, adjust(0, 1), RmpAnswer::FailPermission);
        let by_vmpl1 = |change| PermissionChange { executing: Vmpl(1), ..change };
        unchanged(&mut firmware, PAGE, by_vmpl1(adjust(1, 1)), RmpAnswer::FailPermission);
        unchanged(&mut firmware, PAGE, by_vmpl1(adjust(2, 1)), RmpAnswer::FailPermission);
        let vmsa = PermissionChange { vmsa: true, ..adjust(2, 1) };
        unchanged(&mut firmware, PAGE, by_vmpl1(vmsa), RmpAnswer::FailPermission);

        assert_eq!(firmware.rmpadjust(PAGE, adjust(1, 3)), RmpAnswer::Success { changed: true });
        unchanged(&mut firmware, PAGE, by_vmpl1(adjust(2, 4)), RmpAnswer::FailPermission);
        assert_eq!(firmware.rmpadjust(PAGE, by_vmpl1(adjust(2, 1))), RmpAnswer::Success { changed: true });
        assert_eq!(firmware.rmpadjust(PAGE, vmsa), RmpAnswer::Success { changed: true });
        // A less privileged VMPL leaves the bit alone.
        firmware.rmpadjust(PAGE, by_vmpl1(adjust(3, 1)));
        assert!(firmware.rmp().entry(PAGE.pfn).vmsa);
        unchanged(&mut firmware, PAGE, vmsa, RmpAnswer::Success { changed: false });
        assert_eq!(firmware.rmpadjust(PAGE, adjust(2, 1)), RmpAnswer::Success { changed: true });
        assert!(!firmware.rmp().entry(PAGE.pfn).vmsa);
    }

    #[test]
    fn an_access_is_refused_for_the_first_reason() {
        use GuestAccess::*;
        let mut firmware = firmware();
        let check =
            |firmware: &Firmware, page, vmpl, access| firmware.check_guest_access(page, Vmpl(vmpl), access).map(drop);
        for page in foreign() {
            assert_eq!(check(&firmware, page, 0, Read), Err(RmpFault::Entry));
        }
        assert_eq!(check(&firmware, PAGE, 1, Read), Err(RmpFault::NotValidated));
        firmware.pvalidate(PAGE, false, true);
        for access in [Read, Write, ExecuteUser, ExecuteSupervisor] {
            assert_eq!(check(&firmware, PAGE, 0, access), Ok(()));
            assert_eq!(check(&firmware, PAGE, 1, access), Err(RmpFault::Vmpl));
            firmware.rmpadjust(PAGE, adjust(1, access.right().0));
            assert_eq!(check(&firmware, PAGE, 1, access), Ok(()));
            let others = [Read, Write, ExecuteUser, ExecuteSupervisor].into_iter().filter(|other| *other != access);
            others.for_each(|other| assert_eq!(check(&firmware, PAGE, 1, other), Err(RmpFault::Vmpl)));
            firmware.rmpadjust(PAGE, adjust(1, 0));
        }
    }
}
