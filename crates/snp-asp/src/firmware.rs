//! The firmware: its guest contexts, ASIDs, and the commands around a launch.

use std::collections::{BTreeMap, BTreeSet};

use snp_abi::{Asid, FwStatus, GuestPolicy, GuestStatus, LaunchDigest, PageState, Pfn, RmpEntry, SnpPlatformStatus};

use crate::context::{GuestContext, GuestIdentity, GuestSecrets};
use crate::reporting::Reporting;
use crate::sev::SevGuest;
use crate::{PlatformConfig, Rmp, RmpUpdate, RmpUpdateError, SealedPage, policy};

/// The firmware, its guest contexts and the RMP. Every refused command leaves all of it as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    pub(crate) config: PlatformConfig,
    pub(crate) rmp: Rmp,
    /// By the page that holds the context.
    pub(crate) contexts: BTreeMap<Pfn, GuestContext>,
    /// ASIDs that a guest had and that need a DF_FLUSH before another gets them.
    dirty_asids: BTreeSet<Asid>,
    /// Contexts ever created, so that every guest's keys differ.
    created: u64,
    /// Guests of plain SEV by handle, and how many were started.
    pub(crate) sev_guests: BTreeMap<u32, SevGuest>,
    pub(crate) sev_started: u32,
    /// What SNP_CONFIG and SNP_VLEK_LOAD set up.
    pub(crate) reporting: Reporting,
}

