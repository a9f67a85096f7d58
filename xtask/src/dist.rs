//! The programs as they are given to people: `snp` and its library, in one directory that can be copied.
//!
//! `snp` is linked statically there. It then runs on any Linux of its processor, in a container without a C library or beside an
//! older one, and it starts in two thirds of the time: a measurement takes about as long as starting a process, and loading shared
//! libraries is a third of that. For the same reason it has a fixed address: otherwise it would add where it lies to 21 000 of
//! its own pointers at every start, and take a copy of each of the hundred pages that they are in. Heap, stack and mappings stay
//! where chance puts them; the code is memory-safe but for the rooms that ARCHITECTURE.md names.
//!
//! Everything else, `cargo build` and the tests, links as rustc does by default.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{process, workspace};

/// `snp` and the library that `snp exec` preloads.
pub(crate) struct Programs {
    pub(crate) snp: PathBuf,
    pub(crate) library: PathBuf,
}

const SNP: &str = "snp";
const LIBRARY: &str = "libsnp_shim.so";

/// How `snp` is linked, where the C library has a static form.
const STATIC: [&str; 4] = ["-C", "target-feature=+crt-static", "-C", "relocation-model=static"];

/// Builds both into `target/dist`.
pub(crate) fn build() -> Result<Programs> {
    let linked: &[&str] = if cfg!(all(target_os = "linux", target_env = "gnu")) { &STATIC } else { &[] };
    compile(&["--package", "snp-cli", "--bin", SNP], linked)?;
    compile(&["--package", "snp-shim", "--lib"], &[])?;
    let (built, dist) = (workspace::target().join("release"), workspace::target().join("dist"));
    fs::create_dir_all(&dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let programs = Programs { snp: dist.join(SNP), library: dist.join(LIBRARY) };
    for (name, to) in [(SNP, &programs.snp), (LIBRARY, &programs.library)] {
        replace(&built.join(name), to, &dist).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(programs)
}

/// Compiles one of them as `cargo build --release` does, but for how it is linked. Names of functions stay, for backtraces.
fn compile(what: &[&str], linked: &[&str]) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["rustc", "--release"]).args(what).args(["--", "-C", "strip=debuginfo"]).args(linked);
    process::run(&mut cargo)
}

/// Copies a program to its place, where an older one may be running.
fn replace(from: &Path, to: &Path, directory: &Path) -> Result<()> {
    let program = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&program)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    file.persist(to)?;
    Ok(())
}

/// Builds, and says where.
pub(crate) fn run() -> Result<()> {
    let Programs { snp, library } = build()?;
    for path in [snp, library] {
        println!("{:10} bytes  {}", fs::metadata(&path)?.len(), path.display());
    }
    Ok(())
}
