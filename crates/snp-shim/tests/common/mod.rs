//! What the tests of programs have in common.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where cargo puts programs and libraries: beside this test's own directory.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.ancestors().nth(2).expect("target/debug/deps").to_owned()
}

/// The library, as cargo built it with the tests.
pub(crate) fn library() -> PathBuf {
    target().join("deps/libsnp_shim.so")
}

/// Compiles a program, with or without a dynamic linker.
pub(crate) fn compile(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name).with_extension("c");
    let program = directory.join(name);
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-pthread"])
        .args(options)
        .arg("-o")
        .args([&program, &source])
        .status()
        .expect("a C compiler");
    assert!(status.success(), "{name}");
    program
}

/// `snp`, with the library of this build.
pub(crate) fn snp() -> Command {
    let snp = target().join("snp");
    assert!(snp.is_file(), "{} is missing: cargo test --workspace builds it", snp.display());
    let mut command = Command::new(snp);
    command.env("SNPKIT_SHIM", library());
    command
}

pub(crate) fn exec(options: &[&str], program: &Path) -> Output {
    snp().arg("exec").args(options).arg("--").arg(program).output().expect("snp runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
