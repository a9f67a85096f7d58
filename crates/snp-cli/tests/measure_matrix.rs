//! `snp measure` against sev-snp-measure, run live with the very same arguments.
//!
//! The tool's own command-line function is called once per case inside one Python process, which saves its start-up time
//! and nothing else. `cargo xtask ci` provides tool and firmware and names them in SNPKIT_SEV_SNP_MEASURE and
//! SNPKIT_TESTDATA; without the tool the test says that it was skipped, without the firmware it takes the synthetic alone.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Firmware, provided, snp, stdout};

/// Reads one JSON list of arguments per line, prints what the tool prints for it, or `error: …`.
const SCRIPT: &str = r#"
import contextlib, io, json, sys
from sevsnpmeasure import cli
for line in sys.stdin:
    out, sys.argv = io.StringIO(), ["sev-snp-measure"] + json.loads(line)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = cli.main()
        print(out.getvalue().strip() if code == 0 else f"error: exit code {code}")
    except SystemExit as error:
        print(f"error: exit code {error.code}")
    except Exception as error:
        print(f"error: {error!r}")
"#;

fn oracle(tool: &Path, cases: &[Vec<String>]) -> Vec<String> {
    let python = tool.parent().expect("a directory of programs").join("python");
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool's Python runs");
    let mut input = child.stdin.take().expect("a pipe");
    let text: String = cases.iter().map(|case| serde_json::to_string(case).expect("text") + "\n").collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all was read");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// Files that the cases name.
struct Files {
    full: PathBuf,
    no_hashes: PathBuf,
    svsm: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    /// Debian's firmware; the last has a place for kernel hashes.
    debian: Vec<PathBuf>,
}

impl Files {
    fn write(directory: &Path) -> Self {
        let at = |name: &str| directory.join(name);
        std::fs::write(at("kernel"), vec![0x4d; 70_001]).expect("written");
        std::fs::write(at("initrd"), vec![0x1f; 300_000]).expect("written");
        let names = ["bookworm/OVMF.fd", "bookworm/OVMF_CODE.fd", "trixie/OVMF.fd", "sid/OVMF.amdsev.fd"];
        let debian = provided("SNPKIT_TESTDATA").map(|data| names.map(|name| data.join(name)).to_vec());
        let sections = Some(vec![(0x80_d000, 0x1000, 2), (0x80_e000, 0x1000, 3), (0x81_0000, 0x3000, 1)]);
        Self {
            full: Firmware::full().write(&at("full.fd")),
            no_hashes: Firmware { pages: 3, hash_table: None, sections, ..Firmware::full() }.write(&at("bare.fd")),
            svsm: Firmware::svsm().write(&at("svsm.bin")),
            kernel: at("kernel"),
            initrd: at("initrd"),
            debian: debian.unwrap_or_default(),
        }
    }

    /// Every firmware with SNP metadata.
    fn firmware(&self) -> Vec<&PathBuf> {
        [&self.full, &self.no_hashes].into_iter().chain(&self.debian).collect()
    }

    fn with_kernel_hashes(&self) -> Vec<&PathBuf> {
        [&self.full].into_iter().chain(self.debian.last()).collect()
    }
}

fn case(options: &str, ovmf: &Path) -> Vec<String> {
    let words = options.split_whitespace().map(str::to_owned);
    words.chain(["--ovmf".to_owned(), ovmf.to_str().expect("UTF-8").to_owned()]).collect()
}

fn cases(files: &Files) -> Vec<Vec<String>> {
    let mut cases = Vec::new();
    snp_cases(files, &mut cases);
    kernel_cases(files, &mut cases);
    older_modes(files, &mut cases);
    svsm_cases(files, &mut cases);
    cases
}

fn snp_cases(files: &Files, cases: &mut Vec<Vec<String>>) {
    for ovmf in files.firmware() {
        for vmm in ["QEMU", "ec2", "gce"] {
            for (vcpus, more) in [
                (1, "--vcpu-type EPYC-v4"),
                (2, "--vcpu-type EPYC-Milan --guest-features 0x21"),
                (3, "--vcpu-sig 0x00a10f10 --guest-features 0x1"),
                (4, "--vcpu-family 25 --vcpu-model 17 --vcpu-stepping 0 --guest-features 0x201"),
                (8, "--vcpu-sig 8392466"),
                (16, "--vcpu-type EPYC-Genoa --guest-features 0x21"),
                (64, "--vcpu-type EPYC-Rome-v2"),
                (200, "--vcpu-type EPYC-Turin"),
                (512, "--vcpu-type EPYC-v3"),
            ] {
                cases.push(case(&format!("--mode snp --vmm-type {vmm} --vcpus {vcpus} {more}"), ovmf));
            }
        }
        cases.push(case("--mode snp:ovmf-hash", ovmf));
        let hash = "f0e1d2c3b4a5968778695a4b3c2d1e0f".repeat(3);
        cases.push(case(&format!("--mode snp --vcpus 2 --vcpu-type EPYC-v4 --snp-ovmf-hash {hash}"), ovmf));
        cases.push(case("--mode snp --vcpus 2 --vcpu-type EPYC-v4 --output-format base64", ovmf));
        cases.push(case("--mode snp --vcpus 2 --vcpu-type EPYC-v4 --verbose", ovmf));
    }
    for model in snp_vmsa::cpu::MODELS.iter().map(|model| model.name) {
        cases.push(case(&format!("--mode snp --vcpus 3 --vcpu-type {model}"), &files.full));
    }
    // VMMs that show no signature need none.
    for vmm in ["ec2", "gce"] {
        cases.push(case(&format!("--mode snp --vmm-type {vmm} --vcpus 5"), &files.full));
    }
}

fn kernel_cases(files: &Files, cases: &mut Vec<Vec<String>>) {
    let (kernel, initrd) = (files.kernel.to_str().expect("UTF-8"), files.initrd.to_str().expect("UTF-8"));
    for ovmf in files.with_kernel_hashes() {
        for vmm in ["QEMU", "ec2", "gce"] {
            for more in ["", &format!("--initrd {initrd}"), &format!("--initrd {initrd} --append console=ttyS0")] {
                let base = format!("--mode snp --vmm-type {vmm} --vcpus 2 --vcpu-type EPYC-Milan --kernel {kernel}");
                cases.push(case(&format!("{base} {more}"), ovmf));
            }
        }
        let mut spaces = case(&format!("--mode snp --vcpus 1 --vcpu-type EPYC --kernel {kernel}"), ovmf);
        spaces.extend(["--append".to_owned(), "a  b=\"c\" ä".to_owned()]);
        cases.push(spaces);
        for mode in ["sev", "seves --vcpus 2 --vcpu-type EPYC-v4"] {
            for more in ["", &format!("--initrd {initrd} --append quiet")] {
                cases.push(case(&format!("--mode {mode} --kernel {kernel} {more}"), ovmf));
            }
        }
    }
}

fn older_modes(files: &Files, cases: &mut Vec<Vec<String>>) {
    for ovmf in files.firmware() {
        cases.push(case("--mode sev", ovmf));
        for vmm in ["QEMU", "ec2", "gce"] {
            for (vcpus, model) in [(1, "EPYC-v4"), (4, "EPYC-Milan"), (64, "EPYC-Genoa")] {
                cases.push(case(&format!("--mode seves --vmm-type {vmm} --vcpus {vcpus} --vcpu-type {model}"), ovmf));
            }
        }
    }
}

fn svsm_cases(files: &Files, cases: &mut Vec<Vec<String>>) {
    let svsm = files.svsm.to_str().expect("UTF-8");
    for ovmf in files.firmware() {
        for vars in ["--vars-size 540672", &format!("--vars-file {}", files.full.display())] {
            for (vcpus, model) in [(1, "EPYC-v4"), (8, "EPYC-Milan")] {
                let base = format!("--mode snp:svsm --vcpus {vcpus} --vcpu-type {model} --svsm {svsm}");
                cases.push(case(&format!("{base} {vars}"), ovmf));
            }
        }
    }
}

#[test]
fn every_case_is_sev_snp_measures() {
    let Some(tool) = provided("SNPKIT_SEV_SNP_MEASURE") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::write(directory.path());
    let cases = cases(&files);
    let theirs = oracle(&tool, &cases);
    assert_eq!(theirs.len(), cases.len());
    // EPYC models that the tool does not know yet are no cases.
    let (mut compared, mut distinct) = (0, BTreeSet::new());
    for (case, theirs) in cases.iter().zip(&theirs) {
        if theirs.starts_with("error: ") {
            assert!(case.iter().any(|word| word.starts_with("EPYC")), "{case:?}: {theirs}");
            continue;
        }
        assert_eq!(stdout(&snp(directory.path(), &[&["measure".to_owned()], &case[..]].concat())), *theirs, "{case:?}");
        compared += 1;
        distinct.insert(theirs.clone());
    }
    println!("{compared} of {} cases compared, {} distinct measurements", cases.len(), distinct.len());
    let wanted = if files.debian.is_empty() { 150 } else { 300 };
    assert!(compared >= wanted, "{compared}");
    assert!(distinct.len() * 10 > compared * 6, "{} distinct", distinct.len());
}

#[test]
fn dumped_vmsas_are_sev_snp_measures() {
    let Some(tool) = provided("SNPKIT_SEV_SNP_MEASURE") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::write(directory.path());
    let svsm =
        format!("--mode snp:svsm --vcpus 2 --vcpu-type EPYC-v4 --vars-size 4096 --svsm {}", files.svsm.display());
    for options in ["--mode snp --vcpus 3 --vcpu-type EPYC-v4", "--mode seves --vcpus 3 --vcpu-type EPYC-v4", &svsm] {
        let arguments = case(&format!("{options} --dump-vmsa"), &files.full);
        let dump = |who: &str, run: &dyn Fn(&Path)| -> Vec<Vec<u8>> {
            let place = directory.path().join(who);
            std::fs::create_dir_all(&place).expect("made");
            run(&place);
            let read = (0..).map(|index| std::fs::read(place.join(format!("vmsa{index}.bin"))));
            let pages = read.map_while(Result::ok).collect();
            std::fs::remove_dir_all(&place).expect("removed");
            pages
        };
        let ours =
            dump("ours", &|place| drop(stdout(&snp(place, &[&["measure".to_owned()], &arguments[..]].concat()))));
        let theirs = dump("theirs", &|place| {
            let status = Command::new(&tool).args(&arguments).current_dir(place).output().expect("it runs").status;
            assert!(status.success());
        });
        assert!(theirs.len() >= 2, "{options}");
        assert_eq!(ours, theirs, "{options}");
    }
}

/// What sev-snp-measure accepts and should not (docs/prior-bugs.md), refused with the reason.
#[test]
fn what_sev_snp_measure_wrongly_accepts_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let full = Firmware::full().write(&directory.path().join("full.fd"));
    let without = Firmware { sections: None, ..Firmware::full() }.write(&directory.path().join("without.fd"));
    let base = "--mode snp --vcpu-type EPYC-v4";
    let cases = [
        (case(&format!("{base} --vcpus 0"), &full), "1 to 4096"),
        (case(&format!("{base} --vcpus -3"), &full), "1 to 4096"),
        (case(&format!("{base} --vcpus 2 --guest-features 0x10000000000000001"), &full), "number too large"),
        (case(&format!("{base} --vcpus 2 --guest-features 0x20"), &full), "SNPActive"),
        (case(&format!("{base} --vcpus 2"), &without), "SEV metadata"),
    ];
    let refused: Vec<_> = cases
        .iter()
        .map(|(arguments, reason)| {
            let output = snp(directory.path(), &[&["measure".to_owned()], &arguments[..]].concat());
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
            assert!(message.contains(reason), "{arguments:?}: {message}");
            arguments.clone()
        })
        .collect();
    let Some(tool) = provided("SNPKIT_SEV_SNP_MEASURE") else { return };
    for (arguments, answer) in refused.iter().zip(oracle(&tool, &refused)) {
        assert!(
            !answer.starts_with("error"),
            "the tool refuses {arguments:?} now: {answer}; update docs/prior-bugs.md"
        );
    }
}
