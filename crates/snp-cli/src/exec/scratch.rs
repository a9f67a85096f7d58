//! The transcript of a program, while it runs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use snp_transcript::Line;
use tempfile::NamedTempFile;

use crate::launch::transcript::Transcript;

/// A file that the library appends lines to, in every process of the program.
pub(super) struct Scratch {
    file: NamedTempFile,
    path: PathBuf,
}

impl Scratch {
    /// For the transcript at `path`, which is not touched yet.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = tempfile::Builder::new().prefix("snp-transcript-").tempfile();
        let file = file.context("cannot create a file for the transcript of the program")?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Numbers the lines and puts them in their place; returns how many they are.
    pub(super) fn keep(self) -> Result<usize> {
        let mut transcript = Transcript::create(&self.path)?;
        let file = File::open(self.path()).context("the transcript of the program")?;
        let mut count = 0;
        for line in BufReader::new(file).split(b'\n') {
            let line = line.context("the transcript of the program")?;
            count += 1;
            transcript.push(Line::parse(count, &line).context("the transcript of the program")?);
        }
        transcript.keep()?;
        Ok(count)
    }
}
