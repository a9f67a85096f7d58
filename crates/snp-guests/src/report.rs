//! `report`: asks the firmware for its attestation report, and prints what stands in it.
//!
//! The request is sealed with VMPCK0 of the secrets page by AES-256-GCM and goes through the GHCB as an extended SNP guest request,
//! which brings the certificates of the key that signs; the response is opened likewise. AES is the processor's, GHASH goes bit by
//! bit: short rather than fast.
//!
//! # Source
//! AMD 56860, "Secrets Page", "Message Header Format", "MSG_REPORT_REQ", "MSG_REPORT_RSP", "ATTESTATION_REPORT"; AMD 56421 (GHCB),
//! "SNP Guest Request", "SNP Extended Guest Request"; NIST SP 800-38D.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use snp_abi::{Gpa, PAGE_SIZE};

use crate::Guest;
use crate::image::{ALIAS, FREE, Image, PARAMETERS, SECRETS, STATE};
use crate::program::{Assembled, Failure, Program};

/// The guest's name.
pub(crate) const NAME: &str = "report";

/// Messages are made and opened in private memory, and handed over in shared.
const REQUEST: u64 = FREE.0 + 0x1000;
const RESPONSE: u64 = FREE.0 + 0x2000;
const SHARED_REQUEST: u64 = FREE.0 + 0x3000;
const SHARED_RESPONSE: u64 = FREE.0 + 0x4000;
/// Room for the certificates, which are shared: nobody but the hypervisor vouches for them.
const CERTIFICATES: u64 = FREE.0 + 0x5000;
const CERTIFICATE_PAGES: u64 = 4;
const END: Gpa = Gpa(CERTIFICATES + CERTIFICATE_PAGES * PAGE_SIZE as u64);

/// VMPCK0 in the secrets page.
const VMPCK0: u64 = SECRETS.0 + 0x20;

/// The message header: authentication tag, sequence number, what is authenticated, payload.
const TAG: u64 = 0;
const SEQUENCE: u64 = 0x20;
const AUTHENTICATED: u64 = 0x30;
const PAYLOAD: u64 = 0x60;
/// Bytes that are authenticated and not encrypted.
const AUTHENTICATED_LEN: u64 = PAYLOAD - AUTHENTICATED;
/// Bytes of MSG_REPORT_REQ, and of MSG_REPORT_RSP: the report has 1184, after 32 of its own header.
const REQUEST_LEN: u32 = 0x60;
const RESPONSE_LEN: u32 = 0x20 + 0x4a0;
/// ALGO 1 (AES-256-GCM), HDR_VERSION 1, HDR_SIZE, MSG_TYPE 5 (MSG_REPORT_REQ), MSG_VERSION 1, MSG_SIZE.
const HEADER: u64 = 1 | 1 << 8 | PAYLOAD << 16 | 5 << 32 | 1 << 40 | (REQUEST_LEN as u64) << 48;
/// MSG_TYPE of MSG_REPORT_RSP, in the fifth byte of the header's authenticated part.
const REPORT_RESPONSE: u32 = 6;

/// In the report: version, REPORT_DATA, MEASUREMENT.
const REPORT: u64 = RESPONSE + PAYLOAD + 0x20;
const REPORT_DATA: u64 = REPORT + 0x50;
const MEASUREMENT: u64 = REPORT + 0x90;

/// Variables: the round keys, the hash key as two numbers, the polynomial, the counter block.
const KEYS: u64 = STATE.0 + 0x100;
const HASH_KEY: u64 = STATE.0 + 0x200;
const POLYNOMIAL: u64 = STATE.0 + 0x210;
const COUNTER: u64 = STATE.0 + 0x220;
const ROUNDS: u64 = 14;

