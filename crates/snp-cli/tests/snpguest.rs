//! virtee's snpguest, unmodified: it verifies reports of our launches under our exported roots, and refuses what was changed.
//!
//! `SNPKIT_SNPGUEST` names it. What it does not look at by design is in docs/prior-bugs.md; here are bits that it must notice.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{provided, snp, stdout};
use snp_abi::{AbiLayout, AttestationReport};

/// Versions and product lines of the reports, and the keys that sign them.
const CASES: [(&str, &str, &str); 6] = [
    ("milan", "2", "vcek"),
    ("genoa", "2", "vlek"),
    ("milan", "3", "vcek"),
    ("genoa", "3", "vcek"),
    ("genoa", "5", "vlek"),
    ("turin", "5", "vcek"),
];

struct Snpguest(PathBuf);

impl Snpguest {
    fn run(&self, arguments: &[&str], directory: &Path) -> Output {
        Command::new(&self.0).args(arguments).current_dir(directory).output().expect("snpguest runs")
    }

    fn verifies_certificates(&self, directory: &Path) -> bool {
        self.run(&["verify", "certs", "certs"], directory).status.success()
    }

    fn verifies_report(&self, platform: &str, directory: &Path) -> bool {
        self.run(&["verify", "attestation", "-p", platform, "certs", "report.bin"], directory).status.success()
    }
}

fn snpguest() -> Option<Snpguest> {
    provided("SNPKIT_SNPGUEST").map(Snpguest)
}

/// A launch whose report and chain are in a directory.
fn launched(platform: &str, version: &str, key: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--platform", platform, "--report", "report.bin", "--report-version", version, "--report-key", key];
    stdout(&snp(directory.path(), &[&["launch", "--example", "hello"], &options[..]].concat()));
    // Those of `snp certs export`, which knows nothing of the launch.
    let export = ["certs", "export", "certs", "--platform", platform, "--key", key, "--format", "der"];
    stdout(&snp(directory.path(), &export));
    directory
}

fn verifies_here(directory: &Path) -> bool {
    let verify = ["verify", "report.bin", "--certs", "certs", "--trust-test-roots", "--at", "2026-06-01"];
    match snp(directory, &verify).status.code() {
        Some(0) => true,
        Some(1 | 2) => false,
        code => panic!("snp verify ended with {code:?}"),
    }
}

#[test]
fn it_verifies_reports_and_chains_of_our_launches() {
    let Some(snpguest) = snpguest() else { return };
    for (platform, version, key) in CASES {
        let directory = launched(platform, version, key);
        for arguments in
            [&["verify", "certs", "certs"][..], &["verify", "attestation", "-p", platform, "certs", "report.bin"]]
        {
            let output = snpguest.run(arguments, directory.path());
            let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{platform}, version {version}, {key}: {arguments:?}: {said}{error}");
        }
        assert!(verifies_here(directory.path()), "{platform}, version {version}, {key}");
    }
}

/// What it drops when it reads a report: the reserved bytes of TCB versions, and what is behind the signature.
fn its_blind_spot(platform: &str, byte: usize) -> bool {
    let reserved = if platform == "turin" { 4..7 } else { 2..6 };
    byte >= 0x330 || [0x38, 0x180, 0x1e0, 0x1f0].iter().any(|tcb| byte >= *tcb && reserved.contains(&(byte - tcb)))
}

/// One bit of every field for us, of every 25th byte for it; `snp-attest`'s own tests flip every bit.
#[test]
fn a_flipped_bit_in_a_report_fails_here_and_there() {
    let Some(snpguest) = snpguest() else { return };
    for (first, (platform, version)) in [("milan", "2"), ("genoa", "3"), ("turin", "5")].into_iter().enumerate() {
        let directory = launched(platform, version, "vcek");
        let path = directory.path().join("report.bin");
        let good = std::fs::read(&path).unwrap();
        let flip = |byte: usize, bit: usize| {
            let mut report = good.clone();
            report[byte] ^= 1 << bit;
            std::fs::write(&path, report).unwrap();
        };
        for field in AttestationReport::FIELDS {
            flip(field.offset, 0);
            assert!(!verifies_here(directory.path()), "ours: {platform}, {}", field.name);
        }
        for byte in (first..good.len()).step_by(25) {
            flip(byte, byte % 8);
            let accepted = snpguest.verifies_report(platform, directory.path());
            assert_eq!(accepted, its_blind_spot(platform, byte), "theirs: {platform}, {byte:#x}");
        }
    }
}

/// A bit of every eightieth byte of every certificate, those of the signatures among them.
#[test]
fn a_flipped_bit_in_a_chain_fails_here_and_there() {
    let Some(snpguest) = snpguest() else { return };
    let directory = launched("genoa", "3", "vcek");
    for name in ["ark", "ask", "vcek"] {
        let path = directory.path().join("certs").join(name).with_extension("der");
        let good = std::fs::read(&path).unwrap();
        for byte in (7..good.len()).step_by(80).chain([good.len() - 1]) {
            let mut changed = good.clone();
            changed[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, changed).unwrap();
            assert!(!verifies_here(directory.path()), "ours: {name}, byte {byte:#x}");
            let accepted =
                snpguest.verifies_certificates(directory.path()) && snpguest.verifies_report("genoa", directory.path());
            assert!(!accepted, "theirs: {name}, byte {byte:#x}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(verifies_here(directory.path()));
}
