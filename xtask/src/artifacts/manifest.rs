//! `testdata/manifest.toml`.

use std::path::{Component, Path};

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) debian: Vec<Package>,
    pub(crate) pypi: Python,
}

/// A Debian package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) package: String,
    pub(crate) suite: String,
    pub(crate) version: String,
    pub(crate) licence: String,
    pub(crate) copyright: String,
    pub(crate) file: Vec<File>,
    #[serde(default)]
    pub(crate) directory: Vec<Directory>,
}

/// A file that is kept, and verified.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) sha256: String,
}

/// A directory that is kept whole; apt has verified the package that it is in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Directory {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// A program from PyPI.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Python {
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) licence: String,
    pub(crate) sha256: String,
    pub(crate) program: String,
}

impl Manifest {
    /// Reads and checks it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        for package in &manifest.debian {
            ensure!(!package.licence.is_empty() && !package.file.is_empty(), "{}: incomplete", package.name());
            let names = package.file.iter().flat_map(|file| [&file.from, &file.to]);
            let names = names.chain(package.directory.iter().flat_map(|directory| [&directory.from, &directory.to]));
            for name in names.chain([&package.copyright]) {
                ensure!(is_plain(name), "{}: {name} is not a plain relative path", package.name());
            }
            for file in &package.file {
                ensure!(is_sha256(&file.sha256), "{}: {}: not a SHA-256", package.name(), file.from);
            }
        }
        ensure!(is_sha256(&manifest.pypi.sha256) && !manifest.pypi.licence.is_empty(), "pypi: incomplete");
        Ok(manifest)
    }
}

impl Package {
    /// For people.
    pub(crate) fn name(&self) -> String {
        format!("{} of {}", self.package, self.suite)
    }

    /// The top directories that its files go to.
    pub(crate) fn directories(&self) -> Vec<String> {
        let mut tops: Vec<_> =
            self.file.iter().filter_map(|file| file.to.split('/').next()).map(str::to_owned).collect();
        tops.dedup();
        tops
    }
}

fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    const MANIFEST: &str = include_str!("../../../testdata/manifest.toml");

    #[test]
    fn the_manifest_is_complete() {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let files: Vec<_> = manifest.debian.iter().flat_map(|package| &package.file).map(|file| &*file.to).collect();
        for wanted in ["bookworm/OVMF.fd", "bookworm/OVMF_CODE_4M.fd", "trixie/OVMF.fd", "sid/OVMF.amdsev.fd"] {
            assert!(files.contains(&wanted), "{wanted}");
        }
    }

    #[test]
    fn paths_that_leave_the_cache_and_hashes_that_are_none_are_refused() {
        for (good, bad) in [
            ("to = \"trixie/OVMF.fd\"", "to = \"../OVMF.fd\""),
            ("to = \"trixie/OVMF.fd\"", "to = \"/OVMF.fd\""),
            ("sha256 = \"14954040", "sha256 = \"4954040"),
            ("suite = \"sid\"", "suit = \"sid\""),
        ] {
            assert!(MANIFEST.contains(good));
            Manifest::parse(&MANIFEST.replace(good, bad)).expect_err(bad);
        }
    }
}
