//! Replacing the ID block of an IGVM file.

use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision};
use igvm_defs::{IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY, IGVM_VHS_SNP_ID_BLOCK_SIGNATURE, IgvmPlatformType};
use snp_abi::{EcdsaPublicKey, EcdsaSignature};
use snp_launch::IdBlockPair;
use zerocopy::{FromZeros, IntoBytes};

use super::{Igvm, IgvmWriteError};

impl Igvm {
    /// The file with this ID block for SEV-SNP in place of any it has. All else stays: other platforms, initialization
    /// headers, directives and their order; the file data are laid out anew.
    ///
    /// The policy in the block must be the file's guest policy, with which the firmware will compare it.
    ///
    /// # Errors
    /// [`IgvmWriteError`]: the `igvm` crate, which writes the file, does not take it.
    pub fn with_id_block(&self, pair: &IdBlockPair) -> Result<Vec<u8>, IgvmWriteError> {
        // The reader of this crate accepted the file, so that it is safe to give it to the `igvm` crate's.
        let file = IgvmFile::new_from_binary(&self.file, None)?;
        let mask = snp_mask(&file).ok_or(IgvmWriteError::NoSnpPlatform)?;
        let is_old = |directive: &IgvmDirectiveHeader| matches!(directive, IgvmDirectiveHeader::SnpIdBlock { compatibility_mask, .. } if compatibility_mask & mask != 0);
        let mut directives: Vec<_> = file.directives().iter().filter(|directive| !is_old(directive)).cloned().collect();
        directives.push(directive(pair, mask));
        let revision = revision(&self.file);
        let platforms: Vec<IgvmPlatformHeader> = file.platforms().to_vec();
        let initializations: Vec<IgvmInitializationHeader> = file.initializations().to_vec();
        let mut bytes = Vec::new();
        IgvmFile::new(revision, platforms, initializations, directives)?.serialize(&mut bytes)?;
        Ok(bytes)
    }
}

fn snp_mask(file: &IgvmFile) -> Option<u32> {
    file.platforms().iter().find_map(|platform| match platform {
        IgvmPlatformHeader::SupportedPlatform(info) => {
            (info.platform_type == IgvmPlatformType::SEV_SNP).then_some(info.compatibility_mask)
        }
    })
}

/// FORMAT_VERSION at offset 4 of the fixed header, which the reader checked.
fn revision(file: &[u8]) -> IgvmRevision {
    match file[4] {
        2 => IgvmRevision::V2 { arch: igvm::Arch::X64, page_size: 4096 },
        _ => IgvmRevision::V1,
    }
}

fn directive(pair: &IdBlockPair, compatibility_mask: u32) -> IgvmDirectiveHeader {
    let (block, auth) = (&pair.block, &pair.auth);
    IgvmDirectiveHeader::SnpIdBlock {
        compatibility_mask,
        author_key_enabled: pair.author_key_enabled.into(),
        reserved: [0; 3],
        ld: block.ld.0,
        family_id: block.family_id,
        image_id: block.image_id,
        version: block.version,
        guest_svn: block.guest_svn,
        id_key_algorithm: auth.id_key_algo.0,
        author_key_algorithm: auth.author_key_algo.0,
        id_key_signature: signature(&auth.id_block_sig),
        id_public_key: public_key(&auth.id_key),
        author_key_signature: signature(&auth.id_key_sig),
        author_public_key: public_key(&auth.author_key),
    }
}

fn signature(firmware: &EcdsaSignature) -> Box<IGVM_VHS_SNP_ID_BLOCK_SIGNATURE> {
    let mut file = IGVM_VHS_SNP_ID_BLOCK_SIGNATURE::new_zeroed();
    file.r_comp.copy_from_slice(firmware.r.as_bytes());
    file.s_comp.copy_from_slice(firmware.s.as_bytes());
    Box::new(file)
}

fn public_key(firmware: &EcdsaPublicKey) -> Box<IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY> {
    let mut file = IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY::new_zeroed();
    file.curve = firmware.curve;
    file.qx.copy_from_slice(firmware.qx.as_bytes());
    file.qy.copy_from_slice(firmware.qy.as_bytes());
    Box::new(file)
}
