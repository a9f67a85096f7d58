//! Holds the source tree to ARCHITECTURE.md: who may use whom, no I/O in the cores, files that fit their rooms.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate of ours may use of ours.
struct Rule {
    name: &'static str,
    /// In the crate itself.
    uses: &'static [&'static str],
    /// In its tests, benchmarks and examples, beside that.
    tests_use: &'static [&'static str],
}

/// The table of ARCHITECTURE.md, "Code map", and what tests may have beyond it. Tests may compare a crate with any crate
/// that it does not build on; only what would let a comparison compare a thing with itself stays out.
const RULES: &[Rule] = &[
    Rule { name: "snp-abi", uses: &[], tests_use: &[] },
    Rule { name: "snp-sha384", uses: &[], tests_use: &[] },
    Rule { name: "snp-vmsa", uses: &["snp-abi"], tests_use: &[] },
    Rule { name: "snp-launch", uses: &["snp-abi", "snp-sha384"], tests_use: &[] },
    Rule { name: "snp-image", uses: &["snp-abi", "snp-launch", "snp-vmsa"], tests_use: &["snp-guests"] },
    Rule {
        name: "snp-explain",
        uses: &["snp-abi", "snp-image", "snp-launch", "snp-sha384", "snp-vmsa"],
        tests_use: &["snp-guests"],
    },
    Rule { name: "snp-asp", uses: &["snp-abi", "snp-sha384"], tests_use: &["snp-attest", "snp-sev-guest"] },
    Rule { name: "snp-sev-guest", uses: &["snp-abi"], tests_use: &[] },
    Rule { name: "snp-memory", uses: &[], tests_use: &[] },
    Rule { name: "snp-vcpu", uses: &["snp-abi", "snp-memory", "snp-vmsa"], tests_use: &[] },
    Rule { name: "snp-differential", uses: &["snp-abi", "snp-memory", "snp-vcpu"], tests_use: &[] },
    Rule {
        name: "snp-softkvm",
        uses: &["snp-abi", "snp-asp", "snp-launch", "snp-memory", "snp-sha384", "snp-vcpu", "snp-vmsa"],
        tests_use: &["snp-attest", "snp-guests", "snp-sev-guest"],
    },
    Rule {
        name: "snp-transcript",
        uses: &["snp-abi", "snp-asp", "snp-launch", "snp-sha384", "snp-softkvm"],
        tests_use: &[],
    },
    Rule {
        name: "snp-shim",
        uses: &["snp-abi", "snp-asp", "snp-memory", "snp-sev-guest", "snp-softkvm", "snp-transcript"],
        tests_use: &["snp-launch", "snp-vmsa"],
    },
    Rule { name: "snp-kvm", uses: &["snp-abi", "snp-launch", "snp-sha384"], tests_use: &[] },
    Rule { name: "snp-attest", uses: &["snp-abi"], tests_use: &[] },
    Rule { name: "snp-policy", uses: &["snp-abi", "snp-attest"], tests_use: &[] },
    Rule { name: "snp-html", uses: &[], tests_use: &[] },
    Rule { name: "snp-reference", uses: &[], tests_use: &[] },
    Rule { name: "snp-guests", uses: &["snp-abi"], tests_use: &["snp-vmsa"] },
    Rule {
        name: "snp-cli",
        uses: &[
            "snp-abi",
            "snp-asp",
            "snp-attest",
            "snp-explain",
            "snp-guests",
            "snp-html",
            "snp-image",
            "snp-kvm",
            "snp-launch",
            "snp-policy",
            "snp-reference",
            "snp-sev-guest",
            "snp-sha384",
            "snp-softkvm",
            "snp-transcript",
            "snp-vcpu",
            "snp-vmsa",
        ],
        tests_use: &[],
    },
    Rule {
        name: "conformance",
        uses: &["snp-abi", "snp-launch"],
        tests_use: &["snp-asp", "snp-attest", "snp-guests", "snp-image", "snp-sha384", "snp-softkvm", "snp-vmsa"],
    },
    Rule { name: "xtask", uses: &["snp-abi"], tests_use: &[] },
];

