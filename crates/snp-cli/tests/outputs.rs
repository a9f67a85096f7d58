//! Where answers go: closed pipes, full disks, devices, links. No command panics over it, and no device becomes a file.

mod common;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{snp, stdout};

/// Every command that prints, as it ends where all is well. Files are made by [`place`].
const COMMANDS: [&str; 24] = [
    "launch --example hello",
    "launch --example hello --json",
    "launch --example hello --id-block block --id-auth auth --json",
    "run --example hello --json",
    "measure --igvm hello.igvm",
    "measure --igvm hello.igvm --output-format corim",
    "explain --igvm hello.igvm --digest 31cfba7c1ac5649c3f4776d6c086ba4bb738f418c5ea41b96fcd9382c221776d2988f52c57adc5d66e360d1aaca48ba3",
    "diff vmsa vmsa",
    "profiles",
    "profiles --json",
    "report show report",
    "verify report --certs certs --trust-test-roots --json",
    "vmsa new -o -",
    "vmsa show vmsa",
    "vmsa show vmsa --json",
    "vmsa check vmsa",
    "vmsa diff vmsa vmsa --json",
    "id-block show block auth",
    "id-block show block auth --json",
    "id-block verify block auth --json",
    "igvm show hello.igvm",
    "igvm lint hello.igvm --json",
    "example --list",
    "example hello -o -",
];

/// A directory with what the commands read.
fn place() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| stdout(&snp(place, &words.split(' ').collect::<Vec<_>>()));
    run("example hello -o hello.igvm");
    run("vmsa new -o vmsa");
    run("launch --example hello --report report --certs certs");
    std::fs::write(place.join("key.pem"), KEY).expect("written");
    let digest = run("measure --igvm hello.igvm");
    // A digest that is not the example's would make the launch a refusal.
    run(&format!("id-block create --digest {digest} --id-key key.pem --id-block block --id-auth auth"));
    directory
}

/// A P-384 key that tests share.
const KEY: &str = include_str!("../../snp-attest/tests/keys/author.sec1.pem");

fn command(place: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snp"));
    command.args(words.split(' ')).current_dir(place).stderr(Stdio::piped());
    command
}

fn with_stdout(place: &Path, words: &str, output: impl Into<Stdio>) -> Output {
    command(place, words).stdout(output).spawn().and_then(std::process::Child::wait_with_output).expect("snp runs")
}

fn words_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_full_disk_is_told() {
    let place = place();
    for words in COMMANDS.into_iter().chain(["run --example hello"]) {
        let full = File::options().write(true).open("/dev/full").expect("there is one");
        let output = with_stdout(place.path(), words, full);
        assert_eq!(output.status.code(), Some(2), "{words}: {}", words_of(&output));
        assert!(words_of(&output).contains("No space left on device"), "{words}: {}", words_of(&output));
    }
}

#[test]
fn a_closed_pipe_changes_no_answer() {
    let place = place();
    for words in COMMANDS.into_iter().chain(["run --example hello"]) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = with_stdout(place.path(), words, writer);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", words_of(&output));
        assert!(!words_of(&output).contains("pipe"), "{words}: {}", words_of(&output));
    }
}

#[test]
fn nobody_has_to_hear_what_is_told_to_people() {
    let place = place();
    for (words, code) in [("run --example hello", 0), ("run --example hello --trace ghcb", 2), ("verify nothing", 2)] {
        let full = File::options().write(true).open("/dev/full").expect("there is one");
        let status = command(place.path(), words).stdout(Stdio::null()).stderr(full).status().expect("snp runs");
        assert_eq!(status.code(), Some(code), "{words}");
    }
}

#[test]
fn what_is_no_file_stays_what_it_is() {
    let place = place();
    // A pipe by name, as of `--html >(cat)` and /dev/stdout.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let output = with_stdout(place.path(), "vmsa new -o /proc/self/fd/1", writer);
    assert!(output.status.success(), "{}", words_of(&output));
    let mut page = Vec::new();
    reader.read_to_end(&mut page).expect("read");
    assert_eq!(page, std::fs::read(place.path().join("vmsa")).expect("made"));

    // Links to devices, so that a device is not lost should the test fail.
    for (link, device) in [("null", "/dev/null"), ("full", "/dev/full")] {
        symlink(device, place.path().join(link)).expect("linked");
    }
    for words in ["launch --example hello --html", "launch --example hello --transcript", "vmsa new -o"] {
        let output = with_stdout(place.path(), &format!("{words} null"), Stdio::null());
        assert!(output.status.success(), "{words}: {}", words_of(&output));
        let output = with_stdout(place.path(), &format!("{words} full"), Stdio::null());
        assert_eq!(output.status.code(), Some(2), "{words}: {}", words_of(&output));
        assert!(words_of(&output).contains(" full: No space left on device"), "{words}: {}", words_of(&output));
        for link in ["null", "full"] {
            let there = std::fs::metadata(place.path().join(link)).expect("there");
            assert!(there.file_type().is_char_device(), "{words}: {link}");
        }
    }
}