impl Firmware {
    /// An initialised platform without guests, all of whose memory is the hypervisor's.
    pub fn new(config: PlatformConfig) -> Self {
        Self {
            reporting: Reporting::new(&config),
            config,
            rmp: Rmp::default(),
            contexts: BTreeMap::new(),
            dirty_asids: BTreeSet::new(),
            created: 0,
            sev_guests: BTreeMap::new(),
            sev_started: 0,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &PlatformConfig {
        &self.config
    }

    /// The RMP.
    pub fn rmp(&self) -> &Rmp {
        &self.rmp
    }

    /// The RMPUPDATE instruction, executed by the hypervisor.
    ///
    /// # Errors
    /// [`RmpUpdateError`]; the entry is unchanged.
    ///
    /// # Source
    /// AMD 24593 (APM volume 2), "RMPUPDATE".
    pub fn rmp_update(&mut self, pfn: Pfn, update: RmpUpdate) -> Result<(), RmpUpdateError> {
        self.rmp.update(pfn, update)
    }

    /// SNP_GCTX_CREATE: makes a firmware page a guest context in GSTATE_INIT.
    ///
    /// # Errors
    /// INVALID_PAGE_STATE: `gctx` is not a firmware page.
    ///
    /// # Source
    /// AMD 56860, SNP_GCTX_CREATE.
    pub fn gctx_create(&mut self, gctx: Pfn) -> Result<(), FwStatus> {
        self.want_state(gctx, &[PageState::Firmware])?;
        self.created += 1;
        let secrets = GuestSecrets {
            vmpcks: std::array::from_fn(|vmpl| self.derive_key("VMPCK", &[self.created, vmpl as u64])),
            vmrk: self.derive_key("VMRK", &[self.created]),
            report_id: self.derive_key("REPORT_ID", &[self.created]),
        };
        self.contexts.insert(gctx, GuestContext::new(secrets));
        self.set_state(gctx, |entry| entry.state = PageState::Context);
        Ok(())
    }

    /// SNP_ACTIVATE: binds an ASID to a guest, on all sockets.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. INVALID_GUEST_STATE: the launch has not begun. ACTIVE: the guest has an ASID
    /// already. INVALID_ASID: not an ASID of SEV-SNP guests. ASID_OWNED: another guest has it. DFFLUSH_REQUIRED: a guest
    /// had it and no SNP_DF_FLUSH came since. POLICY_FAILURE: the policy wants a single socket and there are more.
    ///
    /// # Source
    /// AMD 56860, SNP_ACTIVATE.
    pub fn activate(&mut self, gctx: Pfn, asid: Asid) -> Result<(), FwStatus> {
        let context = self.context(gctx)?;
        if context.state == snp_abi::GuestState::Init {
            return Err(FwStatus::INVALID_GUEST_STATE);
        }
        if context.asid.is_some() {
            return Err(FwStatus::ACTIVE);
        }
        if !(1..=self.config.asids.es_max).contains(&asid.0) {
            return Err(FwStatus::INVALID_ASID);
        }
        if self.contexts.values().any(|other| other.asid == Some(asid)) {
            return Err(FwStatus::ASID_OWNED);
        }
        if self.dirty_asids.contains(&asid) {
            return Err(FwStatus::DFFLUSH_REQUIRED);
        }
        policy::check_at_activate(context.policy, &self.config)?;
        self.context_mut(gctx)?.asid = Some(asid);
        Ok(())
    }

    /// SNP_DF_FLUSH: makes ASIDs that guests gave up usable again. The WBINVD that must come before is taken as done.
    ///
    /// # Source
    /// AMD 56860, SNP_DF_FLUSH.
    pub fn df_flush(&mut self) {
        self.dirty_asids.clear();
    }

    /// SNP_DECOMMISSION: ends a guest. Its context becomes a firmware page; its pages stay assigned to the ASID until the
    /// hypervisor takes them back.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context.
    ///
    /// # Source
    /// AMD 56860, SNP_DECOMMISSION.
    pub fn decommission(&mut self, gctx: Pfn) -> Result<(), FwStatus> {
        let context = self.contexts.remove(&gctx).ok_or(FwStatus::INVALID_GUEST)?;
        self.dirty_asids.extend(context.asid);
        self.set_state(gctx, |entry| entry.state = PageState::Firmware);
        Ok(())
    }

    /// SNP_PAGE_RECLAIM: clears the immutable bit, so that the hypervisor may take the page back with RMPUPDATE.
    ///
    /// # Errors
    /// INVALID_PAGE_STATE: the page is not of the firmware's, metadata, pre-guest or pre-swap.
    ///
    /// # Source
    /// AMD 56860, SNP_PAGE_RECLAIM, "Page States".
    pub fn page_reclaim(&mut self, pfn: Pfn) -> Result<(), FwStatus> {
        let next = match self.rmp.entry(pfn).state {
            PageState::Firmware | PageState::Metadata => PageState::Reclaim,
            PageState::PreGuest => PageState::GuestInvalid,
            PageState::PreSwap => PageState::GuestValid,
            _ => return Err(FwStatus::INVALID_PAGE_STATE),
        };
        self.set_state(pfn, |entry| {
            entry.immutable = false;
            entry.state = next;
        });
        Ok(())
    }

    /// SNP_GUEST_STATUS.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context.
    ///
    /// # Source
    /// AMD 56860, SNP_GUEST_STATUS.
    pub fn guest_status(&self, gctx: Pfn) -> Result<GuestStatus, FwStatus> {
        self.context(gctx).map(GuestContext::status)
    }

    /// SNP_PLATFORM_STATUS.
    ///
    /// # Source
    /// AMD 56860, SNP_PLATFORM_STATUS.
    pub fn platform_status(&self) -> SnpPlatformStatus {
        const MASK_CHIP_ID: u32 = 1 << 0;
        const MASK_CHIP_KEY: u32 = 1 << 1;
        const VLEK_EN: u32 = 1 << 2;
        const FEATURE_INFO: u32 = 1 << 3;
        const RAPL_DIS: u32 = 1 << 4;
        const CIPHERTEXT_HIDING_CAP: u32 = 1 << 5;
        const CIPHERTEXT_HIDING_EN: u32 = 1 << 6;
        let config = &self.config;
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        SnpPlatformStatus {
            api_major: config.api.0,
            api_minor: config.api.1,
            state: 1,
            // IS_RMP_INIT and ALIAS_CHECK_COMPLETE.
            is_rmp_initialized: 0b11,
            build_id: config.build.into(),
            flags: flag(self.reporting.mask_chip_id, MASK_CHIP_ID)
                | flag(self.reporting.mask_chip_key, MASK_CHIP_KEY)
                | flag(self.reporting.vlek, VLEK_EN)
                | flag(config.feature_info(), FEATURE_INFO)
                | flag(config.rapl_disabled, RAPL_DIS)
                | flag(config.policy_bits & GuestPolicy::CIPHERTEXT_HIDING_DRAM != 0, CIPHERTEXT_HIDING_CAP)
                | flag(config.ciphertext_hiding_dram, CIPHERTEXT_HIDING_EN),
            guest_count: self.contexts.len() as u32,
            current_tcb_version: config.tcb,
            reported_tcb_version: self.reported_tcb(),
        }
    }

    /// The chip's ID, derived from the seed: 64 bytes, of which Turin uses 8.
    pub fn chip_id(&self) -> [u8; 64] {
        let mut id = [0; 64];
        let parts = [b"chip ID, first part".as_slice(), b"chip ID, last part"];
        for (part, half) in parts.iter().zip(id.chunks_mut(32)) {
            let message = [self.config.seed.as_slice(), part].concat();
            half.copy_from_slice(&snp_sha384::sha384(&message)[..32]);
        }
        id[self.config.product.line().hwid_len()..].fill(0);
        id
    }

    /// SNP_DBG_DECRYPT: a copy of the plain contents of a guest page.
    ///
    /// `page` is the page as its keeper holds it: memory encryption itself is not modelled, only who may see through it.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. POLICY_FAILURE: the policy forbids debugging. INVALID_PAGE_STATE,
    /// INVALID_PAGE_OWNER: the page is not this guest's.
    ///
    /// # Source
    /// AMD 56860, SNP_DBG_DECRYPT.
    pub fn dbg_decrypt(&self, gctx: Pfn, pfn: Pfn, page: &SealedPage) -> Result<SealedPage, FwStatus> {
        self.want_debuggable(gctx, pfn)?;
        Ok(SealedPage::copy_of(page.as_bytes()))
    }

    /// SNP_DBG_ENCRYPT: whether plain contents may replace those of a guest page; they are given back as the guest will
    /// see them.
    ///
    /// # Errors
    /// As [`Firmware::dbg_decrypt`]; the page goes back to its owner.
    ///
    /// # Source
    /// AMD 56860, SNP_DBG_ENCRYPT.
    pub fn dbg_encrypt(&self, gctx: Pfn, pfn: Pfn, plain: SealedPage) -> Result<SealedPage, crate::RefusedPage> {
        match self.want_debuggable(gctx, pfn) {
            Ok(()) => Ok(plain),
            Err(status) => Err(crate::RefusedPage { status, page: plain }),
        }
    }

    fn want_debuggable(&self, gctx: Pfn, pfn: Pfn) -> Result<(), FwStatus> {
        let context = self.context(gctx)?;
        if !context.policy.has(GuestPolicy::DEBUG) {
            return Err(FwStatus::POLICY_FAILURE);
        }
        self.want_state(pfn, &[PageState::PreGuest, PageState::GuestInvalid, PageState::GuestValid])?;
        if context.asid != Some(self.rmp.entry(pfn).asid) {
            return Err(FwStatus::INVALID_PAGE_OWNER);
        }
        Ok(())
    }

    /// The launch digest of a guest so far. No command tells it before the attestation report does.
    pub fn launch_digest(&self, gctx: Pfn) -> Option<LaunchDigest> {
        self.contexts.get(&gctx).map(|context| context.digest)
    }

    /// What LAUNCH_FINISH fixed about a guest, for its reports.
    pub fn identity(&self, gctx: Pfn) -> Option<GuestIdentity> {
        self.contexts.get(&gctx).map(|context| context.identity)
    }

    /// The context, or INVALID_GUEST.
    pub(crate) fn context(&self, gctx: Pfn) -> Result<&GuestContext, FwStatus> {
        self.contexts.get(&gctx).ok_or(FwStatus::INVALID_GUEST)
    }

    pub(crate) fn context_mut(&mut self, gctx: Pfn) -> Result<&mut GuestContext, FwStatus> {
        self.contexts.get_mut(&gctx).ok_or(FwStatus::INVALID_GUEST)
    }

    pub(crate) fn want_state(&self, pfn: Pfn, states: &[PageState]) -> Result<(), FwStatus> {
        if states.contains(&self.rmp.entry(pfn).state) { Ok(()) } else { Err(FwStatus::INVALID_PAGE_STATE) }
    }

    pub(crate) fn set_state(&mut self, pfn: Pfn, change: impl FnOnce(&mut RmpEntry)) {
        self.rmp.change(pfn, change);
    }

    /// A 256-bit secret that depends on the platform's seed, its purpose and the numbers given, and on nothing else.
    pub(crate) fn derive_key(&self, purpose: &str, numbers: &[u64]) -> [u8; 32] {
        let mut message = b"snpkit test secret: ".to_vec();
        message.extend_from_slice(&self.config.seed);
        message.extend_from_slice(purpose.as_bytes());
        numbers.iter().for_each(|number| message.extend_from_slice(&number.to_le_bytes()));
        let mut key = [0; 32];
        key.copy_from_slice(&snp_sha384::sha384(&message)[..32]);
        key
    }
}
