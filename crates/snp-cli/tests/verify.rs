//! `snp verify`, `snp report show`, `snp certs export` and `snp kds serve`, with reports that AMD hardware made.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{snp, stdout};
use serde_json::Value;

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../snp-attest/tests/reports")
}

fn real(name: &str) -> String {
    reports().join(name).to_str().expect("text").to_owned()
}

fn verify(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    snp(directory.path(), &[&["verify"], arguments].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no check {name}"))
}

#[test]
fn a_real_report_is_verified_with_all_that_is_asked() {
    let (report, vlek) = (real("milan-v3-vlek.report.bin"), real("milan-v3-vlek.vlek.der"));
    let bytes = std::fs::read(&report).unwrap();
    let hex = |range: std::ops::Range<usize>| bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (measurement, data) = (hex(0x90..0xc0), hex(0x50..0x90));
    let output = verify(&[
        &report,
        "--certs",
        &vlek,
        "--at",
        "2025-06-01",
        "--json",
        "--measurement",
        &measurement,
        "--report-data",
        &data,
        "--min-tcb",
        "bootloader=4,snp=24,microcode=217",
        "--vmpl",
        "1",
        "--policy-forbid",
        "debug,migrate",
        "--policy-require",
        "smt",
        "--platform-require",
        "alias-check,ecc",
        "--platform-forbid",
        "tio",
        "--provider",
        "CN=cc-us-east-2.amazonaws.com",
    ]);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    assert_eq!((&document["verified"], &document["test_root"]), (&Value::Bool(true), &Value::Bool(false)));
    for name in [
        "measurement",
        "report-data",
        "min-tcb",
        "vmpl",
        "policy-forbid",
        "policy-require",
        "platform-forbid",
        "platform-require",
        "provider",
        "signature",
        "validity",
    ] {
        assert_eq!(check(&document, name)["outcome"], "passed", "{name}");
    }
    assert_eq!(check(&document, "revocation")["outcome"], "skipped");
    assert_eq!(check(&document, "host-data")["reason"], "not asked for");
}

#[test]
fn what_does_not_hold_is_exit_code_1_and_told() {
    let (report, vcek) = (real("milan-v2.report.bin"), real("milan-v2.vcek.der"));
    let output = verify(&[&report, "--certs", &vcek, "--at", "2023-06-01"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("FAILED   debug: the guest's policy allows DEBUG"), "{text}");
    assert!(text.contains("NOT verified: 1 checks failed"), "{text}");
    assert_eq!(verify(&[&report, "--certs", &vcek, "--at", "2023-06-01", "--allow-debug"]).status.code(), Some(0));
    let document = json(&verify(&[&report, "--certs", &vcek, "--at", "2030-06-01", "--allow-debug", "--json"]));
    assert_eq!(check(&document, "validity")["code"], "expired");
    let document = json(&verify(&[&report, "--at", "2023-06-01", "--json"]));
    assert_eq!(check(&document, "endorsement-certificate")["code"], "certificate-missing");
}

#[test]
fn a_policy_file_does_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "allow-debug: true\nmin-tcb: {microcode: 68}\npolicy-forbid: [migrate]\n").unwrap();
    let policy = policy.to_str().unwrap();
    let (report, vcek) = (real("milan-v2.report.bin"), real("milan-v2.vcek.der"));
    let common = [report.as_str(), "--certs", &vcek, "--at", "2023-06-01", "--policy", policy];
    assert_eq!(verify(&common).status.code(), Some(0));
    // The command line goes before the file.
    let output = verify(&[&common[..], &["--min-tcb", "microcode=69", "--json"]].concat());
    assert_eq!(check(&json(&output), "min-tcb")["code"], "min-tcb");
    // What either asks for is asked for.
    std::fs::write(policy, "allow-debug: true\nplatform-forbid: [tsme]\nmitigations: 2\n").unwrap();
    let document = json(&verify(&[&common[..], &["--platform-require", "ecc,alias-check", "--json"]].concat()));
    let code = |name: &str| check(&document, name)["code"].clone();
    assert_eq!(check(&document, "platform-forbid")["outcome"], "passed");
    assert_eq!(
        (code("platform-require"), code("mitigations")),
        ("platform-required".into(), "no-mitigation-vectors".into())
    );
    std::fs::write(policy, "min-tcb: {kernel: 1}").unwrap();
    let output = verify(&common);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("policy.yaml") && error.contains("kernel"), "{error}");
}

