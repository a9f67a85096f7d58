//! No output over another output, or over what is read: such a command is refused before it writes anything.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::input;

/// The files that a command reads and writes, each under the option that names it.
#[derive(Debug, Default)]
pub(crate) struct Files<'a> {
    read: Vec<(&'static str, &'a Path)>,
    written: Vec<(&'static str, &'a Path)>,
}

/// A file, whatever the name that leads to it.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// One that is there, by its device and inode.
    There(u64, u64),
    /// One that is not, by its directory's own name and its name there.
    New(PathBuf),
}

impl Place {
    /// `None` for what nothing is lost in: standard output, devices, pipes. Directories are refused where they are written.
    fn of(path: &Path) -> Option<Self> {
        if path.as_os_str() == "-" {
            return None;
        }
        let file = input::file_written(path)?;
        if let Ok(metadata) = std::fs::metadata(&file) {
            return Some(Self::There(metadata.dev(), metadata.ino()));
        }
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A directory that is not there is told of by whoever writes.
        let parent = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        Some(Self::New(parent.join(file.file_name()?)))
    }
}

impl<'a> Files<'a> {
    /// A file that is read.
    pub(crate) fn reads(mut self, option: &'static str, path: Option<&'a Path>) -> Self {
        self.read.extend(path.map(|path| (option, path)));
        self
    }

    /// A file that is written.
    pub(crate) fn writes(mut self, option: &'static str, path: Option<&'a Path>) -> Self {
        self.written.extend(path.map(|path| (option, path)));
        self
    }

    /// Whether no output lies over another file.
    ///
    /// # Errors
    /// Two options that lead to one file.
    pub(crate) fn distinct(&self) -> Result<()> {
        for (index, (option, path)) in self.written.iter().enumerate() {
            let Some(place) = Place::of(path) else { continue };
            let is_same = |(_, other): &&(&'static str, &Path)| Place::of(other).is_some_and(|other| other == place);
            if let Some((other, _)) = self.read.iter().find(is_same) {
                bail!("{option} {}: the same file as {other}, which is read; nothing was written", path.display());
            }
            if let Some((other, _)) = self.written[..index].iter().find(is_same) {
                bail!("{option} {}: the same file as {other}; nothing was written", path.display());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_by_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        std::fs::write(place.join("file"), "").unwrap();
        std::fs::create_dir(place.join("deep")).unwrap();
        std::os::unix::fs::symlink("file", place.join("link")).unwrap();
        let same = |a: &str, b: &str| {
            let (a, b) = (place.join(a), place.join(b));
            Files::default().writes("--a", Some(&a)).writes("--b", Some(&b)).distinct().is_err()
        };
        assert!(same("file", "file") && same("link", "file") && same("deep/../file", "link"));
        assert!(same("new", "deep/../new"));
        assert!(!same("file", "new") && !same("new", "deep/new"));
        // What is no file is nobody's to lose.
        for stream in ["-", "/dev/null", "/dev/stdout"] {
            let path = Some(Path::new(stream));
            assert!(Files::default().writes("--a", path).writes("--b", path).reads("--c", path).distinct().is_ok());
        }
        // One file may be read twice.
        let file = place.join("file");
        assert!(Files::default().reads("--a", Some(&file)).reads("--b", Some(&file)).distinct().is_ok());
    }
}
