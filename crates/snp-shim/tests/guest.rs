//! Programs in a launched guest: a C program by ioctls and files, the shell, and snpguest where it is installed.

mod common;

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
    assert!(!text(&output.stderr).contains("opened neither"), "{}", text(&output.stderr));
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

/// virtee's snpguest, unmodified: `SNPKIT_SNPGUEST` names it.
#[test]
fn snpguest_reports_and_derives_keys() {
    let Some(snpguest) = std::env::var_os("SNPKIT_SNPGUEST") else {
        println!("skipped: SNPKIT_SNPGUEST is not set");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (image, digest) = guest(directory.path());
    let file = |name: &str| directory.path().join(name);
    let run = |arguments: &[&str], files: &[PathBuf]| {
        let output = in_guest(&image).arg(&snpguest).args(arguments).args(files).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    run(&["report", "--random", "--vmpl", "0"], &[file("report"), file("request")]);
    let (report, request) = (std::fs::read(file("report")).unwrap(), std::fs::read(file("request")).unwrap());
    assert_eq!((report.len(), hex(&report[0x90..0xc0])), (0x4a0, digest));
    assert_eq!(report[0x50..0x90].len(), 64);
    assert!(!request.is_empty());
    let shown = run(&["display", "report"], &[file("report")]);
    assert!(shown.contains("Version:                      5"), "{shown}");
    run(&["key", "--vmpl", "0"], &[file("key"), "vcek".into()]);
    assert_eq!(std::fs::read(file("key")).unwrap().len(), 32);
}