#[test]
fn links_lead_to_the_file_that_is_written() {
    let place = place();
    let (file, link) = (place.path().join("file"), place.path().join("link"));
    std::fs::write(&file, "before").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    symlink("file", &link).expect("linked");
    stdout(&snp(place.path(), &["vmsa", "new", "-o", "link"]));
    assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
    let written = std::fs::metadata(&file).expect("there");
    assert_eq!((written.len(), written.permissions().mode() & 0o777), (4096, 0o640));
}

#[test]
fn new_files_follow_the_umask() {
    let place = place();
    let script = format!("umask 077; exec '{}' vmsa new -o mine", env!("CARGO_BIN_EXE_snp"));
    let status = Command::new("sh").args(["-c", &script]).current_dir(place.path()).status().expect("sh runs");
    assert!(status.success());
    let mode = std::fs::metadata(place.path().join("mine")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let place = place();
    let output = snp(place.path(), &["vmsa", "new", "-o", "certs"]);
    assert_eq!(words_of(&output), "error: VMSA certs: is a directory\n");
    let output = snp(place.path(), &["vmsa", "new", "-o", "nowhere/vmsa"]);
    let told = "error: VMSA nowhere/vmsa: cannot create a file in nowhere: No such file or directory (os error 2)\n";
    assert_eq!(words_of(&output), told);
}

/// Every file of a directory, with what is in it.
fn contents(place: &Path) -> std::collections::BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = std::fs::read_dir(place).expect("a directory").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|entry| (entry.file_name(), std::fs::read(entry.path()).expect("read"))).collect()
}

#[test]
fn no_output_lies_over_another_file() {
    let place = place();
    symlink("key.pem", place.path().join("key.link")).expect("linked");
    std::fs::write(place.path().join("author.pem"), KEY).expect("written");
    common::Firmware::full().write(&place.path().join("full.fd"));
    let before = contents(place.path());
    let digest = "00".repeat(48);
    let create = format!("id-block create --digest {digest} --author-key author.pem --id-key key.pem");
    let build = "igvm build --ovmf full.fd --kernel block --initrd auth --vmsa vmsa --vmsa-gpa 0x7001000";
    for (words, told) in [
        (format!("{create} --id-block new --id-auth new"), "--id-auth new: the same file as --id-block"),
        (format!("{create} --id-block new --id-auth ./new"), "--id-auth ./new: the same file as --id-block"),
        (format!("{create} --id-block new --id-auth key.pem"), "--id-auth key.pem: the same file as --id-key"),
        (format!("{create} --id-block key.link --id-auth new"), "--id-block key.link: the same file as --id-key"),
        (format!("{create} --id-block author.pem --id-auth n"), "--id-block author.pem: the same file as --author-key"),
        ("igvm sign hello.igvm --id-key key.pem -o key.pem".into(), "--output key.pem: the same file as --id-key"),
        (format!("{build} -o full.fd"), "--output full.fd: the same file as --ovmf"),
        (format!("{build} -o block"), "--output block: the same file as --kernel"),
        (format!("{build} -o auth"), "--output auth: the same file as --initrd"),
        (format!("{build} -o vmsa"), "--output vmsa: the same file as --vmsa"),
        (
            "igvm build --pages 0x100000:normal=report --vmsa vmsa --vmsa-gpa 0x201000 -o report".into(),
            "--output report: the same file as --pages",
        ),
        ("igvm show hello.igvm --html hello.igvm".into(), "--html hello.igvm: the same file as the IGVM file"),
        (
            "launch --example hello --report new --transcript new --html new".into(),
            "--html new: the same file as --report",
        ),
        ("launch --igvm hello.igvm --transcript hello.igvm".into(), "--transcript hello.igvm: the same file as --igvm"),
        (
            "launch --example hello --id-block block --id-auth auth --report auth".into(),
            "--report auth: the same file as --id-auth",
        ),
        ("run --igvm hello.igvm --transcript hello.igvm".into(), "--transcript hello.igvm: the same file as --igvm"),
        ("run --igvm hello.igvm --trace ghcb=hello.igvm".into(), "--trace hello.igvm: the same file as --igvm"),
        ("run --example hello --trace ghcb=new --transcript new".into(), "--trace new: the same file as --transcript"),
        ("measure --igvm hello.igvm --html hello.igvm".into(), "--html hello.igvm: the same file as --igvm"),
        (format!("explain --igvm hello.igvm --digest {digest} --html hello.igvm"), "--html hello.igvm: the same file"),
        ("diff hello.igvm hello.igvm@vcpus=2 --html hello.igvm".into(), "--html hello.igvm: the same file as A"),
    ] {
        let output = snp(place.path(), &words.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{words}: {}", words_of(&output));
        assert!(words_of(&output).starts_with(&format!("error: {told}")), "{words}: {}", words_of(&output));
        assert_eq!(contents(place.path()), before, "{words}");
    }
    // These are no files, or meant to be one.
    for words in [
        format!("{create} --id-block - --id-auth -"),
        format!("{create} --id-block /dev/null --id-auth /dev/null"),
        "run --example hello --trace ghcb=trace --trace exits=trace".into(),
        "igvm sign hello.igvm --id-key key.pem -o hello.igvm".into(),
    ] {
        let output = snp(place.path(), &words.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{words}: {}", words_of(&output));
    }
}
