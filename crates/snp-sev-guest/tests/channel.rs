//! Messages: a vector of another implementation, and what is taken for an answer.

use snp_abi::{GuestMessageHeader, MessageType, PAGE_SIZE, ReportRequest, SecretsPage};
use snp_sev_guest::{BadResponse, Channel, MessagePage};
use zerocopy::{FromBytes, IntoBytes};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn counting<const N: usize>() -> [u8; N] {
    std::array::from_fn(|i| i as u8)
}

/// AES-256-GCM by pyca/cryptography 48.0.0 (OpenSSL): key 00…1f, IV 01 and eleven zeros, the header's 0x30..0x60 as
/// additional data, a MSG_REPORT_REQ with REPORT_DATA 00…3f and VMPL 2 as plain text. That this is the layout: AMD 56860,
/// and the additional data that AMDESE/linux-svsm issue 22 shows of a request to real firmware.
const TAG: &str = "f1c7df13008f9f104d2df10ca5c3aad5";
const CIPHERTEXT: &str = "e22d803ca0aaea00420d0fc830cc86c4dc70dd3d68bd7d05560647e5013b996fccddd2ea048788e8f0f437f862242ea7c0e4fcb7d1456ca0bbb1da492b891678beafa49213c0f2445044cd48be94fd5eb5f3e8b761e80896f353185b4abd740d";

#[test]
fn a_request_is_what_another_implementation_makes() {
    let request = ReportRequest { report_data: counting(), vmpl: 2, ..ReportRequest::default() };
    let channel = Channel::resume(2, counting(), 0);
    let page = channel.seal(MessageType::REPORT_REQ, 1, request.as_bytes());
    assert_eq!(page[..16], hex(TAG));
    assert_eq!(page[0x20..0x28], 1_u64.to_le_bytes());
    assert_eq!(page[0x30..0x3d], [1, 1, 0x60, 0, 5, 1, 0x60, 0, 0, 0, 0, 0, 2]);
    assert_eq!(page[0x60..0xc0], hex(CIPHERTEXT));
    let zeros = [16..0x20, 0x28..0x30, 0x3d..0x60, 0xc0..PAGE_SIZE];
    assert!(zeros.into_iter().all(|range| page[range].iter().all(|byte| *byte == 0)));
}

#[test]
fn a_wiped_key_is_no_key() {
    let secrets = SecretsPage { vmpck1: [7; 32], ..SecretsPage::default() };
    assert!(Channel::new(&secrets, 0).is_none());
    assert!(Channel::new(&secrets, 4).is_none());
    assert_eq!(Channel::new(&secrets, 1).map(|channel| (channel.vmpck(), channel.count())), Some((1, 0)));
}

/// A request and an answer to it, made by a channel that is one message further.
fn exchange() -> (Channel, Box<MessagePage>, Box<MessagePage>) {
    let channel = Channel::resume(0, [9; 32], 4);
    let request = channel.seal(MessageType::KEY_REQ, 1, &[1; 32]);
    let response = Channel::resume(0, [9; 32], 5).seal(MessageType::KEY_RSP, 1, &[2; 64]);
    (channel, request, response)
}

#[test]
fn an_answer_is_opened() {
    let (channel, request, response) = exchange();
    assert_eq!(channel.open(&request, &response), Ok(vec![2; 64]));
}

#[test]
fn every_bit_of_an_answer_counts() {
    let (channel, request, response) = exchange();
    for bit in 0..8 * (usize::from(GuestMessageHeader::LENGTH) + 64) {
        let mut wrong = response.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(channel.open(&request, &wrong).is_err(), "bit {bit} of byte {:#x}", bit / 8);
    }
}

#[test]
fn other_messages_are_no_answer() {
    let (channel, request, _) = exchange();
    let sealed = |vmpck, key, count, msg_type, version| {
        let response = Channel::resume(vmpck, key, count).seal(msg_type, version, &[2; 64]);
        channel.open(&request, &response).unwrap_err()
    };
    let field = |error| match error {
        BadResponse::Header { field, .. } => field,
        other => panic!("{other}"),
    };
    let key = [9; 32];
    assert_eq!(field(sealed(0, key, 4, MessageType::KEY_RSP, 1)), "MSG_SEQNO");
    assert_eq!(field(sealed(0, key, 7, MessageType::KEY_RSP, 1)), "MSG_SEQNO");
    assert_eq!(field(sealed(0, key, 5, MessageType::REPORT_RSP, 1)), "MSG_TYPE");
    assert_eq!(field(sealed(0, key, 5, MessageType::KEY_RSP, 2)), "MSG_VERSION");
    assert_eq!(field(sealed(1, key, 5, MessageType::KEY_RSP, 1)), "MSG_VMPCK");
    assert_eq!(sealed(0, [8; 32], 5, MessageType::KEY_RSP, 1), BadResponse::Unauthentic);

    let (_, _, mut response) = exchange();
    let mut header = GuestMessageHeader::read_from_prefix(response.as_slice()).unwrap().0;
    header.msg_size = 4001;
    response[..0x60].copy_from_slice(header.as_bytes());
    assert_eq!(channel.open(&request, &response), Err(BadResponse::TooLong(4001)));
}
