//! The launch digest engine: what the firmware would compute, computed without performing it.
//!
//! The launch digest is a chain: it starts at zero, and every page that SNP_LAUNCH_UPDATE takes makes it the SHA-384 of
//! a [`PageInfo`], which holds the digest before, the hash of the page, its type, its address and its permissions. The
//! page hashes are independent of each other and are computed side by side; only the chain is serial.

use snp_abi::{Gpa, LEGACY_VMSA_GPA, LaunchDigest, PAGE_SIZE, PageInfo, PageType, VmplPermissions, Vmsa};
use zerocopy::IntoBytes;

use crate::{BootState, LaunchPage, LaunchPlan, hasher};

/// Extends a launch digest page by page.
///
/// ```
/// use snp_abi::{Gpa, LaunchDigest, PageType, VmplPermissions};
/// use snp_launch::{DigestEngine, LaunchPage};
///
/// let mut engine = DigestEngine::new();
/// engine.page(&LaunchPage::Zero { gpa: Gpa(0x80_0000), len: 0x2000 });
///
/// // The same two pages, one by one, the second by an engine that goes on where another stopped.
/// let no_access = [VmplPermissions::default(); 3];
/// let mut first = DigestEngine::new();
/// let between = first.extend(PageType::ZERO, Gpa(0x80_0000), [0; 48], false, no_access);
/// let mut second = DigestEngine::resume(between);
/// second.extend(PageType::ZERO, Gpa(0x80_1000), [0; 48], false, no_access);
/// assert_eq!(engine.digest(), second.digest());
/// assert_ne!(engine.digest(), LaunchDigest::ZERO);
/// ```
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "PAGE_INFO".
#[derive(Clone, Debug, Default)]
pub struct DigestEngine {
    digest: LaunchDigest,
    /// VMSAs are hashed as they are.
    verbatim_vmsas: bool,
}

/// One measured page and the digest after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestStep {
    /// Where the page is, a byte address.
    pub gpa: Gpa,
    /// Its type.
    pub page_type: PageType,
    /// CONTENTS of its PAGE_INFO: SHA-384 of the page for normal and VMSA pages, else zeros.
    pub contents: [u8; 48],
    /// The digest after it.
    pub digest: LaunchDigest,
}

impl DigestEngine {
    /// Starts where SNP_LAUNCH_START starts: at the digest of 48 zero bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on after a launch that got as far as `digest`.
    pub fn resume(digest: LaunchDigest) -> Self {
        Self { digest, ..Self::default() }
    }

    /// Hashes VMSAs as they are, TSC_SCALE and TSC_OFFSET with them: the digest that tools compute which do not know that
    /// the firmware zeroes both. No launch has it.
    pub fn with_verbatim_vmsas(self) -> Self {
        Self { verbatim_vmsas: true, ..self }
    }

    /// The digest so far.
    pub fn digest(&self) -> LaunchDigest {
        self.digest
    }

