//! `snp explain` finds, from the digest alone, what made a launch differ.

mod common;

use std::path::{Path, PathBuf};

use common::{Firmware, provided, snp, stdout};
use serde_json::Value;

struct Bench {
    directory: tempfile::TempDir,
    ovmf: PathBuf,
    kernel: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("kernel"), vec![0x4d; 70_001]).expect("written");
        std::fs::write(at("initrd"), vec![0x1f; 300]).expect("written");
        // Debian's where CI provides it.
        let debian = provided("SNPKIT_TESTDATA").map(|data| data.join("sid/OVMF.amdsev.fd"));
        let ovmf = debian.unwrap_or_else(|| Firmware::full().write(&at("full.fd")));
        let kernel = at("kernel");
        Self { directory, ovmf, kernel }
    }

    fn run(&self, command: &str, image: &str, options: &str) -> std::process::Output {
        let ovmf = [image, self.ovmf.to_str().expect("UTF-8")];
        let kernel = self.kernel.to_str().expect("UTF-8");
        let words: Vec<String> = [command].into_iter().chain(options.split_whitespace()).map(str::to_owned).collect();
        let words: Vec<String> = words.into_iter().map(|word| word.replace("KERNEL", kernel)).collect();
        let image = ovmf.map(str::to_owned);
        snp(self.directory.path(), &[&words[..], if image[0].is_empty() { &[] } else { &image[..] }].concat())
    }

    fn measure(&self, options: &str) -> String {
        stdout(&self.run("measure", "--ovmf", options))
    }

    /// The launch that explains `measured`, and the differences from `expect`.
    fn explain(&self, measured: &str, options: &str) -> Value {
        let digest = self.measure(measured);
        let output = self.run("explain", "--ovmf", &format!("--digest {digest} --json {options}"));
        let text = stdout(&output);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["answer"], "match", "{measured}: {text}");
        assert_eq!(answer["observed"], digest.as_str());
        answer
    }
}

fn differs(answer: &Value) -> Vec<&str> {
    let rows = answer["differences"].as_array().expect("differences");
    rows.iter().map(|row| row["option"].as_str().expect("a name")).collect()
}

const EXPECT: &str = "--expect vcpus=4,vcpu-type=EPYC-Genoa";
const GENOA: &str = "--vcpus 4 --vcpu-type EPYC-Genoa";

#[test]
fn the_expected_launch() {
    let bench = Bench::new();
    let answer = bench.explain(GENOA, EXPECT);
    assert_eq!(differs(&answer), [""; 0]);
    assert_eq!(answer["launch"]["vcpus"], 4);
}

#[test]
fn debug_swap_is_found() {
    let answer = Bench::new().explain(&format!("{GENOA} --guest-features 0x21"), EXPECT);
    assert_eq!(differs(&answer), ["guest-features"]);
    assert_eq!(answer["launch"]["guest_features"], "0x21");
}

#[test]
fn an_old_ec2_host_is_found() {
    let answer = Bench::new().explain("--vcpus 4 --vmm-type ec2 --era 2025-06-01", "--expect vcpus=4,vmm=ec2");
    assert_eq!(differs(&answer), ["vmsa-profile"]);
    assert_eq!(answer["launch"]["vmsa_profile"], "ec2-pre-2026");
}

#[test]
fn another_number_of_vcpus_is_found() {
    let answer = Bench::new().explain("--vcpus 8 --vcpu-type EPYC-Genoa", EXPECT);
    assert_eq!(differs(&answer), ["vcpus"]);
    assert_eq!(answer["launch"]["vcpus"], 8);
}

#[test]
fn another_processor_is_found() {
    let answer = Bench::new().explain("--vcpus 4 --vcpu-type EPYC-Milan", EXPECT);
    assert_eq!(differs(&answer), ["vcpu-sig"]);
    assert_eq!(answer["launch"]["vcpu_sig"], "0xa00f11");
}

#[test]
fn missing_kernel_hashes_are_found() {
    let answer = Bench::new().explain(GENOA, &format!("{EXPECT} --kernel KERNEL --append quiet"));
    assert_eq!(differs(&answer), ["kernel"]);
    assert_eq!(answer["launch"]["kernel_hashes"], false);
}

