//! The table of certificates that the host gives to a guest with an extended guest request.

use alloc::format;
use alloc::vec::Vec;

use crate::certificate::Certificate;
use crate::chain::Certificates;
use crate::error::{Malformed, Role};

/// Bytes of an entry of the table: GUID, offset and length.
const ENTRY: usize = 24;

/// The GUIDs as they are in memory.
///
/// # Source
/// AMD 56421, "SNP Extended Guest Request": VCEK 63da758d-e664-4564-adc5-f4b93be8accd, VLEK
/// a8074bc2-a25a-483e-aae6-39c045a0b8a1, ASK (and ASVK) 4ab7b379-bbac-4fe4-a02f-05aef327c782, ARK
/// c0b406a4-a803-4952-9743-3fb6014cd0ae. Their bytes are in the order in which they are written, as Linux and the public
/// tools have it.
const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
const ASK: [u8; 16] = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();
const ARK: [u8; 16] = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes();

/// More certificates than any table has.
const MOST: usize = 64;

/// Reads a table. The certificates are DER; entries with other GUIDs are left out.
///
/// # Errors
/// [`Malformed`]: no end, an entry outside of the table, or one that is no certificate.
pub fn parse(table: &[u8]) -> Result<Certificates, Malformed> {
    const WHAT: &str = "a certificate table";
    let mut certificates = Certificates::default();
    let mut header = table;
    for index in 0..MOST {
        let at = index * ENTRY;
        let Some((entry, rest)) = header.split_first_chunk::<ENTRY>() else {
            return Err(Malformed::new(WHAT, format!("no end of its entries before offset {at:#x}")));
        };
        header = rest;
        if entry == &[0; ENTRY] {
            return Ok(certificates);
        }
        let word = |from: usize| u32::from_le_bytes(entry[from..from + 4].try_into().expect("four bytes")) as usize;
        let (offset, length) = (word(16), word(20));
        let range = offset.checked_add(length).and_then(|end| table.get(offset..end));
        let Some(bytes) = range else {
            let reason =
                format!("entry {index} at {at:#x}: {length:#x} bytes at {offset:#x}, the table has {:#x}", table.len());
            return Err(Malformed::new(WHAT, reason));
        };
        let role = match <[u8; 16]>::try_from(&entry[..16]).expect("sixteen bytes") {
            VCEK => Role::Vcek,
            VLEK => Role::Vlek,
            ARK => Role::Ark,
            ASK => Role::Ask,
            _ => continue,
        };
        let malformed = |error| Malformed::new(WHAT, format!("entry {index} at {at:#x} ({role}): {error}"));
        let certificate = Certificate::from_der(bytes).map_err(malformed)?;
        // The ASVK has no GUID of its own.
        let role = if certificate.role() == Some(Role::Asvk) { Role::Asvk } else { role };
        *certificates.slot(role) = Some(certificate);
    }
    Err(Malformed::new(WHAT, format!("more than {MOST} entries")))
}

/// Makes a table of DER certificates.
pub fn build(certificates: &Certificates) -> Vec<u8> {
    let Certificates { ark, ask, asvk, vcek, vlek } = certificates;
    let entries = [(ARK, ark), (ASK, ask), (ASK, asvk), (VCEK, vcek), (VLEK, vlek)];
    let entries: Vec<_> = entries.iter().filter_map(|(guid, slot)| Some((guid, slot.as_ref()?.der()))).collect();
    let mut table = Vec::new();
    let mut offset = (entries.len() + 1) * ENTRY;
    for (guid, der) in &entries {
        table.extend_from_slice(*guid);
        table.extend_from_slice(&(offset as u32).to_le_bytes());
        table.extend_from_slice(&(der.len() as u32).to_le_bytes());
        offset += der.len();
    }
    table.resize(table.len() + ENTRY, 0);
    entries.iter().for_each(|(_, der)| table.extend_from_slice(der));
    table
}