    /// Extends the digest by every 4 KiB page of a page operation, in ascending order, as KVM hands them to the firmware:
    /// no IMI page, no permissions for VMPL 1 to 3. Returns the new digest.
    ///
    /// Nothing is checked: a plan's pages are checked by [`LaunchPlan::validate`]. A run that passes the end of the
    /// address space wraps around.
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_UPDATE. Linux sets neither IMI_PAGE nor permissions (`kvm_sev_snp_launch_update` has no
    /// fields for them).
    pub fn page(&mut self, page: &LaunchPage) -> LaunchDigest {
        self.page_steps(page, &mut |_| {});
        self.digest
    }

    /// Extends the digest by all pages of a plan and the VMSAs that KVM makes, telling every step.
    pub fn plan(&mut self, plan: &LaunchPlan, step: &mut dyn FnMut(DigestStep)) {
        for page in &plan.pages {
            self.page_steps(page, step);
        }
        self.legacy_vmsas(&plan.boot, plan.vcpus, step);
    }

    /// Extends the digest by one PAGE_INFO and returns the new digest.
    ///
    /// `gpa`: guest-physical byte address, 4 KiB-aligned. `contents`: SHA-384 of the page for normal and VMSA pages (of a
    /// VMSA with TSC_SCALE and TSC_OFFSET zeroed), zeros for all other types. `imi_page`: the page belongs to an initial
    /// migration image. `permissions`: of VMPL 1, VMPL 2 and VMPL 3, in this order; VMPL 0 always has all and is not
    /// measured.
    ///
    /// # Source
    /// AMD 56860, SNP_LAUNCH_UPDATE, "PAGE_INFO". The order of the permission bytes is the specification's (reserved,
    /// VMPL1, VMPL2, VMPL3); sev-snp-measure and virtee/sev have them reversed, which shows only with permissions set.
    pub fn extend(
        &mut self,
        page_type: PageType,
        gpa: Gpa,
        contents: [u8; 48],
        imi_page: bool,
        permissions: [VmplPermissions; 3],
    ) -> LaunchDigest {
        let [vmpl1_perms, vmpl2_perms, vmpl3_perms] = permissions;
        let info = PageInfo {
            digest_cur: self.digest,
            contents,
            length: PageInfo::LENGTH,
            page_type,
            imi_page: imi_page.into(),
            reserved_0x64: 0,
            vmpl1_perms,
            vmpl2_perms,
            vmpl3_perms,
            gpa: gpa.0,
        };
        self.digest = LaunchDigest(snp_sha384::link(zerocopy::transmute_ref!(&info)));
        self.digest
    }

    /// As [`page`](Self::page), telling every step.
    pub fn page_steps(&mut self, page: &LaunchPage, step: &mut dyn FnMut(DigestStep)) {
        let (page_type, start) = (page.page_type(), page.gpa());
        let contents = match page {
            LaunchPage::Vmsa { vmsa, .. } => Some(self.vmsa_contents(vmsa)),
            _ => None,
        };
        let mut at = 0_u64;
        let mut next = |contents| {
            self.step(page_type, Gpa(start.0.wrapping_add(at)), contents, step);
            at = at.wrapping_add(PAGE_SIZE as u64);
        };
        match page {
            LaunchPage::Normal { data, .. } => hasher::each_page(data.bytes(), next),
            LaunchPage::Vmsa { .. } => next(contents.expect("of a VMSA")),
            LaunchPage::Zero { .. }
            | LaunchPage::Unmeasured { .. }
            | LaunchPage::Secrets { .. }
            | LaunchPage::Cpuid { .. } => {
                (0..page.len_bytes() / PAGE_SIZE as u64).for_each(|_| next(hasher::NO_CONTENTS));
            }
        }
    }

    fn vmsa_contents(&self, vmsa: &Vmsa) -> [u8; 48] {
        if self.verbatim_vmsas { snp_sha384::sha384(vmsa.as_bytes()) } else { hasher::vmsa(vmsa) }
    }

    /// One page without IMI and permissions.
    fn step(&mut self, page_type: PageType, gpa: Gpa, contents: [u8; 48], step: &mut dyn FnMut(DigestStep)) {
        let digest = self.extend(page_type, gpa, contents, false, [VmplPermissions::default(); 3]);
        step(DigestStep { gpa, page_type, contents, digest });
    }

    /// What KVM measures at LAUNCH_FINISH if the vCPUs' state comes from registers: a VMSA for every vCPU, all at the
    /// same address.
    fn legacy_vmsas(&mut self, boot: &BootState, vcpus: u32, step: &mut dyn FnMut(DigestStep)) {
        let BootState::Registers { boot, others } = boot else { return };
        let mut contents = self.vmsa_contents(boot);
        for index in 0..vcpus {
            if index == 1 {
                // The others are alike: 511 of them are hashed once.
                contents = self.vmsa_contents(others);
            }
            self.step(PageType::VMSA, LEGACY_VMSA_GPA, contents, step);
        }
    }
}

/// Predicts the launch digest of a plan.
///
/// The plan is not checked ([`LaunchPlan::validate`] does that): the digest of a plan that no platform could carry out is
/// still a digest. Takes time in proportion to the pages of the plan and, with [`BootState::Registers`], to its vCPUs.
///
/// ```
/// use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
/// use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, predict};
///
/// let features = SevFeatures(SevFeatures::SNP_ACTIVE);
/// let vmsa_gpa = Gpa(0x1000);
/// let plan = |vcpus| LaunchPlan {
///     policy: GuestPolicy::DEFAULT,
///     gosvw: [0; 16],
///     features,
///     memory: vec![MemoryRegion { gpa: Gpa(0), len: 0x10_0000 }],
///     pages: vec![LaunchPage::Vmsa { gpa: vmsa_gpa, vmsa: Box::new(Vmsa { sev_features: features, ..Vmsa::default() }) }],
///     boot: BootState::Direct { vmsa_gpa },
///     vcpus,
///     id_block: None,
///     host_data: [0; 32],
///     vcek_disabled: false,
/// };
/// // A boot VMSA that user space supplies makes the digest independent of the vCPU count.
/// assert_eq!(predict(&plan(1)), predict(&plan(512)));
/// ```
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE; Linux, arch/x86/kvm/svm/sev.c, SNP_LAUNCH_FINISH for the order of the VMSAs.
pub fn predict(plan: &LaunchPlan) -> LaunchDigest {
    predict_steps(plan, &mut |_| {})
}

/// The digests of a plan with each of several numbers of vCPUs, in one pass over its pages: `result[i]` is the digest with
/// `vcpus[i]` vCPUs. The plan's own number is not asked.
///
/// Takes time in proportion to the pages of the plan and, with [`BootState::Registers`], to the greatest number.
pub fn predict_counts(plan: &LaunchPlan, vcpus: &[u32]) -> Vec<LaunchDigest> {
    let mut engine = DigestEngine::new();
    for page in &plan.pages {
        engine.page(page);
    }
    counts_from(engine.digest(), &plan.boot, vcpus)
}

/// As [`predict_counts`], for a launch whose pages gave `pages`.
pub fn counts_from(pages: LaunchDigest, boot: &BootState, vcpus: &[u32]) -> Vec<LaunchDigest> {
    let mut engine = DigestEngine::resume(pages);
    let greatest = vcpus.iter().copied().max().unwrap_or_default();
    let mut digests = vec![pages];
    engine.legacy_vmsas(boot, greatest, &mut |step| digests.push(step.digest));
    let last = digests.len() - 1;
    vcpus.iter().map(|count| digests[last.min(*count as usize)]).collect()
}

/// As [`predict`], telling every page and the digest after it to `step`, in the order in which they are measured.
pub fn predict_steps(plan: &LaunchPlan, step: &mut dyn FnMut(DigestStep)) -> LaunchDigest {
    let mut engine = DigestEngine::new();
    engine.plan(plan, step);
    engine.digest()
}
