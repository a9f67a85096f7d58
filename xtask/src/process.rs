//! Other programs: run, capture, install.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// How a step ended that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It did what it should.
    Passed,
    /// It did nothing, for this reason.
    Skipped(String),
}

/// A command in the workspace's root, without standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if workspace::in_ci() {
        // A fresh machine compiles everything once, and a backtrace needs lines, not variables: a fifth less to compile.
        let lines = "line-tables-only";
        let faster = [("INCREMENTAL", "0"), ("PROFILE_DEV_DEBUG", lines), ("PROFILE_TEST_DEBUG", lines)];
        for (name, value) in faster.map(|(name, value)| (format!("CARGO_{name}"), value)) {
            if std::env::var_os(&name).is_none() {
                command.env(name, value);
            }
        }
    }
    command
}

/// Runs a command with our output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", describe(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; its standard error is part of the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", describe(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}\n{}", describe(command), output.status, stderr.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed what is not UTF-8", describe(command)))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether the shell would find that program.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Makes sure that a program of a Debian package is there. Only CI installs packages by itself: elsewhere the machine is
/// somebody's own.
pub(crate) fn require(program: &str, package: &str) -> Result<()> {
    if exists(program) {
        return Ok(());
    }
    if !(workspace::in_ci() && exists("apt-get")) {
        bail!("{program} is missing; on Debian: apt-get install {package}");
    }
    install_package(package)
}

/// Installs Debian packages: one, or several with spaces between.
pub(crate) fn install_package(package: &str) -> Result<()> {
    run(command("apt-get").args(["update", "-qq"]))?;
    run(command("apt-get")
        .args(["install", "-qq", "-y", "--no-install-recommends"])
        .args(package.split_whitespace())
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A cargo tool at exactly that version, installed into the cache unless it is there: the path of its program.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    let directory = workspace::cache()?.join("tools").join(format!("{name}-{version}"));
    let program = directory.join("bin").join(name);
    if !program.is_file() {
        println!("installing {name} {version} into {}", directory.display());
        let mut install = cargo();
        // Its own target directory: it must neither wait for ours nor leave anything there.
        install.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(&directory).arg(name);
        run(install.env_remove("CARGO_TARGET_DIR").current_dir(Path::new("/")))?;
    }
    Ok(program)
}
