//! What the library told of the program.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::output::tell;

/// A file that the library appends lines to.
pub(super) struct Report(NamedTempFile);

impl Report {
    pub(super) fn create() -> Result<Self> {
        let file = tempfile::Builder::new().prefix("snp-exec-").tempfile();
        Ok(Self(file.context("cannot create a file for the report of the program")?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Prints the digests of finished launches, what went unanswered, and what else is known, on standard error: standard
    /// output is the program's. `nothing` says what the program did if it did nothing with us.
    pub(super) fn print(&self, program: &Path, who: &str, nothing: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.path()).context("the report of the program")?;
        let of_kind =
            |kind: &'static str| text.lines().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' '));
        for digest in of_kind("digest") {
            tell!("launch digest {digest}");
        }
        let notes: BTreeSet<&str> = of_kind("note").collect();
        for note in notes {
            tell!("snp {who}: {note}");
        }
        let unmodelled: BTreeSet<&str> = of_kind("unmodelled").collect();
        if !unmodelled.is_empty() {
            tell!("snp {who}: asked for and not modelled: {}", Vec::from_iter(unmodelled).join(", "));
        }
        if of_kind("opened").next().is_none() {
            tell!(
                "snp {who}: {} {nothing} through the C library (a program that makes its system calls itself cannot be seen)",
                program.display()
            );
        }
        Ok(())
    }
}