/// Crates that do no I/O, read no clock and start no threads of their own.
const CORES: &[&str] = &[
    "snp-abi",
    "snp-asp",
    "snp-attest",
    "snp-explain",
    "snp-guests",
    "snp-html",
    "snp-image",
    "snp-launch",
    "snp-memory",
    "snp-policy",
    "snp-reference",
    "snp-sev-guest",
    "snp-sha384",
    "snp-softkvm",
    "snp-transcript",
    "snp-vcpu",
    "snp-vmsa",
];

/// What a core may not name. The helpers of snp-sha384, rayon's and its own, compute and nothing else.
const OUTSIDE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::io",
    "std::process",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread::spawn",
    "thread::spawn(",
    "thread::Builder",
    "Instant::now(",
    "SystemTime::now(",
    "println!(",
    "eprintln!(",
    "dbg!(",
];

/// Crates that a core may not depend on, because they do I/O or bring randomness and time.
const OUTSIDE_CRATES: &[&str] = &[
    "anyhow",
    "clap",
    "getrandom",
    "indicatif",
    "kvm-ioctls",
    "libc",
    "nix",
    "rand",
    "rustix",
    "tempfile",
    "tokio",
    "vmm-sys-util",
];

/// What a core may depend on in spite of that, because it uses nothing of it that reads or writes.
const EXCEPT: &[(&str, &str)] = &[
    // Its helper threads choose the core that they run on (placement.rs).
    ("snp-sha384", "rustix"),
];

const LONGEST_FILE: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace")
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a name")
}

/// Names of the dependencies of that kind: `None` for those of the crate itself, or "dev" or "build".
fn dependencies(package: &Value, kind: Option<&str>) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("dependencies").iter();
    let of_kind = all.filter(|dependency| dependency["kind"].as_str() == kind);
    of_kind.map(|dependency| dependency["name"].as_str().expect("a name").to_owned()).collect()
}

/// What breaks the rules, one sentence each.
fn violations(packages: &[Value], rules: &[Rule]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(name).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = name(package);
        let Some(rule) = rules.iter().find(|rule| rule.name == name) else {
            found.push(format!("{name} is not in the table: add it here and in ARCHITECTURE.md"));
            continue;
        };
        for (kind, word) in [(None, "uses"), (Some("build"), "builds with"), (Some("dev"), "tests with")] {
            for dependency in dependencies(package, kind) {
                let allowed =
                    rule.uses.contains(&&*dependency) || kind == Some("dev") && rule.tests_use.contains(&&*dependency);
                if ours.contains(&*dependency) && !allowed {
                    found.push(format!("{name} {word} {dependency}: not allowed by ARCHITECTURE.md"));
                }
                let excepted = EXCEPT.contains(&(name, &*dependency));
                if CORES.contains(&name) && kind.is_none() && OUTSIDE_CRATES.contains(&&*dependency) && !excepted {
                    found.push(format!("{name} uses {dependency}: cores do no I/O"));
                }
            }
        }
    }
    found
}

#[test]
fn dependencies_point_where_the_architecture_says() {
    let packages = packages();
    assert_eq!(violations(&packages, RULES), Vec::<String>::new());
    for rule in RULES {
        assert!(packages.iter().any(|package| name(package) == rule.name), "{} is gone: remove its row", rule.name);
    }
}

/// The check can fail.
#[test]
fn forbidden_arrows_are_found() {
    let package = |name: &str, kind: Value, dependency: &str| serde_json::json!({ "name": name, "dependencies": [{ "name": dependency, "kind": kind }] });
    let mut packages =
        vec![package("snp-launch", Value::Null, "snp-abi"), package("snp-abi", "dev".into(), "proptest")];
    assert_eq!(violations(&packages, RULES), Vec::<String>::new());
    for (name, kind, dependency) in [
        ("snp-asp", Value::Null, "snp-launch"),
        ("snp-asp", "dev".into(), "snp-launch"),
        ("snp-abi", "build".into(), "snp-launch"),
        ("snp-image", Value::Null, "libc"),
        ("snp-unheard-of", Value::Null, "serde"),
    ] {
        packages.push(package(name, kind, dependency));
        assert_eq!(violations(&packages, RULES).len(), 1, "{name} → {dependency}");
        packages.pop();
    }
}

