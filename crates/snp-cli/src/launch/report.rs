//! What `snp launch` prints: the same facts for people and, as JSON, for programs.

use std::fmt::Write;

use serde::Serialize;
use snp_abi::{FwStatus, Gpa, LEGACY_VMSA_GPA, PAGE_SIZE, PageType};
use snp_launch::{LaunchError, LaunchPlan, Launched, LaunchedVcpu, VmsaSource};

use snp_html::Document;

use super::attest::WrittenReport;
use super::transcript::hex;
use crate::html;

/// Where a digest comes from: the platform told it, or the digest engine predicts it.
const PLATFORM: &str = "platform";
const PREDICTED: &str = "predicted";

/// A finished launch. Field names are the stable schema of docs/json.md.
#[derive(Serialize)]
pub(super) struct Report {
    launch_digest: String,
    launch_digest_source: &'static str,
    image: String,
    profile: &'static str,
    backend: &'static str,
    platform: String,
    policy: String,
    guest_features: String,
    host_data: Option<String>,
    id_block: bool,
    vcpus: Vec<Vcpu>,
    pages: Vec<Range>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation_report: Option<WrittenReport>,
}

#[derive(Serialize)]
struct Vcpu {
    index: u32,
    vmsa_source: &'static str,
    vmsa_gpa: Option<String>,
}

/// A run of measured pages of one type.
#[derive(Serialize)]
struct Range {
    gpa: String,
    len: u64,
    r#type: String,
    #[serde(skip)]
    start: Gpa,
}

/// What the report says beside plan and launch.
pub(super) struct Setting {
    pub(super) image: String,
    pub(super) profile: &'static str,
    pub(super) backend: &'static str,
    pub(super) platform: String,
    pub(super) warnings: Vec<String>,
    pub(super) report: Option<WrittenReport>,
}

impl Report {
    pub(super) fn new(plan: &LaunchPlan, launched: &Launched, setting: Setting) -> Self {
        // Hardware tells it in attestation reports only: what is printed then is what the same plan must give.
        let (digest, source) = match launched.digest {
            Some(digest) => (digest, PLATFORM),
            None => (snp_launch::predict(plan), PREDICTED),
        };
        Self {
            launch_digest: digest.to_string(),
            launch_digest_source: source,
            image: setting.image,
            profile: setting.profile,
            backend: setting.backend,
            platform: setting.platform,
            policy: plan.policy.to_string(),
            guest_features: hex(plan.features.0),
            host_data: (plan.host_data != [0; 32])
                .then(|| plan.host_data.iter().map(|byte| format!("{byte:02x}")).collect()),
            id_block: plan.id_block.is_some(),
            vcpus: launched.vcpus.iter().map(Vcpu::new).collect(),
            pages: ranges(plan, launched),
            warnings: setting.warnings,
            attestation_report: setting.report,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}", self.image);
        let _ = writeln!(
            out,
            "profile {} on {} ({}), policy {}, features {}\n",
            self.profile, self.backend, self.platform, self.policy, self.guest_features
        );
        self.pages_text(&mut out);
        self.vcpus_text(&mut out);
        if self.id_block {
            let _ = writeln!(out, "ID block accepted: digest, policy and signatures\n");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "warning: {warning}");
        }
        if !self.warnings.is_empty() {
            out.push('\n');
        }
        if self.launch_digest_source == PREDICTED {
            let _ = writeln!(out, "predicted, as no ioctl tells it; the guest's attestation report does:");
        }
        let _ = writeln!(out, "launch digest {}", self.launch_digest);
        out.extend(self.attestation_report.iter().map(WrittenReport::text));
        out
    }

    /// As a page.
    pub(super) fn page(&self, plan: &LaunchPlan) -> Document {
        let mut page = html::of_plan(plan, format!("Launch of {}", self.image));
        page.subtitle = format!("profile {} on {} ({})", self.profile, self.backend, self.platform);
        page.warnings = self.warnings.clone();
        let vcpu = |vcpu: &Vcpu| {
            vec![vcpu.index.to_string(), vcpu.vmsa_source.to_owned(), vcpu.vmsa_gpa.clone().unwrap_or_default()]
        };
        page.tables =
            vec![html::table("vCPUs", &["vCPU", "VMSA", "measured at"], self.vcpus.iter().map(vcpu).collect())];
        page
    }

    fn pages_text(&self, out: &mut String) {
        let _ = writeln!(out, "measured, in this order:");
        // KVM measures its VMSAs all at one address: one line for all of them.
        for same in self.pages.chunk_by(|a, b| (a.start, a.len, &a.r#type) == (b.start, b.len, &b.r#type)) {
            let range = &same[0];
            let last = range.start.0 + (range.len - 1);
            let pages = range.len / PAGE_SIZE as u64;
            let times = if same.len() > 1 { format!(", {} times", same.len()) } else { String::new() };
            let _ = writeln!(out, "  {:012x}-{last:012x} {pages:>7}  {}{times}", range.start.0, range.r#type);
        }
        out.push('\n');
    }

    fn vcpus_text(&self, out: &mut String) {
        let _ = writeln!(out, "vCPUs:");
        for run in self.vcpus.chunk_by(|a, b| (a.vmsa_source, &a.vmsa_gpa) == (b.vmsa_source, &b.vmsa_gpa)) {
            let (first, last) = (&run[0], &run[run.len() - 1]);
            let who = match run.len() {
                1 => format!("{}", first.index),
                _ => format!("{}-{}", first.index, last.index),
            };
            let _ = match (first.vmsa_source, &first.vmsa_gpa) {
                ("user", Some(gpa)) => writeln!(out, "  {who:<9} user  VMSA supplied at {gpa}"),
                ("kvm", Some(gpa)) => writeln!(out, "  {who:<9} kvm   VMSA made by KVM, measured at {gpa}"),
                (source, _) => writeln!(out, "  {who:<9} {source}  no VMSA until the guest creates one"),
            };
        }
        out.push('\n');
    }
}

impl Vcpu {
    fn new(vcpu: &LaunchedVcpu) -> Self {
        Self { index: vcpu.index, vmsa_source: vcpu.vmsa_source.name(), vmsa_gpa: vcpu.vmsa_gpa.map(|gpa| hex(gpa.0)) }
    }
}

/// The measured pages in order: those of the plan, neighbours of one type joined, then the VMSAs that KVM made.
fn ranges(plan: &LaunchPlan, launched: &Launched) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for page in &plan.pages {
        let (gpa, len, page_type) = (page.gpa(), page.len_bytes(), page.page_type());
        match ranges.last_mut() {
            Some(last) if last.start.checked_add(last.len) == Some(gpa) && last.r#type == page_type.to_string() => {
                last.len += len;
            }
            _ => ranges.push(Range::new(gpa, len, page_type)),
        }
    }
    let made = launched.vcpus.iter().filter(|vcpu| vcpu.vmsa_source == VmsaSource::Kvm);
    ranges.extend(
        made.map(|vcpu| Range::new(vcpu.vmsa_gpa.unwrap_or(LEGACY_VMSA_GPA), PAGE_SIZE as u64, PageType::VMSA)),
    );
    ranges
}

