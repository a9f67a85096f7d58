//! Reading what the user names: every error tells the file, and no file can exhaust memory.

use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
// Bytes on the command line are written as those in policy files.
pub(crate) use snp_policy::hex_bytes;
use tempfile::NamedTempFile;

use crate::output;

/// The largest image that is read, in bytes. Guests are launched from megabytes; a stray disk image is a mistake.
pub(crate) const IMAGE_LIMIT: u64 = 4 << 30;

/// Reads a whole file of at most `limit` bytes. Never reads more, so that `/dev/zero` is an error and not a hang.
pub(crate) fn read(path: &Path, what: &str, limit: u64) -> Result<Bytes> {
    let context = || format!("{what} {}", path.display());
    let file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    ensure!(!metadata.is_dir(), "{}: is a directory", context());
    let expected = if metadata.is_file() { metadata.len() } else { 0 };
    ensure!(expected <= limit, "{}: {expected} bytes, more than the {limit} that are read", context());
    let mut data = Vec::with_capacity(usize::try_from(expected)?.saturating_add(1));
    file.take(limit + 1).read_to_end(&mut data).with_context(context)?;
    ensure!(data.len() as u64 <= limit, "{}: more than {limit} bytes", context());
    Ok(Bytes::from(data))
}

/// Reads a structure of exactly `N` bytes, given raw or as base64 text (the form that QEMU's properties take).
pub(crate) fn read_exact<const N: usize>(path: &Path, what: &str) -> Result<Box<[u8; N]>> {
    let data = read(path, what, 1 << 20)?;
    let raw = match <&[u8; N]>::try_from(data.as_ref()) {
        Ok(raw) => return Ok(Box::new(*raw)),
        Err(_) => base64_text(&data),
    };
    match raw.map(Vec::into_boxed_slice).map(Box::<[u8; N]>::try_from) {
        Some(Ok(raw)) => Ok(raw),
        Some(Err(other)) => bail!("{what} {}: {} bytes of base64, want {N}", path.display(), other.len()),
        None => bail!("{what} {}: {} bytes, want {N} raw bytes or their base64", path.display(), data.len()),
    }
}

/// Decodes base64 with any white space between; `None` if it is not base64.
fn base64_text(data: &[u8]) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text: Vec<u8> = data.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

/// Writes a file whole or not at all: to a temporary file beside it, which is then renamed. What is no file, a device or a
/// pipe, is written to and stays what it is. `-` is standard output.
pub(crate) fn write(path: &Path, what: &str, mut data: &[u8]) -> Result<()> {
    let context = || format!("{what} {}", path.display());
    if path.as_os_str() == "-" {
        return output::print(data);
    }
    copy(&mut data, path).with_context(context)
}

/// Writes all that is read to `path`, as [`write()`] does.
pub(crate) fn copy(from: &mut dyn Read, path: &Path) -> Result<()> {
    let mut file = temporary_beside(path)?;
    std::io::copy(from, &mut file)?;
    persist(file, path)
}

/// What a name stands for that is written to.
enum Target {
    /// A file, there or not, that a rename may replace.
    File(PathBuf),
    /// A device, a pipe, or a descriptor by name (/dev/stdout): a rename would put a file in its place.
    Stream,
}

impl Target {
    fn of(path: &Path) -> Result<Self> {
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(Self::File(path.to_owned())) };
        ensure!(!metadata.is_dir(), "is a directory");
        let link = std::fs::symlink_metadata(path)?.is_symlink();
        let descriptor = link && (path.starts_with("/dev") || path.starts_with("/proc"));
        if descriptor || !metadata.is_file() {
            return Ok(Self::Stream);
        }
        // A link stays: what it leads to is replaced.
        Ok(Self::File(if link { std::fs::canonicalize(path)? } else { path.to_owned() }))
    }
}

/// The file that writing to `path` would make or replace; `None` if that is none.
pub(crate) fn file_written(path: &Path) -> Option<PathBuf> {
    match Target::of(path) {
        Ok(Target::File(file)) => Some(file),
        Ok(Target::Stream) | Err(_) => None,
    }
}

