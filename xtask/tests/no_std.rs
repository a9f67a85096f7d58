//! `snp-attest` can be built where there is no standard library: it and all that it is built with are `no_std` as we use
//! them. A cross build proves it, where the target is installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const VERIFIER: &str = "snp-attest";

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace");
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Name, version and features of everything that is linked into the verifier, as it is built alone.
fn linked() -> BTreeSet<(String, String, Vec<String>)> {
    let tree = ["tree", "-p", VERIFIER, "-e", "normal,no-proc-macro", "--prefix", "none", "-f", "{p}|{f}"];
    let lines = cargo(&tree);
    let entry = |line: &str| {
        let (package, features) = line.trim_end_matches(" (*)").split_once('|').expect("the format asks for it");
        let mut words = package.split(' ');
        let name = words.next().expect("a name").to_owned();
        let version = words.next().expect("a version").trim_start_matches('v').to_owned();
        (name, version, features.split(',').map(str::to_owned).collect())
    };
    lines.lines().map(entry).collect()
}

#[test]
fn nothing_in_the_verifier_asks_for_the_standard_library() {
    let linked = linked();
    assert!(linked.iter().any(|(name, ..)| name == VERIFIER) && linked.len() > 10, "{linked:?}");
    for (name, version, features) in &linked {
        assert_ne!(name, "getrandom", "a source of randomness in the verifier");
        for feature in ["std", "getrandom"] {
            assert!(!features.iter().any(|found| found == feature), "{name} {version} is built with {feature}");
        }
    }
}

#[test]
fn everything_in_the_verifier_says_no_std() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    for (name, version, _) in linked() {
        let package = packages.iter().find(|package| package["name"] == *name && package["version"] == *version);
        let package = package.unwrap_or_else(|| panic!("{name} {version} is not in the metadata"));
        let library = package["targets"].as_array().expect("targets").iter().find(|target| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib" || kind == "rlib"))
        });
        let source = library.and_then(|target| target["src_path"].as_str()).expect("a library");
        let text = std::fs::read_to_string(source).expect("readable");
        assert!(text.contains("no_std"), "{name} {version}: {source} does not say no_std");
    }
}

/// A target that has no operating system.
#[test]
fn the_verifier_builds_for_webassembly() {
    const TARGET: &str = "wasm32-unknown-unknown";
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output().expect("rustc runs");
    let libraries = String::from_utf8(output.stdout).expect("text");
    if !Path::new(libraries.trim()).is_dir() {
        eprintln!("skipped: {TARGET} is not installed; rustup target add {TARGET}");
        return;
    }
    cargo(&["build", "-p", VERIFIER, "--lib", "--target", TARGET]);
}
