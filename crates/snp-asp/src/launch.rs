//! The launch commands: START, UPDATE, FINISH.

use snp_abi::{
    CpuidPage, FwStatus, GuestPolicy, GuestState, IdAuth, IdBlock, PAGE_SIZE, PageSize, PageState, PageType, Pfn,
    RmpEntry, SecretsPage, VmplPermissions,
};
use zerocopy::FromBytes;

use crate::context::{GuestContext, MeasuredPage};
use crate::{Firmware, SealedPage, cpuid, id_block, policy};

/// TSC_SCALE and TSC_OFFSET, which the firmware zeroes before it hashes a VMSA.
const UNMEASURED_IN_VMSA: std::ops::Range<usize> = 0x2f0..0x300;

/// The VERSION of the secrets page that this model fills.
const SECRETS_VERSION: u32 = 3;

/// Arguments of SNP_LAUNCH_START.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchStart {
    /// POLICY.
    pub policy: GuestPolicy,
    /// MA_GCTX_PADDR, if MA_EN.
    pub migration_agent: Option<Pfn>,
    /// IMI_EN.
    pub imi: bool,
    /// DESIRED_TSC_FREQ in kHz, 0 for the host's.
    pub desired_tsc_khz: u32,
    /// GOSVW.
    pub gosvw: [u8; 16],
}

/// Arguments of SNP_LAUNCH_UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchUpdate {
    /// The page.
    pub pfn: Pfn,
    /// PAGE_SIZE.
    pub page_size: PageSize,
    /// PAGE_TYPE.
    pub page_type: PageType,
    /// IMI_PAGE.
    pub imi_page: bool,
    /// VMPL1_PERMS, VMPL2_PERMS, VMPL3_PERMS.
    pub permissions: [VmplPermissions; 3],
}

/// Arguments of SNP_LAUNCH_FINISH.
#[derive(Clone, Copy, Debug)]
pub struct LaunchFinish<'a> {
    /// ID_BLOCK_PADDR and ID_AUTH_PADDR, if ID_BLOCK_EN.
    pub id_block: Option<(&'a IdBlock, &'a IdAuth)>,
    /// AUTH_KEY_EN.
    pub author_key_enabled: bool,
    /// VCEK_DIS.
    pub vcek_disabled: bool,
    /// HOST_DATA.
    pub host_data: [u8; 32],
}

/// A page that SNP_LAUNCH_UPDATE refused, back in its owner's hands. A CPUID page comes back with what the firmware
/// would accept.
#[derive(Debug, PartialEq, Eq)]
pub struct RefusedPage {
    /// Why.
    pub status: FwStatus,
    /// The page.
    pub page: SealedPage,
}

impl Firmware {
    /// SNP_LAUNCH_START: GSTATE_INIT → GSTATE_LAUNCH.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. INVALID_GUEST_STATE: not in GSTATE_INIT. INVALID_PARAM: reserved policy bits.
    /// POLICY_FAILURE: the platform cannot keep the policy, or a migration agent is named that the policy forbids.
    /// UNSUPPORTED: a migration agent (**not modelled**; no firmware with this feature would answer so).
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_START.
    pub fn launch_start(&mut self, gctx: Pfn, start: &LaunchStart) -> Result<(), FwStatus> {
        self.want_guest_state(gctx, GuestState::Init)?;
        policy::check_at_start(start.policy, &self.config)?;
        if start.migration_agent.is_some() {
            let allowed = start.policy.has(GuestPolicy::MIGRATE_MA);
            return Err(if allowed { FwStatus::UNSUPPORTED } else { FwStatus::POLICY_FAILURE });
        }
        let (launch_tcb, launch_mitigations) = (self.config.tcb, self.config.mitigations);
        let context = self.context_mut(gctx)?;
        context.state = GuestState::Launch;
        context.launch_tcb = launch_tcb;
        context.launch_mitigations = launch_mitigations;
        context.policy = start.policy;
        context.imi_enabled = start.imi;
        context.desired_tsc_khz = start.desired_tsc_khz;
        context.gosvw = start.gosvw;
        Ok(())
    }

    /// SNP_LAUNCH_UPDATE of one 4 KiB page: takes the page, measures it, and returns it as the guest will see it. The RMP
    /// entry becomes guest-valid, with the VMSA bit for a VMSA.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. INVALID_GUEST_STATE: not in GSTATE_LAUNCH. INACTIVE: the guest has no ASID.
    /// INVALID_PARAM: unknown page type, reserved permission bits, an IMI page without IMI_EN, or a CPUID page that the
    /// platform does not support, which comes back corrected. INVALID_PAGE_SIZE, INVALID_PAGE_STATE, INVALID_PAGE_OWNER: the
    /// RMP entry is not a pre-guest 4 KiB page of this guest. Nothing changes.
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_UPDATE. The VMSA's contents are not checked: whether the firmware refuses some SEV_FEATURES is
    /// not modelled.
    pub fn launch_update(
        &mut self,
        gctx: Pfn,
        update: &LaunchUpdate,
        page: SealedPage,
    ) -> Result<SealedPage, RefusedPage> {
        let entry = match self.check_update(gctx, update) {
            Ok(entry) => entry,
            Err(status) => return Err(RefusedPage { status, page }),
        };
        let contents = contents(update.page_type, &page);
        let context = self.contexts.get_mut(&gctx).expect("checked");
        let page = match update.page_type {
            PageType::ZERO => SealedPage::zero(),
            PageType::SECRETS => SealedPage::copy_of(&secrets(context, self.config.signature())),
            PageType::CPUID => cpuid::check(&self.config.cpuid, page)?,
            _ => page,
        };
        context.has_secrets |= update.page_type == PageType::SECRETS;
        context.measure(&MeasuredPage {
            page_type: update.page_type,
            gpa: entry.gpa,
            contents,
            imi_page: update.imi_page,
            permissions: update.permissions,
        });
        let [vmpl1, vmpl2, vmpl3] = update.permissions;
        self.set_state(update.pfn, |entry| {
            entry.validated = true;
            entry.immutable = false;
            entry.vmsa = update.page_type == PageType::VMSA;
            entry.permissions = [VmplPermissions::ALL, vmpl1, vmpl2, vmpl3];
            entry.state = PageState::GuestValid;
        });
        Ok(page)
    }

