//! `snp exec`: an unmodified program on the software platform; `snp record`: one on this machine's own.

mod guest;
mod program;
mod record;
mod report;
mod scratch;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use guest::GuestSocket;
pub(crate) use record::RecordArgs;
use report::Report;
use scratch::Scratch;
use snp_abi::kvm::{KVM_X86_DEFAULT_VM, KVM_X86_SEV_ES_VM, KVM_X86_SEV_VM, KVM_X86_SNP_VM, KVM_X86_SW_PROTECTED_VM};

use crate::launch::{PlatformName, ProfileName};

/// Options of `snp exec`.
#[derive(Args, Debug)]
#[command(
    about = "Run a program for which the software platform stands in for /dev/kvm and /dev/sev",
    after_help = "Exit code: the program's own; 128 and the number of the signal that ended it; 2 if it could not be run."
)]
pub(crate) struct ExecArgs {
    /// The uAPI of its KVM.
    #[arg(long, value_name = "NAME", default_value = "mainline")]
    profile: ProfileName,

    /// The product line.
    #[arg(long, value_name = "NAME", default_value = "genoa")]
    platform: PlatformName,

    /// The confidential VM types that KVM offers, as on a host where the others are switched off.
    #[arg(long, value_name = "TYPES", value_delimiter = ',', default_value = "sev,sev-es,snp")]
    vm_types: Vec<VmType>,

    /// What KVM_RUN does: run the guest, end the program after a finished launch, or fail.
    #[arg(long, value_name = "HOW", default_value = "run")]
    vcpu_run: VcpuRun,

    /// Answer CPUID for the platform from the program's start on, not from when it opens a device: for programs that ask
    /// the processor first, as `snphost ok` does.
    #[arg(long)]
    cpuid_at_start: bool,

    /// Say how long the SEV commands of each launch took.
    #[arg(long)]
    timing: bool,

    /// Write one JSON line per ioctl that shapes a launch (docs/json.md); `snp replay` performs it again.
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,

    /// Run the program as if in a guest: it finds /dev/sev-guest and configfs-tsm of the guest that this transcript (of `snp
    /// exec --transcript`), IGVM file or firmware launches.
    #[arg(long, value_name = "FILE")]
    guest_of: Option<PathBuf>,

    /// The program and its arguments, after `--`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VcpuRun {
    /// Run the guest on the processor model.
    Run,
    /// End the program, with exit code 0, at the first KVM_RUN after a finished SNP launch.
    Stop,
    /// Fail with ENOSYS.
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VmType {
    /// Plain SEV.
    Sev,
    /// SEV-ES.
    SevEs,
    /// SEV-SNP.
    Snp,
}

impl VmType {
    /// KVM_CREATE_VM's number.
    fn number(self) -> u64 {
        match self {
            Self::Sev => KVM_X86_SEV_VM,
            Self::SevEs => KVM_X86_SEV_ES_VM,
            Self::Snp => KVM_X86_SNP_VM,
        }
    }
}

/// The library's file name, and the variable that names its path.
const LIBRARY: &str = "libsnp_shim.so";
const LIBRARY_VARIABLE: &str = "SNPKIT_SHIM";

pub(crate) fn run(args: &ExecArgs) -> Result<ExitCode> {
    let settings = [
        ("SNPKIT_SHIM_PROFILE", name_of(args.profile)),
        ("SNPKIT_SHIM_PLATFORM", name_of(args.platform)),
        ("SNPKIT_SHIM_VCPU_RUN", name_of(args.vcpu_run)),
        ("SNPKIT_SHIM_VM_TYPES", numbers(&args.vm_types)),
    ];
    let transcript = args.transcript.as_deref().map(Scratch::create).transpose()?;
    let report = Report::create()?;
    let guest =
        args.guest_of.as_deref().map(|file| GuestSocket::open(file, args.platform, args.profile)).transpose()?;
    let mut command = Preloaded::new(&args.command, &find_library()?)?;
    command.command.envs(settings).env("SNPKIT_SHIM_REPORT", report.path());
    // A program that records under `snp exec` inherits the variable; without it there is no transcript of ours.
    match &transcript {
        Some(transcript) => command.command.env("SNPKIT_SHIM_TRANSCRIPT", transcript.path()),
        None => command.command.env_remove("SNPKIT_SHIM_TRANSCRIPT"),
    };
    match &guest {
        Some(guest) => command.command.env("SNPKIT_SHIM_GUEST", guest.path()),
        None => command.command.env_remove("SNPKIT_SHIM_GUEST"),
    };
    if args.timing {
        command.command.env("SNPKIT_SHIM_TIMING", "1");
    }
    if args.cpuid_at_start {
        command.command.env("SNPKIT_SHIM_CPUID_AT_START", "1");
    }
    let status = command.run()?;
    let nothing = match &guest {
        Some(_) => "used neither /dev/sev-guest nor configfs-tsm of the guest",
        None => "opened neither /dev/kvm nor /dev/sev",
    };
    report.print(&command.path, "exec", nothing)?;
    transcript.map(Scratch::keep).transpose()?;
    Ok(ExitCode::from(code(status)))
}

pub(crate) use record::run as record;

/// A program with our library before all others.
struct Preloaded {
    path: PathBuf,
    command: Command,
}

impl Preloaded {
    fn new(arguments: &[OsString], library: &Path) -> Result<Self> {
        let (name, rest) = arguments.split_first().context("no command")?;
        let path = program::find(name)?;
        program::want_dynamic(&path)?;
        let mut command = Command::new(name);
        command.args(rest).env("LD_PRELOAD", preload(library));
        Ok(Self { path, command })
    }

    fn run(&mut self) -> Result<ExitStatus> {
        // A key that interrupts goes to the program, and its end is waited for.
        let _ = ctrlc::set_handler(|| {});
        self.command.status().with_context(|| format!("cannot run {}", self.path.display()))
    }
}

/// Numbers of VM types, with those that every KVM has.
fn numbers(types: &[VmType]) -> String {
    let all = [KVM_X86_DEFAULT_VM, KVM_X86_SW_PROTECTED_VM].into_iter().chain(types.iter().map(|kind| kind.number()));
    all.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The program's exit code, or 128 and the signal that ended it, as shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Ours first, then what the user preloads already.
fn preload(library: &Path) -> OsString {
    let mut preload = library.as_os_str().to_owned();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    preload
}

/// By the variable, beside `snp`, or in `../lib` from there.
fn find_library() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE) {
        let path = PathBuf::from(path);
        let path = std::path::absolute(&path).unwrap_or(path);
        if !path.is_file() {
            bail!("{LIBRARY_VARIABLE} names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    // Without /proc, as in a bare chroot, the name by which snp was called has to do.
    let called = || std::env::args_os().next().map(PathBuf::from).and_then(|name| std::path::absolute(name).ok());
    let own = std::env::current_exe().ok().or_else(called).context("cannot tell where snp is")?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let places = [directory.join(LIBRARY), directory.join("../lib").join(LIBRARY)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "{LIBRARY} is neither {} nor {}: build it (cargo build --release -p snp-shim), copy it there, or name it in {LIBRARY_VARIABLE}",
            places[0].display(),
            places[1].display()
        ),
    }
}
