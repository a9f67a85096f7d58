//! Messages of guests: AES-256-GCM under a VMPCK.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use snp_abi::{FwStatus, GuestMessageHeader, MessageType, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

/// A page that is a message, in either direction.
pub(crate) type MessagePage = [u8; PAGE_SIZE];

/// The header of a message, if it is one that the firmware can open.
///
/// # Errors
/// INVALID_PARAM: unknown algorithm or version, a length that does not fit, a VMPCK that there is not, or reserved fields set.
pub(crate) fn header(page: &MessagePage) -> Result<GuestMessageHeader, FwStatus> {
    let (header, _) = GuestMessageHeader::read_from_prefix(page).expect("a page is longer");
    let unused_tag = &header.authtag[GuestMessageHeader::TAG..];
    let reserved = [unused_tag, &header.reserved_0x28, &header.reserved_0x3d];
    let clean = header.reserved_0x38 == 0 && reserved.iter().all(|field| field.iter().all(|byte| *byte == 0));
    let known = header.algo == GuestMessageHeader::AES_256_GCM
        && header.hdr_version == GuestMessageHeader::VERSION
        && header.hdr_size == GuestMessageHeader::LENGTH;
    let fits = usize::from(header.msg_size) <= GuestMessageHeader::PAYLOAD && header.msg_vmpck < 4;
    if clean && known && fits { Ok(header) } else { Err(FwStatus::INVALID_PARAM) }
}

/// The payload of a message.
///
/// # Errors
/// BAD_MEASUREMENT: it was not made with this key, or was changed since.
pub(crate) fn open(vmpck: &[u8; 32], header: &GuestMessageHeader, page: &MessagePage) -> Result<Vec<u8>, FwStatus> {
    let start = usize::from(GuestMessageHeader::LENGTH);
    let mut payload = page[start..start + usize::from(header.msg_size)].to_vec();
    let tag = Tag::from_slice(&header.authtag[..GuestMessageHeader::TAG]);
    let authenticated = &page[GuestMessageHeader::AUTHENTICATED];
    Aes256Gcm::new(vmpck.into())
        .decrypt_in_place_detached(&iv(header.msg_seqno), authenticated, &mut payload, tag)
        .map_err(|_| FwStatus::BAD_MEASUREMENT)?;
    Ok(payload)
}

/// The answer to a message: the next sequence number, the next type, the same key and version.
pub(crate) fn seal_response(vmpck: &[u8; 32], request: &GuestMessageHeader, payload: &[u8]) -> Box<MessagePage> {
    let mut header = GuestMessageHeader {
        msg_seqno: request.msg_seqno + 1,
        algo: GuestMessageHeader::AES_256_GCM,
        hdr_version: GuestMessageHeader::VERSION,
        hdr_size: GuestMessageHeader::LENGTH,
        msg_type: request.msg_type.response(),
        msg_version: request.msg_version,
        msg_size: payload.len() as u16,
        msg_vmpck: request.msg_vmpck,
        ..GuestMessageHeader::default()
    };
    let start = usize::from(GuestMessageHeader::LENGTH);
    let mut page = Box::new([0; PAGE_SIZE]);
    let body = &mut page[start..start + payload.len()];
    body.copy_from_slice(payload);
    let tag = Aes256Gcm::new(vmpck.into())
        .encrypt_in_place_detached(&iv(header.msg_seqno), &header.as_bytes()[GuestMessageHeader::AUTHENTICATED], body)
        .expect("a page is not too long for AES-GCM");
    header.authtag[..GuestMessageHeader::TAG].copy_from_slice(&tag);
    page[..start].copy_from_slice(header.as_bytes());
    page
}

/// The initialisation vector: the sequence number, little-endian, then zeros.
fn iv(seqno: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut iv = Nonce::default();
    iv[..8].copy_from_slice(&seqno.to_le_bytes());
    iv
}

/// The type, if it is a request that a guest may make.
pub(crate) fn request_type(header: &GuestMessageHeader) -> Result<MessageType, FwStatus> {
    if header.msg_type.is_request() { Ok(header.msg_type) } else { Err(FwStatus::INVALID_PARAM) }
}
