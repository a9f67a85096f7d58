//! What `snp exec` is told: one line per event, appended to a file that both know.

use std::fs::OpenOptions;
use std::io::Write;

use crate::settings;

/// The shim was loaded and a device was opened.
pub(crate) const OPENED: &str = "opened";
/// A launch came to its end; its digest follows.
pub(crate) const DIGEST: &str = "digest";
/// Something that is not modelled was asked for.
pub(crate) const UNMODELLED: &str = "unmodelled";
/// Something else that the user should know.
pub(crate) const NOTE: &str = "note";

/// Reports an event. A report that cannot be written is lost: the program must not notice.
pub(crate) fn event(kind: &str, text: &str) {
    let Some(path) = &settings::get().report else { return };
    let Ok(mut file) = OpenOptions::new().append(true).open(path) else { return };
    // One write, so that lines of several threads and processes do not mix.
    let _ = file.write_all(format!("{kind} {}\n", text.replace('\n', " ")).as_bytes());
}