#[test]
fn a_changed_command_line_is_found() {
    let bench = Bench::new();
    let measured = format!("{GENOA} --kernel KERNEL --append quiet");
    let answer = bench.explain(&measured, &format!("{EXPECT} --kernel KERNEL --initrd initrd --append \"quiet\""));
    assert_eq!(differs(&answer), ["initrd", "append"]);
    assert_eq!(answer["launch"]["append"], "quiet");
}

#[test]
fn mainline_instead_of_direct_is_found() {
    let answer = Bench::new().explain(GENOA, "--expect profile=direct-vmsa,vcpus=4,vcpu-type=EPYC-Genoa");
    assert_eq!(differs(&answer), ["profile"]);
    let answer = Bench::new().explain("--vcpus 3 --vcpu-sig 0xa00f11", "--expect vcpus=3,vmm=gce");
    let advice = answer["differences"][0]["advice"].as_str().expect("advice");
    assert!(advice.ends_with("expect --vmsa-profile qemu --vcpu-sig 0xa00f11"), "{advice}");
    let answer = Bench::new().explain("--profile direct-vmsa", &EXPECT.replace("vcpus", "profile=mainline,vcpus"));
    assert!(differs(&answer).contains(&"profile"));
    assert_eq!(answer["launch"]["profile"], "direct-vmsa");
}

#[test]
fn several_things_at_once_are_found() {
    let answer = Bench::new().explain("--vcpus 37 --vmm-type gce --guest-features 0x201", EXPECT);
    assert_eq!(differs(&answer), ["vmsa-profile", "vcpus", "guest-features"]);
    let old = "--vcpus 3 --vcpu-sig 0x00a10f11 --vmsa-profile qemu-pre-6.10";
    let answer = Bench::new().explain(old, "--expect vcpus=3,vcpu-type=EPYC-Genoa");
    assert_eq!(differs(&answer), ["vmsa-profile", "vcpu-sig"]);
}

/// A measured loader for every other one that differs on the example, which has no pages without data.
#[test]
fn the_loader_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &str| snp(directory.path(), &arguments.split_whitespace().collect::<Vec<_>>());
    stdout(&run("example hello -o hello.igvm"));
    for (loader, same) in [("qemu-replay", false), ("cloud-hypervisor-kvm", false), ("igvmmeasure", true)] {
        let digest =
            stdout(&run(&format!("measure --igvm hello.igvm --loader {loader} --vcpus 2 --vcpu-type EPYC-v4")));
        let explain = format!("explain --igvm hello.igvm --digest {digest} --json --expect loader=qemu-direct");
        let answer: Value = serde_json::from_str(&stdout(&run(&explain))).expect("JSON");
        assert_eq!(answer["answer"], "match", "{loader}");
        // Where two loaders give one digest, the first of them is told.
        let told = answer["launch"]["loader"].as_str().expect("a loader");
        assert_eq!(told, if same { "qemu-direct" } else { loader });
    }
}

#[test]
fn a_random_digest_has_no_launch() {
    let bench = Bench::new();
    let digest = "5eed".repeat(24);
    let output = bench.run("explain", "--ovmf", &format!("--digest {digest} --max-vcpus 2"));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("No launch that was tried"), "{text}");
    assert!(text.contains("what would narrow it"), "{text}");
}

#[test]
fn a_report_is_a_digest_too() {
    let bench = Bench::new();
    let digest = bench.measure(GENOA);
    let mut report = vec![0_u8; 0x4a0];
    report[0] = 3;
    for (byte, pair) in report[0x90..0xc0].iter_mut().zip(digest.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    }
    let path: &Path = &bench.directory.path().join("report.bin");
    std::fs::write(path, &report).expect("written");
    let text = stdout(&bench.run("explain", "--ovmf", &format!("--report report.bin {EXPECT}")));
    assert!(text.contains("That is the launch that was expected."), "{text}");
    std::fs::write(path, &report[..0x49f]).expect("written");
    assert_eq!(bench.run("explain", "--ovmf", "--report report.bin").status.code(), Some(2));
    report[0] = 9;
    std::fs::write(path, &report).expect("written");
    let output = bench.run("explain", "--ovmf", "--report report.bin");
    assert!(String::from_utf8_lossy(&output.stderr).contains("VERSION at offset 0x0 is 9"));
}

