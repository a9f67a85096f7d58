//! The firmware and its commands.

use snp_abi::{
    Asid, FwStatus, GuestPolicy, GuestStatus, IdAuth, IdBlock, LaunchDigest, PageSize, PageType, Pfn,
    SnpPlatformStatus, VmplPermissions,
};

use crate::{PlatformConfig, Rmp, RmpUpdate, RmpUpdateError, SealedPage};

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

/// The firmware, its guest contexts and the RMP.
#[derive(Debug)]
pub struct Firmware {}

impl Firmware {
    /// An initialised platform.
    pub fn new(_config: PlatformConfig) -> Self {
        todo!()
    }
    /// The configuration.
    pub fn config(&self) -> &PlatformConfig {
        todo!()
    }
    /// The RMP.
    pub fn rmp(&self) -> &Rmp {
        todo!()
    }
    /// The RMPUPDATE instruction, executed by the hypervisor.
    pub fn rmp_update(&mut self, _pfn: Pfn, _update: RmpUpdate) -> Result<(), RmpUpdateError> {
        todo!()
    }
    /// SNP_GCTX_CREATE.
    pub fn gctx_create(&mut self, _gctx: Pfn) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_ACTIVATE.
    pub fn activate(&mut self, _gctx: Pfn, _asid: Asid) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_LAUNCH_START.
    pub fn launch_start(&mut self, _gctx: Pfn, _start: &LaunchStart) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_LAUNCH_UPDATE of one 4 KiB page: takes the page, and returns it as the guest will see it.
    pub fn launch_update(
        &mut self,
        _gctx: Pfn,
        _update: &LaunchUpdate,
        _page: SealedPage,
    ) -> Result<SealedPage, RefusedPage> {
        todo!()
    }
    /// SNP_LAUNCH_FINISH.
    pub fn launch_finish(&mut self, _gctx: Pfn, _finish: &LaunchFinish<'_>) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_PAGE_RECLAIM.
    pub fn page_reclaim(&mut self, _pfn: Pfn) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_DECOMMISSION.
    pub fn decommission(&mut self, _gctx: Pfn) -> Result<(), FwStatus> {
        todo!()
    }
    /// SNP_GUEST_STATUS.
    pub fn guest_status(&self, _gctx: Pfn) -> Result<GuestStatus, FwStatus> {
        todo!()
    }
    /// SNP_PLATFORM_STATUS.
    pub fn platform_status(&self) -> SnpPlatformStatus {
        todo!()
    }
    /// The launch digest of a context so far: no command of the firmware tells it before the report does.
    pub fn launch_digest(&self, _gctx: Pfn) -> Option<LaunchDigest> {
        todo!()
    }
    /// SNP_DBG_DECRYPT.
    pub fn dbg_decrypt(&self, _gctx: Pfn, _pfn: Pfn, _page: &SealedPage) -> Result<SealedPage, FwStatus> {
        todo!()
    }
    /// SNP_DBG_ENCRYPT.
    pub fn dbg_encrypt(&self, _gctx: Pfn, _pfn: Pfn, _plain: SealedPage) -> Result<SealedPage, RefusedPage> {
        todo!()
    }
}