impl Range {
    fn new(gpa: Gpa, len: u64, page_type: PageType) -> Self {
        Self { gpa: hex(gpa.0), len, r#type: page_type.to_string(), start: gpa }
    }
}

/// A refused launch.
#[derive(Serialize)]
pub(super) struct Refusal {
    error: String,
    command: Option<&'static str>,
    gpa: Option<String>,
    errno: Option<String>,
    fw_status: Option<u32>,
    fw_status_name: Option<&'static str>,
    hint: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(error: &LaunchError) -> Self {
        let (command, gpa, errno, status) = match error {
            LaunchError::Refused { command, gpa, errno, fw_status } => {
                (Some(*command), *gpa, Some(errno.to_string()), *fw_status)
            }
            LaunchError::Cpuid { command, gpa, .. } => {
                (Some(*command), Some(*gpa), Some("EIO".into()), Some(FwStatus::INVALID_PARAM))
            }
            LaunchError::Plan(_) | LaunchError::Unmodelled(_) => (None, None, None, None),
        };
        Self {
            error: error.to_string(),
            command,
            gpa: gpa.map(|gpa| hex(gpa.0)),
            errno,
            fw_status: status.map(|status| status.0),
            fw_status_name: status.and_then(FwStatus::name),
            hint: hint(command, status),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let hint = self.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("error: {}{hint}", self.error)
    }
}

/// What to do about a refusal, where one thing is by far the likeliest.
fn hint(command: Option<&str>, status: Option<FwStatus>) -> Option<&'static str> {
    match (command, status) {
        (_, Some(FwStatus::BAD_MEASUREMENT)) => {
            Some("the ID block was made for another digest; launch without it to see the digest of this image")
        }
        (_, Some(FwStatus::BAD_SIGNATURE)) => Some("the signatures in the ID authentication data do not verify"),
        (Some("KVM_SEV_SNP_LAUNCH_FINISH"), Some(FwStatus::POLICY_FAILURE)) => {
            Some("the policy in the ID block is not the policy of the launch")
        }
        (_, Some(FwStatus::POLICY_FAILURE)) => {
            Some("the platform cannot keep this policy; see --policy and --platform")
        }
        (Some("KVM_CREATE_VCPU"), _) => Some("this KVM takes fewer vCPUs; see --vcpus"),
        (Some("KVM_SEV_SNP_LAUNCH_START"), Some(FwStatus::SUCCESS)) => Some(
            "KVM itself refused; a policy has bit 17 and no bit that KVM does not know, like 0x30000; see --policy",
        ),
        (Some("KVM_SEV_SNP_LAUNCH_UPDATE"), Some(FwStatus::SUCCESS)) => {
            Some("KVM itself refused; check the VMSA with `snp vmsa check`")
        }
        _ => None,
    }
}
