//! `snp launch`: files in, a launch on the software platform or on /dev/kvm, what was launched out.

mod args;
mod attest;
mod plan;
mod report;
pub(crate) mod transcript;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use snp_asp::PlatformConfig;
use snp_kvm::KvmPlatform;
use snp_launch::{CommandRecord, LaunchError, LaunchObserver, NoObserver, Platform};
use snp_softkvm::{SoftPlatform, UapiProfile, Vm, profiles};
use snp_vmsa::check::LaunchRules;

use crate::files::Files;
use crate::html;
use crate::output::{self, tell};
pub(crate) use args::{BackendName, LaunchArgs, PlatformName, ProfileName};
use attest::{Kept, WrittenReport};
pub(crate) use plan::PreparedLaunch;
use report::{Refusal, Report, Setting};
use transcript::Transcript;

/// The platform refused the launch.
const REFUSED: u8 = 1;

pub(crate) fn run(args: &LaunchArgs) -> Result<ExitCode> {
    files(args).distinct()?;
    match args.backend {
        BackendName::Soft => {
            let (prepared, platform) = prepare_soft(args, args.platform.config())?;
            let platform = Kept::new(platform);
            launch(args, prepared, &platform, args.platform.name(), || args.attest.write(platform.take().as_ref()))
        }
        BackendName::Kvm => {
            if args.attest.wanted() {
                bail!("--report: on hardware the guest itself asks for its report, for instance with snpguest");
            }
            let platform = KvmPlatform::open()?;
            let found = platform.uapi();
            let profile = ProfileName::from_str(found.name(), false).map_err(anyhow::Error::msg)?;
            if let Some(wanted) = args.profile.filter(|wanted| *wanted != profile) {
                bail!("this machine's KVM has the uAPI {}, not {} (--profile)", found.name(), wanted.name());
            }
            let cpuid = platform.cpuid_page().context("KVM_GET_SUPPORTED_CPUID")?;
            launch(args, plan::prepare(args, profile, cpuid)?, &platform, "this machine", || Ok(None))
        }
    }
}

/// What a launch reads and writes.
pub(crate) fn files(args: &LaunchArgs) -> Files<'_> {
    let source = &args.image.source;
    Files::default()
        .reads("--ovmf", source.ovmf.as_deref())
        .reads("--igvm", source.igvm.as_deref())
        .reads("--kernel", args.image.kernel.as_deref())
        .reads("--initrd", args.image.initrd.as_deref())
        .reads("--vmsa", args.vmsa.as_deref())
        .reads("--id-block", args.id_block.as_deref())
        .reads("--id-auth", args.id_auth.as_deref())
        .writes("--report", args.attest.file())
        .writes("--html", args.html.as_deref())
        .writes("--transcript", args.transcript.as_deref())
}

/// The profile of a launch on the software platform.
pub(crate) fn profile_of(args: &LaunchArgs) -> ProfileName {
    args.profile.unwrap_or(ProfileName::DirectVmsa)
}

/// Plan and platform of a launch on the software platform.
pub(crate) fn prepare_soft(args: &LaunchArgs, mut config: PlatformConfig) -> Result<(PreparedLaunch, SoftPlatform)> {
    args.attest.configure(&mut config);
    let profile = profile_of(args);
    let prepared = plan::prepare(args, profile, plan::cpuid_page(&config))?;
    Ok((prepared, SoftPlatform::new(config, profile.profile())))
}

/// Launches a guest on the software platform and keeps its VM, without its memory.
pub(crate) fn launch_guest(args: &LaunchArgs, platform: PlatformName) -> Result<Vm> {
    let (prepared, platform) = prepare_soft(args, platform.config())?;
    let (_, vm) = platform.launch_and_keep(&prepared.plan, &mut NoObserver)?;
    Ok(vm)
}

/// Launches; `report` asks for an attestation report once that is done.
fn launch(
    args: &LaunchArgs,
    prepared: PreparedLaunch,
    platform: &dyn Platform,
    machine: &str,
    report: impl FnOnce() -> Result<Option<WrittenReport>>,
) -> Result<ExitCode> {
    let mut transcript = args.transcript.as_deref().map(|path| Transcript::of(&prepared.plan, path)).transpose()?;
    let outcome = platform.launch(&prepared.plan, &mut Told(transcript.as_mut()));
    // A refused launch is what a transcript is most wanted for.
    transcript.map(Transcript::keep).transpose()?;
    match outcome {
        Ok(launched) => {
            let setting = Setting {
                image: prepared.image,
                profile: platform.profile(),
                backend: platform.backend(),
                platform: machine.into(),
                warnings: prepared.warnings,
                report: report()?,
            };
            let report = Report::new(&prepared.plan, &launched, setting);
            if let Some(path) = &args.html {
                html::write(path, &report.page(&prepared.plan))?;
            }
            print(args.json, &report)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (LaunchError::Refused { .. } | LaunchError::Cpuid { .. })) => {
            refused(args.json, &error)?;
            Ok(ExitCode::from(REFUSED))
        }
        Err(error @ (LaunchError::Plan(_) | LaunchError::Unmodelled(_))) => Err(error.into()),
    }
}

fn print(json: bool, report: &Report) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { report.text() };
    output::print(text)
}

/// Tells of a refused launch.
pub(crate) fn refused(json: bool, error: &LaunchError) -> Result<()> {
    let refusal = Refusal::new(error);
    if json {
        output::print(serde_json::to_string_pretty(&refusal)? + "\n")
    } else {
        tell!("{}", refusal.text());
        Ok(())
    }
}

/// Tells the transcript, if there is one.
struct Told<'a>(Option<&'a mut Transcript>);

impl LaunchObserver for Told<'_> {
    fn wants_pages(&self) -> bool {
        self.0.is_some()
    }

    fn command(&mut self, record: CommandRecord) {
        if let Some(transcript) = &mut self.0 {
            transcript.command(record);
        }
    }
}

impl ProfileName {
    pub(crate) fn profile(self) -> &'static UapiProfile {
        match self {
            Self::DirectVmsa => &profiles::DIRECT_VMSA,
            Self::VcpuState => &profiles::VCPU_STATE,
            Self::VcpuStateExplicit => &profiles::VCPU_STATE_EXPLICIT,
            Self::Mainline => &profiles::MAINLINE,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.profile().name
    }

    /// What a launch under this profile wants of a VMSA.
    pub(crate) fn launch_rules(self) -> LaunchRules {
        match self {
            Self::DirectVmsa => LaunchRules::DirectVmsa,
            Self::VcpuState | Self::VcpuStateExplicit => LaunchRules::VcpuState,
            Self::Mainline => LaunchRules::Mainline,
        }
    }
}

impl PlatformName {
    pub(crate) fn config(self) -> PlatformConfig {
        match self {
            Self::Milan => PlatformConfig::milan(),
            Self::Genoa => PlatformConfig::genoa(),
            Self::Turin => PlatformConfig::turin(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }
}
