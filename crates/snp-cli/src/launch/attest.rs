//! `--report`: the report that a launched guest gets when it asks for one.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use snp_abi::{
    AttestationReport, FwStatus, KeySelect, MessageType, ReportRequest, ReportResponseHeader, ReportVersion,
};
use snp_asp::PlatformConfig;
use snp_launch::{LaunchError, LaunchObserver, LaunchPlan, Launched, Platform};
use snp_softkvm::{SoftPlatform, Vm};
use zerocopy::{FromBytes, IntoBytes};

use crate::certs::{self, KeyName};
use crate::{attestation, input};

/// Options about attestation.
#[derive(Args, Debug)]
pub(crate) struct AttestArgs {
    /// After the launch, ask for an attestation report as the guest would, and write its 1184 bytes here. It is signed with
    /// a TEST key (--backend soft).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// REPORT_DATA, the guest's own words in the report: 64 bytes as 128 hexadecimal digits. [default: zeros]
    #[arg(long, requires = "report", value_parser = input::hex_bytes::<64>, value_name = "HEX")]
    report_data: Option<[u8; 64]>,

    /// VERSION of the report, 2 to 5. [default: what the firmware of --platform gives]
    #[arg(long, requires = "report", value_parser = input::within::<u32>(2..=5), value_name = "N")]
    report_version: Option<u32>,

    /// VMPL that the report names, 0 to 3.
    #[arg(long, requires = "report", default_value_t = 0, value_parser = input::within::<u32>(0..=3), value_name = "N")]
    vmpl: u32,

    /// The key that signs: the chip's VCEK, or a cloud provider's VLEK.
    #[arg(long, requires = "report", value_enum, default_value_t = KeyName::Vcek, value_name = "KEY")]
    report_key: KeyName,

    /// Write the TEST certificates of the key that signs here: ark.pem, ask.pem and vcek.pem, or asvk.pem and vlek.pem.
    #[arg(long, requires = "report", value_name = "DIR")]
    certs: Option<PathBuf>,
}

/// What was written, for `--json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WrittenReport {
    file: String,
    version: u32,
    vmpl: u32,
    signing_key: String,
}

impl AttestArgs {
    /// Whether a report is wanted.
    pub(crate) fn wanted(&self) -> bool {
        self.report.is_some()
    }

    /// Where the report is written.
    pub(super) fn file(&self) -> Option<&Path> {
        self.report.as_deref()
    }

    /// Sets up the platform.
    pub(super) fn configure(&self, config: &mut PlatformConfig) {
        config.report_version = self.report_version.map(ReportVersion);
        config.vlek = self.report_key == KeyName::Vlek;
    }

    /// Asks for the report and writes it, if one is wanted.
    ///
    /// # Errors
    /// No keys to ask with, a refusal of the firmware, a file that cannot be written.
    pub(super) fn write(&self, vm: Option<&Vm>) -> Result<Option<WrittenReport>> {
        let (Some(path), Some(vm)) = (&self.report, vm) else { return Ok(None) };
        let report = self.ask(vm).context("--report")?;
        input::write(path, "report", report.as_bytes())?;
        if let Some(directory) = &self.certs {
            certs::write_chain(directory, &certs::chain(&vm.endorsement())?)?;
        }
        Ok(Some(WrittenReport {
            file: path.display().to_string(),
            version: report.version.0,
            vmpl: report.vmpl,
            signing_key: report.signer_info.signing_key().to_string(),
        }))
    }

    fn ask(&self, vm: &Vm) -> Result<AttestationReport> {
        let key = match self.report_key {
            KeyName::Vcek => KeySelect::VCEK,
            KeyName::Vlek => KeySelect::VLEK,
        };
        let request = ReportRequest {
            report_data: self.report_data.unwrap_or([0; 64]),
            vmpl: self.vmpl,
            key_sel: key.0,
            ..ReportRequest::default()
        };
        let mut guest = attestation::driver(vm)?;
        let answer = guest.message(MessageType::REPORT_REQ, 1, request.as_bytes());
        let answer = answer.map_err(|failure| anyhow::anyhow!("SNP_GUEST_REQUEST: {}", failure.fw_status()))?;
        let (header, report) =
            ReportResponseHeader::read_from_prefix(&answer).ok().context("the answer is too short")?;
        match FwStatus(header.status) {
            FwStatus::SUCCESS => AttestationReport::read_from_bytes(report).ok().context("the report is too short"),
            status => bail!("the firmware gives no report: {status}"),
        }
    }
}

impl WrittenReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { file, version, vmpl, signing_key } = self;
        format!("attestation report of version {version} for VMPL {vmpl}, signed with the TEST {signing_key}: {file}\n")
    }
}

/// The software platform, and the last VM that it launched.
pub(super) struct Kept {
    platform: SoftPlatform,
    vm: RefCell<Option<Vm>>,
}

impl Kept {
    pub(super) fn new(platform: SoftPlatform) -> Self {
        Self { platform, vm: RefCell::default() }
    }

    /// The VM, once.
    pub(super) fn take(&self) -> Option<Vm> {
        self.vm.take()
    }
}

impl Platform for Kept {
    fn backend(&self) -> &'static str {
        self.platform.backend()
    }

    fn profile(&self) -> &'static str {
        self.platform.profile()
    }

    fn launch(&self, plan: &LaunchPlan, observer: &mut dyn LaunchObserver) -> Result<Launched, LaunchError> {
        let (launched, vm) = self.platform.launch_and_keep(plan, observer)?;
        self.vm.replace(Some(vm));
        Ok(launched)
    }
}
