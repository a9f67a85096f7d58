//! The table of certificates that the host gives to a guest with an extended guest request.

use alloc::format;
use alloc::vec::Vec;

use crate::certificate::{Certificate, Crl};
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
/// A revocation list, by the GUID that virtee/sev and go-sev-guest have for it.
const CRL: [u8; 16] = 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes();

/// More certificates than any table has.
const MOST: usize = 64;

const WHAT: &str = "a certificate table";

/// Reads the certificates of a table. They are DER; entries with other GUIDs are left out, and
/// [`revocation_lists`] reads some of them.
///
/// # Errors
/// [`Malformed`]: no end, an entry outside of the table, or one that is no certificate.
pub fn parse(table: &[u8]) -> Result<Certificates, Malformed> {
    let mut certificates = Certificates::default();
    for entry in entries(table)? {
        let role = match entry.guid {
            VCEK => Role::Vcek,
            VLEK => Role::Vlek,
            ARK => Role::Ark,
            ASK => Role::Ask,
            _ => continue,
        };
        let certificate = Certificate::from_der(entry.data).map_err(|error| entry.malformed(role.name(), &error))?;
        // The ASVK has no GUID of its own.
        let role = if certificate.role() == Some(Role::Asvk) { Role::Asvk } else { role };
        *certificates.slot(role) = Some(certificate);
    }
    Ok(certificates)
}

/// Reads the revocation lists of a table, in DER.
///
/// # Errors
/// [`Malformed`]: no end, an entry outside of the table, or one that is no list.
pub fn revocation_lists(table: &[u8]) -> Result<Vec<Crl>, Malformed> {
    let lists = entries(table)?.into_iter().filter(|entry| entry.guid == CRL);
    lists.map(|entry| Crl::from_der(entry.data).map_err(|error| entry.malformed("CRL", &error))).collect()
}

struct Entry<'a> {
    index: usize,
    guid: [u8; 16],
    data: &'a [u8],
}

impl Entry<'_> {
    fn malformed(&self, kind: &str, error: &Malformed) -> Malformed {
        let Self { index, .. } = self;
        Malformed::new(WHAT, format!("entry {index} at {:#x} ({kind}): {error}", index * ENTRY))
    }
}

fn entries(table: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    let mut entries = Vec::new();
    let mut header = table;
    for index in 0..MOST {
        let at = index * ENTRY;
        let Some((entry, rest)) = header.split_first_chunk::<ENTRY>() else {
            return Err(Malformed::new(WHAT, format!("no end of its entries before offset {at:#x}")));
        };
        header = rest;
        if entry == &[0; ENTRY] {
            return Ok(entries);
        }
        let word = |from: usize| u32::from_le_bytes(entry[from..from + 4].try_into().expect("four bytes")) as usize;
        let (offset, length) = (word(16), word(20));
        let range = offset.checked_add(length).and_then(|end| table.get(offset..end));
        let Some(data) = range else {
            let reason =
                format!("entry {index} at {at:#x}: {length:#x} bytes at {offset:#x}, the table has {:#x}", table.len());
            return Err(Malformed::new(WHAT, reason));
        };
        entries.push(Entry { index, guid: entry[..16].try_into().expect("sixteen bytes"), data });
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