/// A temporary file in the directory of `path`, so that the rename stays on one file system.
fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // As of any new file, the umask decides who may read it.
    let rights = std::fs::Permissions::from_mode(0o666);
    beside(path, |directory| tempfile::Builder::new().prefix(".snp-").permissions(rights).tempfile_in(directory))
}

/// A file without a name on the file system of `path`, for what takes a while to come: nothing is left of it when the process is
/// killed.
pub(crate) fn unnamed_beside(path: &Path) -> Result<File> {
    beside(path, |directory| tempfile::tempfile_in(directory))
}

fn beside<T>(path: &Path, create: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<T> {
    let directory = match Target::of(path)? {
        Target::Stream => std::env::temp_dir(),
        Target::File(file) => match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        },
    };
    create(&directory).map_err(|error| {
        // tempfile's own error names the file with its random name: say the directory instead.
        let told = error.to_string();
        let cause = told.split_once(" at path ").map_or(told.as_str(), |(cause, _)| cause);
        anyhow::anyhow!("cannot create a file in {}: {cause}", directory.display())
    })
}

/// Renames a finished temporary file to `path`; a file that is there already leaves it its access rights. Into what is no file
/// it is copied.
fn persist(file: NamedTempFile, path: &Path) -> Result<()> {
    match Target::of(path)? {
        Target::Stream => {
            let mut stream = File::options().append(true).open(path)?;
            std::io::copy(&mut file.reopen()?, &mut stream)?;
        }
        Target::File(target) => {
            if let Ok(existing) = std::fs::metadata(&target) {
                file.as_file().set_permissions(existing.permissions())?;
            }
            file.persist(target).map_err(|error| error.error)?;
        }
    }
    Ok(())
}

/// A number in decimal, or in hexadecimal after `0x`: one notation for every option, sev-snp-measure's.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|error| format!("{error}: want a number like 0x30000 or 196608"))
}

/// A number of at most 32 bits, written like any [`number`].
pub(crate) fn number32(text: &str) -> Result<u32, String> {
    number(text)?.try_into().map_err(|_| format!("{text}: more than 32 bits"))
}

/// Numbers of a range, written like any [`number`].
pub(crate) fn within<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let value = number(text)?;
        let value = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
        value.ok_or_else(|| format!("{text} is not in {}..={}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_notations() {
        assert_eq!(number("0x3_0000"), Ok(0x30000));
        assert_eq!(number("196608"), Ok(0x30000));
        assert!(number("0x").is_err() && number("-1").is_err() && number("0x1_0000_0000_0000_0000").is_err());
        assert_eq!(number32("0x800f12"), Ok(0x0080_0f12));
        // Not guessed: 21 would be another number than a21.
        assert!(number("a21").is_err());
        assert!(number32("0x1ffffffff").is_err());
        assert_eq!((within::<u8>(0..=3)("0x3"), within::<u8>(0..=3)("0")), (Ok(3), Ok(0)));
        assert_eq!(within::<u32>(1..=4096)("4097"), Err("4097 is not in 1..=4096".to_owned()));
        assert!(within::<u8>(0..=u64::MAX)("256").is_err());
    }

    #[test]
    fn an_endless_file_is_refused() {
        let error = read(Path::new("/dev/zero"), "firmware", 1 << 16).unwrap_err();
        assert!(format!("{error:#}").contains("more than 65536 bytes"), "{error:#}");
    }

    #[test]
    fn structures_come_raw_or_as_base64() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("block");
        write(&path, "test", &[7; 96]).unwrap();
        assert_eq!(*read_exact::<96>(&path, "ID block").unwrap(), [7; 96]);
        write(&path, "test", b"BwcH\nBwc=\n").unwrap();
        assert_eq!(*read_exact::<5>(&path, "ID block").unwrap(), [7; 5]);
        let error = read_exact::<96>(&path, "ID block").unwrap_err().to_string();
        assert!(error.contains("5 bytes of base64, want 96"), "{error}");
    }
}