#[test]
fn unusable_input_is_exit_code_2_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, data: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, data).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let report = std::fs::read(reports().join("milan-v2.report.bin")).unwrap();
    let good = write("good.bin", &report);
    let short = write("short.bin", &report[..1183]);
    let long = write("long.bin", &[&report[..], &[0]].concat());
    let bad = write("bad.der", &[0x30, 3, 1, 1]);
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, word) in [
        (vec![short.as_str()], "short.bin"),
        (vec![&long], "long.bin"),
        (vec!["nothing.bin"], "nothing.bin"),
        (vec![&good, "--certs", &bad], "bad.der"),
        (vec![&good, "--certs", empty], "empty"),
        (vec![&good, "--crl", &bad], "bad.der"),
        (vec![&good, "--at", "yesterday"], "yesterday"),
        (vec![&good, "--min-tcb", "snp"], "want PART=LEVEL"),
        (vec![&good, "--policy-forbid", "fun"], "--policy-forbid: \"fun\" is no flag"),
        (vec![&good, "--policy-require", "fun"], "--policy-require: \"fun\" is no flag"),
        (vec![&good, "--platform-forbid", "debug"], "--platform-forbid: \"debug\" is no flag"),
        (vec![&good, "--platform-require", ""], "--platform-require: \"\" is no flag"),
        (vec![&good, "--mitigations", "a"], "want a number"),
        (vec![&good, "--provider", ""], "want the cspID"),
        (vec![&good, "--id-key", "nothing.pem"], "nothing.pem"),
        (vec![&good, "--vcpus", "4"], "--vcpus belongs to"),
        (vec![&good, "--ovmf", "nothing.fd", "--vcpus", "4"], "nothing.fd"),
        // Which of the two digests would do?
        (vec![&good, "--measurement", &"00".repeat(48), "--ovmf", "OVMF.fd", "--vcpus", "4"], "cannot be used with"),
    ] {
        let output = verify(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(word) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}

/// The launch is predicted; the one that happened is another.
#[test]
fn another_launch_than_the_predicted_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let firmware = directory.path().join("firmware.fd");
    std::fs::write(&firmware, common::Firmware::full().bytes()).unwrap();
    let firmware = firmware.to_str().unwrap();
    let (report, vlek) = (real("milan-v3-vlek.report.bin"), real("milan-v3-vlek.vlek.der"));
    let output = verify(&[
        &report,
        "--certs",
        &vlek,
        "--at",
        "2025-06-01",
        "--ovmf",
        firmware,
        "--vcpus",
        "1,2",
        "--vcpu-type",
        "EPYC-v4",
        "--no-explain",
        "--json",
    ]);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(1));
    let predicted =
        stdout(&snp(directory.path(), &["measure", "--ovmf", firmware, "--vcpus", "2", "--vcpu-type", "EPYC-v4"]));
    let measurement = check(&document, "measurement");
    assert_eq!(measurement["code"], "measurement");
    assert!(measurement["reason"].as_str().unwrap().contains(&predicted), "{measurement}");
    assert!(document["explain"].is_null());
}

#[test]
fn reports_are_shown_by_field() {
    let directory = tempfile::tempdir().unwrap();
    let show = |arguments: &[&str]| snp(directory.path(), &[&["report", "show"], arguments].concat());
    let document: Value = serde_json::from_str(&stdout(&show(&[&real("milan-v3-vlek.report.bin"), "--json"]))).unwrap();
    assert_eq!(document["version"], 3);
    assert_eq!(document["product_line"], "Milan");
    assert_eq!(document["reported_tcb"]["microcode"], 0xd9);
    assert_eq!(document["signer_info"]["signing_key"], "VLEK");
    assert_eq!(document["platform_info"]["flags"][0], "SMT_EN");
    assert!(document.get("launch_mit_vector").is_none() && document.get("reserved_0x4c").is_none());

    // Version 2 has no processor, and packs TCB versions by it all the same.
    let report = real("milan-v2.report.bin");
    let document: Value = serde_json::from_str(&stdout(&show(&[&report, "--json"]))).unwrap();
    assert!(document["reported_tcb"].get("microcode").is_none() && document.get("cpuid_fam_id").is_none());
    let document: Value = serde_json::from_str(&stdout(&show(&[&report, "--json", "--product", "milan"]))).unwrap();
    assert_eq!(document["reported_tcb"]["microcode"], 0x44);
    let text = stdout(&show(&[&report, "--product", "Milan"]));
    assert!(text.contains("policy             value 0xb0000, abi 0.0, flags: SMT DEBUG"), "{text}");
    assert!(text.contains("bootloader 2, tee 0, snp 5, microcode 68"), "{text}");
}

