//! Whether a program can be given a library at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The file that a command names, as execvp(3) finds it.
pub(super) fn find(name: &OsStr) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    let runnable = |place: &PathBuf| {
        std::fs::metadata(place).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    places.find(runnable).with_context(|| format!("{}: not found in PATH", name.display()))
}

/// Refuses a program that no library is loaded into: it would ask the real devices, and nobody would notice. A script
/// passes; what it runs is seen by its report.
pub(super) fn want_dynamic(path: &Path) -> Result<()> {
    let context = || format!("{}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut header = Vec::new();
    file.by_ref().take(64).read_to_end(&mut header).with_context(context)?;
    if !header.starts_with(b"\x7fELF") {
        return Ok(());
    }
    const CLASS_64: u8 = 2;
    const X86_64: u16 = 62;
    let half = |at: usize| Some(u16::from_le_bytes([*header.get(at)?, *header.get(at + 1)?]));
    if header.get(4) != Some(&CLASS_64) || half(18) != Some(X86_64) {
        bail!("{}: is not a program for x86-64, for which the library is built", path.display());
    }
    if !has_interpreter(&file, &header).with_context(context)? {
        bail!("{}: is statically linked; no library can stand in for the devices in it", path.display());
    }
    Ok(())
}

/// Whether there is a PT_INTERP: a dynamic linker to load the library.
fn has_interpreter(file: &File, header: &[u8]) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    const ENTRY: usize = 56;
    if header.len() < 64 {
        bail!("the ELF header is cut short: {} bytes, want 64", header.len());
    }
    let table = u64::from_le_bytes(std::array::from_fn(|i| header[32 + i]));
    let count = u16::from_le_bytes([header[56], header[57]]);
    let mut entry = [0; ENTRY];
    for index in 0..u64::from(count) {
        let at = table.saturating_add(index * ENTRY as u64);
        file.read_exact_at(&mut entry, at).with_context(|| format!("program header {index} at {at:#x}"))?;
        if u32::from_le_bytes(std::array::from_fn(|i| entry[i])) == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}
