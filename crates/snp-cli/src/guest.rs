//! Options that several commands have about a guest: its processors, its features, its kernel.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
use snp_image::loader::LOADERS;
use snp_image::{IgvmLoader, KernelHashes};
use snp_vmsa::cpu;
use snp_vmsa::era::Era;
use snp_vmsa::reset::{self, ResetProfile};
use zerocopy::FromBytes;

use crate::input;

/// The CPU model whose signature guests have, where one is measured, unless another is asked for.
pub(crate) const DEFAULT_MODEL: &str = "EPYC-v4";

/// The signature of one of QEMU's CPU models.
pub(crate) fn model_signature(model: &str) -> Result<u32> {
    cpu::signature(model).with_context(|| {
        let known: Vec<_> = cpu::MODELS.iter().map(|model| model.name).collect();
        format!("--vcpu-type {model}: not a known CPU model; known are {}", known.join(", "))
    })
}

/// SEV_FEATURES, which every SNP guest has with SNPActive.
pub(crate) fn features(text: &str) -> Result<SevFeatures, String> {
    checked_features(input::number(text)?)
}

/// SEV_FEATURES as a number.
pub(crate) fn checked_features(value: u64) -> Result<SevFeatures, String> {
    let features = SevFeatures(value);
    if features.has(SevFeatures::SNP_ACTIVE) {
        Ok(features)
    } else {
        Err(format!("{features:?} lacks SNPActive (bit 0), which every SNP guest has"))
    }
}

/// A VMM's row of the registry: by the row's name, or else that of a family in an era, which is now if none is given.
pub(crate) fn vmm(row: Option<&str>, family: Option<&str>, era: Option<&Era>) -> Result<&'static ResetProfile> {
    if let Some(name) = row {
        return reset::find(name).with_context(|| format!("--vmsa-profile {name}: not known; see `snp profiles`"));
    }
    let family = family.unwrap_or("qemu");
    let of_family = |profile: &&ResetProfile| profile.family.eq_ignore_ascii_case(family);
    let found = match era {
        Some(era) => reset::find_in_era(family, era),
        // The first row of a family is the current one.
        None => reset::profiles().iter().find(of_family),
    };
    found.with_context(|| match era {
        Some(era) if reset::profiles().iter().any(|profile| of_family(&profile)) => {
            let dates = matches!(era, Era::Kernel(_)).then_some("; rows that are told apart by dates want one");
            format!("--vmm-type {family}: no profile for {era}; see `snp profiles`{}", dates.unwrap_or_default())
        }
        _ => {
            let mut families: Vec<_> = reset::profiles().iter().map(|profile| profile.family).collect();
            families.dedup();
            format!("--vmm-type {family}: not known; known are {}", families.join(", "))
        }
    })
}

/// A policy that the firmware launches guests with at all.
///
/// # Source
/// AMD 56860, "Guest Policy": bit 17 must be one.
pub(crate) fn launchable(policy: GuestPolicy) -> Result<()> {
    ensure!(
        policy.has(GuestPolicy::RESERVED_MBO),
        "policy {:#x}: bit 17 is not set, and no guest is launched with such a policy; 0x30000 is QEMU's default",
        policy.0
    );
    Ok(())
}

/// A page's address.
pub(crate) fn gpa(text: &str) -> Result<Gpa, String> {
    let gpa = Gpa(input::number(text)?);
    if gpa.is_page_aligned() { Ok(gpa) } else { Err(format!("{gpa} is not 4 KiB-aligned")) }
}

/// A VMSA of 4096 bytes, raw or base64.
pub(crate) fn read_vmsa(path: &Path) -> Result<Box<Vmsa>> {
    let page = input::read_exact::<4096>(path, "VMSA")?;
    Ok(Box::new(Vmsa::read_from_bytes(page.as_slice()).expect("4096 bytes")))
}

/// An IGVM loader by its name.
pub(crate) fn loader(name: &str) -> Result<&'static IgvmLoader> {
    IgvmLoader::find(name).with_context(|| {
        let known: Vec<_> = LOADERS.iter().map(|loader| loader.name).collect();
        format!("--loader {name}: not known; known are {}", known.join(", "))
    })
}

/// The hashes of what is booted directly. The files are read in pieces, both at once.
pub(crate) fn kernel_hashes(kernel: &Path, initrd: Option<&Path>, append: Option<&str>) -> Result<KernelHashes> {
    let (kernel, initrd) = std::thread::scope(|scope| {
        let initrd = initrd.map(|path| scope.spawn(move || sha256(path, "initrd")));
        let kernel = sha256(kernel, "kernel");
        (kernel, initrd.map(|thread| thread.join().expect("hashing does not panic")))
    });
    let nothing = Ok(Sha256::digest([]).into());
    let cmdline = KernelHashes::hash_of_cmdline(append.unwrap_or_default());
    Ok(KernelHashes { kernel: kernel?, initrd: initrd.unwrap_or(nothing)?, cmdline })
}

/// SHA-256 of a file, which is read in pieces and never held.
fn sha256(path: &Path, what: &str) -> Result<[u8; 32]> {
    let context = || format!("{what} {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    ensure!(!file.metadata().with_context(context)?.is_dir(), "{}: is a directory", context());
    let (mut hash, mut piece, mut total) = (Sha256::new(), vec![0; 1 << 18], 0_u64);
    loop {
        let len = file.read(&mut piece).with_context(context)?;
        if len == 0 {
            return Ok(hash.finalize().into());
        }
        total += len as u64;
        if total > input::IMAGE_LIMIT {
            bail!("{}: more than {} bytes", context(), input::IMAGE_LIMIT);
        }
        hash.update(&piece[..len]);
    }
}

/// Numbers of vCPUs: `4`, `1,2,8`, `1..512` or `1-512` (both ends included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VcpuCounts(pub(crate) Vec<u32>);

/// The most vCPUs of a guest: KVM_MAX_VCPUS on x86.
pub(crate) const MOST_VCPUS: u32 = 4096;

impl std::str::FromStr for VcpuCounts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut counts = Vec::new();
        for part in text.split(',') {
            let range = part.split_once("..=").or_else(|| part.split_once("..")).or_else(|| part.split_once('-'));
            // A leading minus sign is a negative number and not a range.
            match range.filter(|(first, _)| !first.is_empty()) {
                Some((first, last)) => {
                    let (first, last) = (count(first)?, count(last)?);
                    if first > last {
                        return Err(format!("{part}: want the smaller number first"));
                    }
                    counts.extend(first..=last);
                }
                None => counts.push(count(part)?),
            }
        }
        Ok(Self(counts))
    }
}

fn count(text: &str) -> Result<u32, String> {
    input::within(1..=MOST_VCPUS.into())(text.trim()).map_err(|_| {
        format!("{text:?} is no number of vCPUs: want 1 to {MOST_VCPUS}, a list like 1,2,8 or a range like 1..512")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lists_and_ranges() {
        let counts = |text: &str| text.parse::<VcpuCounts>().map(|counts| counts.0);
        assert_eq!(counts("4"), Ok(vec![4]));
        assert_eq!(counts("1,8,2"), Ok(vec![1, 8, 2]));
        assert_eq!(counts("1..4,64"), Ok(vec![1, 2, 3, 4, 64]));
        assert_eq!(counts("2-3"), Ok(vec![2, 3]));
        assert_eq!(counts("0x10"), Ok(vec![16]));
        for wrong in ["", "0", "-1", "4097", "4..1", "1..", "x", "1,,2", "1.5", "99999999999999999999"] {
            assert!(counts(wrong).is_err(), "{wrong}");
        }
    }
}
