//! VMSA profiles against virtee/sev, which snpguest is made of: EC2 before 2026, libkrun, and QEMU once more.

use bytes::Bytes;
use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::{GuestFeatures, VMMType};
use snp_abi::SevFeatures;
use snp_image::{Delivery, GuestOptions, Ovmf, OvmfLaunch};
use snp_launch::predict;
use snp_vmsa::{cpu, reset};

const FIRMWARE: [&str; 4] = ["bookworm/OVMF.fd", "bookworm/OVMF_CODE.fd", "trixie/OVMF.fd", "sid/OVMF.amdsev.fd"];

#[test]
fn profiles_that_virtee_has() {
    let Some(data) = std::env::var_os("SNPKIT_TESTDATA").map(std::path::PathBuf::from) else {
        eprintln!("skipped: SNPKIT_TESTDATA is not set; `cargo xtask artifacts` provides it");
        return;
    };
    let types = [(CpuType::EpycV4, "EPYC-v4"), (CpuType::EpycMilan, "EPYC-Milan"), (CpuType::EpycGenoa, "EPYC-Genoa")];
    for file in FIRMWARE.map(|name| data.join(name)) {
        let firmware = Ovmf::parse(Bytes::from(std::fs::read(&file).expect("CI's file"))).expect("SNP firmware");
        for (vmm, profile) in [(VMMType::QEMU, "qemu"), (VMMType::EC2, "ec2-pre-2026"), (VMMType::KRUN, "krun")] {
            for (vcpus, features, (vcpu_type, model)) in [(1, 0x1, types[0]), (2, 0x21, types[1]), (64, 0x1, types[2])]
            {
                let theirs = snp_calc_launch_digest(SnpMeasurementArgs {
                    vcpus,
                    vcpu_type,
                    ovmf_file: file.clone(),
                    guest_features: GuestFeatures(features),
                    kernel_file: None,
                    initrd_file: None,
                    append: None,
                    ovmf_hash_str: None,
                    vmm_type: Some(vmm),
                });
                let options = GuestOptions {
                    vcpus,
                    cpu_signature: cpu::signature(model).expect("a known model"),
                    features: Some(SevFeatures(features)),
                    ..GuestOptions::of_vmm(reset::find(profile).expect("a profile"), Delivery::Registers)
                };
                let launch = OvmfLaunch { firmware: firmware.clone(), kernel: None, options };
                let ours = predict(&launch.prepare().expect("a plan").plan);
                let theirs = theirs.expect("it measures").get_hex_ld();
                assert_eq!(ours.to_string(), theirs, "{}, {vmm:?}, {vcpus} x {model}", file.display());
            }
        }
    }
}
