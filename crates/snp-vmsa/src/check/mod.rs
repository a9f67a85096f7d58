//! Whether a processor would run a VMSA, and whether an SEV-SNP launch would take it.
//!
//! [`vmrun_findings`] applies the processor's own checks. The APM lists what VMRUN refuses with VMEXIT_INVALID; such a rule
//! has [`Severity::VmrunRefuses`]. Everything else that can only be a mistake has [`Severity::Suspicious`]: the processor
//! would start and then fault or behave unlike the page says. Among these are
//! - fields that VMRUN sign-extends instead of refusing them (segment bases, SSP, ISST_ADDR, PLn_SSP);
//! - fields of which the APM says neither that VMRUN refuses nor that it accepts them (reserved bits of RFLAGS, XCR0, XSS,
//!   MXCSR and SEV_FEATURES, a VMPL that does not exist). Section "VMRUN" of "Encrypted State (SEV-ES)" has VMRUN end in
//!   VMEXIT_INVALID if any part of it faults, which may or may not cover them.
//!
//! [`launch_findings`] applies what KVM and the firmware want of a VMSA page at launch.
//!
//! Not checked, because one page cannot tell: bits that are reserved only on processors without some feature, the checksum
//! that VMRUN computes over a VMSA, the VMSA's RMP entry, and everything in the VMCB (ASID, intercepts, AVIC).
//!
//! # Source
//! AMD 24593 (APM volume 2), revision 3.42 and later, "Canonicalization and Consistency Checks" in "VMRUN Instruction",
//! and the sections that each rule names.
//!
//! What was read there: "Segment State in the VMCB", "Canonicalization and Consistency Checks", and the chapters on SEV-ES and
//! SEV-SNP. "Event Injection" and "Nested Paging and VMRUN/#VMEXIT" are known from quotations of them on the KVM list. Not
//! verified against the document: which bits the register figures reserve (CR0, CR3, CR4, RFLAGS, DBGCTL, XCR0, XSS, MXCSR,
//! S_CET and U_CET; EFER's were compared with other public definitions, but not that bits 7:1 read as zero rather than must
//! be zero). The rules on CR3, CR4, S_CET and U_CET refuse by them, so a processor newer than these masks may take what
//! they refuse.

mod control;
mod extended;
mod launch;
mod segments;
mod sev;

use std::fmt;

use snp_abi::Vmsa;

pub use launch::{LaunchRules, launch_findings};

/// What comes of breaking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The page is taken, but cannot be meant: see the [module](self).
    Suspicious,
    /// The launch is refused.
    LaunchRefuses,
    /// VMRUN ends at once, with VMEXIT_INVALID unless the message says otherwise.
    VmrunRefuses,
}

impl Severity {
    /// The name in `--json`: `suspicious`, `launch-refuses`, `vmrun-refuses`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspicious => "suspicious",
            Self::LaunchRefuses => "launch-refuses",
            Self::VmrunRefuses => "vmrun-refuses",
        }
    }

    /// Whether the guest would never run.
    pub const fn is_violation(self) -> bool {
        matches!(self, Self::LaunchRefuses | Self::VmrunRefuses)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A rule that a VMSA breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name. Stable: programs may test for it.
    pub id: &'static str,
    /// What comes of it.
    pub severity: Severity,
    /// The field to change, as [`fields::find`](crate::fields::find) takes it, or `""` if no field alone is wrong.
    pub field: &'static str,
    /// The document and section that the rule comes from.
    pub source: &'static str,
    /// What is wrong, with the values found.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}; {}]", self.severity, self.message, self.id, self.source)
    }
}

/// A rule about the state in one VMSA: data, and the test that says what is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule's name. Stable.
    pub id: &'static str,
    /// What comes of breaking it.
    pub severity: Severity,
    /// The field to change.
    pub field: &'static str,
    /// The document and section that it comes from.
    pub source: &'static str,
    test: fn(&Vmsa) -> Option<String>,
}

impl Rule {
    /// What is wrong with `vmsa` by this rule.
    pub fn check(&self, vmsa: &Vmsa) -> Option<Finding> {
        let Self { id, severity, field, source, test } = *self;
        test(vmsa).map(|message| Finding { id, severity, field, source, message })
    }
}

/// All rules of [`vmrun_findings`], in the order in which they are applied.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [control::RULES, segments::RULES, extended::RULES, sev::RULES].into_iter().flatten()
}

/// What a processor would make of `vmsa`, in the order of [`rules`].
pub fn vmrun_findings(vmsa: &Vmsa) -> Vec<Finding> {
    rules().filter_map(|rule| rule.check(vmsa)).collect()
}

/// The APM's list of illegal states.
const CONSISTENCY: &str = "APM 2, Canonicalization and Consistency Checks";

/// Bits of control registers, by their architectural positions.
mod bit {
    pub(super) const CR0_PE: u64 = 1 << 0;
    pub(super) const CR0_WP: u64 = 1 << 16;
    pub(super) const CR0_NW: u64 = 1 << 29;
    pub(super) const CR0_CD: u64 = 1 << 30;
    pub(super) const CR0_PG: u64 = 1 << 31;
    pub(super) const CR4_PAE: u64 = 1 << 5;
    pub(super) const CR4_LA57: u64 = 1 << 12;
    pub(super) const CR4_PCIDE: u64 = 1 << 17;
    pub(super) const CR4_CET: u64 = 1 << 23;
    pub(super) const EFER_LME: u64 = 1 << 8;
    pub(super) const EFER_LMA: u64 = 1 << 10;
    pub(super) const EFER_SVME: u64 = 1 << 12;
    pub(super) const RFLAGS_VM: u64 = 1 << 17;
}

/// `Some(message)` if `wrong`.
fn when(wrong: bool, message: impl FnOnce() -> String) -> Option<String> {
    wrong.then(message)
}

/// A message if `value` has bits outside `allowed`.
fn reserved(what: &str, value: u64, allowed: u64) -> Option<String> {
    let excess = value & !allowed;
    when(excess != 0, || format!("{what} is {value:#x}: bits {excess:#x} are reserved"))
}

/// The modes in which a VMSA starts its processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Real,
    Virtual8086,
    Protected,
    /// Long mode with CS.L clear.
    Compatibility,
    Long64,
}

impl Mode {
    fn of(vmsa: &Vmsa) -> Self {
        let long = vmsa.efer & bit::EFER_LME != 0 && vmsa.cr0 & bit::CR0_PG != 0;
        if vmsa.cr0 & bit::CR0_PE == 0 {
            Self::Real
        } else if long && vmsa.cs.attrib & segments::LONG != 0 {
            Self::Long64
        } else if long {
            Self::Compatibility
        } else if vmsa.rflags & bit::RFLAGS_VM != 0 {
            Self::Virtual8086
        } else {
            Self::Protected
        }
    }
}

/// Whether `address` is canonical under the paging depth that CR4 selects.
fn is_canonical(vmsa: &Vmsa, address: u64) -> bool {
    let unused = if vmsa.cr4 & bit::CR4_LA57 != 0 { 64 - 57 } else { 64 - 48 };
    let extended = (address.cast_signed() << unused) >> unused;
    extended == address.cast_signed()
}
