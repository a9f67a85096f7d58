//! The real firmware, headers and tools that tests compare with, fetched as `testdata/manifest.toml` says.

pub(crate) mod debian;
mod manifest;
mod pypi;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::process::{self, Outcome};
use crate::workspace;
use manifest::Manifest;

/// What there is on this machine.
#[derive(Debug)]
pub(crate) struct Artifacts {
    /// The files, by the manifest's names.
    directory: PathBuf,
    /// All files are there.
    all_files: bool,
    /// sev-snp-measure.
    measure: Option<PathBuf>,
    /// snpguest.
    snpguest: Option<PathBuf>,
    /// Directories whose files are not those of the manifest's hashes, because Debian has a newer version.
    unpinned: Vec<String>,
    /// What is not there, and why.
    missing: Vec<String>,
}

/// A value of the environment that can be printed.
pub(crate) struct Value(OsString);

impl Value {
    /// For printing.
    pub(crate) fn display(&self) -> std::ffi::os_str::Display<'_> {
        self.0.display()
    }
}

impl AsRef<std::ffi::OsStr> for Value {
    fn as_ref(&self) -> &std::ffi::OsStr {
        &self.0
    }
}

impl Artifacts {
    /// The environment for `cargo test`. What is incomplete is not named, so that tests skip and say so.
    pub(crate) fn environment(&self) -> Vec<(&'static str, Value)> {
        let mut environment = Vec::new();
        if self.all_files {
            environment.push(("SNPKIT_TESTDATA", Value(self.directory.clone().into())));
        }
        if let Some(measure) = &self.measure {
            environment.push(("SNPKIT_SEV_SNP_MEASURE", Value(measure.into())));
        }
        if let Some(snpguest) = &self.snpguest {
            environment.push(("SNPKIT_SNPGUEST", Value(snpguest.into())));
        }
        if !self.unpinned.is_empty() {
            environment.push(("SNPKIT_UNPINNED", Value(self.unpinned.join(",").into())));
        }
        environment
    }

    /// sev-snp-measure, if it is there.
    pub(crate) fn measure(&self) -> Option<&Path> {
        self.measure.as_deref()
    }

    /// virtee's snpguest, if it is there.
    pub(crate) fn snpguest(&self) -> Option<&Path> {
        self.snpguest.as_deref()
    }

    /// A file or directory of the manifest, if it is there.
    pub(crate) fn path(&self, to: &str) -> Option<PathBuf> {
        Some(self.directory.join(to)).filter(|path| path.exists())
    }

    /// How the step ends: skipped on a developer's machine if anything is missing.
    ///
    /// # Errors
    /// Anything is missing, and this is CI.
    pub(crate) fn complete(self) -> Result<(Self, Outcome)> {
        let outcome = match self.missing.join("; ") {
            missing if missing.is_empty() => Outcome::Passed,
            missing if workspace::in_ci() => bail!("{missing}"),
            missing => Outcome::Skipped(missing),
        };
        Ok((self, outcome))
    }
}

/// Fetches what is not in the cache yet. What cannot be fetched is listed, not an error; what has the wrong hash is an
/// error.
pub(crate) fn fetch() -> Result<Artifacts> {
    let path = workspace::root().join("testdata/manifest.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = Manifest::parse(&text).with_context(|| format!("in {}", path.display()))?;
    let directory = workspace::cache()?.join("testdata");
    let mut artifacts = Artifacts {
        directory,
        all_files: true,
        measure: None,
        snpguest: None,
        unpinned: Vec::new(),
        missing: Vec::new(),
    };
    for package in &manifest.debian {
        match debian::provide(package, &artifacts.directory)? {
            debian::Provided::Pinned => {}
            debian::Provided::Newer => artifacts.unpinned.extend(package.directories()),
            debian::Provided::Missing(reason) => {
                artifacts.all_files = false;
                artifacts.report(&package.name(), &reason);
            }
        }
    }
    match pypi::provide(&manifest.pypi) {
        Ok(program) => artifacts.measure = Some(program),
        Err(error) => artifacts.report(&manifest.pypi.package, &error),
    }
    match snpguest() {
        Ok(program) => artifacts.snpguest = Some(program),
        Err(error) => artifacts.report("snpguest", &error),
    }
    Ok(artifacts)
}

/// virtee's snpguest, which reads and verifies reports by its own means. It comes from crates.io, whose lock file pins it.
fn snpguest() -> Result<PathBuf> {
    const VERSION: &str = "0.11.0";
    // It builds an OpenSSL of its own.
    for (program, package) in [("cc", "gcc libc6-dev"), ("make", "make"), ("perl", "perl")] {
        process::require(program, package)?;
    }
    process::cargo_tool("snpguest", VERSION)
}

impl Artifacts {
    fn report(&mut self, what: &str, reason: &anyhow::Error) {
        println!("skipped: {what}: {reason:#}");
        self.missing.push(format!("{what} is missing"));
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
fn sha256(path: &Path) -> Result<String> {
    let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect())
}
