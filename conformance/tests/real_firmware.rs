//! Debian's real firmware through the whole launch, against sev-snp-measure run live.
//!
//! `cargo xtask ci` provides firmware and tool and names them in SNPKIT_TESTDATA and SNPKIT_SEV_SNP_MEASURE; without them the
//! tests say that they were skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use snp_abi::{LaunchDigest, SevFeatures};
use snp_asp::PlatformConfig;
use snp_image::{Delivery, GuestOptions, KernelHashes, Ovmf, OvmfLaunch};
use snp_launch::{NoObserver, Platform, VmsaSource, predict};
use snp_softkvm::{SoftPlatform, UapiProfile, profiles};
use snp_vmsa::cpu;

/// (file, whether it has a place for kernel hashes)
const FIRMWARE: [(&str, bool); 4] = [
    ("bookworm/OVMF.fd", false),
    ("bookworm/OVMF_CODE.fd", false),
    ("trixie/OVMF.fd", false),
    ("sid/OVMF.amdsev.fd", true),
];
const COUNTS: [u32; 4] = [1, 2, 64, 512];

/// A directory or program that CI provides, or `None` with the reason told.
fn provided(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set; `cargo xtask artifacts` provides it");
    }
    path
}

fn launch(
    profile: &'static UapiProfile,
    file: &Path,
    kernel: Option<&KernelHashes>,
    model: &str,
    features: u64,
    vcpus: u32,
) -> LaunchDigest {
    let firmware = Ovmf::parse(Bytes::from(std::fs::read(file).expect("CI's file"))).expect("SNP firmware");
    let direct = profile.name != "mainline";
    let delivery = if direct { Delivery::Direct { vmsa: None, gpa: None } } else { Delivery::Registers };
    let options = GuestOptions {
        vcpus,
        cpu_signature: cpu::signature(model).expect("a known model"),
        features: Some(SevFeatures(features)),
        ..GuestOptions::new(delivery)
    };
    let plan = OvmfLaunch { firmware, kernel: kernel.cloned(), options }.prepare().expect("a plan").plan;
    let launched =
        SoftPlatform::new(PlatformConfig::genoa(), profile).launch(&plan, &mut NoObserver).expect("a launch");
    let sources: Vec<_> = launched.vcpus.iter().map(|vcpu| vcpu.vmsa_source).collect();
    assert_eq!(sources[0], if direct { VmsaSource::User } else { VmsaSource::Kvm });
    let others = if direct { VmsaSource::None } else { VmsaSource::Kvm };
    assert!(sources[1..].iter().all(|source| *source == others) && sources.len() == vcpus as usize);
    let digest = launched.digest.expect("the platform knows it");
    assert_eq!(digest, predict(&plan), "prediction and launch");
    digest
}

fn oracle(tool: &Path, file: &Path, model: &str, features: u64, vcpus: u32, more: &[&str]) -> String {
    let output = Command::new(tool)
        .args(["--mode", "snp", "--vcpu-type", model, "--guest-features", &format!("{features:#x}")])
        .args(["--vcpus", &vcpus.to_string(), "--ovmf"])
        .arg(file)
        .args(more)
        .output()
        .expect("the tool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("hexadecimal digits").trim().to_owned()
}

#[test]
fn a_direct_digest_is_one_for_all_vcpu_counts() {
    let Some(files) = provided("SNPKIT_TESTDATA") else { return };
    for profile in [&profiles::DIRECT_VMSA, &profiles::VCPU_STATE, &profiles::VCPU_STATE_EXPLICIT] {
        for (name, _) in FIRMWARE {
            let digests = COUNTS.map(|vcpus| launch(profile, &files.join(name), None, "EPYC-v4", 1, vcpus));
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{name} under {}", profile.name);
        }
    }
}

#[test]
fn a_mainline_digest_is_sev_snp_measures_and_differs_for_each_count() {
    let Some(files) = provided("SNPKIT_TESTDATA") else { return };
    let Some(tool) = provided("SNPKIT_SEV_SNP_MEASURE") else { return };
    for (name, _) in FIRMWARE {
        let file = files.join(name);
        let choices = [("EPYC-v4", 1), ("EPYC-Milan", 1), ("EPYC-Genoa", 0x21), ("EPYC-v4", 0x21)];
        let digests: Vec<String> = COUNTS
            .into_iter()
            .zip(choices)
            .map(|(vcpus, (model, features))| {
                let digest = launch(&profiles::MAINLINE, &file, None, model, features, vcpus).to_string();
                assert_eq!(digest, oracle(&tool, &file, model, features, vcpus, &[]), "{name}, {vcpus} x {model}");
                digest
            })
            .collect();
        let same = COUNTS.map(|vcpus| launch(&profiles::MAINLINE, &file, None, "EPYC-v4", 1, vcpus));
        for list in [digests, same.map(|digest| digest.to_string()).to_vec()] {
            let distinct: std::collections::BTreeSet<_> = list.iter().collect();
            assert_eq!(distinct.len(), COUNTS.len(), "{name}");
        }
    }
}

#[test]
fn kernel_hashes_are_sev_snp_measures() {
    let Some(files) = provided("SNPKIT_TESTDATA") else { return };
    let Some(tool) = provided("SNPKIT_SEV_SNP_MEASURE") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (kernel, initrd) = (directory.path().join("kernel"), directory.path().join("initrd"));
    std::fs::write(&kernel, b"a kernel of no kind").expect("written");
    std::fs::write(&initrd, vec![7; 100_000]).expect("written");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    for (name, _) in FIRMWARE.into_iter().filter(|(_, hashes)| *hashes) {
        let file = files.join(name);
        for (initrd, append) in [(None, None), (Some(&initrd), None), (Some(&initrd), Some("console=ttyS0 quiet"))] {
            let contents = initrd.map(|path| std::fs::read(path).expect("written above"));
            let hashes =
                KernelHashes::new(&std::fs::read(&kernel).expect("written above"), contents.as_deref(), append);
            let mut more = vec!["--kernel".to_owned(), text(&kernel)];
            more.extend(initrd.iter().flat_map(|path| ["--initrd".to_owned(), text(path)]));
            more.extend(append.iter().flat_map(|line| ["--append".to_owned(), (*line).to_owned()]));
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let digest = launch(&profiles::MAINLINE, &file, Some(&hashes), "EPYC-v4", 1, 2);
            assert_eq!(digest.to_string(), oracle(&tool, &file, "EPYC-v4", 1, 2, &more), "{name} {append:?}");
            // With hashes too, a direct digest does not depend on the count.
            let direct = [1, 64].map(|vcpus| launch(&profiles::DIRECT_VMSA, &file, Some(&hashes), "EPYC-v4", 1, vcpus));
            assert_eq!(direct[0], direct[1]);
        }
    }
}
