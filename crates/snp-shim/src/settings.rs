//! What `snp exec` says through the environment.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

use snp_asp::PlatformConfig;
use snp_softkvm::{UapiProfile, profiles};

use crate::real;

/// Name of a uAPI profile.
const PROFILE: &str = "SNPKIT_SHIM_PROFILE";
/// Name of a product line.
const PLATFORM: &str = "SNPKIT_SHIM_PLATFORM";
/// Numbers of the VM types that KVM offers, with commas between them.
const VM_TYPES: &str = "SNPKIT_SHIM_VM_TYPES";
/// What KVM_RUN does: `run`, `stop` or `refuse`.
const VCPU_RUN: &str = "SNPKIT_SHIM_VCPU_RUN";
/// Set to be told how long the commands of a launch took.
const TIMING: &str = "SNPKIT_SHIM_TIMING";
/// Set to replace CPUID when the program starts, not when it opens a device.
const CPUID_AT_START: &str = "SNPKIT_SHIM_CPUID_AT_START";
/// Absolute path of the file that reports are appended to.
const REPORT: &str = "SNPKIT_SHIM_REPORT";
/// Absolute path of the file that lines of the transcript are appended to.
const TRANSCRIPT: &str = "SNPKIT_SHIM_TRANSCRIPT";
/// Absolute path of the socket at which the guest answers that the program runs in.
const GUEST: &str = "SNPKIT_SHIM_GUEST";
/// Absolute path of the library that shall record and let everything through. Any other copy, preloaded behind it,
/// stands in for the devices: so a recording can be made of a program under `snp exec`.
const RECORDER: &str = "SNPKIT_RECORD_SHIM";
/// The recorder's own files.
const RECORDER_REPORT: &str = "SNPKIT_RECORD_REPORT";
const RECORDER_TRANSCRIPT: &str = "SNPKIT_RECORD_TRANSCRIPT";

/// What KVM_RUN does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VcpuRun {
    /// Runs the guest.
    Run,
    /// Ends the program after a finished launch.
    Stop,
    /// Fails.
    Refuse,
}

/// All settings. What is absent or unknown is as `snp exec` without options: a program may clean its environment.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) profile: &'static UapiProfile,
    pub(crate) config: PlatformConfig,
    /// The product line's name.
    pub(crate) platform: &'static str,
    /// The VM types that KVM offers, a mask by their numbers.
    pub(crate) vm_types: u32,
    pub(crate) vcpu_run: VcpuRun,
    pub(crate) report: Option<PathBuf>,
    pub(crate) transcript: Option<PathBuf>,
    /// Where the guest answers that the program runs in.
    pub(crate) guest: Option<PathBuf>,
    /// Tells how long the commands of a launch took.
    pub(crate) timing: bool,
    /// Stands in for nothing and writes down what the real devices answer.
    pub(crate) records: bool,
}

/// Whether CPUID is replaced before the program asks for anything. Looked at in every program: without the other settings.
pub(crate) fn replaces_cpuid_at_start() -> bool {
    env::var_os(CPUID_AT_START).is_some() && !get().records
}

/// The settings, read once.
pub(crate) fn get() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let text = |name| env::var(name).unwrap_or_default();
        let path = |name| env::var_os(name).map(PathBuf::from);
        let records = path(RECORDER).is_some_and(|recorder| real::own_path().is_some_and(|own| own == recorder));
        let (report, transcript) = if records { (RECORDER_REPORT, RECORDER_TRANSCRIPT) } else { (REPORT, TRANSCRIPT) };
        let (platform, config) = match text(PLATFORM).as_str() {
            "milan" => ("milan", PlatformConfig::milan()),
            "turin" => ("turin", PlatformConfig::turin()),
            _ => ("genoa", PlatformConfig::genoa()),
        };
        Settings {
            profile: profiles::find(&text(PROFILE)).unwrap_or(&profiles::MAINLINE),
            config,
            platform,
            vm_types: vm_types(&text(VM_TYPES)).unwrap_or(u32::MAX),
            vcpu_run: match text(VCPU_RUN).as_str() {
                "refuse" => VcpuRun::Refuse,
                "stop" => VcpuRun::Stop,
                _ => VcpuRun::Run,
            },
            report: path(report),
            transcript: path(transcript),
            guest: path(GUEST).filter(|_| !records),
            timing: env::var_os(TIMING).is_some(),
            records,
        }
    })
}

/// The mask of a list of numbers.
fn vm_types(list: &str) -> Option<u32> {
    list.split(',').try_fold(0, |mask, number| Some(mask | 1_u32.checked_shl(number.parse().ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::vm_types;

    #[test]
    fn a_list_of_vm_types_is_a_mask() {
        assert_eq!(vm_types("4"), Some(0x10));
        assert_eq!(vm_types("2,3"), Some(0x0c));
        for bad in ["", "4,", "40", "x"] {
            assert_eq!(vm_types(bad), None, "{bad}");
        }
    }
}
