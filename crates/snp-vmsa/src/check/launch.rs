//! What an SEV-SNP launch wants of a VMSA page.

use snp_abi::{Gpa, SevFeatures, Vmpl, Vmsa};

use super::Finding;
use super::Severity::{self, LaunchRefuses, Suspicious};
use crate::fields::fields;

/// Under which rules a VMSA is launched: the uAPI profiles by which user space can supply one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchRules {
    /// The June 2026 patch: a VMSA page type at SNP_LAUNCH_UPDATE.
    DirectVmsa,
    /// The later rework: a vCPU command names the VMSA page.
    VcpuState,
    /// Linux 7.3 as released: user space cannot supply a VMSA.
    Mainline,
}

impl LaunchRules {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::DirectVmsa, Self::VcpuState, Self::Mainline];
}

const KVM: &str = "KVM, SNP_LAUNCH_UPDATE of a VMSA page";
const ERRATUM: &str = "Linux 7.3, KVM: a VMSA must not start a 2 MiB page (RMP erratum)";
const PAGE_HASH: &str = "AMD 56860, SNP_LAUNCH_UPDATE (TSC_SCALE and TSC_OFFSET are measured as zero)";
const LAYOUT: &str = "APM 2, VMSA Layout";

/// What a launch of `vmsa` at `gpa` would meet.
///
/// `gpa`: guest-physical byte address of the VMSA page, if it is known. `vm_features`: SEV features of the VM, with
/// SNPActive. The processor's own checks are [`vmrun_findings`](super::vmrun_findings); KVM makes none of them.
///
/// # Source
/// The June 2026 patch "KVM: SVM: Support KVM_SEV_SNP_PAGE_TYPE_VMSA at SNP_LAUNCH_UPDATE" and its rework; AMD 56860,
/// SNP_LAUNCH_UPDATE.
pub fn launch_findings(vmsa: &Vmsa, gpa: Option<Gpa>, vm_features: SevFeatures, rules: LaunchRules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |wrong: bool, id, severity: Severity, field, source, message: String| {
        if wrong {
            findings.push(Finding { id, severity, field, source, message });
        }
    };
    find(
        rules == LaunchRules::Mainline,
        "launch-no-vmsa",
        LaunchRefuses,
        "",
        "Linux 7.3, KVM_SEV_SNP_LAUNCH_UPDATE",
        "the mainline profile has no VMSA page type: KVM makes every VMSA itself".into(),
    );
    find(
        vmsa.sev_features != vm_features,
        "launch-features",
        LaunchRefuses,
        "sev_features",
        KVM,
        format!("SEV_FEATURES is {:?}, the VM's features are {vm_features:?}: they must be equal", vmsa.sev_features),
    );
    find(
        vmsa.vmpl != Vmpl(0),
        "launch-vmpl",
        LaunchRefuses,
        "vmpl",
        KVM,
        format!("VMPL is {}: the boot processor starts at VMPL 0", vmsa.vmpl.0),
    );
    if let Some(gpa) = gpa {
        let severity = if rules == LaunchRules::VcpuState { LaunchRefuses } else { Suspicious };
        let unaligned = format!("VMSA at {gpa}: want a 4 KiB-aligned address");
        find(!gpa.is_page_aligned(), "launch-gpa-page", LaunchRefuses, "", KVM, unaligned);
        let large = format!("VMSA at {gpa}, the start of a 2 MiB page: processors with the RMP erratum cannot run it");
        find(gpa.is_2mib_aligned(), "launch-gpa-2mib", severity, "", ERRATUM, large);
    }
    find(
        vmsa.tsc_scale != 0 || vmsa.tsc_offset != 0,
        "measured-tsc",
        Suspicious,
        "tsc_scale",
        PAGE_HASH,
        format!(
            "TSC_SCALE is {:#x} and TSC_OFFSET {:#x}: the firmware measures both as zero, other tools as they are",
            vmsa.tsc_scale, vmsa.tsc_offset
        ),
    );
    let meaningless = meaningless_fields(vmsa);
    find(
        !meaningless.is_empty(),
        "measured-reserved",
        Suspicious,
        "",
        LAYOUT,
        format!("{} not zero: measured, but without a meaning", meaningless.join(", ")),
    );
    findings
}

/// Reserved fields that are not zero. The one at 0x320 has a meaning under Secure AVIC.
fn meaningless_fields(vmsa: &Vmsa) -> Vec<String> {
    let secure_avic = vmsa.sev_features.has(SevFeatures::SECURE_AVIC);
    fields()
        .filter(|field| field.is_reserved() && field.bytes(vmsa).iter().any(|byte| *byte != 0))
        .filter(|field| !(secure_avic && field.offset() == 0x320))
        .map(|field| field.name())
        .collect()
}
