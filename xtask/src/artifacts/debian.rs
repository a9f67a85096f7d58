//! Debian packages, from any suite, without touching the machine's own apt: a private set of lists and caches per suite,
//! with the machine's mirror, proxies and keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::manifest::Package;
use crate::process;
use crate::workspace;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What became of a package.
#[derive(Debug)]
pub(crate) enum Provided {
    /// Its files are there, with the manifest's hashes.
    Pinned,
    /// Its files are there, of a newer version than the manifest's.
    Newer,
    /// It could not be fetched.
    Missing(anyhow::Error),
}

/// Provides the files of a package under `directory`.
///
/// # Errors
/// The version is the manifest's and a hash is not: somebody is lying, or the manifest is wrong.
pub(crate) fn provide(package: &Package, directory: &Path) -> Result<Provided> {
    if is_complete(package, directory) {
        return Ok(Provided::Pinned);
    }
    println!("fetching {}", package.name());
    let scratch = tempfile::tempdir_in(workspace::cache()?)?;
    let version = match fetch(package, scratch.path()) {
        Ok(version) => version,
        Err(error) => return Ok(Provided::Missing(error)),
    };
    let pinned = version == package.version;
    if !pinned {
        println!(
            "NOTICE: {} is {version}, the manifest knows {}: recorded digests are not compared, live oracles are",
            package.name(),
            package.version
        );
    }
    let extracted = scratch.path().join("x");
    for file in &package.file {
        let from = extracted.join(&file.from);
        let hash = super::sha256(&from).with_context(|| package.name())?;
        if pinned && hash != file.sha256 {
            bail!("{} {version}: {} has SHA-256 {hash}, expected {}", package.name(), file.from, file.sha256);
        }
        let to = directory.join(&file.to);
        make_way(&to)?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    for tree in &package.directory {
        let (from, to) = (extracted.join(&tree.from), directory.join(&tree.to));
        make_way(&to)?;
        fs::rename(&from, &to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
    }
    Ok(if pinned { Provided::Pinned } else { Provided::Newer })
}

fn is_complete(package: &Package, directory: &Path) -> bool {
    let matches = |name: &str, hash: &str| super::sha256(&directory.join(name)).is_ok_and(|found| found == hash);
    package.file.iter().all(|file| matches(&file.to, &file.sha256))
        && package.directory.iter().all(|tree| directory.join(&tree.to).is_dir())
}

/// Makes the parent and removes what is there from an earlier version.
fn make_way(to: &Path) -> Result<()> {
    let parent = to.parent().expect("below the cache");
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    match fs::symlink_metadata(to) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(to)?,
        Ok(_) => fs::remove_file(to)?,
        Err(_) => {}
    }
    Ok(())
}

/// Downloads and unpacks a package into `scratch/x`; returns its version.
fn fetch(package: &Package, scratch: &Path) -> Result<String> {
    ensure!(process::exists("apt-get") && process::exists("dpkg-deb"), "this is not a Debian machine");
    ensure!(Path::new(KEYRING).is_file(), "{KEYRING} is missing; apt-get install debian-archive-keyring");
    let config = private_apt(&[&package.suite], scratch)?;
    process::capture(apt(&config).args(["update", "-qq", "-o", "APT::Update::Error-Mode=any"]))?;
    process::capture(apt(&config).args(["download", "-qq", &package.package]).current_dir(scratch))?;
    let deb = downloaded(scratch)?;
    process::capture(process::command("dpkg-deb").arg("-x").arg(&deb).arg(scratch.join("x")))?;
    let version = process::capture(process::command("dpkg-deb").arg("-f").arg(&deb).arg("Version"))?;
    Ok(version.trim().to_owned())
}

/// Unpacks packages and all that they depend on into `root`: programs of another release with their own C library. `suites`
/// are the release and, last, where newer versions come from.
///
/// # Errors
/// The packages cannot be fetched.
pub(crate) fn unpack_closure(suites: &[&str], packages: &[&str], root: &Path) -> Result<()> {
    ensure!(process::exists("apt-get") && process::exists("dpkg-deb"), "this is not a Debian machine");
    let scratch = tempfile::tempdir_in(workspace::cache()?)?;
    let config = private_apt(suites, scratch.path())?;
    process::capture(apt(&config).args(["update", "-qq", "-o", "APT::Update::Error-Mode=any"]))?;
    let newest = suites.last().context("no suite")?;
    let mut install = apt(&config);
    install.args(["install", "-qq", "-y", "--download-only", "--no-install-recommends", "-t", newest]).args(packages);
    process::capture(&mut install)?;
    for entry in fs::read_dir(scratch.path().join("apt/cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::capture(process::command("dpkg-deb").arg("-x").arg(&path).arg(root))?;
        }
    }
    Ok(())
}

/// Downloads one package's file into `directory`.
///
/// # Errors
/// It cannot be fetched.
pub(crate) fn download(suite: &str, package: &str, directory: &Path) -> Result<PathBuf> {
    ensure!(process::exists("apt-get") && process::exists("dpkg-deb"), "this is not a Debian machine");
    let config = private_apt(&[suite], directory)?;
    process::capture(apt(&config).args(["update", "-qq", "-o", "APT::Update::Error-Mode=any"]))?;
    process::capture(apt(&config).args(["download", "-qq", package]).current_dir(directory))?;
    downloaded(directory)
}

fn apt(config: &Path) -> Command {
    let mut command = process::command("apt-get");
    command.env("APT_CONFIG", config);
    command
}

fn downloaded(directory: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get downloaded nothing")
}

/// Writes the configuration of an apt of its own, on top of the machine's.
fn private_apt(suites: &[&str], scratch: &Path) -> Result<PathBuf> {
    let root = scratch.join("apt");
    fs::create_dir_all(root.join("lists/partial"))?;
    fs::create_dir_all(root.join("cache/archives/partial"))?;
    let sources = root.join("sources.list");
    let mirror = mirror()?;
    let lines = suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"));
    fs::write(&sources, lines.collect::<String>())?;
    let config = root.join("apt.conf");
    let root = root.display();
    // The sandbox user could not write here.
    let text = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"/dev/null\";\nDir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"/dev/null\";\nDir::Cache \"{root}/cache\";\nAPT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n",
        sources.display()
    );
    fs::write(&config, text)?;
    Ok(config)
}

