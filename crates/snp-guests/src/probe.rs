//! `probe`: one deliberate mistake per mode. The guest prints what it saw and ends well if that is what specification and KVM
//! say; where they end the guest instead, it does not come that far.

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use snp_abi::Gpa;

use crate::Guest;
use crate::image::{ALIAS, FEATURES, FREE, GHCB, Image, PARAMETERS, TEXTS, VMSA};
use crate::program::{Assembled, Failure, Program, exit_code, ghcb};

/// The guest's name, before the mode.
pub(crate) const NAME: &str = "probe";

/// A mode: its name, and its code.
struct Mode {
    name: &'static str,
    summary: &'static str,
    emit: fn(&mut Program) -> Result<(), IcedError>,
}

const MODES: &[Mode] = &[
    Mode {
        name: "unvalidated",
        summary: "reads a private page that it has not validated: #VC 0x404",
        emit: unvalidated,
    },
    Mode {
        name: "validated-twice",
        summary: "validates a page twice: PVALIDATE sets the carry flag",
        emit: validated_twice,
    },
    Mode {
        name: "private-access",
        summary: "reads a shared page with the C-bit: a memory fault for user space, then #VC 0x404",
        emit: private_access,
    },
    Mode {
        name: "rmpadjust",
        summary: "changes the rights of its own VMPL: RMPADJUST answers FAIL_PERMISSION",
        emit: rmpadjust,
    },
    Mode { name: "vmsa-write", summary: "writes to the VMSA that it runs from", emit: vmsa_write },
    Mode {
        name: "vmsa-2mib",
        summary: "creates a processor from a VMSA that begins 2 MiB: refused by KVM",
        emit: vmsa_2mib,
    },
    Mode {
        name: "unregistered-ghcb",
        summary: "makes a request through a GHCB that it has not registered: KVM_RUN fails",
        emit: unregistered_ghcb,
    },
    Mode {
        name: "foreign-apic-id",
        summary: "creates a processor that does not exist: refused by KVM",
        emit: foreign_apic_id,
    },
    Mode {
        name: "page-state",
        summary: "changes the state of three pages at once, one entry being bad: KVM stops there",
        emit: page_state,
    },
];

/// A page that no mode shares with another.
const PAGE: Gpa = Gpa(FREE.0 + 0x1000);
/// The next.
const OTHER_PAGE: Gpa = Gpa(FREE.0 + 0x2000);
/// A page that begins 2 MiB.
const ALIGNED: Gpa = Gpa(0x40_0000);
const END: Gpa = Gpa(0x60_0000);

/// The vector of #VC.
const VC: i32 = 29;
/// Its error code for an access to a page that is not validated (AMD 24593, "#VC exit codes": PAGE_NOT_VALIDATED).
const NOT_VALIDATED: i32 = 0x404;

/// The guest of that mode.
pub(crate) fn guest(mode: &str) -> Option<Guest> {
    let index = MODES.iter().position(|known| known.name == mode)?;
    let image = Image {
        name: format!("{NAME}:{mode}"),
        summary: MODES[index].summary,
        program: program().expect("the guest's own source assembles"),
        parameters: vec![index as u32],
        other_processors: None,
        end: END,
    };
    Some(image.guest())
}

/// All modes in one program; which one it is stands in the parameters.
fn program() -> Result<Assembled, IcedError> {
    let mut p = Program::new()?;
    p.begin()?;
    let mut labels = Vec::new();
    for index in 0..MODES.len() {
        let label = p.a.create_label();
        p.a.cmp(dword_ptr(PARAMETERS.0), index as i32)?;
        p.a.je(label)?;
        labels.push(label);
    }
    p.fail(Failure::Parameter)?;
    for (mode, mut label) in MODES.iter().zip(labels) {
        p.a.set_label(&mut label)?;
        (mode.emit)(&mut p)?;
        p.a.jmp(p.routines.end_well)?;
    }
    p.finish(&[])
}