/// What `snp measure` predicts is what `--expect` with the same words expects.
#[test]
fn the_expected_launch_is_the_one_that_measure_predicts() {
    let bench = Bench::new();
    for (measured, expect) in [
        ("--vcpus 1 --vcpu-type EPYC-v4", "vcpus=1"),
        ("--vcpus 2 --vcpu-type EPYC-Milan --era 6.8", "vcpus=2,vcpu-type=EPYC-Milan,era=6.8"),
        ("--vcpus 2 --vmm-type ec2 --era 2025-06-01", "era=2025-06-01,vmm=ec2,vcpus=2"),
        ("--profile direct-vmsa", "profile=direct-vmsa"),
        ("--profile vcpu-state-explicit --vcpu-sig 0", "profile=vcpu-state-explicit,vcpu-sig=0"),
        ("--profile direct-vmsa --vmm-type gce", "profile=direct-vmsa,vmm=gce"),
        ("--profile direct-vmsa --vmsa-gpa 0x7001000", "profile=direct-vmsa,vmsa-gpa=0x7001000"),
        ("--profile direct-vmsa --vcpu-type EPYC-v4 --kernel KERNEL", "profile=direct-vmsa,vcpu-type=EPYC-v4"),
    ] {
        let kernel = if measured.contains("KERNEL") { " --kernel KERNEL" } else { "" };
        let digest = bench.measure(measured);
        let output = bench.run("explain", "--ovmf", &format!("--digest {digest} --expect {expect} --json{kernel}"));
        let answer: Value = serde_json::from_str(&String::from_utf8_lossy(&output.stdout)).expect("JSON");
        assert_eq!(answer["expected"], digest.as_str(), "{measured}");
        // Boot VMSAs at other places are not searched for.
        if !measured.contains("--vmsa-gpa") {
            assert_eq!((answer["answer"].as_str(), differs(&answer).len()), (Some("match"), 0), "{measured}: {answer}");
        }
    }
    let answer = bench.explain("--profile direct-vmsa", "--expect profile=direct-vmsa");
    assert_eq!(answer["launch"]["vmsa_profile"], "direct");
}

#[test]
fn what_cannot_be_expected_is_refused() {
    let bench = Bench::new();
    for (expect, reason) in [
        ("vcpus=4,vcpus=5", "vcpus is there twice"),
        ("vcpus=4,loader=openvmm", "loaders are for IGVM files"),
        ("vcpu=4", "vcpu: not known; known are vcpus, "),
        (" ", "it is empty"),
        ("vcpus=1..4", "want one number"),
        ("vmm=ec2,era=6.8", "rows that are told apart by dates want one"),
        ("vmsa-gpa=0x7001000", "for the direct profiles"),
        ("kernel-hashes=yes", "give --kernel too"),
    ] {
        let (digest, ovmf) = ("00".repeat(48), bench.ovmf.to_str().expect("UTF-8"));
        let output = snp(bench.directory.path(), &["explain", "--ovmf", ovmf, "--digest", &digest, "--expect", expect]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(reason), "{expect}: {told}");
    }
}

#[test]
fn advice_about_kernels_says_what_to_do() {
    let bench = Bench::new();
    let advice = |measured: &str, options: &str, option: &str| {
        let answer = bench.explain(&format!("{GENOA} {measured}"), &format!("{EXPECT}{options}"));
        let rows = answer["differences"].as_array().expect("differences").clone();
        let row = rows.iter().find(|row| row["option"] == option).unwrap_or_else(|| panic!("no {option}: {answer}"));
        row["advice"].as_str().expect("advice").to_owned()
    };
    let told = advice("--kernel KERNEL", " --kernel KERNEL --append quiet", "append");
    assert!(told.starts_with("no command line was measured"), "{told}");
    let told = advice("--kernel KERNEL", " --kernel KERNEL --initrd KERNEL", "initrd");
    assert!(told.starts_with("no initial RAM disk was measured"), "{told}");
    let hashes = ",kernel-hashes=no --kernel KERNEL --append quiet";
    let told = advice("--kernel KERNEL --append quiet", hashes, "kernel");
    assert_eq!(told, "kernel hashes were measured: expect --kernel, with --append \"quiet\"");
}
