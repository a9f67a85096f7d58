//! Stock QEMU launching SNP guests: every digest equals the predicted one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::table::{Row, Table, Verdict};
use super::{Programs, provide};
use crate::artifacts::{Artifacts, debian};
use crate::process;

/// A QEMU of Debian's, in a root of its own.
pub(super) struct Qemu {
    name: &'static str,
    suites: &'static [&'static str],
    version: &'static str,
}

pub(super) const QEMU_10: Qemu =
    Qemu { name: "qemu-10", suites: &["bookworm", "bookworm-backports"], version: "version 10." };
pub(super) const QEMU_11: Qemu =
    Qemu { name: "qemu-11", suites: &["trixie", "trixie-backports"], version: "version 11." };

const MODELS: [&str; 3] = ["EPYC-v4", "EPYC-Milan-v2", "EPYC-Genoa"];
const VCPUS: [u32; 3] = [1, 2, 4];
/// Firmware by the artefacts' names, and its name in the root.
const FIRMWARE: [(&str, &str); 2] = [("trixie/OVMF.fd", "OVMF.fd"), ("sid/OVMF.amdsev.fd", "OVMF.amdsev.fd")];
/// Where in the root our files are.
const OURS: &str = "snp";
/// The guest as QEMU is told of it.
const GUEST: &str = "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000";
const COMMAND_LINE: &str = "console=ttyS0";

/// A launch and what is expected of it.
struct Case<'a> {
    model: &'a str,
    vcpus: u32,
    firmware: &'a str,
    with: With,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    FirmwareAlone,
    KernelHashes,
    /// An ID block for the digest, or for another one.
    IdBlock {
        right: bool,
    },
}

/// What all launches of a QEMU have in common.
struct Bench<'a> {
    qemu: &'a Qemu,
    root: PathBuf,
    programs: &'a Programs,
    measure: Option<&'a Path>,
    scratch: tempfile::TempDir,
}

pub(super) fn run(qemu: &Qemu, programs: &Programs, artifacts: &Artifacts, table: &mut Table) -> Result<()> {
    let Some(bench) = bench(qemu, programs, artifacts)? else {
        let (name, reason) = (qemu.name.into(), "chroot needs root".into());
        table.push(Row { name, expected: Verdict::Skip, found: Verdict::Skip, reason });
        return Ok(());
    };
    let alone = MODELS.iter().flat_map(|model| {
        VCPUS.iter().flat_map(move |vcpus| {
            FIRMWARE.iter().map(move |(_, firmware)| Case { model, vcpus: *vcpus, firmware, with: With::FirmwareAlone })
        })
    });
    let special = [With::KernelHashes, With::IdBlock { right: true }, With::IdBlock { right: false }];
    let special = special.map(|with| Case { model: MODELS[0], vcpus: 2, firmware: FIRMWARE[1].1, with });
    for case in alone.chain(special) {
        table.push(bench.launch(&case)?);
    }
    Ok(())
}

/// The launch of one vCPU that tells how long its SEV commands took; `None` where chroot is not allowed.
pub(super) fn timed(qemu: &Qemu, programs: &Programs, artifacts: &Artifacts) -> Result<Option<Command>> {
    let case = Case { model: MODELS[0], vcpus: 1, firmware: FIRMWARE[0].1, with: With::FirmwareAlone };
    Ok(bench(qemu, programs, artifacts)?.map(|bench| bench.command(&case, &["--timing"], GUEST)))
}

fn bench<'a>(qemu: &'a Qemu, programs: &'a Programs, artifacts: &'a Artifacts) -> Result<Option<Bench<'a>>> {
    if process::capture(process::command("id").arg("-u"))?.trim() != "0" {
        return Ok(None);
    }
    let root = provide(qemu.name, |made| install(qemu, made))?;
    let scratch = tempfile::tempdir()?;
    let bench = Bench { qemu, root, programs, measure: artifacts.measure(), scratch };
    bench.copy_inputs(artifacts)?;
    Ok(Some(bench))
}

/// QEMU and all that it needs, and the few files that a program wants of any system.
fn install(qemu: &Qemu, root: &Path) -> Result<()> {
    debian::unpack_closure(qemu.suites, &["qemu-system-x86"], root)?;
    for directory in ["bin", "sbin", "lib", "lib64"] {
        if !root.join(directory).exists() {
            std::os::unix::fs::symlink(format!("usr/{directory}"), root.join(directory))?;
        }
    }
    for directory in ["tmp", "dev", OURS] {
        fs::create_dir_all(root.join(directory))?;
    }
    for (device, minor) in [("null", "3"), ("urandom", "9")] {
        process::capture(process::command("mknod").arg(root.join("dev").join(device)).args(["c", "1", minor]))?;
    }
    let version = process::capture(process::command("chroot").arg(root).args(["qemu-system-x86_64", "--version"]))?;
    ensure!(version.contains(qemu.version), "{} of {:?} is {version}", qemu.name, qemu.suites);
    Ok(())
}

