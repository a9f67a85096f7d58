//! `snp launch --report`, `snp report show`, `snp verify`: the report says what was launched, an ID block comes through from its
//! creation to the verdict, and another launch than the expected one is refused and explained.

mod common;

use std::path::Path;
use std::process::Output;

use common::{Firmware, snp, stdout};
use serde_json::Value;
use snp_abi::{AttestationReport, ProductLine, ReportVersion, SigningKey};
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
    let json: Value = serde_json::from_str(&printed).unwrap();
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
    let (report, _) = report(path, &["--id-block", "block", "--id-auth", "auth", "--certs", "certs"]);
    let digest_of = |pem: &Path| {
        let key = snp_attest::SigningKey::from_pem(&std::fs::read_to_string(pem).unwrap()).unwrap();
        snp_attest::key_digest(&key.public())
    };
    assert_eq!((report.id_key_digest, report.author_key_digest), (digest_of(&id), digest_of(&author)));
    assert_eq!((report.family_id, report.image_id, report.guest_svn), ([0xf1; 16], [0x1d; 16], 7));
    assert!(report.signer_info.has(snp_abi::SignerInfo::AUTHOR_KEY_EN));
    let shown = stdout(&snp(path, &["report", "show", "report.bin", "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (name, key) in [("id_key_digest", &id), ("author_key_digest", &author)] {
        assert_eq!(shown[name], hex(&digest_of(key)), "{name}");
    }
    // By the keys themselves, and by the digest of one.
    let (id_text, author_text, author_digest) =
        (id.to_str().unwrap(), author.to_str().unwrap(), hex(&digest_of(&author)));
    let names = ["--family-id", &"f1".repeat(16), "--image-id", &"1d".repeat(16), "--min-svn", "7"];
    for keys in
        [["--id-key", id_text, "--author-key", author_text], ["--id-key", id_text, "--author-key", &author_digest]]
    {
        let (code, document) = verify(path, &[&keys[..], &names].concat());
        assert_eq!(code, Some(0), "{document:#}");
        assert_eq!(outcome(&document, "author-key")["outcome"], "passed");
    }
    for (option, key) in [("--author-key", id_text), ("--id-key", author_text)] {
        let (code, document) = verify(path, &[option, key]);
        assert_eq!((code, &outcome(&document, &option[2..])["code"]), (Some(1), &Value::from(&option[2..])));
    }
    let (code, document) = verify(path, &["--min-svn", "8"]);
    assert_eq!((code, &outcome(&document, "min-svn")["code"]), (Some(1), &"min-svn".into()));
}

/// `snp verify` of report.bin with its TEST chain: exit code and verdict.
fn verify(directory: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = ["verify", "report.bin", "--certs", "certs", "--trust-test-roots", "--at", "2026-06-01", "--json"];
    let output = snp(directory, &[&arguments[..], more].concat());
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code(), document.unwrap_or_else(|_| panic!("{}", text(&output.stderr))))
}

fn outcome<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name}"))
}

/// Launch, report, verify: by the image, predicted on the spot, under every profile and of an IGVM file.
#[test]
fn a_launch_is_verified_by_its_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    Firmware::full().write(&path.join("fw"));
    stdout(&snp(path, &["example", "smp", "-o", "smp.igvm"]));
    let images: [&[&str]; 4] = [
        &["--ovmf", "fw", "--profile", "direct-vmsa", "--vcpus", "64"],
        &["--ovmf", "fw", "--profile", "vcpu-state", "--vcpus", "3"],
        &["--ovmf", "fw", "--profile", "mainline", "--vcpus", "3", "--vcpu-type", "EPYC-v4"],
        &["--igvm", "smp.igvm", "--profile", "direct-vmsa", "--vcpus", "2"],
    ];
    for image in images {
        stdout(&snp(path, &[&["launch", "--report", "report.bin", "--certs", "certs"], image].concat()));
        let (code, document) = verify(path, image);
        assert_eq!((code, &document["test_root"]), (Some(0), &Value::Bool(true)), "{image:?}: {document:#}");
        assert_eq!(outcome(&document, "measurement")["outcome"], "passed");
    }
}

/// A verdict that fails on the measurement says which launch it was.
#[test]
fn another_launch_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    Firmware::full().write(&path.join("fw"));
    let launch = ["launch", "--ovmf", "fw", "--profile", "mainline", "--vcpus", "2", "--vcpu-type", "EPYC-v4"];
    stdout(&snp(path, &[&launch[..], &["--report", "report.bin", "--certs", "certs"]].concat()));
    let expected = ["--ovmf", "fw", "--vcpus", "4", "--vcpu-type", "EPYC-v4"];
    let (code, document) = verify(path, &expected);
    assert_eq!((code, &outcome(&document, "measurement")["code"]), (Some(1), &"measurement".into()));
    assert_eq!(document["explain"]["launch"]["vcpus"], 2, "{:#}", document["explain"]);
    let difference = &document["explain"]["differences"][0];
    assert_eq!((&difference["option"], &difference["expected"]), (&"vcpus".into(), &"4".into()), "{difference}");
    let arguments = ["verify", "report.bin", "--certs", "certs", "--trust-test-roots"];
    let said = text(&snp(path, &[&arguments[..], &expected].concat()).stdout);
    assert!(said.contains("The measurement, explained:") && said.contains("  vcpus            2\n"), "{said}");
    // Without an image there is nothing to search with.
    let (code, document) = verify(path, &["--measurement", &"00".repeat(48)]);
    assert_eq!((code, &document["explain"]), (Some(1), &Value::Null));
}

/// The key distribution service certifies the key that signed, by what the report says of its chip and TCB.
#[test]
fn the_key_distribution_service_knows_the_chip() {
    let directory = tempfile::tempdir().unwrap();
    let (report, _) = report(directory.path(), &["--platform", "turin"]);
    let parts = report.reported_tcb.parts(ProductLine::Turin);
    let target = format!(
        "/vcek/v1/Turin/{}?fmcSPL={}&blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}",
        hex(&report.chip_id[..8]),
        parts.fmc,
        parts.bootloader,
        parts.tee,
        parts.snp,
        parts.microcode
    );
    let certs = directory.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::write(certs.join("vcek.der"), common::fetched(&target)).unwrap();
    std::fs::write(certs.join("cert_chain.pem"), common::fetched("/vcek/v1/Turin/cert_chain")).unwrap();
    std::fs::write(certs.join("crl.der"), common::fetched("/vcek/v1/Turin/crl")).unwrap();
    let (code, document) = verify(directory.path(), &[]);
    assert_eq!((code, &outcome(&document, "revocation")["outcome"]), (Some(0), &"passed".into()), "{document:#}");
}