/// No arrow of the table leads back: a cycle through dev-dependencies would let a crate be tested with a copy of itself.
#[test]
fn the_table_has_no_cycles() {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    while settled.len() < RULES.len() {
        let before = settled.len();
        for rule in RULES {
            if rule.uses.iter().all(|used| settled.contains(used)) {
                settled.insert(rule.name);
            }
        }
        assert!(settled.len() > before, "a cycle among those that are not in {settled:?}");
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The code of a source file as far as it is shipped: without comments, and up to its test module, which is last.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

fn io_in(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (line, code) in shipped(text) {
        found.extend(OUTSIDE.iter().filter(|name| code.contains(*name)).map(|name| (line, *name)));
    }
    found
}

#[test]
fn cores_do_no_io() {
    for core in CORES {
        let files = rust_files(&root().join("crates").join(core).join("src"));
        assert!(!files.is_empty(), "{core} has moved");
        for file in files {
            let text = std::fs::read_to_string(&file).expect("readable");
            assert_eq!(io_in(&text), [], "{}", file.display());
        }
    }
}

/// The check can fail.
#[test]
fn io_is_found_outside_of_comments_and_tests() {
    let text = "// std::fs\nuse std::fs;\nfn f() { Instant::now(); }\n#[cfg(test)]\nmod tests { use std::env; }\n";
    assert_eq!(io_in(text), [(2, "std::fs"), (3, "Instant::now(")]);
}

#[test]
fn files_fit_their_rooms() {
    for directory in ["crates", "conformance", "xtask", "fuzz"] {
        for file in rust_files(&root().join(directory)) {
            let lines = std::fs::read_to_string(&file).expect("readable").lines().count();
            assert!(lines <= LONGEST_FILE, "{} has {lines} lines, at most {LONGEST_FILE}", file.display());
        }
    }
}

/// `unsafe` is denied for the workspace; these files opt in, and prove every block.
const UNSAFE: &[&str] = &[
    "crates/snp-sha384/src/features.rs",
    "crates/snp-sha384/src/lanes.rs",
    "crates/snp-sha384/src/link.rs",
    "crates/snp-cli/src/map.rs",
    "crates/snp-kvm/src/launcher.rs",
    "crates/snp-kvm/src/raw.rs",
    "crates/snp-memory/src/lib.rs",
    "crates/snp-differential/src/native/mod.rs",
    "crates/snp-differential/src/native/child.rs",
    "crates/snp-vcpu/tests/vectors/host.rs",
    "crates/snp-shim/src/real.rs",
    "crates/snp-shim/src/spin.rs",
    "crates/snp-shim/src/descriptor.rs",
    "crates/snp-shim/src/guest.rs",
    "crates/snp-shim/src/memory.rs",
    "crates/snp-shim/src/hooks/mod.rs",
    "crates/snp-shim/src/hooks/open.rs",
    "crates/snp-shim/src/hooks/descriptors.rs",
    "crates/snp-shim/src/hooks/directories.rs",
    "crates/snp-shim/src/hooks/guest_memfd.rs",
    "crates/snp-shim/src/hooks/msrs.rs",
    "crates/snp-shim/src/hooks/stat.rs",
    "crates/snp-shim/src/hooks/signals.rs",
    "crates/snp-shim/src/hooks/write.rs",
    "crates/snp-shim/src/cpuid/patch.rs",
    "crates/snp-shim/src/cpuid/handler.rs",
];

#[test]
fn only_the_known_opt_out_of_the_lints() {
    for directory in ["crates", "conformance", "xtask"] {
        for file in rust_files(&root().join(directory)) {
            if file.ends_with("tests/architecture.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("readable");
            let opted_in = UNSAFE.iter().any(|known| file.ends_with(known));
            for lint in ["allow(unsafe_code)", "expect(unsafe_code)"] {
                assert!(opted_in || !text.contains(lint), "{}: {lint}", file.display());
            }
            assert!(!text.contains("allow(missing_docs)"), "{}", file.display());
        }
    }
    for package in packages() {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(manifest).expect("readable");
        assert!(text.contains("[lints]\nworkspace = true"), "{manifest} does not take the workspace's lints");
    }
}
