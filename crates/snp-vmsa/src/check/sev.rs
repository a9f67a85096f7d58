//! SEV features, VMPL, and what only guests with injection features hand over in their VMSA.

use snp_abi::{SevFeatures, Vmsa};

use super::Severity::{Suspicious, VmrunRefuses};
use super::{Rule, reserved, when};

/// SEV_FEATURES: bits 0 to 16, and IbpbOnEntry.
const FEATURES_DEFINED: u64 = 0x0021_ffff;
const INJECTION: &str = "APM 2, Interrupt Injection Restrictions";
const SECURE_AVIC: &str = "APM 2, Secure AVIC, VMRUN and #VMEXIT";
/// VINTR_CTRL: BUSY.
const BUSY: u64 = 1 << 63;
/// EVENTINJ: vector, type, V.
const EVENT_VALID: u64 = 1 << 31;
const EVENT_TYPE_EXCEPTION: u64 = 3;
/// Interrupt, NMI, exception. Software interrupts (4) may not be injected into SEV-ES guests.
const EVENT_TYPES: [u64; 3] = [0, 2, EVENT_TYPE_EXCEPTION];

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "features-snp-active",
        severity: VmrunRefuses,
        field: "sev_features",
        source: "APM 2, Running SNP-Active Virtual Machines, VMRUN Page Checks",
        test: |vmsa| {
            when(!vmsa.sev_features.has(SevFeatures::SNP_ACTIVE), || {
                format!(
                    "SEV_FEATURES is {:?}: without SNPActive (bit 0), VMRUN wants the VMSA in a page of the hypervisor",
                    vmsa.sev_features
                )
            })
        },
    },
    Rule {
        id: "features-injection",
        severity: VmrunRefuses,
        field: "sev_features",
        source: INJECTION,
        test: |vmsa| {
            when(vmsa.sev_features.has(SevFeatures::RESTRICTED_INJECTION | SevFeatures::ALTERNATE_INJECTION), || {
                format!(
                    "SEV_FEATURES is {:?}: restricted and alternate injection exclude each other",
                    vmsa.sev_features
                )
            })
        },
    },
    Rule {
        id: "features-secure-avic",
        severity: VmrunRefuses,
        field: "sev_features",
        source: SECURE_AVIC,
        test: |vmsa| {
            let injection = SevFeatures::RESTRICTED_INJECTION | SevFeatures::ALTERNATE_INJECTION;
            let both = vmsa.sev_features.has(SevFeatures::SECURE_AVIC) && vmsa.sev_features.0 & injection != 0;
            when(both, || {
                format!(
                    "SEV_FEATURES is {:?}: Secure AVIC excludes restricted and alternate injection",
                    vmsa.sev_features
                )
            })
        },
    },
    Rule {
        id: "features-reserved",
        severity: Suspicious,
        field: "sev_features",
        source: "APM 2, SEV_FEATURES (bits without a feature; processors with an allowed-features mask refuse them)",
        test: |vmsa| reserved("SEV_FEATURES", vmsa.sev_features.0, FEATURES_DEFINED),
    },
    Rule {
        id: "vmpl-range",
        severity: Suspicious,
        field: "vmpl",
        source: "APM 2, Virtual Machine Privilege Levels (the APM does not say what VMRUN does)",
        test: |vmsa| when(vmsa.vmpl.0 > 3, || format!("VMPL is {}: want 0 to 3", vmsa.vmpl.0)),
    },
    Rule {
        id: "virtual-tom-aligned",
        severity: Suspicious,
        field: "virtual_tom",
        source: "APM 2, Virtual Top-of-Memory",
        test: |vmsa| {
            let aligned = vmsa.virtual_tom.is_multiple_of(2 << 20) && vmsa.virtual_tom >> 52 == 0;
            when(vmsa.sev_features.has(SevFeatures::VTOM) && !aligned, || {
                format!("VIRTUAL_TOM is {:#x}: want a 2 MiB-aligned address below 2^52", vmsa.virtual_tom)
            })
        },
    },
    Rule {
        id: "vintr-busy",
        severity: VmrunRefuses,
        field: "vintr_ctrl",
        source: INJECTION,
        test: |vmsa| {
            when(injects(vmsa) && vmsa.vintr_ctrl & BUSY != 0, || {
                "VINTR_CTRL.BUSY (bit 63) is set: VMRUN ends with VMEXIT_BUSY".into()
            })
        },
    },
    Rule {
        id: "event-type",
        severity: VmrunRefuses,
        field: "event_inj",
        source: "APM 2, Event Injection, and Encrypted State (SEV-ES), VMRUN",
        test: |vmsa| {
            let kind = event(vmsa)? >> 8 & 7;
            when(!EVENT_TYPES.contains(&kind), || {
                format!("EVENTINJ is {:#x}: type {kind} is reserved or may not be injected", vmsa.event_inj)
            })
        },
    },
    Rule {
        id: "event-vector",
        severity: VmrunRefuses,
        field: "event_inj",
        source: "APM 2, Event Injection, and Encrypted State (SEV-ES), VMRUN",
        test: |vmsa| {
            let event = event(vmsa)?;
            let vector = event & 0xff;
            let wrong = matches!(vector, 2..=4) || vector > 31;
            when(event >> 8 & 7 == EVENT_TYPE_EXCEPTION && wrong, || {
                format!("EVENTINJ is {event:#x}: vector {vector} is no exception that may be injected")
            })
        },
    },
    Rule {
        id: "injection-ignored",
        severity: Suspicious,
        field: "",
        source: INJECTION,
        test: |vmsa| {
            when(!injects(vmsa) && (vmsa.vintr_ctrl != 0 || vmsa.event_inj != 0), || {
                format!(
                    "VINTR_CTRL is {:#x} and EVENTINJ {:#x}: ignored without alternate injection (on processors with \
                     Secure AVIC, VINTR_CTRL.BUSY still stops VMRUN)",
                    vmsa.vintr_ctrl, vmsa.event_inj
                )
            })
        },
    },
    Rule {
        id: "secure-avic-control",
        severity: Suspicious,
        field: "reserved_0x320",
        source: "APM 2, Secure AVIC Control MSR",
        test: |vmsa| {
            let control = u64::from_le_bytes(vmsa.reserved_0x320);
            if vmsa.sev_features.has(SevFeatures::SECURE_AVIC) {
                reserved("The Secure AVIC control at 0x320", control, 0x000f_ffff_ffff_f003)
            } else {
                None
            }
        },
    },
    Rule {
        id: "tlb-tracking",
        severity: Suspicious,
        field: "",
        source: "APM 2, TLB management",
        test: |vmsa| {
            when(vmsa.tlb_id != 0 || vmsa.pcpu_id != 0, || {
                format!("TLB_ID is {:#x} and PCPU_ID {:#x}: a new VMSA has both zero", vmsa.tlb_id, vmsa.pcpu_id)
            })
        },
    },
];

/// Whether VMRUN takes event injection and interrupt queuing from the VMSA.
fn injects(vmsa: &Vmsa) -> bool {
    vmsa.sev_features.0 & (SevFeatures::ALTERNATE_INJECTION | SevFeatures::SECURE_AVIC) != 0
}

/// The event that VMRUN would inject from the VMSA.
fn event(vmsa: &Vmsa) -> Option<u64> {
    (injects(vmsa) && vmsa.event_inj & EVENT_VALID != 0).then_some(vmsa.event_inj)
}
