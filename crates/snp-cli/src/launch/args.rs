//! The options of `snp launch`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use snp_abi::{Gpa, GuestPolicy, SevFeatures};

use super::attest::AttestArgs;
use crate::{guest, input};

/// Launch a guest, on the software platform or on this machine's /dev/kvm, and print its launch digest.
///
/// Exit codes: 0 launched, 1 the platform refused the launch, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    #[command(flatten)]
    pub(super) image: ImageArgs,

    /// Where the guest is launched.
    #[arg(long, value_enum, default_value_t = BackendName::Soft, value_name = "BACKEND")]
    pub(crate) backend: BackendName,

    /// What user space sees of KVM. [default: direct-vmsa, or what this machine's KVM has]
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub(super) profile: Option<ProfileName>,

    /// The machine that is modelled (--backend soft).
    #[arg(long, value_enum, default_value_t = PlatformName::Genoa, value_name = "PLATFORM")]
    pub(crate) platform: PlatformName,

    /// Number of vCPUs, 1 to 4096. (The software platform's KVM takes 1024.)
    #[arg(long, default_value_t = 1, value_parser = input::within::<u32>(1..=4096), value_name = "N")]
    pub(crate) vcpus: u32,

    /// QEMU's name of the CPU model, for its signature in RDX at reset. In the direct profiles RDX is 0 unless this or
    /// --vcpu-sig is given; `mainline` takes EPYC-v4 by default.
    #[arg(long, conflicts_with = "vcpu_sig", value_name = "MODEL")]
    pub(super) vcpu_type: Option<String>,

    /// The CPU signature itself (CPUID Fn0000_0001_EAX), decimal, or hexadecimal after 0x.
    #[arg(long, value_parser = input::number32, value_name = "VALUE")]
    pub(super) vcpu_sig: Option<u32>,

    /// The boot processor's VMSA, 4096 bytes (see `snp vmsa new`). Without it, the direct profiles make one that starts
    /// at the firmware's reset vector; an IGVM file brings its own.
    #[arg(long, value_name = "FILE")]
    pub(super) vmsa: Option<PathBuf>,

    /// Where in guest memory the boot processor's VMSA lies: a multiple of 4096, like 0x7001000. [default: a free page below
    /// the firmware, or where the IGVM file puts it]
    #[arg(long, value_parser = guest::gpa, value_name = "GPA")]
    pub(super) vmsa_gpa: Option<Gpa>,

    /// SEV_FEATURES of the guest, with SNPActive (bit 0). [default: 0x1, or what the given VMSA carries]
    #[arg(long, value_parser = guest::features, value_name = "VALUE")]
    pub(super) guest_features: Option<SevFeatures>,

    /// The guest policy. [default: 0x30000, or what the IGVM file says]
    #[arg(long, value_parser = policy, value_name = "VALUE")]
    pub(super) policy: Option<GuestPolicy>,

    /// HOST_DATA of the attestation report, 32 bytes as 64 hexadecimal digits.
    #[arg(long, value_parser = input::hex_bytes::<32>, value_name = "HEX")]
    pub(super) host_data: Option<[u8; 32]>,

    /// ID block, 96 bytes, raw or base64. The launch succeeds only if digest and policy are those of the block.
    #[arg(long, requires = "id_auth", value_name = "FILE")]
    pub(super) id_block: Option<PathBuf>,

    /// ID authentication data, 4096 bytes, raw or base64.
    #[arg(long, requires = "id_block", value_name = "FILE")]
    pub(super) id_auth: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) attest: AttestArgs,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write one self-contained HTML page here: memory map, digest chain, VMSA by field.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write one JSON line per command: arguments, page hashes, errno, firmware status, digest.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
}

// `requires` alone lets an option pass in silence where what it requires cannot be given.
#[derive(Args, Debug)]
pub(super) struct ImageArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    /// Kernel for direct boot; its hash is measured where the firmware has a place for it.
    #[arg(long, requires = "ovmf", conflicts_with_all = ["igvm", "example"], value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,

    /// Initial RAM disk.
    #[arg(long, requires = "kernel", conflicts_with_all = ["igvm", "example"], value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,

    /// Kernel command line.
    #[arg(long, allow_hyphen_values = true, requires = "kernel", conflicts_with_all = ["igvm", "example"], value_name = "STRING")]
    pub(super) append: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct SourceArgs {
    /// OVMF firmware with SEV-SNP metadata, as QEMU takes it with -bios.
    #[arg(long, value_name = "FILE")]
    pub(super) ovmf: Option<PathBuf>,

    /// IGVM file.
    #[arg(long, value_name = "FILE")]
    pub(super) igvm: Option<PathBuf>,

    /// One of snpkit's own example guests: hello, smp, report, probe:MODE (`snp example --list`).
    #[arg(long, value_name = "NAME")]
    pub(super) example: Option<String>,
}

/// A back end by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// The software platform.
    Soft,
    /// This machine's own /dev/kvm and /dev/sev, on a host with SEV-SNP.
    Kvm,
}

/// A uAPI profile by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// One VMSA page for the boot processor at LAUNCH_UPDATE (the June 2026 patch).
    DirectVmsa,
    /// The later rework: a vCPU command names the VMSA page.
    VcpuState,
    /// The same, where a capability has to be enabled first.
    VcpuStateExplicit,
    /// Linux 7.3 as released: KVM makes and measures a VMSA for every vCPU.
    Mainline,
}

/// A modelled machine by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformName {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

fn policy(text: &str) -> Result<GuestPolicy, String> {
    input::number(text).map(GuestPolicy)
}
