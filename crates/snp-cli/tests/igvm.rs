//! Files that `snp igvm build` makes, against the `igvm` crate; and what `snp igvm lint` and `snp explain` say of files that
//! are not portable.

mod common;

use std::path::Path;

use common::{Firmware, provided, snp, stdout};
use igvm::measurement::generate_snp_measurement;
use igvm::snp_defs::SevVmsa;
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision};
use igvm_defs::{
    IGVM_SEV_SNP_PLATFORM_VERSION, IGVM_VHS_SUPPORTED_PLATFORM, IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType,
};
use serde_json::Value;
use zerocopy::FromZeros;

fn run(place: &Path, words: &str) -> std::process::Output {
    snp(place, &words.split_whitespace().collect::<Vec<_>>())
}

/// The crate's own measurement of a file on disk.
fn crates_measurement(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("written");
    let file = IgvmFile::new_from_binary(&bytes, None).expect("the crate reads what we write");
    let digest = generate_snp_measurement(file.initializations(), file.directives(), 1).expect("it measures");
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn built_files_measure_alike_everywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    std::fs::write(place.join("kernel"), b"a kernel of no kind").expect("written");
    std::fs::write(place.join("raw"), (0..10_000).map(|i| (i * 7) as u8).collect::<Vec<u8>>()).expect("written");
    stdout(&run(place, "vmsa new --vcpu-type EPYC-Milan --eip 0x100000 -o vmsa"));
    let full = Firmware::full().write(&place.join("full.fd"));
    let mut builds = vec![
        format!("--ovmf {}", full.display()),
        format!("--ovmf {} --kernel kernel --append quiet", full.display()),
        format!("--ovmf {} --guest-features 0x21 --policy 0xb0000", full.display()),
        format!("--ovmf {} --vmsa vmsa --vmsa-gpa 0x7001000", full.display()),
        "--pages 0x100000:normal=raw --pages 0x110000:secrets --pages 0x111000:cpuid --vmsa vmsa --vmsa-gpa 0x201000"
            .to_owned(),
        "--pages 0x100000:unmeasured=raw --pages 0x110000:normal=kernel --vmsa vmsa --vmsa-gpa 0x201000".to_owned(),
    ];
    if let Some(data) = provided("SNPKIT_TESTDATA") {
        for name in ["bookworm/OVMF.fd", "bookworm/OVMF_CODE.fd", "trixie/OVMF.fd", "sid/OVMF.amdsev.fd"] {
            builds.push(format!("--ovmf {}", data.join(name).display()));
        }
    }
    for build in &builds {
        let told = stdout(&run(place, &format!("igvm build {build} -o built.igvm")));
        assert_eq!(told, crates_measurement(&place.join("built.igvm")), "{build}");
        for loader in ["qemu-direct", "igvmmeasure", "igvmmeasure-native-zero", "igvm-crate", "openvmm"] {
            assert_eq!(
                stdout(&run(place, &format!("measure --igvm built.igvm --loader {loader}"))),
                told,
                "{build} {loader}"
            );
        }
        let linted = stdout(&run(place, "igvm lint built.igvm"));
        assert!(linted.contains("portable: "), "{build}: {linted}");
    }
}

/// A file with two pages without data, for which loaders disagree.
fn dataless(path: &Path) {
    let page = |gpa, data| IgvmDirectiveHeader::PageData {
        gpa,
        compatibility_mask: 1,
        flags: IgvmPageDataFlags::new(),
        data_type: IgvmPageDataType::NORMAL,
        data,
    };
    let mut vmsa = SevVmsa::new_box_zeroed().expect("a page of memory");
    vmsa.rip = 0x10_0000;
    vmsa.efer = 0x1000;
    vmsa.sev_features = 1_u64.into();
    let directives = vec![
        page(0x10_0000, vec![0xf4; 4096]),
        page(0x10_1000, Vec::new()),
        page(0x10_2000, Vec::new()),
        IgvmDirectiveHeader::SnpVpContext { gpa: 0x20_1000, compatibility_mask: 1, vp_index: 0, vmsa },
    ];
    let platform = IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
        compatibility_mask: 1,
        highest_vtl: 0,
        platform_type: IgvmPlatformType::SEV_SNP,
        platform_version: IGVM_SEV_SNP_PLATFORM_VERSION,
        shared_gpa_boundary: 0,
    });
    let policy = IgvmInitializationHeader::GuestPolicy { policy: 0x3_0000, compatibility_mask: 1 };
    let file = IgvmFile::new(IgvmRevision::V1, vec![platform], vec![policy], directives).expect("a good file");
    let mut bytes = Vec::new();
    file.serialize(&mut bytes).expect("it can be written");
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn another_loaders_zero_pages_are_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    dataless(&place.join("file.igvm"));
    let digest = stdout(&run(place, "measure --igvm file.igvm --loader igvmmeasure-native-zero"));
    let explained =
        stdout(&run(place, &format!("explain --igvm file.igvm --digest {digest} --expect loader=qemu-direct --json")));
    let answer: Value = serde_json::from_str(&explained).expect("JSON");
    assert_eq!(answer["launch"]["loader"], "igvmmeasure-native-zero");
    assert_eq!(answer["differences"][0]["option"], "loader");
    // Zero pages through registers: Cloud Hypervisor on KVM, with three vCPUs.
    let kvm = "measure --igvm file.igvm --loader cloud-hypervisor-kvm --vcpus 3 --vcpu-type EPYC-Milan";
    let digest = stdout(&run(place, kvm));
    let explained = stdout(&run(place, &format!("explain --igvm file.igvm --digest {digest} --json")));
    let answer: Value = serde_json::from_str(&explained).expect("JSON");
    assert_eq!(answer["launch"]["loader"], "cloud-hypervisor-kvm");
    assert_eq!((&answer["launch"]["vcpus"], &answer["launch"]["vcpu_sig"]), (&3.into(), &"0xa00f11".into()));
    let output = run(place, "igvm lint file.igvm");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("hazard: 2 pages have no data, the first at 0x101000"), "{text}");
}