#[test]
fn certificates_are_exported_by_the_names_that_others_look_for() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| snp(directory.path(), &[&["certs", "export"], arguments].concat());
    stdout(&run(&["vcek", "--platform", "turin"]));
    stdout(&run(&["vlek", "--key", "vlek", "--format", "der", "--platform", "milan"]));
    let names = |name: &str| {
        let entries = std::fs::read_dir(directory.path().join(name)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("vcek"), ["ark.pem", "ask.pem", "crl.pem", "vcek.pem"]);
    assert_eq!(names("vlek"), ["ark.der", "asvk.der", "crl.der", "vlek.der"]);
    let again = std::fs::read(directory.path().join("vcek/vcek.pem")).unwrap();
    stdout(&run(&["vcek", "--platform", "turin"]));
    assert_eq!(std::fs::read(directory.path().join("vcek/vcek.pem")).unwrap(), again);
    // A TEST chain is refused unless it is asked for, and then it is another chip's.
    let chain = directory.path().join("vcek");
    let report = real("genoa-v3.report.bin");
    for (trust, code) in [(&[][..], "test-root"), (&["--trust-test-roots"], "other-product-line")] {
        let arguments = [&["verify", &report, "--certs", chain.to_str().unwrap(), "--json"], trust].concat();
        let output = snp(directory.path(), &arguments);
        let document = json(&output);
        let codes: Vec<_> = document["checks"].as_array().unwrap().iter().map(|check| check["code"].clone()).collect();
        assert!(codes.contains(&code.into()), "{codes:?}");
        assert_eq!((output.status.code(), &document["verified"]), (Some(1), &Value::Bool(false)));
    }
}

#[test]
fn a_directory_of_certificates_leaves_nothing_open() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (report, vcek) = (real("milan-v2.report.bin"), real("milan-v2.vcek.der"));
    let run =
        || verify(&[&report, "--certs", directory.path().to_str().unwrap(), "--at", "2023-06-01", "--allow-debug"]);
    std::fs::copy(&vcek, at("vcek.der")).unwrap();
    std::fs::copy(&vcek, at("vcek.crt")).unwrap();
    assert_eq!(run().status.code(), Some(0), "the same twice");
    let refused = |word: &str| {
        let output = run();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && error.contains(word), "{error}");
    };
    std::fs::copy(real("genoa-v3.vcek.der"), at("vcek.crt")).unwrap();
    refused("a second VCEK");
    std::fs::remove_file(at("vcek.crt")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("crl.pem")).unwrap();
    refused("crl.pem");
}

#[test]
fn the_key_distribution_service_answers_on_this_machine() {
    let mut service = Command::new(env!("CARGO_BIN_EXE_snp"))
        .args(["kds", "serve", "--max-requests", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("snp runs");
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").expect("an address").to_owned();
    let get = |target: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = get("/vcek/v1/Milan/cert_chain");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.matches("BEGIN CERTIFICATE").count() == 2, "{answer}");
    assert!(get("/vcek/v1/Naples/cert_chain").starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(service.wait().unwrap().success());
    let output = snp(&std::env::temp_dir(), &["kds", "serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a loopback address"));
}

/// Trust in TEST roots says nothing about a report that does not need it.
#[test]
fn trust_in_test_roots_does_not_make_a_real_report_a_test() {
    let (report, vcek) = (real("genoa-v3.report.bin"), real("genoa-v3.vcek.der"));
    let output = verify(&[&report, "--certs", &vcek, "--at", "2025-06-01", "--trust-test-roots"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("this chain ends in AMD's root") && !text.contains("the software platform made"), "{text}");
    assert!(text.contains("\nverified: 0 checks failed"), "{text}");
}

/// However the expected launch is described, the verdict says how the one that happened differs.
#[test]
fn the_predicted_launch_is_the_expected_one() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let firmware = common::Firmware::full().write(&place.join("full.fd"));
    let run = |words: &str| common::snp(place, &words.split_whitespace().collect::<Vec<_>>());
    let launch = format!("launch --ovmf {} --profile mainline --vcpus 4 --vcpu-type EPYC-Milan", firmware.display());
    assert!(run(&format!("{launch} --report r --certs certs")).status.success());
    assert!(run("vmsa new --set rip=0x10 -o own.vmsa").status.success());
    for options in [
        "--vcpus 2 --vcpu-type EPYC-Milan --era 6.8",
        "--vcpus 2 --vcpu-type EPYC-Milan --era 2026-01-01",
        "--profile direct-vmsa",
        "--profile vcpu-state-explicit --vcpu-sig 0",
        "--profile direct-vmsa --vmsa-gpa 0x7001000",
        "--profile vcpu-state --vmsa own.vmsa",
    ] {
        let words = format!("verify r --certs certs --trust-test-roots --ovmf {} {options} --json", firmware.display());
        let document = json(&run(&words));
        assert_eq!(check(&document, "measurement")["outcome"], "failed", "{options}");
        assert!(document["explain"]["expected"].is_string(), "{options}: {document:#}");
        assert!(!document["explain"]["differences"].as_array().unwrap().is_empty(), "{options}");
    }
}
