//! What `snp exec` says through the environment.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

use snp_asp::PlatformConfig;
use snp_softkvm::{UapiProfile, profiles};

/// Name of a uAPI profile.
const PROFILE: &str = "SNPKIT_SHIM_PROFILE";
/// Name of a product line.
const PLATFORM: &str = "SNPKIT_SHIM_PLATFORM";
/// What KVM_RUN does: `stop` or `refuse`.
const VCPU_RUN: &str = "SNPKIT_SHIM_VCPU_RUN";
/// Absolute path of the file that reports are appended to.
const REPORT: &str = "SNPKIT_SHIM_REPORT";

/// What KVM_RUN does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VcpuRun {
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
    pub(crate) vcpu_run: VcpuRun,
    pub(crate) report: Option<PathBuf>,
}

/// The settings, read once.
pub(crate) fn get() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let text = |name| env::var(name).unwrap_or_default();
        Settings {
            profile: profiles::find(&text(PROFILE)).unwrap_or(&profiles::MAINLINE),
            config: match text(PLATFORM).as_str() {
                "milan" => PlatformConfig::milan(),
                "turin" => PlatformConfig::turin(),
                _ => PlatformConfig::genoa(),
            },
            vcpu_run: if text(VCPU_RUN) == "refuse" { VcpuRun::Refuse } else { VcpuRun::Stop },
            report: env::var_os(REPORT).map(PathBuf::from),
        }
    })
}