/// The guest. Its report data are the bytes from 0 on, from the parameters.
pub(crate) fn guest() -> Guest {
    let image = Image {
        name: NAME.into(),
        summary: "asks for its attestation report through the GHCB and prints measurement, report data and the number of certificates",
        program: program().expect("the guest's own source assembles"),
        parameters: (0..16_u32)
            .map(|word| u32::from_le_bytes([0, 1, 2, 3].map(|byte| (4 * word) as u8 + byte)))
            .collect(),
        other_processors: None,
        end: END,
    };
    image.guest()
}

/// The routines of this guest. All change RAX, RCX, RDX, RSI, RDI and R8 to R11.
#[derive(Clone, Copy)]
struct Cipher {
    /// Encrypts XMM0.
    block: CodeLabel,
    /// The block of the counter at [`COUNTER`] that begins the message at R12: its sequence number, and 1.
    first_counter: CodeLabel,
    /// Encrypts or decrypts the payload of R13 bytes of the message at R12.
    stream: CodeLabel,
    /// The tag of that message, in XMM0.
    tag: CodeLabel,
    /// R10:R11 is multiplied by the hash key after RAX:RDX was added.
    absorb: CodeLabel,
    /// Prints R13 bytes at R12 and a line feed.
    print_bytes: CodeLabel,
}

fn program() -> Result<Assembled, IcedError> {
    let mut p = Program::new()?;
    let mut label = || p.a.create_label();
    let cipher = Cipher {
        block: label(),
        first_counter: label(),
        stream: label(),
        tag: label(),
        absorb: label(),
        print_bytes: label(),
    };
    p.begin()?;
    enable_sse(&mut p)?;
    for (page, routine) in [
        (REQUEST, p.routines.accept),
        (RESPONSE, p.routines.accept),
        (SHARED_REQUEST, p.routines.make_shared),
        (SHARED_RESPONSE, p.routines.make_shared),
    ] {
        p.a.mov(rdi, page)?;
        p.a.call(routine)?;
    }
    for page in 0..CERTIFICATE_PAGES {
        p.a.mov(rdi, CERTIFICATES + page * PAGE_SIZE as u64)?;
        p.a.call(p.routines.make_shared)?;
    }
    expand_key(&mut p)?;
    derive_hash_key(&mut p, cipher)?;
    ask(&mut p, cipher)?;
    open(&mut p, cipher)?;
    p.a.mov(r12d, dword_ptr(REPORT))?;
    p.say_hex("attestation report, version ", r12, "\n")?;
    for (what, address, len) in [("measurement ", MEASUREMENT, 48), ("report data ", REPORT_DATA, 64)] {
        p.say(what)?;
        p.a.mov(r12, address)?;
        p.a.mov(r13d, len)?;
        p.a.call(cipher.print_bytes)?;
    }
    count_certificates(&mut p)?;
    p.a.call(p.routines.print_decimal)?;
    p.say(" certificates came with it\n")?;
    p.a.jmp(p.routines.end_well)?;
    emit_cipher(&mut p, cipher)?;
    emit_hash(&mut p, cipher)?;
    emit_print_bytes(&mut p, cipher)?;
    p.finish(&[])
}

/// CR4.OSFXSR.
fn enable_sse(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(rax, cr4)?;
    p.a.or(rax, 1 << 9)?;
    p.a.mov(cr4, rax)
}

/// The 15 round keys of AES-256.
///
/// # Source
/// FIPS 197, "Key Expansion".
fn expand_key(p: &mut Program) -> Result<(), IcedError> {
    let a = &mut p.a;
    a.movdqu(xmm1, xmmword_ptr(VMPCK0))?;
    a.movdqu(xmm2, xmmword_ptr(VMPCK0 + 16))?;
    a.movdqa(xmmword_ptr(KEYS), xmm1)?;
    a.movdqa(xmmword_ptr(KEYS + 16), xmm2)?;
    let mut at = KEYS + 32;
    for round in 0..7 {
        for (target, source, constant, word) in [(xmm1, xmm2, 1 << round, 0xff), (xmm2, xmm1, 0, 0xaa)] {
            if at > KEYS + 16 * ROUNDS {
                break;
            }
            a.aeskeygenassist(xmm3, source, constant)?;
            a.pshufd(xmm3, xmm3, word)?;
            a.movdqa(xmm4, target)?;
            for _ in 0..3 {
                a.pslldq(xmm4, 4)?;
                a.pxor(target, xmm4)?;
            }
            a.pxor(target, xmm3)?;
            a.movdqa(xmmword_ptr(at), target)?;
            at += 16;
        }
    }
    Ok(())
}

