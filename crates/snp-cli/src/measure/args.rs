//! The options of `snp measure`: sev-snp-measure's by the same names, and ours.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use snp_abi::Gpa;
use snp_vmsa::era::Era;

use crate::guest::VcpuCounts;
use crate::launch::ProfileName;
use crate::{guest, input};

/// Predict the launch digest of a guest.
///
/// Takes sev-snp-measure's options by the same names, so that a script can switch by changing the command. Prints the bare
/// digest; with several vCPU counts, one line each: count and digest.
///
/// Exit codes: 0 predicted, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct MeasureArgs {
    /// Guest mode.
    #[arg(long, value_enum, default_value_t = Mode::Snp, value_name = "MODE")]
    pub(super) mode: Mode,

    /// Number of vCPUs: `4`, a list `1,2,8` or a range `1..512`, all in one pass over the image.
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub(super) vcpus: Option<VcpuCounts>,

    /// QEMU's name of the CPU model.
    #[arg(long, value_name = "MODEL")]
    pub(super) vcpu_type: Option<String>,

    /// The CPU signature itself (CPUID Fn0000_0001_EAX), decimal, or hexadecimal after 0x.
    #[arg(long, value_parser = input::number32, value_name = "VALUE")]
    pub(super) vcpu_sig: Option<u32>,

    /// CPU family, with --vcpu-model and --vcpu-stepping.
    #[arg(long, requires_all = ["vcpu_model", "vcpu_stepping"], value_parser = input::within::<u16>(0..=270), value_name = "FAMILY")]
    pub(super) vcpu_family: Option<u16>,

    /// CPU model number.
    #[arg(long, requires = "vcpu_family", value_parser = input::within::<u8>(0..=255), value_name = "MODEL")]
    pub(super) vcpu_model: Option<u8>,

    /// CPU stepping.
    #[arg(long, requires = "vcpu_family", value_parser = input::within::<u8>(0..=15), value_name = "STEPPING")]
    pub(super) vcpu_stepping: Option<u8>,

    /// The VMM: QEMU, ec2, gce, KRUN, or any family of `snp profiles`. [default: QEMU]
    #[arg(long, value_name = "VMM")]
    pub(super) vmm_type: Option<String>,

    /// When the host runs, as a date (2025-06-30) or by its kernel (6.8): picks the VMM's VMSA profile. [default: now]
    #[arg(long, conflicts_with = "vmsa_profile", value_name = "DATE|KERNEL")]
    pub(super) era: Option<Era>,

    /// A VMSA profile by its name (`snp profiles`), instead of --vmm-type and --era.
    #[arg(long, conflicts_with = "vmm_type", value_name = "NAME")]
    pub(super) vmsa_profile: Option<String>,

    /// What the kernel's uAPI is: `mainline` measures a VMSA for every vCPU, the others one for the boot processor.
    /// [default: mainline for firmware, the loader's for IGVM files]
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub(super) profile: Option<ProfileName>,

    #[command(flatten)]
    pub(super) image: ImageArgs,

    /// Kernel for direct boot.
    #[arg(long, requires = "ovmf", conflicts_with = "igvm", value_name = "PATH")]
    pub(super) kernel: Option<PathBuf>,

    /// Initial RAM disk.
    #[arg(long, requires = "kernel", conflicts_with = "igvm", value_name = "PATH")]
    pub(super) initrd: Option<PathBuf>,

    /// Kernel command line.
    #[arg(long, allow_hyphen_values = true, value_name = "CMDLINE")]
    pub(super) append: Option<String>,

    /// SEV_FEATURES of the guest, with SNPActive (bit 0), decimal, or hexadecimal after 0x. [default: the VMM's, 0x1]
    #[arg(long, value_parser = input::number, value_name = "VALUE")]
    pub(super) guest_features: Option<u64>,

    /// The digest after the firmware's pages (`--mode snp:ovmf-hash`), used instead of them.
    #[arg(long, requires = "ovmf", conflicts_with = "igvm", value_parser = input::hex_bytes::<48>, value_name = "HASH")]
    pub(super) snp_ovmf_hash: Option<[u8; 48]>,

    /// How to print the measurement.
    #[arg(long, value_enum, default_value_t = Format::Hex, value_name = "FORMAT")]
    pub(super) output_format: Format,

    /// The same as --output-format json.
    #[arg(long, conflicts_with = "output_format")]
    pub(super) json: bool,

    /// Write the measured VMSAs to vmsa0.bin, vmsa1.bin and so on in the current directory.
    #[arg(long)]
    pub(super) dump_vmsa: bool,

    /// SVSM binary (mode snp:svsm).
    #[arg(long, value_name = "PATH")]
    pub(super) svsm: Option<PathBuf>,

    /// Size of the OVMF_VARS file in bytes (mode snp:svsm).
    #[arg(long, conflicts_with = "vars_file", value_parser = input::number, value_name = "SIZE")]
    pub(super) vars_size: Option<u64>,

    /// OVMF_VARS file (mode snp:svsm).
    #[arg(long, value_name = "PATH")]
    pub(super) vars_file: Option<PathBuf>,

    /// The boot processor's VMSA, 4096 bytes, for the direct profiles.
    #[arg(long, value_name = "FILE")]
    pub(super) vmsa: Option<PathBuf>,

    /// Where the boot processor's VMSA lies, for the direct profiles: a multiple of 4096, like 0x7001000.
    #[arg(long, value_parser = guest::gpa, value_name = "GPA")]
    pub(super) vmsa_gpa: Option<Gpa>,

    /// Write one self-contained HTML page here: memory map, digest chain, VMSA by field.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,

    /// Say what the number is.
    #[arg(short, long)]
    pub(super) verbose: bool,
}

#[derive(Args, Debug)]
pub(super) struct ImageArgs {
    /// OVMF firmware.
    #[arg(long, required_unless_present = "igvm", conflicts_with = "igvm", value_name = "PATH")]
    pub(super) ovmf: Option<PathBuf>,

    /// IGVM file.
    #[arg(long, value_name = "PATH")]
    pub(super) igvm: Option<PathBuf>,

    /// Who loads the IGVM file, or measures for who does (`snp profiles`). [default: qemu-direct]
    #[arg(long, requires = "igvm", conflicts_with = "ovmf", value_name = "LOADER")]
    pub(super) loader: Option<String>,
}

/// Guest mode, by sev-snp-measure's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// SEV.
    Sev,
    /// SEV-ES.
    Seves,
    /// SEV-SNP.
    Snp,
    /// SEV-SNP, the firmware's pages only.
    #[value(name = "snp:ovmf-hash")]
    SnpOvmfHash,
    /// SEV-SNP with COCONUT-SVSM, without IGVM.
    #[value(name = "snp:svsm")]
    SnpSvsm,
}

/// How a measurement is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lower-case hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
    /// JSON (docs/json.md).
    Json,
    /// Unsigned CoRIM (CBOR) with reference values in AMD's SEV-SNP profile.
    Corim,
    /// The message that registers the digests with Trustee's reference value provider service.
    Rvps,
}
