//! What the larger guests have in common, in machine code: printing, hypercalls, exceptions, pages.
//!
//! Conventions of the routines: RBX is this processor's GHCB, by its address without the C-bit. RBP and R12 to R15 are kept,
//! all other general registers change. What cannot go on ends the guest with reason code set 1 and a [`Failure`] as its code.

use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, IcedError};
use snp_abi::PAGE_SIZE;

use crate::image::{ALIAS, CODE, GHCB, STATE, TEXTS};

/// Variables of all processors, by their addresses.
pub(crate) mod state {
    use super::STATE;

    /// The lock of the serial port: 1 while somebody prints.
    pub(crate) const LOCK: u64 = STATE.0;
    /// How many processors have reported.
    pub(crate) const REPORTED: u64 = STATE.0 + 0x40;
    /// The boot processor's APIC ID.
    pub(crate) const OWN_ID: u64 = STATE.0 + 0x80;
    /// How many entries the list of APIC IDs has.
    pub(crate) const PROCESSORS: u64 = STATE.0 + 0x88;
    /// Where an expected exception goes on; 0: none is expected.
    pub(crate) const RECOVERY: u64 = STATE.0 + 0x90;
    /// With which stack.
    pub(crate) const RECOVERY_STACK: u64 = STATE.0 + 0x98;
}

/// Why a guest ends that did not expect to: reason codes of set 1, which is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Failure {
    /// The hypervisor refused the GHCB. The same as in `hello`.
    Ghcb = 1,
    /// It refused to write to the port. The same as in `hello`.
    Output = 2,
    /// It refused a page-state change.
    PageState = 3,
    /// PVALIDATE failed or changed nothing.
    Validation = 4,
    /// RMPADJUST failed.
    RmpAdjust = 5,
    /// The hypervisor lacks a feature.
    Features = 6,
    /// It refused the list of APIC IDs, or the list is not one.
    List = 7,
    /// It refused AP creation or destruction.
    ApCreation = 8,
    /// An exception that was not expected.
    Exception = 9,
    /// The hypervisor or the processor did not answer as specification and KVM say.
    Answer = 10,
    /// A parameter that the guest does not know.
    Parameter = 11,
}

/// The reason code set of [`Failure`].
const OUR_SET: u64 = 1;

const MSR_GHCB: u32 = 0xc001_0130;

/// GHCBData of the MSR protocol (AMD 56421, "GHCB MSR Protocol").
pub(crate) mod msr_protocol {
    pub(crate) const CPUID: u64 = 0x004;
    pub(crate) const CPUID_ANSWER: u64 = 0x005;
    pub(crate) const REGISTER: u64 = 0x012;
    pub(crate) const REGISTERED: u64 = 0x013;
    pub(crate) const PAGE_STATE: u64 = 0x014;
    pub(crate) const PAGE_STATE_ANSWER: u64 = 0x015;
    pub(crate) const FEATURES: u64 = 0x080;
    pub(crate) const FEATURES_ANSWER: u64 = 0x081;
    pub(crate) const TERMINATE: u64 = 0x100;
}

/// Operation of a page-state change, bits 55:52: make it private.
pub(crate) const TO_PRIVATE: u64 = 1 << 52;
/// Make it shared.
pub(crate) const TO_SHARED: u64 = 2 << 52;

/// Offsets in the GHCB page (AMD 56421, "GHCB Layout").
pub(crate) mod ghcb {
    pub(crate) const RAX: u64 = 0x1f8;
    pub(crate) const RBX: u64 = 0x318;
    pub(crate) const SW_EXIT_CODE: u64 = 0x390;
    pub(crate) const SW_EXIT_INFO_1: u64 = 0x398;
    pub(crate) const SW_EXIT_INFO_2: u64 = 0x3a0;
    pub(crate) const SW_SCRATCH: u64 = 0x3a8;
    pub(crate) const VALID_BITMAP: u64 = 0x3f0;
    pub(crate) const SHARED_BUFFER: u64 = 0x800;
    pub(crate) const PROTOCOL_VERSION: u64 = 0xffa;
    pub(crate) const USAGE: u64 = 0xffc;
}

