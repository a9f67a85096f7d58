//! cargo-deny.

use anyhow::Result;

use crate::process::{self, Outcome};

const VERSION: &str = "0.20.2";

/// Licences, duplicates and sources of both workspaces; advisories as far as their database can be reached.
pub(crate) fn run() -> Result<Outcome> {
    let deny = process::cargo_tool("cargo-deny", VERSION)?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let mut check = process::command(&deny);
        // A lock file that is not as the manifests want it is an error, not a new one that nobody commits.
        check.args([
            "--locked",
            "--manifest-path",
            manifest,
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]);
        process::run(&mut check)?;
    }
    match process::capture(process::command(&deny).args(["fetch", "db"])) {
        Ok(_) => process::run(process::command(&deny).args(["check", "advisories"]))?,
        Err(_) => println!("advisories not checked: the advisory database cannot be reached"),
    }
    Ok(Outcome::Passed)
}
