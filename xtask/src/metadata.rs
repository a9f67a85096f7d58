//! What `cargo metadata` says about the workspace.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Package and target name of every target of that kind in the workspace of that manifest.
pub(crate) fn targets(manifest: &str, kind: &str) -> Result<Vec<(String, String)>> {
    let mut command = process::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path", manifest]);
    let metadata: Metadata = serde_json::from_str(&process::capture(&mut command)?).context("cargo metadata")?;
    let mut found = Vec::new();
    for package in metadata.packages {
        let targets = package.targets.into_iter().filter(|target| target.kind.iter().any(|k| k == kind));
        found.extend(targets.map(|target| (package.name.clone(), target.name)));
    }
    Ok(found)
}