/// SW_EXITCODE (AMD 56421, "Non-Automatic Exits").
pub(crate) mod exit_code {
    pub(crate) const IOIO: u64 = 0x7b;
    pub(crate) const HLT: u64 = 0x78;
    pub(crate) const PAGE_STATE_CHANGE: u64 = 0x8000_0010;
    pub(crate) const EXT_GUEST_REQUEST: u64 = 0x8000_0012;
    pub(crate) const AP_CREATION: u64 = 0x8000_0013;
    pub(crate) const APIC_ID_LIST: u64 = 0x8000_0017;
    pub(crate) const FEATURES: u64 = 0x8000_fffd;
}

/// The valid bitmap of a request: RAX, exit code, both exit infos, scratch.
const VALID: (u64, u64) =
    valid(&[ghcb::RAX, ghcb::SW_EXIT_CODE, ghcb::SW_EXIT_INFO_1, ghcb::SW_EXIT_INFO_2, ghcb::SW_SCRATCH]);
/// That of an extended guest request, which has RBX too.
const VALID_EXTENDED: (u64, u64) =
    valid(&[ghcb::RAX, ghcb::RBX, ghcb::SW_EXIT_CODE, ghcb::SW_EXIT_INFO_1, ghcb::SW_EXIT_INFO_2]);

const fn valid(fields: &[u64]) -> (u64, u64) {
    let (mut bitmap, mut i) = ((0, 0), 0);
    while i < fields.len() {
        let bit = fields[i] / 8;
        if bit < 64 {
            bitmap.0 |= 1 << bit;
        } else {
            bitmap.1 |= 1 << (bit - 64);
        }
        i += 1;
    }
    bitmap
}

/// Exceptions that push an error code.
const WITH_ERROR_CODE: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
const VECTORS: u32 = 32;

/// The routines.
#[derive(Clone, Copy)]
pub(crate) struct Routines {
    /// RAX: a request of the MSR protocol, and its answer.
    pub(crate) msr_protocol: CodeLabel,
    /// RDI: SW_EXITCODE, RSI: SW_EXITINFO1, RDX: SW_EXITINFO2, RAX: RAX. Answers RAX: SW_EXITINFO1, RDX: SW_EXITINFO2.
    pub(crate) vmgexit: CodeLabel,
    /// Prints the text at RSI, which ends with a zero byte.
    pub(crate) print: CodeLabel,
    /// Prints RAX in hexadecimal.
    pub(crate) print_hex: CodeLabel,
    /// Prints RAX in decimal.
    pub(crate) print_decimal: CodeLabel,
    /// Takes the serial port.
    pub(crate) lock: CodeLabel,
    /// Gives it back.
    pub(crate) unlock: CodeLabel,
    /// Makes the page at RDI private and validates it.
    pub(crate) accept: CodeLabel,
    /// Makes the page at RDI private, no more.
    pub(crate) make_private: CodeLabel,
    /// Makes the page at RDI, which was never validated, shared.
    pub(crate) make_shared: CodeLabel,
    /// Makes the page of RBX shared and registers it as this processor's GHCB.
    pub(crate) set_up_ghcb: CodeLabel,
    /// Ends the guest: all went well.
    pub(crate) end_well: CodeLabel,
    /// Ends the guest with the [`Failure`] in EDI.
    pub(crate) fail: CodeLabel,
    /// Prints AL. R8 to R11 are kept.
    pub(crate) put_char: CodeLabel,
}

/// A program that is being written.
pub(crate) struct Program {
    /// The assembler.
    pub(crate) a: CodeAssembler,
    /// The routines, to call.
    pub(crate) routines: Routines,
    texts: Vec<u8>,
}

/// A program as it will lie in memory.
pub(crate) struct Assembled {
    /// The code, for [`CODE`].
    pub(crate) code: Vec<u8>,
    /// The texts, for [`TEXTS`].
    pub(crate) texts: Vec<u8>,
    /// Where the handler of each exception begins.
    pub(crate) handlers: Vec<u64>,
    /// Where the labels are that the guest asked for.
    pub(crate) entries: Vec<u64>,
}