/// The hash key is the encrypted zero block, as two numbers with the first byte uppermost.
fn derive_hash_key(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    p.a.pxor(xmm0, xmm0)?;
    p.a.call(cipher.block)?;
    p.a.movdqa(xmmword_ptr(HASH_KEY), xmm0)?;
    for half in [HASH_KEY, HASH_KEY + 8] {
        p.a.mov(rax, qword_ptr(half))?;
        p.a.bswap(rax)?;
        p.a.mov(qword_ptr(half), rax)?;
    }
    p.a.mov(rax, 0xe1_u64 << 56)?;
    p.a.mov(qword_ptr(POLYNOMIAL), rax)
}

/// Makes the request, has it answered, and copies the answer to where nobody else writes.
fn ask(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    // The page is the guest's own and new, but zeros are not promised.
    p.a.mov(rdi, REQUEST)?;
    zero_page(p)?;
    p.a.mov(qword_ptr(REQUEST + SEQUENCE), 1)?;
    p.a.mov(rax, HEADER)?;
    p.a.mov(qword_ptr(REQUEST + AUTHENTICATED), rax)?;
    // REPORT_DATA; VMPL 0 and the key that the firmware chooses are zeros.
    p.a.mov(rsi, PARAMETERS.0)?;
    p.a.mov(rdi, REQUEST + PAYLOAD)?;
    p.a.mov(ecx, 8)?;
    p.a.rep().movsq()?;

    p.a.mov(r12, REQUEST)?;
    p.a.mov(r13d, REQUEST_LEN)?;
    p.a.call(cipher.stream)?;
    p.a.call(cipher.tag)?;
    p.a.movdqa(xmmword_ptr(REQUEST + TAG), xmm0)?;

    copy_page(p, REQUEST, SHARED_REQUEST + ALIAS)?;
    p.a.mov(rdi, SHARED_RESPONSE + ALIAS)?;
    zero_page(p)?;
    p.extended_guest_request(SHARED_REQUEST, SHARED_RESPONSE, CERTIFICATES, CERTIFICATE_PAGES)?;
    // SW_EXITINFO2: what the firmware and the hypervisor say.
    p.a.mov(r12, rdx)?;
    p.a.or(rax, rdx)?;
    let mut answered = p.a.create_label();
    p.a.je(answered)?;
    p.say_hex("guest request refused: SW_EXITINFO2 ", r12, "\n")?;
    p.fail(Failure::Answer)?;
    p.a.set_label(&mut answered)?;
    copy_page(p, SHARED_RESPONSE + ALIAS, RESPONSE)
}

/// Checks that the response is the next message, is authentic, and holds a report; decrypts it.
fn open(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    p.a.cmp(qword_ptr(RESPONSE + SEQUENCE), 2)?;
    p.fail_unless_zero(Failure::Answer)?;
    p.a.cmp(byte_ptr(RESPONSE + AUTHENTICATED + 4), REPORT_RESPONSE)?;
    p.fail_unless_zero(Failure::Answer)?;
    p.a.cmp(word_ptr(RESPONSE + AUTHENTICATED + 6), RESPONSE_LEN)?;
    p.fail_unless_zero(Failure::Answer)?;
    p.a.mov(r12, RESPONSE)?;
    p.a.mov(r13d, RESPONSE_LEN)?;
    p.a.call(cipher.tag)?;
    p.a.movdqa(xmm1, xmmword_ptr(RESPONSE + TAG))?;
    p.a.pcmpeqb(xmm0, xmm1)?;
    p.a.pmovmskb(eax, xmm0)?;
    p.a.cmp(eax, 0xffff)?;
    p.fail_unless_zero(Failure::Answer)?;
    p.a.call(cipher.stream)?;
    // STATUS.
    p.a.cmp(dword_ptr(RESPONSE + PAYLOAD), 0)?;
    p.fail_unless_zero(Failure::Answer)
}

