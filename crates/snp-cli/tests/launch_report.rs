//! `snp launch --report`: the report says what was launched, and an ID block comes through from its creation to the report.

mod common;

use std::path::Path;
use std::process::Output;

use common::{Firmware, snp, stdout};
use snp_abi::{AttestationReport, ReportVersion, SigningKey};
use snp_attest::certificate::Certificate;
use snp_attest::chain::{Certificates, Trust};
use snp_attest::policy::Policy;
use zerocopy::FromBytes;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn launch(directory: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["launch", "--example", "hello"];
    arguments.extend(more);
    snp(directory, &arguments)
}

fn report(directory: &Path, more: &[&str]) -> (AttestationReport, String) {
    let output = launch(directory, &[&["--report", "report.bin"], more].concat());
    let printed = stdout(&output);
    let bytes = std::fs::read(directory.join("report.bin")).unwrap();
    (AttestationReport::read_from_bytes(&bytes).unwrap(), printed)
}

#[test]
fn the_report_is_of_this_launch() {
    let directory = tempfile::tempdir().unwrap();
    let (report, printed) = report(directory.path(), &["--host-data", &"07".repeat(32), "--policy", "0xb0000"]);
    let digest = printed.lines().find_map(|line| line.strip_prefix("launch digest ")).unwrap();
    assert_eq!(hex(&report.measurement.0), digest);
    assert_eq!((report.host_data, report.policy.0), ([7; 32], 0xb0000));
    assert_eq!((report.version, report.vmpl, report.report_data), (ReportVersion::V5, 0, [0; 64]));
    assert!(printed.ends_with("report of version 5 for VMPL 0, signed with the TEST VCEK: report.bin"), "{printed}");
    // The same launch gives the same bytes.
    let first = std::fs::read(directory.path().join("report.bin")).unwrap();
    self::report(directory.path(), &["--host-data", &"07".repeat(32), "--policy", "0xb0000"]);
    assert_eq!(std::fs::read(directory.path().join("report.bin")).unwrap(), first);
}

#[test]
fn what_the_guest_asks_for_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    for version in 2..=5 {
        let version_text = version.to_string();
        let data = "d5".repeat(64);
        let options =
            ["--report-version", &version_text, "--vmpl", "3", "--report-data", &data, "--report-key", "vlek"];
        let (report, _) = report(directory.path(), &options);
        assert_eq!((report.version.0, report.vmpl, report.report_data), (version, 3, [0xd5; 64]));
        assert_eq!(report.signer_info.signing_key(), SigningKey::VLEK);
    }
    let (report, _) = report(directory.path(), &["--platform", "milan", "--profile", "mainline"]);
    assert_eq!(report.version, ReportVersion::V2);
    let (_, printed) = self::report(directory.path(), &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        json["attestation_report"],
        serde_json::json!({ "file": "report.bin", "version": 5, "vmpl": 0, "signing_key": "VCEK" })
    );
}

#[test]
fn what_cannot_be_is_unusable() {
    let directory = tempfile::tempdir().unwrap();
    let wrong: [(&[&str], &str); 6] = [
        (&["--report", "r", "--report-version", "6"], "6 is not in 2..=5"),
        (&["--report", "r", "--vmpl", "4"], "4 is not in 0..=3"),
        (&["--report", "r", "--report-data", "00"], "64 bytes"),
        (&["--report-data", &"00".repeat(64)], "--report <FILE>"),
        (&["--report", "no/such/directory/r"], "no/such/directory"),
        (&["--report", "r", "--backend", "kvm"], "the guest itself asks"),
    ];
    for (options, message) in wrong {
        let output = launch(directory.path(), options);
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(text(&output.stderr).contains(message), "{options:?}: {}", text(&output.stderr));
    }
    assert!(!directory.path().join("r").exists());
}

/// The certificates are of the key that signed: snp-attest verifies the report with them, and with no others.
#[test]
fn certificates_come_with_the_report() {
    let directory = tempfile::tempdir().unwrap();
    for (key, platform, files) in [
        ("vcek", "milan", ["ark.pem", "ask.pem", "vcek.pem"]),
        ("vcek", "turin", ["ark.pem", "ask.pem", "vcek.pem"]),
        ("vlek", "genoa", ["ark.pem", "asvk.pem", "vlek.pem"]),
    ] {
        let certs = format!("{key}-{platform}");
        report(directory.path(), &["--platform", platform, "--report-key", key, "--certs", &certs]);
        let written = std::fs::read_dir(directory.path().join(&certs)).unwrap();
        let mut written: Vec<_> = written.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        written.sort();
        assert_eq!(written, files);
        let bytes = std::fs::read(directory.path().join("report.bin")).unwrap();
        let certificate = |name| {
            let pem = std::fs::read_to_string(directory.path().join(&certs).join(name)).ok()?;
            Some(Certificate::from_pem(&pem).unwrap())
        };
        let certificates = Certificates {
            ark: certificate("ark.pem"),
            ask: certificate("ask.pem"),
            asvk: certificate("asvk.pem"),
            vcek: certificate("vcek.pem"),
            vlek: certificate("vlek.pem"),
        };
        let verdict = |test_roots| {
            let trust = Trust { test_roots, ..Trust::default() };
            snp_attest::report::verify(&bytes, &certificates, &trust, &Policy::default())
        };
        assert!(verdict(true).passed(), "{:?}", verdict(true));
        assert!(verdict(true).test_root && !verdict(false).passed());
    }
}

/// Firmware whose metadata has no secrets page: its guest has no keys.
#[test]
fn a_guest_without_secrets_gets_no_report() {
    let directory = tempfile::tempdir().unwrap();
    let mut firmware = Firmware::full();
    firmware.sections.as_mut().unwrap().retain(|(_, _, kind)| *kind != 2);
    firmware.write(&directory.path().join("fw"));
    let output = snp(directory.path(), &["launch", "--ovmf", "fw", "--report", "r"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no secrets page"), "{}", text(&output.stderr));
}

/// Create, launch, report: it shows the digests of both keys, and what the block says of the guest.
#[test]
fn an_id_block_comes_through_to_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snp-attest/tests/keys");
    let digest = stdout(&launch(path, &[]));
    let digest = digest.lines().find_map(|line| line.strip_prefix("launch digest ")).unwrap().to_owned();
    let (id, author) = (keys.join("id.sec1.pem"), keys.join("author.sec1.pem"));
    let created = snp(
        path,
        &[
            "id-block",
            "create",
            "--digest",
            &digest,
            "--id-key",
            id.to_str().unwrap(),
            "--author-key",
            author.to_str().unwrap(),
            "--family-id",
            &"f1".repeat(16),
            "--image-id",
            &"1d".repeat(16),
            "--guest-svn",
            "7",
            "--id-block",
            "block",
            "--id-auth",
            "auth",
        ],
    );
    assert!(created.status.success(), "{}", text(&created.stderr));
    let (report, _) = report(path, &["--id-block", "block", "--id-auth", "auth"]);
    let digest_of = |pem: &Path| {
        let key = snp_attest::SigningKey::from_pem(&std::fs::read_to_string(pem).unwrap()).unwrap();
        snp_attest::key_digest(&key.public())
    };
    assert_eq!((report.id_key_digest, report.author_key_digest), (digest_of(&id), digest_of(&author)));
    assert_eq!((report.family_id, report.image_id, report.guest_svn), ([0xf1; 16], [0x1d; 16], 7));
    assert!(report.signer_info.has(snp_abi::SignerInfo::AUTHOR_KEY_EN));
}
