//! `--expect`: the launch that the user had in mind.

use anyhow::{Context, Result, bail, ensure};
use snp_explain::{Image, Launch, Question, Uapi};
use snp_image::IgvmLoader;
use snp_vmsa::reset;

use crate::{guest, input};

/// Reads `key=value,…`. What is not said is as `snp measure` has it by default.
pub(crate) fn parse(text: &str, question: &Question) -> Result<Launch> {
    let mut launch = default(question)?;
    let mut features = None;
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').with_context(|| format!("--expect {pair}: want KEY=VALUE"))?;
        let value = value.trim();
        let wrong = |reason: String| anyhow::anyhow!("--expect {key}={value}: {reason}");
        match key.trim() {
            "vcpus" => {
                let counts: guest::VcpuCounts = value.parse().map_err(wrong)?;
                ensure!(counts.0.len() == 1, "--expect {key}={value}: want one number");
                launch.vcpus = counts.0[0];
            }
            "vcpu-type" => launch.cpu_signature = guest::model_signature(value)?,
            "vcpu-sig" => launch.cpu_signature = input::number32(value).map_err(wrong)?,
            "vmm" | "vmsa-profile" => {
                let of_family = || reset::profiles().iter().find(|profile| profile.family.eq_ignore_ascii_case(value));
                let profile = reset::find(value).or_else(of_family);
                launch.profile = profile.with_context(|| format!("--expect {key}={value}: see `snp profiles`"))?;
                (launch.cpuid, launch.sec_mem) = (launch.profile.cpuid, launch.profile.sec_mem);
            }
            "guest-features" => {
                features = Some(guest::features(value).map_err(wrong)?);
            }
            "profile" => match value {
                "mainline" => launch.uapi = Uapi::Mainline,
                "direct-vmsa" | "vcpu-state" => launch.uapi = Uapi::Direct,
                _ => bail!("--expect {key}={value}: want mainline, direct-vmsa or vcpu-state"),
            },
            "loader" => {
                let loader =
                    IgvmLoader::find(value).with_context(|| format!("--expect {key}={value}: see `snp profiles`"))?;
                launch.uapi = if loader.is_direct() { Uapi::Direct } else { Uapi::Mainline };
                launch.loader = Some(loader);
            }
            "kernel-hashes" => match value {
                "no" => launch.kernel = None,
                "yes" => ensure!(launch.kernel.is_some(), "--expect {key}={value}: give --kernel too"),
                _ => bail!("--expect {key}={value}: want yes or no"),
            },
            _ => bail!(
                "--expect {key}: want vcpus, vcpu-type, vcpu-sig, vmm, guest-features, profile, loader or kernel-hashes"
            ),
        }
    }
    launch.features = features.unwrap_or(match launch.loader {
        Some(_) => launch.features,
        None => launch.profile.features,
    });
    Ok(launch)
}

fn default(question: &Question) -> Result<Launch> {
    let qemu = reset::find("qemu").expect("the registry has it");
    let mut launch = Launch::new(Uapi::Mainline, qemu);
    match &question.image {
        Image::Firmware { kernels, .. } => {
            launch.kernel = kernels.first().cloned();
            launch.cpu_signature = guest::model_signature(guest::DEFAULT_MODEL)?;
        }
        Image::Igvm { file, .. } => {
            launch.uapi = Uapi::Direct;
            launch.loader = Some(IgvmLoader::qemu_direct());
            launch.features = snp_explain::file_features(file);
        }
    }
    Ok(launch)
}
