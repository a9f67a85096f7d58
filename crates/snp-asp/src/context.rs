//! Guest contexts: what the firmware keeps about one guest.

use snp_abi::{
    Asid, Gpa, GuestPolicy, GuestState, GuestStatus, LaunchDigest, PageInfo, PageType, TcbVersion, VmplPermissions,
};

/// The firmware's context of one guest, GCTX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestContext {
    pub(crate) state: GuestState,
    pub(crate) asid: Option<Asid>,
    pub(crate) policy: GuestPolicy,
    pub(crate) imi_enabled: bool,
    pub(crate) gosvw: [u8; 16],
    pub(crate) desired_tsc_khz: u32,
    /// LD.
    pub(crate) digest: LaunchDigest,
    /// IMD, the digest of the pages of an initial migration image.
    pub(crate) migration_image_digest: LaunchDigest,
    /// VMPCK0 to VMPCK3.
    pub(crate) vmpcks: [[u8; 32]; 4],
    /// Messages so far under each VMPCK, requests and responses.
    pub(crate) message_counts: [u64; 4],
    /// A secrets page was launched, so that the guest knows its VMPCKs.
    pub(crate) has_secrets: bool,
    /// VMRK, the root of keys that only this guest can derive.
    pub(crate) vmrk: [u8; 32],
    /// REPORT_ID.
    pub(crate) report_id: [u8; 32],
    /// The TCB when the guest was launched.
    pub(crate) launch_tcb: TcbVersion,
    /// The mitigation vector when the guest was launched.
    pub(crate) launch_mitigations: u64,
    pub(crate) identity: GuestIdentity,
}

/// What LAUNCH_FINISH fixed about a guest, for its attestation reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestIdentity {
    /// FAMILY_ID of the ID block.
    pub family_id: [u8; 16],
    /// IMAGE_ID of the ID block.
    pub image_id: [u8; 16],
    /// GUEST_SVN of the ID block.
    pub guest_svn: u32,
    /// SHA-384 of the ID key.
    pub id_key_digest: Option<[u8; 48]>,
    /// SHA-384 of the author key.
    pub author_key_digest: Option<[u8; 48]>,
    /// HOST_DATA.
    pub host_data: [u8; 32],
    /// VCEK_DIS.
    pub vcek_disabled: bool,
}

/// What is random about a guest on hardware, and follows from seed and count here.
pub(crate) struct GuestSecrets {
    pub(crate) vmpcks: [[u8; 32]; 4],
    pub(crate) vmrk: [u8; 32],
    pub(crate) report_id: [u8; 32],
}

impl GuestContext {
    pub(crate) fn new(secrets: GuestSecrets) -> Self {
        let GuestSecrets { vmpcks, vmrk, report_id } = secrets;
        Self {
            state: GuestState::Init,
            asid: None,
            policy: GuestPolicy(0),
            imi_enabled: false,
            gosvw: [0; 16],
            desired_tsc_khz: 0,
            digest: LaunchDigest::ZERO,
            migration_image_digest: LaunchDigest::ZERO,
            vmpcks,
            message_counts: [0; 4],
            has_secrets: false,
            vmrk,
            report_id,
            launch_tcb: TcbVersion(0),
            launch_mitigations: 0,
            identity: GuestIdentity::default(),
        }
    }

    pub(crate) fn status(&self) -> GuestStatus {
        GuestStatus {
            policy: self.policy,
            asid: self.asid.unwrap_or_default(),
            state: self.state,
            desired_tsc_freq: self.desired_tsc_khz,
            vcek_disabled: self.identity.vcek_disabled,
        }
    }

    /// Extends the launch digest by one page, and IMD too if the page belongs to an initial migration image.
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_UPDATE, "PAGE_INFO". That IMD is chained like LD is this model's reading; no public vector
    /// shows it.
    pub(crate) fn measure(&mut self, page: &MeasuredPage) {
        self.digest = page.chained(self.digest);
        if page.imi_page {
            self.migration_image_digest = page.chained(self.migration_image_digest);
        }
    }
}

/// What is measured of one page.
pub(crate) struct MeasuredPage {
    pub(crate) page_type: PageType,
    pub(crate) gpa: Gpa,
    pub(crate) contents: [u8; 48],
    pub(crate) imi_page: bool,
    pub(crate) permissions: [VmplPermissions; 3],
}

impl MeasuredPage {
    fn chained(&self, digest: LaunchDigest) -> LaunchDigest {
        let [vmpl1_perms, vmpl2_perms, vmpl3_perms] = self.permissions;
        let info = PageInfo {
            digest_cur: digest,
            contents: self.contents,
            length: PageInfo::LENGTH,
            page_type: self.page_type,
            imi_page: u8::from(self.imi_page),
            reserved_0x64: 0,
            vmpl1_perms,
            vmpl2_perms,
            vmpl3_perms,
            gpa: self.gpa.0,
        };
        LaunchDigest(snp_sha384::link(zerocopy::transmute_ref!(&info)))
    }
}
