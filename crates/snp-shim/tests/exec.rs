//! C programs under `snp exec`, as the C compiler of this machine makes them.

mod common;

use std::path::Path;

use common::{compile, exec, text};

#[test]
fn descriptors_in_any_order_leak_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = exec(&[], &compile(directory.path(), "descriptors", &[]));
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("ok\n", Some(0)), "{}", text(&output.stderr));
}

#[test]
fn random_requests_crash_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "random", &[]);
    // No guest runs: one of random memory may run for ever.
    let profiles = ["vcpu-state", "mainline", "direct-vmsa"];
    for (how, profile) in ["refuse", "stop", "stop"].into_iter().zip(profiles) {
        let options = &["--vcpu-run", how, "--profile", profile];
        let output = exec(options, &program);
        let stderr = text(&output.stderr);
        let stdout = text(&output.stdout);
        assert!(stdout.starts_with("ok: "), "{options:?}: {:?} {stdout} {stderr}", output.status);
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(stderr.contains("asked for and not modelled: "), "{stderr}");
    }
}

#[test]
fn two_processes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "descriptors", &[]);
    let run = || text(&exec(&[], &program).stdout);
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().expect("no panic"))
    });
    assert_eq!((one.as_str(), other.as_str()), ("ok\n", "ok\n"));
}

#[test]
fn cpuid_is_the_platforms_and_only_cpuid() {
    let directory = tempfile::tempdir().unwrap();
    let output = exec(&[], &compile(directory.path(), "cpuid", &[]));
    assert_eq!(
        text(&output.stdout),
        "c-bit 51, immediate a20fa20f, data a20f, same leaf 7 1, own handler 1, caught 1\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_files_of_a_host_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let output = exec(&[], &compile(directory.path(), "host_files", &[]));
    assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
}

#[test]
fn a_guests_writes_signal_eventfds() {
    let directory = tempfile::tempdir().unwrap();
    let output = exec(&[], &compile(directory.path(), "ioeventfd", &[]));
    assert_eq!(text(&output.stdout), "ok\n", "{}", text(&output.stderr));
}

#[test]
fn cpuid_can_be_the_platforms_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "early", &[]);
    let asked = |options: &[&str]| text(&exec(options, &program).stdout);
    assert_eq!(asked(&["--cpuid-at-start", "--platform", "milan"]), "c-bit 51, family 19, model 01\n");
    assert_eq!(asked(&["--cpuid-at-start", "--platform", "genoa"]), "c-bit 51, family 19, model 11\n");
    // Without the option a program that opens no device is left alone.
    let own = std::process::Command::new(&program).output().unwrap();
    assert_eq!(asked(&[]), text(&own.stdout));
}

#[test]
fn static_programs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let output = exec(&[], &compile(directory.path(), "cpuid", &["-static"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("statically linked"), "{}", text(&output.stderr));
}

#[test]
fn a_program_that_opens_nothing_is_said_so_and_keeps_its_exit_code() {
    let output = exec(&[], Path::new("/bin/false"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("opened neither /dev/kvm nor /dev/sev"), "{}", text(&output.stderr));
    let output = exec(&[], Path::new("/nonexistent/program"));
    assert_eq!(output.status.code(), Some(2));
}
