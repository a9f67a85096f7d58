//! Programs in a launched guest: a C program by ioctls and files, the shell, and snpguest where it is installed.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{compile, snp, text};

/// The example guest as an IGVM file, and its launch digest.
fn guest(directory: &Path) -> (PathBuf, String) {
    let image = directory.join("hello.igvm");
    assert!(snp().args(["example", "hello", "-o"]).arg(&image).output().unwrap().status.success());
    let launched = snp().args(["launch", "--igvm"]).arg(&image).output().unwrap();
    let digest = text(&launched.stdout).lines().find_map(|line| line.strip_prefix("launch digest ").map(str::to_owned));
    (image, digest.expect("a digest"))
}

fn in_guest(image: &Path) -> Command {
    let mut command = snp();
    command.args(["exec", "--guest-of"]).arg(image).arg("--");
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_program_finds_the_devices_of_a_guest() {
    let directory = tempfile::tempdir().unwrap();
    let (image, _) = guest(directory.path());
    let output = in_guest(&image).arg(compile(directory.path(), "sev_guest", &[])).output().unwrap();
    assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("neither /dev/"), "{}", text(&output.stderr));
}

/// Every command of a shell is a process of its own; the guest is one.
#[test]
fn a_shell_gets_a_report_by_files() {
    let directory = tempfile::tempdir().unwrap();
    let (image, digest) = guest(directory.path());
    let report = directory.path().join("report");
    let script = "set -e; d=/sys/kernel/config/tsm/report/r0; mkdir $d; head -c 64 /dev/zero | tr '\\0' x > $d/inblob; \
                  echo 1 > $d/privlevel; cat $d/outblob > $1; cat $d/provider $d/generation; rmdir $d";
    let output = in_guest(&image).args(["sh", "-c", script, "sh"]).arg(&report).output().unwrap();
    assert_eq!(text(&output.stdout), "sev_guest\n2\n", "{}", text(&output.stderr));
    let report = std::fs::read(report).unwrap();
    assert_eq!((report.len(), &report[0x50..0x90]), (0x4a0, &[b'x'; 64][..]));
    assert_eq!((report[0x30], hex(&report[0x90..0xc0])), (1, digest));
}

/// The guest of a transcript is the one that was launched.
#[test]
fn what_is_no_launch_has_no_guest() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("transcript");
    for (contents, message) in [("{}\n", "line 1"), ("", "firmware"), ("IGVM", "IGVM file")] {
        std::fs::write(&file, contents).unwrap();
        let output = in_guest(&file).arg("true").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(message), "{contents}: {}", text(&output.stderr));
    }
}

/// Without a guest there is nothing of it.
#[test]
fn a_host_has_no_guest_device() {
    let output = snp().args(["exec", "--", "test", "-e", "/dev/sev-guest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// virtee's snpguest, unmodified, in the guest of an image. `SNPKIT_SNPGUEST` names it.
struct Snpguest {
    program: OsString,
    image: PathBuf,
    directory: PathBuf,
}

impl Snpguest {
    /// `None`, and the reason told, if it is not installed.
    fn find(image: &Path, directory: &Path) -> Option<Self> {
        let program = std::env::var_os("SNPKIT_SNPGUEST");
        if program.is_none() {
            eprintln!("skipped: SNPKIT_SNPGUEST is not set; `cargo xtask artifacts` provides it");
        }
        Some(Self { program: program?, image: image.to_owned(), directory: directory.to_owned() })
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = in_guest(&self.image);
        let output = command.arg(&self.program).args(arguments).current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(name)).unwrap()
    }

    /// A key that mixes the fields of `select` in.
    fn key(&self, root: &str, select: &str) -> Vec<u8> {
        self.run(&["key", "--vmpl", "0", "-g", select, "key", root]);
        self.file("key")
    }
}

/// It gets a report and the certificates that the VMM has, and verifies both.
#[test]
fn snpguest_gets_a_report_and_verifies_it() {
    let directory = tempfile::tempdir().unwrap();
    let (image, digest) = guest(directory.path());
    let Some(snpguest) = Snpguest::find(&image, directory.path()) else { return };
    snpguest.run(&["report", "--random", "--vmpl", "0", "report.bin", "request.bin"]);
    let (report, request) = (snpguest.file("report.bin"), snpguest.file("request.bin"));
    assert_eq!((report.len(), hex(&report[0x90..0xc0])), (0x4a0, digest));
    assert_eq!(report[0x50..0x90], request[..64]);
    let shown = snpguest.run(&["display", "report", "report.bin"]);
    assert!(shown.contains("Version:                      5"), "{shown}");
    snpguest.run(&["certificates", "pem", "certs"]);
    snpguest.run(&["verify", "certs", "certs"]);
    let said = snpguest.run(&["verify", "attestation", "certs", "report.bin"]);
    assert!(said.contains("VEK signed the Attestation Report!"), "{said}");
    let verify = ["verify", "report.bin", "--certs", "certs", "--trust-test-roots", "--igvm"];
    let ours = snp().args(verify).arg(&image).args(["--profile", "direct-vmsa"]).current_dir(directory.path()).output();
    let ours = ours.unwrap();
    assert!(ours.status.success(), "{}{}", text(&ours.stdout), text(&ours.stderr));
}

/// The same for the same launch; another by root, by what is mixed in, and of another guest if the measurement is.
#[test]
fn snpguest_derives_keys() {
    const MEASUREMENT: &str = "8";
    let directory = tempfile::tempdir().unwrap();
    let (image, _) = guest(directory.path());
    let Some(snpguest) = Snpguest::find(&image, directory.path()) else { return };
    let keys = [("vcek", "0"), ("vcek", MEASUREMENT), ("vmrk", MEASUREMENT)].map(|(root, select)| {
        let key = snpguest.key(root, select);
        assert_eq!(key, snpguest.key(root, select), "{root} {select}");
        assert_eq!(key.len(), 32);
        key
    });
    assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    let other = directory.path().join("smp.igvm");
    assert!(snp().args(["example", "smp", "-o"]).arg(&other).output().unwrap().status.success());
    let other = Snpguest { image: other, ..snpguest };
    assert_eq!(other.key("vcek", "0"), keys[0]);
    assert_ne!(other.key("vcek", MEASUREMENT), keys[1]);
}
