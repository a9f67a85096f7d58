//! Speaking to the hypervisor: the GHCB MSR protocol and the GHCB page, as instruction sequences.
//!
//! # Source
//! AMD 56421 (GHCB), "GHCB MSR Protocol", "GHCB Layout", "Non-Automatic Exits".

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use snp_abi::Gpa;

/// The GHCB MSR.
const MSR_GHCB: u32 = 0xc001_0130;

/// GHCBData of the MSR protocol, bits 11:0.
const GPA_REGISTER: u64 = 0x012;
const GPA_REGISTERED: u64 = 0x013;
const PAGE_STATE_CHANGE: u64 = 0x014;
const PAGE_STATE_CHANGED: u64 = 0x015;
const TERMINATE: u64 = 0x100;

/// The operation of a page-state change, bits 55:52: make the page shared.
const TO_SHARED: u64 = 2 << 52;

/// Offsets in the GHCB page.
const RAX: u64 = 0x1f8;
const SW_EXIT_CODE: u64 = 0x390;
const SW_EXIT_INFO_1: u64 = 0x398;
const SW_EXIT_INFO_2: u64 = 0x3a0;
const VALID_BITMAP: u64 = 0x3f0;
const PROTOCOL_VERSION: u64 = 0xffa;
const USAGE: u64 = 0xffc;

/// SW_EXITCODE of an intercepted IN or OUT.
const SVM_EXIT_IOIO: u64 = 0x7b;

/// The valid bit of a GHCB field, within the bitmap's two quadwords: one bit for every eight bytes of the page.
const fn valid(field: u64) -> (u64, u64) {
    let bit = field / 8;
    if bit < 64 { (1 << bit, 0) } else { (0, 1 << (bit - 64)) }
}

/// A guest's end as it asks for it: reason code set and reason code.
#[derive(Clone, Copy)]
pub(crate) struct Termination {
    /// REASON_CODE_SET.
    pub(crate) set: u64,
    /// REASON_CODE.
    pub(crate) code: u64,
}

/// Writes RAX to the GHCB MSR, leaves to the hypervisor, and reads its answer into RAX. Changes RCX and RDX.
fn msr_protocol(a: &mut CodeAssembler) -> Result<(), IcedError> {
    // WRMSR and RDMSR take the value in EDX:EAX.
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(ecx, MSR_GHCB)?;
    a.wrmsr()?;
    a.vmgexit()?;
    a.mov(ecx, MSR_GHCB)?;
    a.rdmsr()?;
    a.shl(rdx, 32)?;
    a.or(rax, rdx)
}

/// Asks the hypervisor to end the guest, from `label` on; does not come back.
pub(crate) fn terminate(a: &mut CodeAssembler, mut label: CodeLabel, end: Termination) -> Result<(), IcedError> {
    a.set_label(&mut label)?;
    a.mov(rax, TERMINATE | end.set << 12 | end.code << 16)?;
    msr_protocol(a)?;
    // A hypervisor that goes on after a termination request is asked again.
    a.jmp(label)
}

/// Makes the page at `ghcb` shared and registers it as this processor's GHCB. Jumps to `failed` if the hypervisor refuses.
///
/// The page must not have been launched: it was never validated, so that nothing has to be rescinded with PVALIDATE.
pub(crate) fn set_up(a: &mut CodeAssembler, ghcb: Gpa, failed: CodeLabel) -> Result<(), IcedError> {
    a.mov(rax, PAGE_STATE_CHANGE | ghcb.0 | TO_SHARED)?;
    msr_protocol(a)?;
    // The answer carries an error code in bits 63:32; it must be 0.
    a.cmp(rax, PAGE_STATE_CHANGED as i32)?;
    a.jne(failed)?;

    a.mov(rax, GPA_REGISTER | ghcb.0)?;
    msr_protocol(a)?;
    // The answer repeats the GPA; a hypervisor that refuses answers with all bits of the frame number set.
    a.mov(rdx, GPA_REGISTERED | ghcb.0)?;
    a.cmp(rax, rdx)?;
    a.jne(failed)
}

/// Writes the byte in AL to `port` through the GHCB page. RBX: address of the GHCB. Changes RAX, RCX, RDX. Jumps to `failed`
/// if the hypervisor does not do it.
///
/// Every field is written anew for every exit: a hypervisor clears the valid bitmap when it has read it, and answers in the
/// fields that carried the request. (Seen in KVM, Linux 7.3, `arch/x86/kvm/svm/sev.c`; not checked against AMD 56421.)
pub(crate) fn port_output(a: &mut CodeAssembler, port: u16, failed: CodeLabel) -> Result<(), IcedError> {
    /// Of EXITINFO1 for IOIO: operand of 8 bits, address of 64 bits; bit 0 clear for OUT.
    const SZ8: u64 = 1 << 4;
    const A64: u64 = 1 << 9;
    let fields = [RAX, SW_EXIT_CODE, SW_EXIT_INFO_1, SW_EXIT_INFO_2].map(valid);
    let bitmap = fields.iter().fold((0, 0), |all, one| (all.0 | one.0, all.1 | one.1));
    a.movzx(eax, al)?;
    a.mov(qword_ptr(rbx + RAX), rax)?;
    for (offset, value) in [
        (SW_EXIT_CODE, SVM_EXIT_IOIO),
        (SW_EXIT_INFO_1, u64::from(port) << 16 | SZ8 | A64),
        (SW_EXIT_INFO_2, 0),
        (VALID_BITMAP, bitmap.0),
        (VALID_BITMAP + 8, bitmap.1),
    ] {
        a.mov(rax, value)?;
        a.mov(qword_ptr(rbx + offset), rax)?;
    }
    a.mov(word_ptr(rbx + PROTOCOL_VERSION), 2)?;
    // Usage 0: the page has the standard layout.
    a.mov(dword_ptr(rbx + USAGE), 0)?;
    // The MSR holds the page's address, bits 11:0 zero: the request is in the page.
    a.mov(rax, rbx)?;
    a.mov(rdx, rax)?;
    a.shr(rdx, 32)?;
    a.mov(ecx, MSR_GHCB)?;
    a.wrmsr()?;
    a.vmgexit()?;
    // The lower half of the answer is 0 if the hypervisor did it; else it refuses or wants an exception raised.
    a.cmp(dword_ptr(rbx + SW_EXIT_INFO_1), 0)?;
    a.jne(failed)
}
