//! The launch that is expected: predicted as `snp measure` does, and explained if another one happened.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use snp_abi::LaunchDigest;

use crate::{explain, measure};

/// The launch itself instead of its digest, by the options of `snp measure`.
#[derive(Args, Debug)]
#[command(next_help_heading = "The expected launch, predicted as `snp measure` does")]
pub(super) struct LaunchOptions {
    /// OVMF firmware.
    #[arg(long, conflicts_with = "igvm", value_name = "PATH")]
    ovmf: Option<PathBuf>,

    /// IGVM file.
    #[arg(long, value_name = "PATH")]
    igvm: Option<PathBuf>,

    /// Who loads the IGVM file (`snp profiles`).
    #[arg(long, requires = "igvm", conflicts_with = "ovmf", value_name = "LOADER")]
    loader: Option<OsString>,

    /// Kernel for direct boot.
    #[arg(long, requires = "ovmf", conflicts_with = "igvm", value_name = "PATH")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk.
    #[arg(long, requires = "kernel", conflicts_with = "igvm", value_name = "PATH")]
    initrd: Option<PathBuf>,

    /// Kernel command line.
    #[arg(long, allow_hyphen_values = true, value_name = "CMDLINE")]
    append: Option<OsString>,

    /// Number of vCPUs; with several, any of them.
    #[arg(long, value_name = "N")]
    vcpus: Option<OsString>,

    /// QEMU's name of the CPU model.
    #[arg(long, value_name = "MODEL")]
    vcpu_type: Option<OsString>,

    /// The CPU signature itself.
    #[arg(long, value_name = "VALUE")]
    vcpu_sig: Option<OsString>,

    /// The VMM.
    #[arg(long, value_name = "VMM")]
    vmm_type: Option<OsString>,

    /// When the host runs, as a date or by its kernel.
    #[arg(long, value_name = "DATE|KERNEL")]
    era: Option<OsString>,

    /// A VMSA profile by its name.
    #[arg(long, value_name = "NAME")]
    vmsa_profile: Option<OsString>,

    /// What the kernel's uAPI is.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<OsString>,

    /// SEV_FEATURES of the guest.
    #[arg(long, value_name = "VALUE")]
    guest_features: Option<OsString>,

    /// The boot processor's VMSA, for the direct profiles.
    #[arg(long, value_name = "FILE")]
    vmsa: Option<PathBuf>,

    /// Where the boot processor's VMSA lies, for the direct profiles.
    #[arg(long, value_name = "GPA")]
    vmsa_gpa: Option<OsString>,
}

impl LaunchOptions {
    fn image(&self) -> Vec<(&'static str, OsString)> {
        let path = |path: &Option<PathBuf>| path.clone().map(PathBuf::into_os_string);
        given([
            ("--ovmf", path(&self.ovmf)),
            ("--igvm", path(&self.igvm)),
            ("--kernel", path(&self.kernel)),
            ("--initrd", path(&self.initrd)),
            ("--append", self.append.clone()),
            ("--vmsa", path(&self.vmsa)),
        ])
    }

    fn rest(&self) -> Vec<(&'static str, OsString)> {
        given([
            ("--loader", self.loader.clone()),
            ("--vcpus", self.vcpus.clone()),
            ("--vcpu-type", self.vcpu_type.clone()),
            ("--vcpu-sig", self.vcpu_sig.clone()),
            ("--vmm-type", self.vmm_type.clone()),
            ("--era", self.era.clone()),
            ("--vmsa-profile", self.vmsa_profile.clone()),
            ("--profile", self.profile.clone()),
            ("--guest-features", self.guest_features.clone()),
            ("--vmsa-gpa", self.vmsa_gpa.clone()),
        ])
    }

    /// Whether there is an image to predict.
    fn has_image(&self) -> bool {
        self.ovmf.is_some() || self.igvm.is_some()
    }

    /// The digests that the launch may have; none if no image is named.
    pub(super) fn predict(&self) -> Result<Vec<LaunchDigest>> {
        if !self.has_image() {
            if let Some((option, _)) = self.image().first().or(self.rest().first()) {
                anyhow::bail!("{option} belongs to --ovmf or --igvm");
            }
            return Ok(Vec::new());
        }
        measure::predict(self.image().into_iter().chain(self.rest()))
    }

    /// Which launch gives the digest that was found, and how it differs from the predicted one, if that is one; `None` if there
    /// is no image to search with.
    pub(super) fn explain(
        &self,
        found: LaunchDigest,
        predicted: &[LaunchDigest],
    ) -> Option<Result<explain::Explained>> {
        let expect = self.expect();
        let expect = match (&expect, predicted) {
            (Some(expect), &[predicted]) => Some((expect.as_str(), predicted)),
            _ => None,
        };
        self.has_image().then(|| explain::explained(found, self.image().into_iter(), expect))
    }

    /// The options as `snp explain --expect` takes them; `None` if one is not text.
    fn expect(&self) -> Option<String> {
        let pairs = self.rest().into_iter().map(|(option, value)| {
            let key = option.trim_start_matches("--").replace("vmm-type", "vmm");
            Some(format!("{key}={}", value.to_str()?))
        });
        Some(pairs.collect::<Option<Vec<_>>>()?.join(","))
    }
}

fn given<const N: usize>(options: [(&'static str, Option<OsString>); N]) -> Vec<(&'static str, OsString)> {
    options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