impl Program {
    /// An empty program. It begins at its first instruction, with the boot processor's registers as its VMSA has them.
    pub(crate) fn new() -> Result<Self, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let routines = Routines {
            msr_protocol: a.create_label(),
            vmgexit: a.create_label(),
            print: a.create_label(),
            print_hex: a.create_label(),
            print_decimal: a.create_label(),
            lock: a.create_label(),
            unlock: a.create_label(),
            accept: a.create_label(),
            make_private: a.create_label(),
            make_shared: a.create_label(),
            set_up_ghcb: a.create_label(),
            end_well: a.create_label(),
            fail: a.create_label(),
            put_char: a.create_label(),
        };
        Ok(Self { a, routines, texts: Vec::new() })
    }

    /// The address of a text that ends with a zero byte.
    pub(crate) fn text(&mut self, text: &str) -> u64 {
        let address = TEXTS.0 + self.texts.len() as u64;
        self.texts.extend_from_slice(text.as_bytes());
        self.texts.push(0);
        address
    }

    /// Begins the boot processor's program: RBX and its GHCB.
    pub(crate) fn begin(&mut self) -> Result<(), IcedError> {
        self.a.mov(rbx, GHCB.0 + ALIAS)?;
        self.a.call(self.routines.set_up_ghcb)
    }

    /// Prints a text.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), IcedError> {
        let address = self.text(text);
        self.a.mov(rsi, address)?;
        self.a.call(self.routines.print)
    }

    /// Prints `before`, a register in hexadecimal, and `after`. The register must be one that routines keep.
    pub(crate) fn say_hex(&mut self, before: &str, value: AsmRegister64, after: &str) -> Result<(), IcedError> {
        self.say(before)?;
        self.a.mov(rax, value)?;
        self.a.call(self.routines.print_hex)?;
        if after.is_empty() { Ok(()) } else { self.say(after) }
    }

    /// An extended guest request with those pages, and room for certificates. RAX and RDX: SW_EXITINFO1 and 2 of the answer.
    ///
    /// # Source
    /// AMD 56421, "SNP Extended Guest Request": RAX is where the certificates go, RBX for how many pages there is room.
    pub(crate) fn extended_guest_request(
        &mut self,
        request: u64,
        response: u64,
        certificates: u64,
        pages: u64,
    ) -> Result<(), IcedError> {
        let fields = [
            (ghcb::RAX, certificates),
            (ghcb::RBX, pages),
            (ghcb::SW_EXIT_CODE, exit_code::EXT_GUEST_REQUEST),
            (ghcb::SW_EXIT_INFO_1, request),
            (ghcb::SW_EXIT_INFO_2, response),
            (ghcb::VALID_BITMAP, VALID_EXTENDED.0),
            (ghcb::VALID_BITMAP + 8, VALID_EXTENDED.1),
        ];
        let a = &mut self.a;
        for (offset, value) in fields {
            a.mov(rax, value)?;
            a.mov(qword_ptr(rbx + offset), rax)?;
        }
        a.mov(word_ptr(rbx + ghcb::PROTOCOL_VERSION), 2)?;
        a.mov(dword_ptr(rbx + ghcb::USAGE), 0)?;
        // The page's own address.
        a.mov(rax, rbx)?;
        a.btr(rax, ALIAS.trailing_zeros())?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 32)?;
        a.mov(ecx, MSR_GHCB)?;
        a.wrmsr()?;
        a.vmgexit()?;
        a.mov(rax, qword_ptr(rbx + ghcb::SW_EXIT_INFO_1))?;
        a.mov(rdx, qword_ptr(rbx + ghcb::SW_EXIT_INFO_2))
    }

    /// Ends the guest if the zero flag is clear.
    pub(crate) fn fail_unless_zero(&mut self, failure: Failure) -> Result<(), IcedError> {
        let mut good = self.a.create_label();
        self.a.je(good)?;
        self.fail(failure)?;
        self.a.set_label(&mut good)
    }

    /// Ends the guest.
    pub(crate) fn fail(&mut self, failure: Failure) -> Result<(), IcedError> {
        self.a.mov(edi, failure as u32)?;
        self.a.jmp(self.routines.fail)
    }

    /// What may raise an exception. Goes on behind it either way, with the vector in RAX (or -1), the error code in RDX, and CR2
    /// in R8.
    pub(crate) fn attempt(
        &mut self,
        body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<(), IcedError> {
        let a = &mut self.a;
        let mut after = a.create_label();
        a.lea(rax, ptr(after))?;
        a.mov(qword_ptr(state::RECOVERY), rax)?;
        a.mov(qword_ptr(state::RECOVERY_STACK), rsp)?;
        body(a)?;
        a.mov(qword_ptr(state::RECOVERY), 0)?;
        a.mov(rax, -1_i64)?;
        a.xor(edx, edx)?;
        a.set_label(&mut after)
    }

    /// Puts the routines and the exception handlers behind the program. `entries`: labels whose addresses are wanted.
    pub(crate) fn finish(mut self, entries: &[CodeLabel]) -> Result<Assembled, IcedError> {
        self.emit_hypercalls()?;
        self.emit_printing()?;
        self.emit_pages()?;
        self.emit_ends()?;
        let handlers = self.emit_handlers()?;
        let block = self.a.assemble_options(CODE.0, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
        let addresses =
            |labels: &[CodeLabel]| labels.iter().map(|label| block.label_ip(label)).collect::<Result<Vec<_>, _>>();
        let (handlers, entries) = (addresses(&handlers)?, addresses(entries)?);
        assert!(self.texts.len() <= PAGE_SIZE, "texts fit a page");
        Ok(Assembled { code: block.inner.code_buffer, texts: self.texts, handlers, entries })
    }

    fn emit_hypercalls(&mut self) -> Result<(), IcedError> {
        let Self { a, routines, .. } = self;
        let mut msr_protocol = routines.msr_protocol;
        a.set_label(&mut msr_protocol)?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 32)?;
        a.mov(ecx, MSR_GHCB)?;
        a.wrmsr()?;
        a.vmgexit()?;
        a.mov(ecx, MSR_GHCB)?;
        a.rdmsr()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.ret()?;

        let mut vmgexit = routines.vmgexit;
        a.set_label(&mut vmgexit)?;
        a.mov(qword_ptr(rbx + ghcb::RAX), rax)?;
        a.mov(qword_ptr(rbx + ghcb::SW_EXIT_CODE), rdi)?;
        a.mov(qword_ptr(rbx + ghcb::SW_EXIT_INFO_1), rsi)?;
        a.mov(qword_ptr(rbx + ghcb::SW_EXIT_INFO_2), rdx)?;
        // The page's own address.
        a.mov(rcx, rbx)?;
        a.btr(rcx, ALIAS.trailing_zeros())?;
        a.lea(rax, ptr(rcx + ghcb::SHARED_BUFFER))?;
        a.mov(qword_ptr(rbx + ghcb::SW_SCRATCH), rax)?;
        for (offset, bitmap) in [(0, VALID.0), (8, VALID.1)] {
            a.mov(rax, bitmap)?;
            a.mov(qword_ptr(rbx + (ghcb::VALID_BITMAP + offset)), rax)?;
        }
        a.mov(word_ptr(rbx + ghcb::PROTOCOL_VERSION), 2)?;
        a.mov(dword_ptr(rbx + ghcb::USAGE), 0)?;
        a.mov(rax, rcx)?;
        a.mov(rdx, rcx)?;
        a.shr(rdx, 32)?;
        a.mov(ecx, MSR_GHCB)?;
        a.wrmsr()?;
        a.vmgexit()?;
        a.mov(rax, qword_ptr(rbx + ghcb::SW_EXIT_INFO_1))?;
        a.mov(rdx, qword_ptr(rbx + ghcb::SW_EXIT_INFO_2))?;
        a.ret()
    }

    fn emit_printing(&mut self) -> Result<(), IcedError> {
        /// EXITINFO1 of IOIO: the port, an operand of 8 bits, an address of 64 bits; bit 0 clear for OUT.
        const SERIAL_PORT: u32 = 0x3f8 << 16 | 1 << 4 | 1 << 9;
        const STRING: u32 = 1 << 2;
        const REP: u32 = 1 << 3;
        let digits = self.text("0123456789abcdef");
        let prefix = self.text("0x");
        let Self { a, routines, .. } = self;
        let routines = *routines;

        // AL to the serial port; R8 to R11 are kept here, for the routines that follow.
        let (mut put_char, mut no_output) = (routines.put_char, a.create_label());
        a.set_label(&mut put_char)?;
        a.movzx(eax, al)?;
        a.mov(edi, exit_code::IOIO as u32)?;
        a.mov(esi, SERIAL_PORT)?;
        a.xor(edx, edx)?;
        a.call(routines.vmgexit)?;
        a.test(eax, eax)?;
        a.jne(no_output)?;
        a.ret()?;
        a.set_label(&mut no_output)?;
        a.mov(edi, Failure::Output as u32)?;
        a.jmp(routines.fail)?;

        // The text to the GHCB's shared buffer, which is longer than any of ours, and one string OUT. R8 to R11 are kept.
        let (mut print, mut length) = (routines.print, a.create_label());
        a.set_label(&mut print)?;
        a.mov(rdi, rbx)?;
        a.add(rdi, ghcb::SHARED_BUFFER as i32)?;
        a.xor(edx, edx)?;
        a.set_label(&mut length)?;
        a.mov(al, byte_ptr(rsi + rdx))?;
        a.mov(byte_ptr(rdi + rdx), al)?;
        a.inc(edx)?;
        a.test(al, al)?;
        a.jne(length)?;
        // Without the zero byte.
        a.dec(edx)?;
        a.mov(edi, exit_code::IOIO as u32)?;
        a.mov(esi, SERIAL_PORT | STRING | REP)?;
        a.call(routines.vmgexit)?;
        a.test(eax, eax)?;
        a.jne(no_output)?;
        a.ret()?;

        let (mut print_hex, mut next) = (routines.print_hex, a.create_label());
        a.set_label(&mut print_hex)?;
        a.mov(r8, rax)?;
        a.mov(rsi, prefix)?;
        a.call(routines.print)?;
        // R9: by how many bits the first digit is shifted; that of zero is 0.
        a.mov(rax, r8)?;
        a.or(rax, 1)?;
        a.bsr(r9, rax)?;
        a.and(r9d, !3)?;
        a.set_label(&mut next)?;
        a.mov(rax, r8)?;
        a.mov(ecx, r9d)?;
        a.shr(rax, cl)?;
        a.and(eax, 0xf)?;
        a.mov(al, byte_ptr(rax + digits))?;
        a.call(routines.put_char)?;
        a.sub(r9d, 4)?;
        a.jns(next)?;
        a.ret()?;

        let (mut print_decimal, mut divide, mut out) = (routines.print_decimal, a.create_label(), a.create_label());
        a.set_label(&mut print_decimal)?;
        a.xor(r8d, r8d)?;
        a.mov(ecx, 10)?;
        a.set_label(&mut divide)?;
        a.xor(edx, edx)?;
        a.div(rcx)?;
        a.push(rdx)?;
        a.inc(r8d)?;
        a.test(rax, rax)?;
        a.jne(divide)?;
        a.set_label(&mut out)?;
        a.pop(rax)?;
        a.mov(al, byte_ptr(rax + digits))?;
        a.call(routines.put_char)?;
        a.dec(r8d)?;
        a.jne(out)?;
        a.ret()?;

        let (mut lock, mut unlock, mut taken) = (routines.lock, routines.unlock, a.create_label());
        a.set_label(&mut lock)?;
        a.lock().bts(dword_ptr(state::LOCK), 0)?;
        a.jc(taken)?;
        a.ret()?;
        a.set_label(&mut taken)?;
        a.pause()?;
        a.jmp(lock)?;
        a.set_label(&mut unlock)?;
        a.mov(dword_ptr(state::LOCK), 0)?;
        a.ret()
    }

    fn emit_pages(&mut self) -> Result<(), IcedError> {
        let routines = self.routines;
        for (mut label, operation) in [(routines.make_private, TO_PRIVATE), (routines.make_shared, TO_SHARED)] {
            self.a.set_label(&mut label)?;
            self.a.mov(rax, msr_protocol::PAGE_STATE | operation)?;
            self.a.or(rax, rdi)?;
            self.a.call(routines.msr_protocol)?;
            // The answer carries an error code in bits 63:32; it must be 0.
            self.a.cmp(rax, msr_protocol::PAGE_STATE_ANSWER as i32)?;
            self.fail_unless_zero(Failure::PageState)?;
            self.a.ret()?;
        }

        let mut accept = routines.accept;
        self.a.set_label(&mut accept)?;
        self.a.call(routines.make_private)?;
        self.a.mov(rax, rdi)?;
        self.a.xor(ecx, ecx)?;
        self.a.mov(edx, 1)?;
        self.a.pvalidate()?;
        // A page that is validated already is one that the hypervisor put in another's place.
        self.a.setb(cl)?;
        self.a.or(al, cl)?;
        self.fail_unless_zero(Failure::Validation)?;
        self.a.ret()?;

        let mut set_up_ghcb = routines.set_up_ghcb;
        self.a.set_label(&mut set_up_ghcb)?;
        self.a.mov(rdi, rbx)?;
        self.a.btr(rdi, ALIAS.trailing_zeros())?;
        self.a.call(routines.make_shared)?;
        self.a.mov(rax, rdi)?;
        self.a.or(rax, msr_protocol::REGISTER as i32)?;
        self.a.call(routines.msr_protocol)?;
        // The answer repeats the address; a hypervisor that refuses sets all bits of the frame number.
        self.a.or(rdi, msr_protocol::REGISTERED as i32)?;
        self.a.cmp(rax, rdi)?;
        self.fail_unless_zero(Failure::Ghcb)?;
        self.a.ret()
    }

    fn emit_ends(&mut self) -> Result<(), IcedError> {
        let Self { a, routines, .. } = self;
        let (mut end_well, mut fail, mut end) = (routines.end_well, routines.fail, a.create_label());
        a.set_label(&mut fail)?;
        a.mov(eax, edi)?;
        a.shl(eax, 16)?;
        a.or(eax, (msr_protocol::TERMINATE | OUR_SET << 12) as i32)?;
        a.mov(r8, rax)?;
        // A hypervisor that goes on after a termination request is asked again.
        a.set_label(&mut end)?;
        a.mov(rax, r8)?;
        a.call(routines.msr_protocol)?;
        a.jmp(end)?;
        // Reason code set 0, code 0: "general termination request".
        a.set_label(&mut end_well)?;
        a.mov(r8, msr_protocol::TERMINATE)?;
        a.jmp(end)
    }

    /// A stub for every vector, and what is common to them.
    fn emit_handlers(&mut self) -> Result<Vec<CodeLabel>, IcedError> {
        let mut common = self.a.create_label();
        let mut stubs = Vec::new();
        for vector in 0..VECTORS {
            let mut stub = self.a.create_label();
            self.a.set_label(&mut stub)?;
            if WITH_ERROR_CODE >> vector & 1 == 0 {
                self.a.push(0)?;
            }
            self.a.push(vector as i32)?;
            self.a.jmp(common)?;
            stubs.push(stub);
        }
        let mut unexpected = self.a.create_label();
        let a = &mut self.a;
        a.set_label(&mut common)?;
        a.cmp(qword_ptr(state::RECOVERY), 0)?;
        a.je(unexpected)?;
        a.pop(rax)?;
        a.pop(rdx)?;
        a.mov(r8, cr2)?;
        a.mov(rsp, qword_ptr(state::RECOVERY_STACK))?;
        a.mov(r9, qword_ptr(state::RECOVERY))?;
        a.mov(qword_ptr(state::RECOVERY), 0)?;
        a.jmp(r9)?;

        a.set_label(&mut unexpected)?;
        // Vector, error code, RIP. Nothing is returned to, so that the program's registers may be taken.
        a.pop(r12)?;
        a.pop(r13)?;
        a.pop(r14)?;
        self.say_hex("unexpected exception ", r12, "")?;
        self.say_hex(", error code ", r13, "")?;
        self.say_hex(", at ", r14, "\n")?;
        self.fail(Failure::Exception)?;
        Ok(stubs)
    }
}
