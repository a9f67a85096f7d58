//! `--transcript`: one JSON line per command of a launch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use snp_abi::{LEGACY_VMSA_GPA, Vmsa};
use snp_launch::{BootState, CommandRecord, DigestEngine, LaunchObserver, LaunchPage, LaunchPlan};
use snp_transcript::Line;
use zerocopy::IntoBytes;

use crate::input;

/// Writes the lines to a file without a name; [`Transcript::keep`] makes it the transcript, after a refused launch too.
pub(crate) struct Transcript {
    path: PathBuf,
    file: BufWriter<File>,
    lines: u64,
    vmsas: Vmsas,
    failed: Option<std::io::Error>,
}

impl Transcript {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = input::unnamed_beside(path).with_context(|| format!("transcript {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), lines: 0, vmsas: Vmsas::new(), failed: None })
    }

    /// For a launch by that plan: where one of its VMSAs is measured, the page is written down too.
    pub(crate) fn of(plan: &LaunchPlan, path: &Path) -> Result<Self> {
        Ok(Self { vmsas: vmsas(plan), ..Self::create(path)? })
    }

    /// Appends a line under the next number.
    pub(crate) fn push(&mut self, line: Line) {
        let line = Line { seq: self.lines, ..line };
        self.lines += 1;
        let written = serde_json::to_writer(&mut self.file, &line).map_err(Into::into);
        if let Err(error) = written.and_then(|()| self.file.write_all(b"\n")) {
            // The first failure is the cause; the launch itself goes on.
            self.failed.get_or_insert(error);
        }
    }

    /// Puts the transcript in its place.
    pub(crate) fn keep(self) -> Result<()> {
        let context = || format!("transcript {}", self.path.display());
        if let Some(error) = self.failed {
            return Err(error).with_context(context);
        }
        let mut file = self.file.into_inner().map_err(|error| error.into_error()).with_context(context)?;
        file.rewind().with_context(context)?;
        input::copy(&mut file, &self.path).with_context(context)
    }
}

impl LaunchObserver for Transcript {
    fn wants_pages(&self) -> bool {
        true
    }

    fn command(&mut self, record: CommandRecord) {
        let mut line = Line::of(self.lines, &record);
        for page in &mut line.pages {
            page.data = self.vmsas.get(&page.contents).cloned();
        }
        self.push(line);
    }
}

/// VMSAs as hexadecimal digits, by those of the CONTENTS that they are measured with: told only where they were launched so.
type Vmsas = BTreeMap<String, String>;

fn vmsas(plan: &LaunchPlan) -> Vmsas {
    let on_their_own = plan.pages.iter().filter_map(|page| match page {
        LaunchPage::Vmsa { vmsa, .. } => Some(vmsa),
        _ => None,
    });
    let made = match &plan.boot {
        BootState::Registers { boot, others } => vec![boot, others],
        BootState::Direct { .. } => Vec::new(),
    };
    on_their_own.chain(made).map(|vmsa| (digits(&vmsa_contents(vmsa)), digits(vmsa.as_bytes()))).collect()
}

/// CONTENTS of a VMSA page.
pub(crate) fn vmsa_contents(vmsa: &Vmsa) -> [u8; 48] {
    let mut contents = [0; 48];
    let page = LaunchPage::Vmsa { gpa: LEGACY_VMSA_GPA, vmsa: Box::new(*vmsa) };
    DigestEngine::new().page_steps(&page, &mut |step| contents = step.contents);
    contents
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number as all of `--json` and the transcript show addresses and register values.
pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}