#[test]
fn what_could_not_be_launched_is_not_built() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    stdout(&run(place, "vmsa new --vcpu-type EPYC-Milan --eip 0x100000 -o vmsa"));
    Firmware::full().write(&place.join("full.fd"));
    for (options, told) in [
        ("--policy 0", "--policy: policy 0x0: bit 17 is not set"),
        ("--vmsa vmsa --guest-features 0x21", "--guest-features 0x21: the VMSA vmsa carries 0x1"),
    ] {
        let output = run(place, &format!("igvm build --ovmf full.fd {options} -o built.igvm"));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{options}: {words}");
        assert!(words.starts_with(&format!("error: {told}")), "{options}: {words}");
        assert!(!place.join("built.igvm").exists(), "{options}");
    }
    stdout(&run(place, "igvm build --ovmf full.fd --vmsa vmsa --guest-features 1 -o built.igvm"));
    // As the refusal says.
    stdout(&run(place, "vmsa set vmsa sev_features=0x21"));
    stdout(&run(place, "igvm build --ovmf full.fd --vmsa vmsa --guest-features 0x21 -o built.igvm"));
}

/// A P-384 key that tests share.
const KEY: &str = include_str!("../../snp-attest/tests/keys/author.sec1.pem");

#[test]
fn an_id_block_that_loaders_fail_is_a_hazard() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    std::fs::write(place.join("key.pem"), KEY).expect("written");
    std::fs::write(place.join("raw"), (0..10_000).map(|i| (i * 7) as u8).collect::<Vec<u8>>()).expect("written");
    stdout(&run(place, "vmsa new --eip 0x100000 -o vmsa"));
    // The VMSA lies below the pages, so that a loader that sorts by address measures it first.
    let pages = "--pages 0x300000:normal=raw --vmsa vmsa --vmsa-gpa 0x201000";
    stdout(&run(place, &format!("igvm build {pages} -o built.igvm")));
    let sign =
        |loader: &str| run(place, &format!("igvm sign built.igvm --id-key key.pem --loader {loader} -o signed.igvm"));
    let lint = || {
        let output = run(place, "igvm lint signed.igvm --json");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), answer)
    };
    let output = sign("qemu-direct");
    stdout(&output);
    assert!(output.stderr.is_empty());
    let (code, answer) = lint();
    assert_eq!((code, &answer["portable"]), (Some(0), &Value::Bool(true)), "{answer}");
    stdout(&run(place, "launch --igvm signed.igvm"));

    for (loader, warns, givers) in [
        ("cloud-hypervisor-mshv", false, "only cloud-hypervisor-mshv gives"),
        ("qemu-replay", true, "only qemu-replay and cloud-hypervisor-kvm give"),
    ] {
        let output = sign(loader);
        let digest = stdout(&output);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(told.contains("for a launch with 1 vCPU of the CPU model EPYC-v4"), warns, "{loader}: {told}");
        let (code, answer) = lint();
        assert_eq!((code, &answer["portable"]), (Some(1), &Value::Bool(false)), "{loader}: {answer}");
        let hazard = answer["hazards"][0].as_str().expect("a sentence");
        assert!(hazard.starts_with(&format!("the ID block is for digest {digest}, which {givers}: ")), "{hazard}");
        assert_eq!(run(place, "launch --igvm signed.igvm").status.code(), Some(1), "{loader}");
    }
}