/// RAX: how many entries the certificate table has. The last is followed by one of zeros.
///
/// # Source
/// AMD 56421, "SNP Extended Guest Request", the table: GUID, offset, length.
fn count_certificates(p: &mut Program) -> Result<(), IcedError> {
    const ENTRY: u32 = 24;
    const MOST: u32 = PAGE_SIZE as u32 / ENTRY;
    let (mut next, mut end) = (p.a.create_label(), p.a.create_label());
    p.a.xor(eax, eax)?;
    p.a.mov(rsi, CERTIFICATES + ALIAS)?;
    p.a.set_label(&mut next)?;
    p.a.mov(rdx, qword_ptr(rsi))?;
    p.a.or(rdx, qword_ptr(rsi + 8))?;
    p.a.je(end)?;
    p.a.inc(eax)?;
    p.a.add(rsi, ENTRY as i32)?;
    p.a.cmp(eax, MOST)?;
    p.a.jb(next)?;
    p.a.set_label(&mut end)?;
    Ok(())
}

fn zero_page(p: &mut Program) -> Result<(), IcedError> {
    p.a.xor(eax, eax)?;
    p.a.mov(ecx, PAGE_SIZE as u32 / 8)?;
    p.a.rep().stosq()
}

fn copy_page(p: &mut Program, from: u64, to: u64) -> Result<(), IcedError> {
    p.a.mov(rsi, from)?;
    p.a.mov(rdi, to)?;
    p.a.mov(ecx, PAGE_SIZE as u32 / 8)?;
    p.a.rep().movsq()
}

fn emit_cipher(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    let Cipher { mut block, mut first_counter, mut stream, .. } = cipher;
    let a = &mut p.a;
    a.set_label(&mut block)?;
    a.pxor(xmm0, xmmword_ptr(KEYS))?;
    for round in 1..ROUNDS {
        a.aesenc(xmm0, xmmword_ptr(KEYS + 16 * round))?;
    }
    a.aesenclast(xmm0, xmmword_ptr(KEYS + 16 * ROUNDS))?;
    a.ret()?;

    // The initialization vector is the sequence number in 12 bytes; the counter after it is big-endian.
    a.set_label(&mut first_counter)?;
    a.mov(rax, qword_ptr(r12 + SEQUENCE))?;
    a.mov(qword_ptr(COUNTER), rax)?;
    a.mov(rax, 1_u64 << 56)?;
    a.mov(qword_ptr(COUNTER + 8), rax)?;
    a.ret()?;

    let mut next = a.create_label();
    a.set_label(&mut stream)?;
    a.call(first_counter)?;
    a.lea(rdi, ptr(r12 + PAYLOAD))?;
    a.lea(rsi, ptr(rdi + r13))?;
    a.set_label(&mut next)?;
    a.mov(eax, dword_ptr(COUNTER + 12))?;
    a.bswap(eax)?;
    a.inc(eax)?;
    a.bswap(eax)?;
    a.mov(dword_ptr(COUNTER + 12), eax)?;
    a.movdqa(xmm0, xmmword_ptr(COUNTER))?;
    a.call(block)?;
    a.pxor(xmm0, xmmword_ptr(rdi))?;
    a.movdqa(xmmword_ptr(rdi), xmm0)?;
    a.add(rdi, 16)?;
    a.cmp(rdi, rsi)?;
    a.jb(next)?;
    a.ret()
}

