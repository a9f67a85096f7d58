//! Printing: that a reader closed the pipe is no failure, whatever else goes wrong is told, and nothing panics over it.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints on standard output.
pub(crate) fn print(data: impl AsRef<[u8]>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    let printed = output.write_all(data.as_ref()).and_then(|()| output.flush());
    unless_closed(printed).context("standard output")
}

/// Whoever closed the pipe (`| head`) has read what he wanted: the command's answer is the same.
pub(crate) fn unless_closed(written: std::io::Result<()>) -> std::io::Result<()> {
    written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Tells people something on standard error, as `eprintln!`; where it cannot be written, nobody is there to be told.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

pub(crate) use tell;
