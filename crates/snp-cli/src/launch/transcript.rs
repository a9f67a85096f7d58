//! `--transcript`: one JSON line per command of a launch.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use snp_launch::{CommandRecord, LaunchObserver};
use tempfile::NamedTempFile;

use crate::input;

/// Writes the lines to a temporary file; [`Transcript::keep`] makes it the transcript, after a refused launch too.
pub(super) struct Transcript {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    lines: u64,
    failed: Option<std::io::Error>,
}

#[derive(Serialize)]
struct Line {
    seq: u64,
    command: &'static str,
    args: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pages: Vec<Page>,
    errno: Option<String>,
    fw_status: Option<Status>,
    digest: Option<String>,
}

#[derive(Serialize)]
struct Page {
    gpa: String,
    r#type: String,
    contents: String,
}

#[derive(Serialize)]
struct Status {
    code: u32,
    name: Option<&'static str>,
}

impl Transcript {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = input::temporary_beside(path).with_context(|| format!("transcript {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), lines: 0, failed: None })
    }

    /// Puts the transcript in its place.
    pub(super) fn keep(self) -> Result<()> {
        let context = || format!("transcript {}", self.path.display());
        if let Some(error) = self.failed {
            return Err(error).with_context(context);
        }
        let file = self.file.into_inner().map_err(|error| error.into_error()).with_context(context)?;
        input::persist(file, &self.path).with_context(context)
    }
}

impl LaunchObserver for Transcript {
    fn wants_pages(&self) -> bool {
        true
    }

    fn command(&mut self, record: CommandRecord) {
        let line = Line {
            seq: self.lines,
            command: record.command,
            args: record.arguments.iter().map(|&(name, value)| (name.into(), hex(value).into())).collect(),
            pages: record
                .pages
                .iter()
                .map(|page| Page {
                    gpa: hex(page.gpa.0),
                    r#type: page.page_type.to_string(),
                    contents: page.contents.iter().map(|byte| format!("{byte:02x}")).collect(),
                })
                .collect(),
            errno: record.errno.map(|errno| errno.to_string()),
            fw_status: record.fw_status.map(|status| Status { code: status.0, name: status.name() }),
            digest: record.digest.map(|digest| digest.to_string()),
        };
        self.lines += 1;
        let written = serde_json::to_writer(&mut self.file, &line).map_err(Into::into);
        if let Err(error) = written.and_then(|()| self.file.write_all(b"\n")) {
            // The first failure is the cause; the launch itself goes on.
            self.failed.get_or_insert(error);
        }
    }
}

/// A number as all of `--json` and the transcript show addresses and register values.
pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}