fn emit_hash(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    let Cipher { mut tag, mut absorb, .. } = cipher;
    let (mut next, mut bit) = (p.a.create_label(), p.a.create_label());
    let a = &mut p.a;
    a.set_label(&mut tag)?;
    a.xor(r10d, r10d)?;
    a.xor(r11d, r11d)?;
    // The authenticated part and the payload follow each other, and both are whole blocks.
    a.lea(rdi, ptr(r12 + AUTHENTICATED))?;
    a.lea(rsi, ptr(rdi + r13 + AUTHENTICATED_LEN))?;
    a.set_label(&mut next)?;
    a.mov(rax, qword_ptr(rdi))?;
    a.mov(rdx, qword_ptr(rdi + 8))?;
    a.bswap(rax)?;
    a.bswap(rdx)?;
    a.call(absorb)?;
    a.add(rdi, 16)?;
    a.cmp(rdi, rsi)?;
    a.jb(next)?;
    // The lengths in bits.
    a.mov(eax, 8 * AUTHENTICATED_LEN as u32)?;
    a.lea(rdx, ptr(r13 * 8))?;
    a.call(absorb)?;
    a.call(cipher.first_counter)?;
    a.movdqa(xmm0, xmmword_ptr(COUNTER))?;
    a.call(cipher.block)?;
    a.bswap(r10)?;
    a.bswap(r11)?;
    a.mov(qword_ptr(COUNTER), r10)?;
    a.mov(qword_ptr(COUNTER + 8), r11)?;
    a.pxor(xmm0, xmmword_ptr(COUNTER))?;
    a.ret()?;

    // Multiplication in GF(2^128), the first bit of a block being the highest: R8:R9 is the hash key, shifted right once per
    // bit of R10:R11; RAX:RDX is the sum of those whose bit is set.
    a.set_label(&mut absorb)?;
    a.push(rbp)?;
    a.push(rsi)?;
    a.xor(r10, rax)?;
    a.xor(r11, rdx)?;
    a.xor(eax, eax)?;
    a.xor(edx, edx)?;
    a.mov(r8, qword_ptr(HASH_KEY))?;
    a.mov(r9, qword_ptr(HASH_KEY + 8))?;
    a.mov(esi, 128)?;
    a.set_label(&mut bit)?;
    a.shl(r11, 1)?;
    a.rcl(r10, 1)?;
    a.sbb(rcx, rcx)?;
    for (half, sum) in [(r8, rax), (r9, rdx)] {
        a.mov(rbp, half)?;
        a.and(rbp, rcx)?;
        a.xor(sum, rbp)?;
    }
    a.mov(ebp, r9d)?;
    a.and(ebp, 1)?;
    a.neg(rbp)?;
    a.and(rbp, qword_ptr(POLYNOMIAL))?;
    a.shrd(r9, r8, 1)?;
    a.shr(r8, 1)?;
    a.xor(r8, rbp)?;
    a.dec(esi)?;
    a.jne(bit)?;
    a.mov(r10, rax)?;
    a.mov(r11, rdx)?;
    a.pop(rsi)?;
    a.pop(rbp)?;
    a.ret()
}

fn emit_print_bytes(p: &mut Program, cipher: Cipher) -> Result<(), IcedError> {
    let digits = p.text("0123456789abcdef");
    let Cipher { mut print_bytes, .. } = cipher;
    let mut next = p.a.create_label();
    p.a.set_label(&mut print_bytes)?;
    p.a.add(r13, r12)?;
    p.a.set_label(&mut next)?;
    p.a.movzx(eax, byte_ptr(r12))?;
    p.a.shr(eax, 4)?;
    p.a.mov(al, byte_ptr(rax + digits))?;
    p.a.call(p.routines.put_char)?;
    p.a.movzx(eax, byte_ptr(r12))?;
    p.a.and(eax, 0xf)?;
    p.a.mov(al, byte_ptr(rax + digits))?;
    p.a.call(p.routines.put_char)?;
    p.a.inc(r12)?;
    p.a.cmp(r12, r13)?;
    p.a.jb(next)?;
    p.say("\n")?;
    p.a.ret()
}
