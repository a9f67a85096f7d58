//! Options that do not go together are refused, and none is passed over in silence.

mod common;

use common::{Firmware, snp, stdout};

#[test]
fn no_option_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| snp(place, &words.split(' ').collect::<Vec<_>>());
    Firmware::full().write(&place.join("full.fd"));
    stdout(&run("example hello -o hello.igvm"));
    stdout(&run("vmsa new -o vmsa"));
    stdout(&run("launch --example hello --report report"));
    let digest = stdout(&run("measure --igvm hello.igvm"));
    std::fs::write(place.join("file"), b"a kernel of no kind").expect("written");
    let refused = [
        "launch --igvm hello.igvm --kernel file",
        "launch --example hello --kernel file",
        "launch --example hello --initrd file",
        "launch --igvm hello.igvm --append quiet",
        "run --example hello --kernel file",
        "run --example hello --html page",
        "measure --igvm hello.igvm --kernel file",
        "measure --igvm hello.igvm --initrd file",
        "measure --ovmf full.fd --profile direct-vmsa --loader igvmmeasure",
        "measure --ovmf full.fd --profile direct-vmsa --append quiet",
        &format!("measure --igvm hello.igvm --snp-ovmf-hash {digest}"),
        &format!("explain --igvm hello.igvm --digest {digest} --kernel file"),
        &format!("explain --igvm hello.igvm --digest {digest} --initrd file"),
        "verify report --igvm hello.igvm --kernel file",
        "verify report --igvm hello.igvm --initrd file",
        "verify report --ovmf full.fd --loader igvmmeasure",
        "igvm build --pages 0x1000:normal=file --vmsa vmsa --vmsa-gpa 0x3000 -o built --kernel file",
        "igvm build --pages 0x1000:normal=file --vmsa vmsa --vmsa-gpa 0x3000 -o built --append quiet",
        "igvm build --pages 0x1000:normal=file --vmsa vmsa --vmsa-gpa 0x3000 -o built --guest-features 0x21",
    ];
    for words in refused {
        let output = run(words);
        let told = String::from_utf8_lossy(&output.stderr);
        let option = words.rsplit(' ').find(|word| word.starts_with("--")).expect("the last option is the one");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words}: {told}");
        assert!(told.contains(option), "{words}: {told}");
    }
    assert!(!place.join("built").exists() && !place.join("page").exists());
}

/// A seed is shown as it was given, not as it was filled up.
#[test]
fn errors_show_what_was_given() {
    let output = snp(std::path::Path::new("."), &["run", "--example", "hello", "--seed", "xyz"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("\"xyz\": want 1 to 64 hexadecimal digits"), "{told}");
}

/// A refusal by KVM itself says what to do, as one by the firmware does.
#[test]
fn refusals_by_kvm_have_a_hint() {
    for (words, hint) in
        [("launch --example hello --policy 0", "see --policy"), ("launch --example hello --vcpus 4096", "see --vcpus")]
    {
        let output = snp(std::path::Path::new("."), &words.split(' ').collect::<Vec<_>>());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains("\nhint: ") && told.contains(hint), "{told}");
    }
}

/// The firmware would never launch what such an ID block is for.
#[test]
fn no_id_block_is_signed_for_a_policy_that_no_guest_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = include_bytes!("../../snp-attest/tests/keys/id.sec1.pem");
    std::fs::write(directory.path().join("key.pem"), key).expect("written");
    let words = format!(
        "id-block create --digest {} --id-key key.pem --policy 0x10000 --id-block b --id-auth a",
        "00".repeat(48)
    );
    let output = snp(directory.path(), &words.split(' ').collect::<Vec<_>>());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("policy 0x10000: bit 17 is not set"), "{told}");
    assert!(!directory.path().join("b").exists() && !directory.path().join("a").exists());
}

/// What sev-snp-measure takes, and what nobody should take for a launch digest.
#[test]
fn measure_takes_what_scripts_give_it() {
    let directory = tempfile::tempdir().expect("a directory");
    common::Firmware::full().write(&directory.path().join("full.fd"));
    std::fs::write(directory.path().join("kernel"), [7; 4096]).expect("written");
    let run = |words: &[&str]| snp(directory.path(), words);
    let kernel = ["measure", "--ovmf", "full.fd", "--vcpus", "1", "--vcpu-type", "EPYC-v4", "--kernel", "kernel"];
    assert!(run(&[&kernel[..], &["--append", "-x y"]].concat()).status.success());
    let es = ["measure", "--mode", "seves", "--ovmf", "full.fd", "--vcpus", "1", "--vcpu-type", "EPYC-v4"];
    assert!(run(&[&es[..], &["--guest-features", "0x0"]].concat()).status.success());
    let output = run(&[&kernel[..], &["--guest-features", "0x20"]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--guest-features: 0x20 lacks SNPActive"));
    for format in ["rvps", "corim"] {
        let output = run(&["measure", "--mode", "snp:ovmf-hash", "--ovmf", "full.fd", "--output-format", format]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains("not snp:ovmf-hash"), "{told}");
    }
}