/// Prints what [`Program::attempt`] left, after `what`; leaves vector and error code in R12 and R13.
fn say_outcome(p: &mut Program, what: &str) -> Result<(), IcedError> {
    let (mut raised, mut done) = (p.a.create_label(), p.a.create_label());
    p.a.mov(r12, rax)?;
    p.a.mov(r13, rdx)?;
    p.say(what)?;
    p.a.test(r12, r12)?;
    p.a.jns(raised)?;
    p.say(": no exception\n")?;
    p.a.jmp(done)?;
    p.a.set_label(&mut raised)?;
    p.say(": exception ")?;
    p.a.mov(rax, r12)?;
    p.a.call(p.routines.print_decimal)?;
    p.say_hex(", error code ", r13, "\n")?;
    p.a.set_label(&mut done)
}

/// Ends the guest unless R12 and R13 are these.
fn want(p: &mut Program, first: i32, second: i32) -> Result<(), IcedError> {
    p.a.cmp(r12, first)?;
    p.fail_unless_zero(Failure::Answer)?;
    p.a.cmp(r13, second)?;
    p.fail_unless_zero(Failure::Answer)
}

/// Private memory raises #VC until it is validated: AMD 24593, "RMP and VMPL Access Checks".
fn unvalidated(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(rdi, PAGE.0)?;
    p.a.call(p.routines.make_private)?;
    p.attempt(|a| a.mov(rax, qword_ptr(PAGE.0)))?;
    say_outcome(p, "read of a page that is not validated")?;
    want(p, VC, NOT_VALIDATED)
}

/// PVALIDATE sets CF when the page is validated already: AMD 24594, "PVALIDATE".
fn validated_twice(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(rdi, PAGE.0)?;
    p.a.call(p.routines.make_private)?;
    for (what, carry) in [("PVALIDATE: EAX ", 0), ("PVALIDATE again: EAX ", 1)] {
        p.a.mov(eax, PAGE.0 as u32)?;
        p.a.xor(ecx, ecx)?;
        p.a.mov(edx, 1)?;
        p.a.pvalidate()?;
        p.a.setb(cl)?;
        p.a.mov(r12d, eax)?;
        p.a.movzx(r13d, cl)?;
        p.say_hex(what, r12, "")?;
        p.say_hex(", CF ", r13, "\n")?;
        want(p, 0, carry)?;
    }
    Ok(())
}

/// A private access to a shared page is a nested page fault that KVM hands to user space (KVM_EXIT_MEMORY_FAULT), which makes
/// the page private, as QEMU does; the access then meets a page that is not validated.
fn private_access(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(rdi, PAGE.0)?;
    p.a.call(p.routines.make_shared)?;
    p.a.mov(rax, PAGE.0 + ALIAS)?;
    p.a.mov(dword_ptr(rax), 0x1234)?;
    p.attempt(|a| a.mov(rax, qword_ptr(PAGE.0)))?;
    say_outcome(p, "private read of a shared page")?;
    want(p, VC, NOT_VALIDATED)
}

/// The rights of one's own VMPL and of those above are not one's own to change: AMD 24594, "RMPADJUST", FAIL_PERMISSION.
fn rmpadjust(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(eax, TEXTS.0 as u32)?;
    p.a.xor(ecx, ecx)?;
    // VMPL 0, no rights.
    p.a.xor(edx, edx)?;
    p.a.rmpadjust()?;
    p.a.mov(r12d, eax)?;
    p.a.mov(r13d, 0)?;
    p.say_hex("RMPADJUST of VMPL 0 at VMPL 0: EAX ", r12, "\n")?;
    want(p, 2, 0)
}

/// The VMSA of a running processor is in use.
fn vmsa_write(p: &mut Program) -> Result<(), IcedError> {
    p.say("write to the VMSA in use\n")?;
    p.attempt(|a| a.mov(dword_ptr(VMSA.0 + 0x178), 0))?;
    say_outcome(p, "written")?;
    p.fail(Failure::Answer)
}

/// KVM refuses a VMSA that begins 2 MiB: Linux 7.3, `sev_snp_ap_creation`.
fn vmsa_2mib(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(rdi, ALIGNED.0)?;
    p.a.call(p.routines.accept)?;
    p.a.mov(eax, ALIGNED.0 as u32)?;
    p.a.xor(ecx, ecx)?;
    p.a.mov(edx, 1 << 16 | 1)?;
    p.a.rmpadjust()?;
    p.a.test(eax, eax)?;
    p.fail_unless_zero(Failure::RmpAdjust)?;
    // APIC ID 0: refused before it comes to matter that it is our own.
    create(p, "AP creation with a 2 MiB-aligned VMSA", 0, ALIGNED)
}