impl Bench<'_> {
    fn ours(&self, name: &str) -> PathBuf {
        self.root.join(OURS).join(name)
    }

    fn copy_inputs(&self, artifacts: &Artifacts) -> Result<()> {
        let copy = |from: &Path, name: &str| {
            fs::copy(from, self.ours(name)).with_context(|| format!("cannot copy {}", from.display())).map(drop)
        };
        copy(&self.programs.snp, "snp")?;
        copy(&self.programs.library, "libsnp_shim.so")?;
        for (artifact, name) in FIRMWARE {
            copy(&artifacts.path(artifact).with_context(|| format!("{artifact} is missing"))?, name)?;
        }
        fs::write(self.ours("kernel"), kernel())?;
        fs::write(self.ours("initrd"), b"not an archive, but hashed all the same\n".repeat(100))?;
        Ok(())
    }

    fn launch(&self, case: &Case<'_>) -> Result<Row> {
        let (name, expected) = (self.name(case), self.predict(case)?);
        let mut object = GUEST.to_owned();
        let mut boot = Vec::new();
        match case.with {
            With::FirmwareAlone => {}
            With::KernelHashes => {
                object += ",kernel-hashes=on";
                boot = ["-kernel", "/snp/kernel", "-initrd", "/snp/initrd", "-append", COMMAND_LINE].to_vec();
            }
            With::IdBlock { right } => object += &self.id_block(&expected, right)?,
        }
        let output = self.command(case, &[], &object).args(boot).output();
        let output = output.with_context(|| format!("cannot run {name}"))?;
        let wrong = wrong(&output, case.with, &expected);
        let found = if wrong.is_none() { Verdict::Pass } else { Verdict::Fail };
        Ok(Row { name, expected: Verdict::Pass, found, reason: wrong.unwrap_or_default() })
    }

    /// QEMU in its root, under `snp exec` with those options.
    fn command(&self, case: &Case<'_>, options: &[&str], object: &str) -> Command {
        let mut command = process::command("timeout");
        command.args(["60", "chroot"]).arg(&self.root).args(["/snp/snp", "exec"]);
        // The launch is what is looked at, not the firmware that runs after it.
        command.args(["--vcpu-run", "stop"]).args(options);
        command.args(["--", "qemu-system-x86_64", "-accel", "kvm", "-machine", "q35,confidential-guest-support=sev0"]);
        command.args(["-object", object, "-cpu", case.model, "-smp", &case.vcpus.to_string(), "-m", "512M"]);
        command.args(["-bios", &format!("/snp/{}", case.firmware), "-display", "none", "-nodefaults"]);
        command.args(["-monitor", "none", "-serial", "none"]);
        command
    }

    fn name(&self, case: &Case<'_>) -> String {
        let with = match case.with {
            With::FirmwareAlone => "",
            With::KernelHashes => ", kernel hashes",
            With::IdBlock { right: true } => ", ID block",
            With::IdBlock { right: false } => ", another launch's ID block",
        };
        format!("{} {} × {}, {}{with}", self.qemu.name, case.model, case.vcpus, case.firmware)
    }

    /// The digest by `snp measure`, which sev-snp-measure must agree with where it is installed.
    fn predict(&self, case: &Case<'_>) -> Result<String> {
        let ask = |program: &Path, command: &[&str]| {
            let mut ask = process::command(program);
            ask.args(command).args(["--mode", "snp", "--vcpu-type", case.model, "--vcpus", &case.vcpus.to_string()]);
            ask.arg("--ovmf").arg(self.ours(case.firmware));
            if case.with == With::KernelHashes {
                ask.arg("--kernel").arg(self.ours("kernel")).arg("--initrd").arg(self.ours("initrd"));
                ask.args(["--append", COMMAND_LINE]);
            }
            process::capture(&mut ask).map(|digest| digest.trim().to_owned())
        };
        let digest = ask(&self.programs.snp, &["measure"])?;
        if let Some(measure) = self.measure {
            let theirs = ask(measure, &[])?;
            ensure!(digest == theirs, "snp measure says {digest}, sev-snp-measure {theirs}");
        }
        Ok(digest)
    }

    /// The properties that give QEMU an ID block.
    fn id_block(&self, digest: &str, right: bool) -> Result<String> {
        let file = |name: &str| self.scratch.path().join(name);
        let digest = if right { digest.to_owned() } else { digest.chars().rev().collect() };
        for key in ["id.pem", "author.pem"] {
            let mut generate = process::command("openssl");
            generate.args(["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out"]).arg(file(key));
            process::capture(&mut generate)?;
        }
        let mut create = process::command(&self.programs.snp);
        create.args(["id-block", "create", "--format", "base64", "--digest", &digest]);
        create.arg("--id-key").arg(file("id.pem")).arg("--author-key").arg(file("author.pem"));
        create.arg("--id-block").arg(file("block")).arg("--id-auth").arg(file("auth"));
        process::capture(&mut create)?;
        let read = |name| fs::read_to_string(file(name)).map(|text| text.split_whitespace().collect::<String>());
        Ok(format!(",id-block={},id-auth={},author-key-enabled=true", read("block")?, read("auth")?))
    }
}

/// What is wrong with a launch.
fn wrong(output: &Output, with: With, expected: &str) -> Option<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let digest = stderr.lines().find_map(|line| line.strip_prefix("launch digest "));
    let refused = stderr.contains("SNP_LAUNCH_FINISH") && stderr.contains("Bad measurement");
    let good = match with {
        With::IdBlock { right: false } => digest.is_none() && refused && !output.status.success(),
        _ => digest == Some(expected) && output.status.success(),
    };
    let last = stderr.lines().last().unwrap_or("said nothing");
    (!good).then(|| format!("{}: digest {}, want {expected}; {last}", output.status, digest.unwrap_or("none")))
}

/// A file with the setup header of a Linux kernel, and no kernel behind it: nobody runs it.
fn kernel() -> Vec<u8> {
    let mut kernel = vec![0xcc; 0x1_0000];
    let mut put = |at: usize, bytes: &[u8]| kernel[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]); // setup_sects
    put(0x1fe, &[0x55, 0xaa]); // boot_flag
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes()); // version
    put(0x211, &[1]); // loadflags: loaded high
    put(0x214, &0x10_0000_u32.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x260, &0x1_0000_u32.to_le_bytes()); // init_size
    kernel
}
