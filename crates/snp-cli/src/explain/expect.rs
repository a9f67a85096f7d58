//! `--expect`: the launch that the user had in mind, with the defaults of `snp measure`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use snp_abi::SevFeatures;
use snp_explain::{Image, Launch, Question, Uapi};
use snp_image::IgvmLoader;
use snp_vmsa::reset::{self, ResetProfile};

use crate::{guest, input};

/// The keys, which are options of `snp measure`.
const KEYS: [&str; 11] = [
    "vcpus",
    "vcpu-type",
    "vcpu-sig",
    "vmm",
    "era",
    "vmsa-profile",
    "guest-features",
    "profile",
    "vmsa-gpa",
    "loader",
    "kernel-hashes",
];

/// Reads `key=value,…`. What is not said is as `snp measure` has it by default, with one vCPU and QEMU's EPYC-v4 where KVM makes
/// the VMSAs.
pub(crate) fn parse(text: &str, question: &Question) -> Result<Launch> {
    let said = Said::read(text)?;
    let (uapi, loader) = said.delivery(&question.image)?;
    let vmm = said.vmm()?;
    let state = match (&question.image, uapi) {
        // Whatever the VMM, whose order of pages is another matter.
        (Image::Firmware { .. }, Uapi::Direct) => reset::find("direct").expect("the registry has it"),
        _ => vmm,
    };
    Ok(Launch {
        cpuid: vmm.cpuid,
        sec_mem: vmm.sec_mem,
        vcpus: said.vcpus()?,
        cpu_signature: said.cpu_signature(uapi)?,
        features: said.features(&question.image, state)?,
        kernel: said.kernel(&question.image)?,
        loader,
        vmsa_gpa: said.vmsa_gpa(uapi)?,
        ..Launch::new(uapi, state)
    })
}

/// Values by their keys.
struct Said<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let mut said = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (key, value) = pair.split_once('=').with_context(|| format!("--expect {pair}: want KEY=VALUE"))?;
            let key = key.trim();
            ensure!(KEYS.contains(&key), "--expect {key}: not known; known are {}", KEYS.join(", "));
            ensure!(said.insert(key, value.trim()).is_none(), "--expect: {key} is there twice");
        }
        Ok(Self(said))
    }

    /// The value of a key, read by `read`.
    fn get<T, E: std::fmt::Display>(&self, key: &str, read: impl FnOnce(&'a str) -> Result<T, E>) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        read(value).map(Some).map_err(|reason| anyhow::anyhow!("--expect {key}={value}: {reason:#}"))
    }

    /// Who makes the VMSAs, and who loads an IGVM file.
    fn delivery(&self, image: &Image) -> Result<(Uapi, Option<&'static IgvmLoader>)> {
        let uapi = self.get("profile", |name| match name {
            "mainline" => Ok(Uapi::Mainline),
            "direct-vmsa" | "vcpu-state" | "vcpu-state-explicit" => Ok(Uapi::Direct),
            _ => Err("want mainline, direct-vmsa, vcpu-state or vcpu-state-explicit"),
        })?;
        let loader = self.get("loader", guest::loader)?;
        if let Image::Firmware { .. } = image {
            ensure!(loader.is_none(), "--expect loader: loaders are for IGVM files, and this image is firmware");
            return Ok((uapi.unwrap_or(Uapi::Mainline), None));
        }
        let loader = loader.unwrap_or_else(|| match uapi {
            Some(Uapi::Mainline) => IgvmLoader::qemu_replay(),
            _ => IgvmLoader::qemu_direct(),
        });
        let of_loader = if loader.is_direct() { Uapi::Direct } else { Uapi::Mainline };
        ensure!(
            uapi.is_none_or(|uapi| uapi == of_loader),
            "--expect profile and loader={}: the loader delivers the boot processor's VMSA {}",
            loader.name,
            if loader.is_direct() { "as a page: want direct-vmsa" } else { "through registers: want mainline" }
        );
        Ok((of_loader, Some(loader)))
    }

    fn vmm(&self) -> Result<&'static ResetProfile> {
        let era = self.get("era", str::parse)?;
        // A row's name will do for the VMM's.
        let row = self.0.get("vmm").filter(|name| era.is_none() && reset::find(name).is_some());
        let row = self.0.get("vmsa-profile").or(row).copied();
        guest::vmm(row, self.0.get("vmm").copied(), era.as_ref()).context("--expect")
    }

    fn vcpus(&self) -> Result<u32> {
        let counts = self.get("vcpus", str::parse::<guest::VcpuCounts>)?;
        let Some(guest::VcpuCounts(counts)) = counts else { return Ok(1) };
        match counts[..] {
            [count] => Ok(count),
            _ => bail!("--expect vcpus: want one number"),
        }
    }

    fn cpu_signature(&self, uapi: Uapi) -> Result<u32> {
        let signature = self.get("vcpu-sig", input::number32)?;
        let model = self.get("vcpu-type", guest::model_signature)?;
        match signature.or(model) {
            Some(signature) => Ok(signature),
            None if uapi == Uapi::Direct => Ok(0),
            None => guest::model_signature(guest::DEFAULT_MODEL),
        }
    }

    fn features(&self, image: &Image, state: &ResetProfile) -> Result<SevFeatures> {
        let default = || match image {
            Image::Firmware { .. } => state.features,
            Image::Igvm { file, .. } => snp_explain::file_features(file),
        };
        Ok(self.get("guest-features", guest::features)?.unwrap_or_else(default))
    }

    fn kernel(&self, image: &Image) -> Result<Option<snp_explain::Kernel>> {
        let given = match image {
            Image::Firmware { kernels, .. } => kernels.first().cloned(),
            Image::Igvm { .. } => None,
        };
        let wanted = self.get("kernel-hashes", |value| match value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("want yes or no"),
        })?;
        ensure!(wanted != Some(true) || given.is_some(), "--expect kernel-hashes=yes: give --kernel too");
        Ok(given.filter(|_| wanted != Some(false)))
    }

    fn vmsa_gpa(&self, uapi: Uapi) -> Result<Option<snp_abi::Gpa>> {
        let gpa = self.get("vmsa-gpa", guest::gpa)?;
        ensure!(gpa.is_none() || uapi == Uapi::Direct, "--expect vmsa-gpa is for the direct profiles");
        Ok(gpa)
    }
}
