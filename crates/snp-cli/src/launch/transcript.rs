//! `--transcript`: one JSON line per command of a launch.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use snp_launch::{CommandRecord, LaunchObserver};
use snp_transcript::Line;

use crate::input;

/// Writes the lines to a file without a name; [`Transcript::keep`] makes it the transcript, after a refused launch too.
pub(crate) struct Transcript {
    path: PathBuf,
    file: BufWriter<File>,
    lines: u64,
    failed: Option<std::io::Error>,
}

impl Transcript {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = input::unnamed_beside(path).with_context(|| format!("transcript {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), lines: 0, failed: None })
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
        self.push(Line::of(self.lines, &record));
    }
}

/// A number as all of `--json` and the transcript show addresses and register values.
pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}
