//! Launch digests of SEV and SEV-ES: SHA-256 over everything that is loaded, in order.

use sha2::{Digest, Sha256};
use snp_abi::{SevFeatures, Vmsa};
use snp_vmsa::reset::{BOOT_EIP, ResetProfile};
use zerocopy::IntoBytes;

use crate::{ImageError, KernelHashes, Ovmf};

/// The launch digest of an SEV guest.
///
/// # Errors
/// [`ImageError::NoKernelHashes`]: a kernel, and firmware without a place for its hashes.
///
/// # Source
/// sev-snp-measure 0.0.13, `guest.py`, `sev_calc_launch_digest`; AMD 55766 (SEV API), LAUNCH_MEASURE, for what is hashed.
pub fn sev_digest(firmware: &Ovmf, kernel: Option<&KernelHashes>) -> Result<[u8; 32], ImageError> {
    Ok(hash_image(firmware, kernel)?.finalize().into())
}

/// The launch digests of an SEV-ES guest with 1 to `vcpus` vCPUs, and the VMSAs of the boot processor and of the others.
///
/// # Errors
/// As [`sev_digest`]; [`ImageError::NoResetBlock`]: more than one vCPU, and the firmware does not say where the others
/// start.
///
/// # Source
/// sev-snp-measure 0.0.13, `guest.py`, `seves_calc_launch_digest`.
pub fn sev_es_digests(
    firmware: &Ovmf,
    kernel: Option<&KernelHashes>,
    vmm: &ResetProfile,
    cpu_signature: u32,
    vcpus: u32,
) -> Result<SevEs, ImageError> {
    let mut hash = hash_image(firmware, kernel)?;
    let others = match firmware.reset_eip()? {
        Some(eip) => eip,
        None if vcpus > 1 => return Err(ImageError::NoResetBlock { vcpus }),
        None => BOOT_EIP,
    };
    let [boot, others] = [BOOT_EIP, others].map(|eip| vmm.vmsa(eip, cpu_signature, SevFeatures(0)));
    let mut digests = Vec::new();
    for index in 0..vcpus {
        hash.update(if index == 0 { boot.as_bytes() } else { others.as_bytes() });
        digests.push(hash.clone().finalize().into());
    }
    Ok(SevEs { digests, boot: Box::new(boot), others: Box::new(others) })
}

/// What an SEV-ES launch measures.
#[derive(Clone, Debug)]
pub struct SevEs {
    /// The digest with `index + 1` vCPUs.
    pub digests: Vec<[u8; 32]>,
    /// VMSA of the boot processor.
    pub boot: Box<Vmsa>,
    /// VMSA of each of the others.
    pub others: Box<Vmsa>,
}

/// The flash, and the table of kernel hashes after it.
fn hash_image(firmware: &Ovmf, kernel: Option<&KernelHashes>) -> Result<Sha256, ImageError> {
    let mut hash = Sha256::new_with_prefix(firmware.flash());
    if let Some(kernel) = kernel {
        if firmware.hash_table_gpa()?.is_none() {
            return Err(ImageError::NoKernelHashes);
        }
        hash.update(kernel.padded_table());
    }
    Ok(hash)
}
