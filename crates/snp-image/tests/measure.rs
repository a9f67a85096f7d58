//! Real firmware against sev-snp-measure, run live.
//!
//! Reads SNPKIT_TESTDATA (a directory with `bookworm/OVMF.fd` and so on, see `testdata/`) and SNPKIT_SEV_SNP_MEASURE (the
//! path of the tool, version 0.0.13 from PyPI). Without them the tests say that they were skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use snp_abi::{LaunchDigest, SevFeatures};
use snp_image::{Delivery, GuestOptions, ImageError, KernelHashes, Ovmf, OvmfError, OvmfLaunch};
use snp_launch::predict;

/// Firmware with SEV metadata.
const FIRMWARE: [&str; 4] = ["bookworm/OVMF.fd", "bookworm/OVMF_CODE.fd", "trixie/OVMF.fd", "sid/OVMF.amdsev.fd"];

fn environment(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    if value.is_none() {
        println!("skipped: {name} is not set");
    }
    value
}

/// The directory of the firmware and the path of the tool.
fn oracles() -> Option<(PathBuf, PathBuf)> {
    Some((environment("SNPKIT_TESTDATA")?, environment("SNPKIT_SEV_SNP_MEASURE")?))
}

fn parse(path: &Path) -> Ovmf {
    let flash = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Ovmf::parse(Bytes::from(flash)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    vcpus: u32,
    model: &'static str,
    features: u64,
}

const CASES: [Case; 4] = [
    Case { vcpus: 1, model: "EPYC-v4", features: 0x1 },
    Case { vcpus: 2, model: "EPYC-Milan", features: 0x21 },
    Case { vcpus: 64, model: "EPYC-Genoa", features: 0x1 },
    Case { vcpus: 512, model: "EPYC-v4", features: 0x21 },
];

impl Case {
    fn options(&self, delivery: Delivery) -> GuestOptions {
        GuestOptions {
            vcpus: self.vcpus,
            cpu_signature: snp_vmsa::cpu::signature(self.model).expect("a known model"),
            features: Some(SevFeatures(self.features)),
            ..GuestOptions::new(delivery)
        }
    }

    fn digest(&self, firmware: &Ovmf, kernel: Option<KernelHashes>, delivery: Delivery) -> LaunchDigest {
        let launch = OvmfLaunch { firmware: firmware.clone(), kernel, options: self.options(delivery) };
        predict(&launch.prepare().expect("a plan").plan)
    }

    fn oracle(&self, tool: &Path, firmware: &Path, arguments: &[&str]) -> String {
        let output = Command::new(tool)
            .args(["--mode", "snp", "--vcpus", &self.vcpus.to_string(), "--vcpu-type", self.model])
            .args(["--guest-features", &format!("{:#x}", self.features), "--ovmf"])
            .arg(firmware)
            .args(arguments)
            .output()
            .expect("sev-snp-measure can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

fn direct() -> Delivery {
    Delivery::Direct { vmsa: None, gpa: None }
}

#[test]
fn firmware_launched_from_registers() {
    let Some((data, tool)) = oracles() else { return };
    for path in FIRMWARE.map(|name| data.join(name)) {
        let firmware = parse(&path);
        for case in CASES {
            let ours = case.digest(&firmware, None, Delivery::Registers).to_string();
            assert_eq!(ours, case.oracle(&tool, &path, &[]), "{} {case:?}", path.display());
        }
    }
}

#[test]
fn firmware_with_kernel_hashes() {
    let Some((data, tool)) = oracles() else { return };
    let path = data.join("sid/OVMF.amdsev.fd");
    let firmware = parse(&path);
    let directory = std::env::temp_dir().join(format!("snpkit-kernel-hashes-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (kernel, initrd) = (directory.join("kernel"), directory.join("initrd"));
    std::fs::write(&kernel, vec![0x4d; 70_001]).unwrap();
    std::fs::write(&initrd, vec![0x1f; 123]).unwrap();
    let (kernel, initrd) = (kernel.to_str().unwrap(), initrd.to_str().unwrap());
    let contents = [std::fs::read(kernel).unwrap(), std::fs::read(initrd).unwrap()];
    let cmdline = "console=ttyS0 root=/dev/vda";
    let with = KernelHashes::new(&contents[0], Some(&contents[1]), Some(cmdline));
    let bare = KernelHashes::new(&contents[0], None, None);
    for case in [CASES[0], CASES[1]] {
        let ours = case.digest(&firmware, Some(with), Delivery::Registers).to_string();
        let arguments = ["--kernel", kernel, "--initrd", initrd, "--append", cmdline];
        assert_eq!(ours, case.oracle(&tool, &path, &arguments), "{case:?}");
        let ours = case.digest(&firmware, Some(bare), Delivery::Registers).to_string();
        assert_eq!(ours, case.oracle(&tool, &path, &["--kernel", kernel]), "{case:?}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_direct_digest_is_the_same_for_any_number_of_vcpus() {
    let Some(data) = environment("SNPKIT_TESTDATA") else { return };
    for name in FIRMWARE {
        let firmware = parse(&data.join(name));
        let digest = |vcpus, delivery| Case { vcpus, ..CASES[0] }.digest(&firmware, None, delivery);
        let one = digest(1, direct());
        let mut legacy = vec![digest(1, Delivery::Registers)];
        for vcpus in [2, 64, 512] {
            assert_eq!(digest(vcpus, direct()), one, "{name}");
            legacy.push(digest(vcpus, Delivery::Registers));
        }
        legacy.push(one);
        legacy.sort_by_key(|digest| digest.0);
        legacy.dedup();
        assert_eq!(legacy.len(), 5, "{name}: all differ");
    }
}

#[test]
fn firmware_without_what_is_needed_is_refused() {
    let Some(data) = environment("SNPKIT_TESTDATA") else { return };
    let kernel = Some(KernelHashes::new(b"kernel", None, None));
    for name in ["bookworm/OVMF.fd", "trixie/OVMF.fd"] {
        let options = CASES[0].options(Delivery::Registers);
        let launch = OvmfLaunch { firmware: parse(&data.join(name)), kernel, options };
        assert_eq!(launch.prepare().unwrap_err(), ImageError::NoKernelHashes, "{name}");
    }
    // The variable store is no firmware.
    let error = Ovmf::parse(Bytes::from(vec![0xff; 540_672])).unwrap_err();
    assert!(matches!(error, OvmfError::NoTable { .. }), "{error}");
}
