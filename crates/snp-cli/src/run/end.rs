//! How a run ends, in words and for programs.

use std::fmt::Write;

use serde::Serialize;

/// Why a guest runs no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum End {
    /// It asked to, by the GHCB protocol.
    Terminated {
        vcpu: u32,
        /// REASON_CODE_SET.
        set: u8,
        /// REASON_CODE.
        code: u8,
    },
    /// It wrote to the exit port.
    ExitPort { vcpu: u32, value: u32 },
    /// Triple fault.
    TripleFault { vcpu: u32, rip: String, last_instructions: Vec<String> },
    /// VMRUN refused the VMSA.
    EntryRefused { vcpu: u32, findings: Vec<String> },
    /// KVM_RUN failed.
    RunFailed { vcpu: u32, errno: String, rip: String, last_request: Option<String> },
    /// The same fault again and again.
    Stuck { vcpu: u32, rip: String },
    /// Something that the model does not have.
    Unmodelled { vcpu: u32, rip: String, what: String },
    /// Every vCPU waits, and nothing will wake one.
    NothingRuns,
    /// `--max-insns`.
    MaxInsns { instructions: u64 },
    /// `--timeout`.
    Timeout { seconds: u64 },
    /// The user's signal.
    Interrupted,
    /// The debugger's word.
    Killed,
}

impl End {
    /// Whether the guest ended as it wanted to and says that all is well.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, Self::Terminated { set: 0, code: 0, .. } | Self::ExitPort { value: 0, .. })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Terminated { set, code, .. } => {
                let meaning = meaning(*set, *code).map(|meaning| format!(" ({meaning})")).unwrap_or_default();
                format!("guest asked to end: set {set}, code {code:#x}{meaning}")
            }
            Self::ExitPort { value, .. } => format!("guest asked to end: {value:#x} to the exit port"),
            Self::TripleFault { vcpu, rip, last_instructions } => {
                let mut text = format!("triple fault of vCPU {vcpu} at {rip}");
                match last_instructions.len() {
                    0 => text.push_str("; --deterministic shows the instructions before it"),
                    count => {
                        let _ = write!(text, ", last {count} instructions:");
                    }
                }
                last_instructions.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
                text
            }
            Self::EntryRefused { vcpu, findings } => {
                format!("VMRUN refused the VMSA of vCPU {vcpu}: {}", findings.join("; "))
            }
            Self::RunFailed { vcpu, errno, rip, last_request } => {
                let request = last_request.as_ref().map(|request| format!("; last request: {request}"));
                format!("KVM_RUN of vCPU {vcpu} failed: {errno}, at {rip}{}", request.unwrap_or_default())
            }
            Self::Stuck { vcpu, rip } => format!(
                "vCPU {vcpu} is stuck at {rip}: a nested page fault that KVM cannot resolve and repeats for ever"
            ),
            Self::Unmodelled { vcpu, rip, what } => format!("not modelled: {what}, vCPU {vcpu} at {rip}"),
            Self::NothingRuns => "every vCPU waits, and nothing will wake one".into(),
            Self::MaxInsns { instructions } => format!("max-insns reached: {instructions} instructions"),
            Self::Timeout { seconds } => format!("timeout reached: {seconds} s"),
            Self::Interrupted => "interrupted".into(),
            Self::Killed => "killed by the debugger".into(),
        }
    }
}

/// AMD 56421, "GHCB MSR Protocol", termination request: reason code set 0.
fn meaning(set: u8, code: u8) -> Option<&'static str> {
    match (set, code) {
        (0, 0) => Some("general termination request"),
        (0, 1) => Some("SEV-ES / GHCB protocol range is not supported"),
        (0, 2) => Some("SEV-SNP features are not supported"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_words() {
        let asked = End::Terminated { vcpu: 0, set: 1, code: 0x23 };
        assert_eq!((asked.text().as_str(), asked.is_well()), ("guest asked to end: set 1, code 0x23", false));
        assert!(End::Terminated { vcpu: 3, set: 0, code: 0 }.is_well());
        assert!(End::ExitPort { vcpu: 0, value: 0 }.is_well() && !End::ExitPort { vcpu: 0, value: 1 }.is_well());
        let fault = End::TripleFault {
            vcpu: 1,
            rip: "0x1000".into(),
            last_instructions: vec!["0x0ffe  nop".into(), "0x1000  ud2".into()],
        };
        assert_eq!(
            fault.text(),
            "triple fault of vCPU 1 at 0x1000, last 2 instructions:\n  0x0ffe  nop\n  0x1000  ud2"
        );
    }

    #[test]
    fn programs_read_the_kind() {
        let json = serde_json::to_string(&End::Terminated { vcpu: 0, set: 0, code: 2 }).unwrap();
        assert_eq!(json, r#"{"kind":"terminated","vcpu":0,"set":0,"code":2}"#);
        assert_eq!(
            serde_json::to_string(&End::MaxInsns { instructions: 1 }).unwrap(),
            r#"{"kind":"max-insns","instructions":1}"#
        );
    }
}