/// KVM refuses an APIC ID that no processor has: Linux 7.3, `sev_snp_ap_creation`.
fn foreign_apic_id(p: &mut Program) -> Result<(), IcedError> {
    create(p, "AP creation with a foreign APIC ID", 0x00fe_dcba, PAGE)
}

/// AP creation that is refused: SW_EXITINFO1 2 ("bad input"), SW_EXITINFO2 5 ("invalid input").
fn create(p: &mut Program, what: &str, apic_id: u64, vmsa: Gpa) -> Result<(), IcedError> {
    p.a.mov(edi, exit_code::AP_CREATION as u32)?;
    p.a.mov(rsi, apic_id << 32 | 1)?;
    p.a.mov(edx, vmsa.0 as u32)?;
    p.a.mov(eax, FEATURES.0 as u32)?;
    p.a.call(p.routines.vmgexit)?;
    say_answer(p, what)?;
    want(p, 2, 5)
}

/// Prints what [`crate::program::Routines::vmgexit`] left; leaves it in R12 and R13.
fn say_answer(p: &mut Program, what: &str) -> Result<(), IcedError> {
    p.a.mov(r12, rax)?;
    p.a.mov(r13, rdx)?;
    p.say(what)?;
    p.say_hex(": SW_EXITINFO1 ", r12, "")?;
    p.say_hex(", SW_EXITINFO2 ", r13, "\n")
}

/// KVM_RUN fails with EINVAL when the GHCB is not the registered one: Linux 7.3, `sev_handle_vmgexit`.
fn unregistered_ghcb(p: &mut Program) -> Result<(), IcedError> {
    p.say("request through a GHCB that is not registered\n")?;
    p.a.mov(rdi, PAGE.0)?;
    p.a.call(p.routines.make_shared)?;
    p.a.mov(rbx, PAGE.0 + ALIAS)?;
    p.a.mov(edi, exit_code::FEATURES as u32)?;
    p.a.xor(eax, eax)?;
    p.a.xor(esi, esi)?;
    p.a.xor(edx, edx)?;
    p.a.call(p.routines.vmgexit)?;
    p.a.mov(rbx, GHCB.0 + ALIAS)?;
    say_answer(p, "answered")?;
    p.fail(Failure::Answer)
}

/// A batch of page-state changes ends at the first bad entry, with the entries before it done: Linux 7.3, `snp_begin_psc`;
/// AMD 56421, "SNP Page State Change".
fn page_state(p: &mut Program) -> Result<(), IcedError> {
    const PRIVATE: u64 = 1 << 52;
    const LARGE: u64 = 1 << 56;
    let header = 2_u64 << 16;
    // The second is a 2 MiB page at an address that is not 2 MiB-aligned.
    let entries = [header, PAGE.0 | PRIVATE, OTHER_PAGE.0 | PRIVATE | LARGE, (FREE.0 + 0x3000) | PRIVATE];
    for (offset, entry) in (ghcb::SHARED_BUFFER..).step_by(8).zip(entries) {
        p.a.mov(rax, entry)?;
        p.a.mov(qword_ptr(rbx + offset), rax)?;
    }
    p.a.mov(edi, exit_code::PAGE_STATE_CHANGE as u32)?;
    p.a.xor(eax, eax)?;
    p.a.xor(esi, esi)?;
    p.a.xor(edx, edx)?;
    p.a.call(p.routines.vmgexit)?;
    p.a.movzx(r14d, word_ptr(rbx + ghcb::SHARED_BUFFER))?;
    say_answer(p, "page-state change with a bad entry")?;
    p.say_hex("stopped at entry ", r14, "\n")?;
    // "Invalid entry": error 1 in the upper half, 2 in the lower.
    p.a.mov(rax, 1_u64 << 32 | 2)?;
    p.a.sub(r13, rax)?;
    want(p, 0, 0)?;
    p.a.mov(r13, r14)?;
    want(p, 0, 1)?;
    // The entry before it was done: the page can be validated.
    p.a.mov(eax, PAGE.0 as u32)?;
    p.a.xor(ecx, ecx)?;
    p.a.mov(edx, 1)?;
    p.a.pvalidate()?;
    p.a.test(eax, eax)?;
    p.fail_unless_zero(Failure::Validation)
}
