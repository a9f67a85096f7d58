//! `snp launch --backend kvm` under `snp exec`: what it would do on a host with SEV-SNP is what `--backend soft` does.

mod common;

use std::path::Path;
use std::process::Output;

use common::{snp, target, text};

const PROFILES: [&str; 4] = ["direct-vmsa", "vcpu-state", "vcpu-state-explicit", "mainline"];

/// The same launch on both back ends; for `kvm`, the profile is that of the host, and is probed.
fn both(profile: &str, platform: &str, arguments: &[&str], directory: &Path) -> [Output; 2] {
    let soft = snp()
        .args(["launch", "--profile", profile, "--platform", platform])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let kvm = snp()
        .args(["exec", "--profile", profile, "--platform", platform, "--"])
        .arg(target().join("snp"))
        .args(["launch", "--backend", "kvm"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    [soft, kvm]
}

fn digest_line(text: &str) -> Option<&str> {
    text.lines().find(|line| line.starts_with("launch digest "))
}

/// The images that are at hand: our own example always, Debian's firmware where the artefacts are.
fn images() -> Vec<Vec<String>> {
    let mut images = vec![vec!["--example".to_owned(), "hello".to_owned()]];
    match std::env::var_os("SNPKIT_TESTDATA") {
        Some(data) => {
            for firmware in ["trixie/OVMF.fd", "sid/OVMF.amdsev.fd"] {
                let path = Path::new(&data).join(firmware);
                assert!(path.is_file(), "{} is missing", path.display());
                images.push(vec!["--ovmf".to_owned(), path.display().to_string()]);
            }
        }
        None => eprintln!("skipped in part: SNPKIT_TESTDATA is not set, so only our own example is launched"),
    }
    images
}

#[test]
fn the_digest_is_that_of_the_other_back_ends() {
    let directory = tempfile::tempdir().unwrap();
    for image in images() {
        for profile in PROFILES {
            for vcpus in ["1", "3"] {
                let mut arguments: Vec<&str> = image.iter().map(String::as_str).collect();
                arguments.extend(["--vcpus", vcpus]);
                if profile == "mainline" && image[0] == "--example" {
                    // Its VMSA starts in long mode; registers carry it, KVM measures one for each vCPU.
                    arguments.extend(["--vcpu-type", "EPYC-Milan"]);
                }
                let [soft, kvm] = both(profile, "genoa", &arguments, directory.path());
                let (soft_out, kvm_out, told) = (text(&soft.stdout), text(&kvm.stdout), text(&kvm.stderr));
                assert_eq!(soft.status.code(), kvm.status.code(), "{profile} {arguments:?}: {told}");
                if soft.status.success() {
                    let digest = digest_line(&soft_out).unwrap();
                    // Predicted by the digest engine, and told by the platform behind the ioctls.
                    assert_eq!(digest_line(&kvm_out), Some(digest), "{profile} {arguments:?}");
                    assert_eq!(digest_line(&told), Some(digest), "{profile} {arguments:?}");
                    assert!(kvm_out.contains(&format!("profile {profile} on kvm (this machine)")), "{kvm_out}");
                }
            }
        }
    }
}

#[test]
fn the_same_mistakes_are_refused_in_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    let make = |arguments: &[&str]| {
        let output = snp().args(arguments).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    };
    for (name, changes) in [("plain", "rip=0x1000"), ("shadow", "sev_features=0x5")] {
        make(&["vmsa", "new", "-o", name]);
        make(&["vmsa", "set", name, changes]);
    }
    std::fs::write(directory.path().join("key.pem"), include_str!("../../snp-attest/tests/keys/id.sec1.pem")).unwrap();
    let wrong_digest = "11".repeat(48);
    make(&[
        "id-block",
        "create",
        "--digest",
        &wrong_digest,
        "--id-key",
        "key.pem",
        "--id-block",
        "block",
        "--id-auth",
        "auth",
    ]);
    let cases: &[(&str, &str, &[&str])] = &[
        ("mainline", "genoa", &["--policy", "0x0"]),
        ("mainline", "milan", &["--policy", "0x2030000"]),
        ("direct-vmsa", "milan", &["--policy", "0x2030000"]),
        ("direct-vmsa", "genoa", &["--policy", "0x1f0ff00"]),
        ("direct-vmsa", "genoa", &["--vmsa", "shadow", "--guest-features", "0x1"]),
        ("vcpu-state", "genoa", &["--vmsa", "shadow", "--guest-features", "0x1"]),
        ("vcpu-state", "genoa", &["--vmsa-gpa", "0x200000"]),
        ("direct-vmsa", "genoa", &["--guest-features", "0x4001"]),
        ("mainline", "genoa", &["--guest-features", "0x4001"]),
        ("direct-vmsa", "genoa", &["--vcpus", "2000"]),
        ("direct-vmsa", "genoa", &["--id-block", "block", "--id-auth", "auth"]),
        ("vcpu-state-explicit", "turin", &["--id-block", "block", "--id-auth", "auth"]),
    ];
    let mut refused = 0;
    for (profile, platform, arguments) in cases {
        let arguments = [&["--example", "hello"], *arguments].concat();
        let [soft, kvm] = both(profile, platform, &arguments, directory.path());
        let said = |output: &Output| {
            let text = text(&output.stderr);
            // What `snp exec` adds is its own.
            text.lines().filter(|line| !line.starts_with("snp exec:")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(said(&kvm), said(&soft), "{profile} {platform} {arguments:?}");
        assert_eq!(kvm.status.code(), soft.status.code(), "{profile} {platform} {arguments:?}");
        refused += usize::from(soft.status.code() == Some(1));
    }
    assert!(refused >= 8, "only {refused} cases were refused by the platform");
}

#[test]
fn another_uapi_than_the_hosts_is_told_plainly() {
    let output = snp()
        .args(["exec", "--profile", "mainline", "--"])
        .arg(target().join("snp"))
        .args(["launch", "--backend", "kvm", "--example", "hello", "--profile", "direct-vmsa"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = "error: this machine's KVM has the uAPI mainline, not direct-vmsa (--profile)\n";
    assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
}

/// On a machine that launches no SNP guest, which is any that builds this: one sentence.
#[test]
fn a_machine_without_snp() {
    let output = snp().args(["launch", "--backend", "kvm", "--example", "hello"]).output().unwrap();
    let stderr = text(&output.stderr);
    if output.status.success() {
        eprintln!("skipped: this machine has SEV-SNP");
        return;
    }
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), 1), "{stderr}");
    let known = ["/dev/kvm does not exist", "/dev/kvm cannot be opened", "this KVM has no SEV-SNP VMs", "/dev/sev"];
    assert!(known.iter().any(|known| stderr.contains(known)), "{stderr}");
}
