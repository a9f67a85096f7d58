//! The back ends that carry a plan out, and what they tell while they do.

use snp_abi::{Errno, FwStatus, Gpa, LaunchDigest, PageType};
use thiserror::Error;

use crate::{LaunchPlan, PlanError};

/// A back end: something on which a plan can be launched.
pub trait Platform {
    /// The back end's name, as `--json` gives it in `backend`: `soft`, `kvm`.
    fn backend(&self) -> &'static str;

    /// The uAPI profile's name, as `--profile` takes it.
    fn profile(&self) -> &'static str;

    /// Carries out `plan` from creating the VM to LAUNCH_FINISH; every command is told to `observer`, refused ones too.
    ///
    /// # Errors
    /// [`LaunchError`]; the VM is destroyed then.
    fn launch(&self, plan: &LaunchPlan, observer: &mut dyn LaunchObserver) -> Result<Launched, LaunchError>;
}

/// What a successful launch left behind.
#[derive(Clone, Debug)]
pub struct Launched {
    /// The launch digest, if the back end can tell it.
    pub digest: Option<LaunchDigest>,
    /// The vCPUs in index order.
    pub vcpus: Vec<LaunchedVcpu>,
}

/// One vCPU after LAUNCH_FINISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchedVcpu {
    /// The vCPU's index.
    pub index: u32,
    /// Who made its VMSA.
    pub vmsa_source: VmsaSource,
    /// Where its VMSA was measured, if it has one.
    pub vmsa_gpa: Option<Gpa>,
}

/// Who made a vCPU's VMSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmsaSource {
    /// User space supplied it.
    User,
    /// KVM built it from the vCPU's registers.
    Kvm,
    /// There is none until the guest creates one.
    None,
}

impl VmsaSource {
    /// The name in `--json`: `user`, `kvm`, `none`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Kvm => "kvm",
            Self::None => "none",
        }
    }
}

/// One command of a launch, as a transcript shows it.
#[derive(Clone, Debug)]
pub struct CommandRecord {
    /// The uAPI's name of the command, for instance `KVM_SEV_SNP_LAUNCH_UPDATE`.
    pub command: &'static str,
    /// The arguments by their uAPI names, in order.
    pub arguments: Vec<(&'static str, u64)>,
    /// The pages that the command measured.
    pub pages: Vec<PageRecord>,
    /// `None` if the command succeeded.
    pub errno: Option<Errno>,
    /// What the command left in `kvm_sev_cmd.error`, for SEV commands.
    pub fw_status: Option<FwStatus>,
    /// The launch digest after the command, once a context exists.
    pub digest: Option<LaunchDigest>,
}

/// One measured page.
#[derive(Clone, Debug)]
pub struct PageRecord {
    /// Where it is.
    pub gpa: Gpa,
    /// Its type.
    pub page_type: PageType,
    /// CONTENTS of its PAGE_INFO: SHA-384 of the page for normal and VMSA pages, else zeros.
    pub contents: [u8; 48],
}

/// Is told every command of a launch.
pub trait LaunchObserver {
    /// Whether [`CommandRecord::pages`] shall be filled; it costs one more hash of every page.
    fn wants_pages(&self) -> bool {
        false
    }

    /// A command was carried out or refused.
    fn command(&mut self, record: CommandRecord);
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl LaunchObserver for NoObserver {
    fn command(&mut self, _record: CommandRecord) {}
}

/// Why a launch did not come to its end.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The plan could not be carried out by any back end.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The platform refused a command.
    #[error("{command}{} refused: {errno}{}", at(.gpa), firmware(.fw_status))]
    Refused {
        /// The uAPI's name of the command.
        command: &'static str,
        /// The first page that was not done, for commands on pages.
        gpa: Option<Gpa>,
        /// What user space saw.
        errno: Errno,
        /// What the command left in `kvm_sev_cmd.error`, for SEV commands.
        fw_status: Option<FwStatus>,
    },
    /// The firmware refused the CPUID page and wrote what it would accept.
    #[error("{command} at {gpa} refused: EIO, firmware: INVALID_PARAM (0x16); {} CPUID functions differ from what the firmware accepts", .corrected.len())]
    Cpuid {
        /// The uAPI's name of the command.
        command: &'static str,
        /// Where the page was to lie.
        gpa: Gpa,
        /// (as given, as the firmware would accept it), for each function that differs.
        corrected: Vec<(snp_abi::CpuidFunction, snp_abi::CpuidFunction)>,
    },
    /// The back end does not model what the plan asks for.
    #[error("not modelled: {0}")]
    Unmodelled(String),
}

fn at(gpa: &Option<Gpa>) -> String {
    gpa.map(|gpa| format!(" at {gpa}")).unwrap_or_default()
}

fn firmware(status: &Option<FwStatus>) -> String {
    match status {
        None => String::new(),
        Some(FwStatus::SUCCESS) => ", firmware not asked (error 0)".into(),
        Some(status) => format!(", firmware: {status}"),
    }
}