    fn check_update(&self, gctx: Pfn, update: &LaunchUpdate) -> Result<RmpEntry, FwStatus> {
        self.want_guest_state(gctx, GuestState::Launch)?;
        let context = self.context(gctx)?;
        let asid = context.asid.ok_or(FwStatus::INACTIVE)?;
        let reserved = update.permissions.iter().any(|rights| rights.0 & VmplPermissions::RESERVED != 0);
        if update.page_type.name().is_none() || reserved || (update.imi_page && !context.imi_enabled) {
            return Err(FwStatus::INVALID_PARAM);
        }
        let entry = self.rmp.entry(update.pfn);
        if entry.page_size != update.page_size {
            return Err(FwStatus::INVALID_PAGE_SIZE);
        }
        if entry.state != PageState::PreGuest {
            return Err(FwStatus::INVALID_PAGE_STATE);
        }
        if entry.asid != asid {
            return Err(FwStatus::INVALID_PAGE_OWNER);
        }
        Ok(entry)
    }

    /// SNP_LAUNCH_FINISH: GSTATE_LAUNCH → GSTATE_RUNNING. Checks the ID block, if one is given.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. INVALID_GUEST_STATE: not in GSTATE_LAUNCH. INVALID_PARAM: an author key without
    /// ID block, or an unknown version or algorithm in the block. BAD_SIGNATURE, BAD_MEASUREMENT, POLICY_FAILURE: the ID
    /// block is not one for this guest. The guest stays in GSTATE_LAUNCH.
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_FINISH.
    pub fn launch_finish(&mut self, gctx: Pfn, finish: &LaunchFinish<'_>) -> Result<(), FwStatus> {
        self.want_guest_state(gctx, GuestState::Launch)?;
        let context = self.context(gctx)?;
        let mut identity = match finish.id_block {
            Some((block, auth)) => id_block::check(context, block, auth, finish.author_key_enabled)?,
            None if finish.author_key_enabled => return Err(FwStatus::INVALID_PARAM),
            None => Default::default(),
        };
        identity.host_data = finish.host_data;
        identity.vcek_disabled = finish.vcek_disabled;
        let context = self.context_mut(gctx)?;
        context.identity = identity;
        context.state = GuestState::Running;
        Ok(())
    }

    /// What the guest finds in its secrets page, `None` if none was launched: for whoever plays the guest, as no command tells
    /// it.
    pub fn secrets_page(&self, gctx: Pfn) -> Option<Box<SecretsPage>> {
        let context = self.contexts.get(&gctx).filter(|context| context.has_secrets)?;
        Some(Box::new(zerocopy::transmute!(secrets(context, self.config.signature()))))
    }

    fn want_guest_state(&self, gctx: Pfn, state: GuestState) -> Result<(), FwStatus> {
        if self.context(gctx)?.state == state { Ok(()) } else { Err(FwStatus::INVALID_GUEST_STATE) }
    }
}

/// CONTENTS of a page's PAGE_INFO.
fn contents(page_type: PageType, page: &SealedPage) -> [u8; 48] {
    match page_type {
        PageType::NORMAL => page.sha384(),
        PageType::VMSA => {
            let mut measured: [u8; PAGE_SIZE] = *page.as_bytes();
            measured[UNMEASURED_IN_VMSA].fill(0);
            snp_sha384::sha384(&measured)
        }
        _ => [0; 48],
    }
}

/// The secrets page as the firmware fills it.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "Secrets Page Format". VMSA_TWEAK_BITMAP and TSC_FACTOR are left zero: VMSA register
/// protection and Secure TSC are not modelled.
fn secrets(context: &GuestContext, signature: u32) -> [u8; PAGE_SIZE] {
    let [vmpck0, vmpck1, vmpck2, vmpck3] = context.vmpcks;
    zerocopy::transmute!(SecretsPage {
        version: SECRETS_VERSION,
        flags: u32::from(context.imi_enabled),
        fms: signature,
        gosvw: context.gosvw,
        vmpck0,
        vmpck1,
        vmpck2,
        vmpck3,
        ..SecretsPage::default()
    })
}

/// A CPUID page out of a sealed one.
pub(crate) fn cpuid_page(page: &SealedPage) -> Box<CpuidPage> {
    Box::new(CpuidPage::read_from_bytes(page.as_bytes()).expect("a CPUID page is a page"))
}