/// The Debian mirror of this machine.
fn mirror() -> Result<String> {
    let mut command = process::command("apt-get");
    command.args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]);
    let targets = process::capture(&mut command)?;
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("sid");
    choose_mirror(&targets, codename.trim_matches('"')).context("apt's configuration names no Debian mirror")
}

/// The mirror that the machine's own release comes from: lines of release, component and URI.
fn choose_mirror(targets: &str, codename: &str) -> Option<String> {
    let main = targets.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (release, component, uri) = (words.next()?, words.next()?, words.next()?);
        (component == "main").then_some((release, uri))
    });
    let aliases = [codename, "stable", "testing", "unstable"];
    let (_, uri) = main.into_iter().find(|(release, _)| aliases.contains(release))?;
    Some(uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::choose_mirror;

    #[test]
    fn the_mirror_is_that_of_the_machines_own_release() {
        let targets = "bookworm-security main http://mirror.test/debian-security/\n\
                       nodistro main http://other.test/\n\
                       bookworm contrib http://wrong.test/debian/\n\
                       bookworm main http://mirror.test/debian/\n";
        assert_eq!(choose_mirror(targets, "bookworm").as_deref(), Some("http://mirror.test/debian/"));
        assert_eq!(choose_mirror(targets, "trixie"), None);
        assert_eq!(choose_mirror("", "bookworm"), None);
    }
}
