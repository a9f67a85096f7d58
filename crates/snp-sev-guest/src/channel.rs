//! Messages to the firmware and back.

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use snp_abi::{GuestMessageHeader, MessageType, PAGE_SIZE, SecretsPage};
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

/// A page that is a message, in either direction.
pub type MessagePage = [u8; PAGE_SIZE];

const HEADER: usize = GuestMessageHeader::LENGTH as usize;

/// The messages under one VMPCK.
#[derive(Clone, Debug)]
pub struct Channel {
    vmpck: u8,
    key: [u8; 32],
    /// Messages so far, requests and responses.
    count: u64,
}

/// A page that is not the firmware's answer to the last request.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadResponse {
    /// The header is not that of an answer to the request.
    #[error("the response's {field} is {got:#x}, want {want:#x}")]
    Header {
        /// The field.
        field: &'static str,
        /// What it has.
        got: u64,
        /// What it should have.
        want: u64,
    },
    /// The payload would reach past the page.
    #[error("the response's payload has {0} bytes; a page has room for {max}", max = GuestMessageHeader::PAYLOAD)]
    TooLong(u16),
    /// The tag does not fit header, payload and key.
    #[error("the response does not authenticate under this VMPCK")]
    Unauthentic,
}

impl Channel {
    /// The channel of VMPCK `vmpck` out of a secrets page, before its first message; `None` if there is no such key, or it
    /// was wiped.
    pub fn new(secrets: &SecretsPage, vmpck: u8) -> Option<Self> {
        let keys = [secrets.vmpck0, secrets.vmpck1, secrets.vmpck2, secrets.vmpck3];
        let key = *keys.get(usize::from(vmpck))?;
        (key != [0; 32]).then_some(Self { vmpck, key, count: 0 })
    }

    /// A channel of which the number of messages so far is known.
    pub fn resume(vmpck: u8, key: [u8; 32], count: u64) -> Self {
        Self { vmpck, key, count }
    }

    /// The number of the key.
    pub fn vmpck(&self) -> u8 {
        self.vmpck
    }

    /// Messages so far, requests and responses.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The next request. Only [`Channel::sent`] moves on to the one after it.
    ///
    /// # Panics
    /// If the payload is longer than [`GuestMessageHeader::PAYLOAD`].
    pub fn seal(&self, msg_type: MessageType, version: u8, payload: &[u8]) -> Box<MessagePage> {
        let mut header = GuestMessageHeader {
            msg_seqno: self.count.wrapping_add(1),
            algo: GuestMessageHeader::AES_256_GCM,
            hdr_version: GuestMessageHeader::VERSION,
            hdr_size: GuestMessageHeader::LENGTH,
            msg_type,
            msg_version: version,
            msg_size: payload.len() as u16,
            msg_vmpck: self.vmpck,
            ..GuestMessageHeader::default()
        };
        let mut page = Box::new([0; PAGE_SIZE]);
        let body = &mut page[HEADER..HEADER + payload.len()];
        body.copy_from_slice(payload);
        let tag = Aes256Gcm::new(&self.key.into())
            .encrypt_in_place_detached(
                &iv(header.msg_seqno),
                &header.as_bytes()[GuestMessageHeader::AUTHENTICATED],
                body,
            )
            .expect("a page is not too long for AES-GCM");
        header.authtag[..GuestMessageHeader::TAG].copy_from_slice(&tag);
        page[..HEADER].copy_from_slice(header.as_bytes());
        page
    }

    /// The payload of the answer to `request`.
    ///
    /// # Errors
    /// [`BadResponse`]
    ///
    /// # Source
    /// The checks are those of Linux 7.3, `verify_and_dec_payload`, and of all fields that it leaves to the authentication.
    pub fn open(&self, request: &MessagePage, response: &MessagePage) -> Result<Vec<u8>, BadResponse> {
        let header = |page| GuestMessageHeader::read_from_prefix(page).expect("a page is longer").0;
        let (sent, got): (GuestMessageHeader, GuestMessageHeader) =
            (header(request.as_slice()), header(response.as_slice()));
        let want = |field, got: u64, want: u64| match got == want {
            true => Ok(()),
            false => Err(BadResponse::Header { field, got, want }),
        };
        want("MSG_SEQNO", got.msg_seqno, sent.msg_seqno.wrapping_add(1))?;
        want("MSG_TYPE", got.msg_type.0.into(), sent.msg_type.response().0.into())?;
        want("MSG_VERSION", got.msg_version.into(), sent.msg_version.into())?;
        want("MSG_VMPCK", got.msg_vmpck.into(), sent.msg_vmpck.into())?;
        want("ALGO", got.algo.into(), GuestMessageHeader::AES_256_GCM.into())?;
        let unused_tag = &got.authtag[GuestMessageHeader::TAG..];
        want("unused part of AUTHTAG", unused_tag.iter().fold(0, |all, byte| all | *byte).into(), 0)?;
        want("reserved field at 0x28", u64::from_le_bytes(got.reserved_0x28), 0)?;
        if usize::from(got.msg_size) > GuestMessageHeader::PAYLOAD {
            return Err(BadResponse::TooLong(got.msg_size));
        }
        let mut payload = response[HEADER..HEADER + usize::from(got.msg_size)].to_vec();
        let tag = Tag::from_slice(&got.authtag[..GuestMessageHeader::TAG]);
        Aes256Gcm::new(&self.key.into())
            .decrypt_in_place_detached(
                &iv(got.msg_seqno),
                &response[GuestMessageHeader::AUTHENTICATED],
                &mut payload,
                tag,
            )
            .map_err(|_| BadResponse::Unauthentic)?;
        Ok(payload)
    }

    /// The request was sent and answered: both used up a sequence number.
    pub fn sent(&mut self) {
        self.count = self.count.wrapping_add(2);
    }
}

/// The initialisation vector: the sequence number, little-endian, then zeros.
fn iv(seqno: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut iv = Nonce::default();
    iv[..8].copy_from_slice(&seqno.to_le_bytes());
    iv
}
