//! `smp`: starts every other processor from a VMSA of its own making.
//!
//! It learns their APIC IDs from the hypervisor, gives each a GHCB, a VMSA and a stack in memory that it accepts, creates
//! them one by one, waits until all have reported, destroys the last and creates it again.
//!
//! # Source
//! AMD 56421 (GHCB), "SNP AP Creation", "APIC ID List", "Hypervisor Feature Support"; AMD 24594 (APM volume 3), "RMPADJUST".

use core::mem::offset_of;

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use snp_abi::{Gpa, PAGE_SIZE, Vmsa};

use crate::Guest;
use crate::image::{ALIAS, FEATURES, FREE, Image, LIST, LIST_PAGES, PARAMETERS, TEMPLATE};
use crate::program::{Assembled, Failure, Program, exit_code, ghcb, msr_protocol, state};

/// Name and default parameter.
pub(crate) const NAME: &str = "smp";

/// How many processors the guest has room for, its first included.
const MOST_PROCESSORS: u64 = 1024;

/// Every processor has four pages: its GHCB, its VMSA, its stack, and the VMSA with which it is created again. VMSAs lie in
/// odd pages, and hence never at the beginning of 2 MiB.
const BLOCK: u64 = 4 * PAGE_SIZE as u64;
const VMSA: u64 = PAGE_SIZE as u64;
const STACK: u64 = 2 * PAGE_SIZE as u64;
const SECOND_VMSA: u64 = 3 * PAGE_SIZE as u64;

/// Of the hypervisor's features: SEV-SNP, AP creation, list of APIC IDs.
const FEATURES_WANTED: u32 = 1 << 0 | 1 << 1 | 1 << 4;

/// Requests of AP creation.
const CREATE: u32 = 1;
const DESTROY: u32 = 2;

/// RDX of RMPADJUST: no rights for VMPL 1, and the page becomes a VMSA. The instruction must name a VMPL below one's own.
const INTO_VMSA: u32 = 1 << 16 | 1;

/// The guest; `most` is how many processors it starts beside the first at most.
pub(crate) fn guest(most: Option<u32>) -> Guest {
    let program = program().expect("the guest's own source assembles");
    let other_processors = Some(program.entries[0]);
    Image {
        name: most.map_or(NAME.into(), |most| format!("{NAME}:{most}")),
        summary: "starts every other processor from VMSAs of its own making; each reports, one is created twice",
        program,
        parameters: vec![most.unwrap_or(u32::MAX)],
        other_processors,
        end: Gpa(FREE.0 + MOST_PROCESSORS * BLOCK),
    }
    .guest()
}

fn program() -> Result<Assembled, IcedError> {
    let mut p = Program::new()?;
    let (start, mut other) = (p.a.create_label(), p.a.create_label());
    p.begin()?;
    want_features(&mut p)?;
    learn_own_id(&mut p)?;
    fetch_list(&mut p)?;
    start_all(&mut p, start)?;
    create_again(&mut p, start)?;
    p.say("all ")?;
    p.a.mov(rax, qword_ptr(state::PROCESSORS))?;
    p.a.call(p.routines.print_decimal)?;
    p.say(" processors run\n")?;
    p.a.jmp(p.routines.end_well)?;
    emit_start(&mut p, start)?;
    emit_other(&mut p, &mut other)?;
    p.finish(&[other])
}

/// Asks for the hypervisor's features, by the MSR protocol.
fn want_features(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(eax, msr_protocol::FEATURES as u32)?;
    p.a.call(p.routines.msr_protocol)?;
    p.a.mov(r12, rax)?;
    p.a.and(eax, 0xfff)?;
    p.a.cmp(eax, msr_protocol::FEATURES_ANSWER as u32)?;
    p.fail_unless_zero(Failure::Features)?;
    p.a.shr(r12, 12)?;
    p.say_hex("hypervisor features ", r12, "\n")?;
    let mut enough = p.a.create_label();
    p.a.and(r12d, FEATURES_WANTED)?;
    p.a.cmp(r12d, FEATURES_WANTED)?;
    p.a.je(enough)?;
    p.say("too few: without AP creation and the list of APIC IDs no other processor can be started\n")?;
    p.fail(Failure::Features)?;
    p.a.set_label(&mut enough)
}

/// The boot processor's own APIC ID: EDX of CPUID Fn0000_000B, by the MSR protocol.
fn learn_own_id(p: &mut Program) -> Result<(), IcedError> {
    const EDX: u64 = 3 << 30;
    const FUNCTION: u64 = 0xb << 32;
    p.a.mov(rax, FUNCTION | EDX | msr_protocol::CPUID)?;
    p.a.call(p.routines.msr_protocol)?;
    p.a.mov(ecx, eax)?;
    p.a.and(ecx, 0xfff)?;
    p.a.cmp(ecx, msr_protocol::CPUID_ANSWER as u32)?;
    p.fail_unless_zero(Failure::List)?;
    p.a.shr(rax, 32)?;
    p.a.mov(qword_ptr(state::OWN_ID), rax)
}

/// Fetches the list of APIC IDs: first its size, then itself, into pages that are shared for it.
fn fetch_list(p: &mut Program) -> Result<(), IcedError> {
    p.a.xor(eax, eax)?;
    p.a.xor(esi, esi)?;
    request_list(p)?;
    p.a.mov(r12, qword_ptr(rbx + ghcb::RAX))?;
    p.a.lea(rax, ptr(r12 - 1))?;
    p.a.cmp(rax, LIST_PAGES as i32)?;
    let mut fits = p.a.create_label();
    p.a.jb(fits)?;
    p.fail(Failure::List)?;
    p.a.set_label(&mut fits)?;

    for page in 0..LIST_PAGES {
        p.a.mov(rdi, LIST.0 + page * PAGE_SIZE as u64)?;
        p.a.call(p.routines.make_shared)?;
    }
    p.a.mov(rax, r12)?;
    p.a.mov(esi, LIST.0 as u32)?;
    request_list(p)?;

    // The list is the hypervisor's to write at any time: the count is read once.
    p.a.mov(rax, LIST.0 + ALIAS)?;
    p.a.mov(r12d, dword_ptr(rax))?;
    p.a.mov(qword_ptr(state::PROCESSORS), r12)?;
    p.a.dec(r12)?;
    p.a.cmp(r12, MOST_PROCESSORS as i32)?;
    let mut plausible = p.a.create_label();
    p.a.jb(plausible)?;
    p.fail(Failure::List)?;
    p.a.set_label(&mut plausible)?;
    p.a.mov(rax, qword_ptr(state::PROCESSORS))?;
    p.a.call(p.routines.print_decimal)?;
    p.say(" APIC IDs\n")
}

/// RAX: pages, RSI: where.
fn request_list(p: &mut Program) -> Result<(), IcedError> {
    p.a.mov(edi, exit_code::APIC_ID_LIST as u32)?;
    p.a.xor(edx, edx)?;
    p.a.call(p.routines.vmgexit)?;
    p.a.test(eax, eax)?;
    p.fail_unless_zero(Failure::List)
}

/// Creates every processor of the list but oneself and waits for their reports. Leaves in RBP how many there are, in R12 and
/// R13 APIC ID and number of the last.
fn start_all(p: &mut Program, start: CodeLabel) -> Result<(), IcedError> {
    let (mut next, mut skip, mut done) = (p.a.create_label(), p.a.create_label(), p.a.create_label());
    // R15: place in the list. RBP: processors started.
    p.a.xor(r15d, r15d)?;
    p.a.xor(ebp, ebp)?;
    p.a.xor(r13d, r13d)?;
    p.a.set_label(&mut next)?;
    p.a.cmp(r15, qword_ptr(state::PROCESSORS))?;
    p.a.jae(done)?;
    p.a.cmp(ebp, dword_ptr(PARAMETERS.0))?;
    p.a.jae(done)?;
    p.a.mov(rax, LIST.0 + ALIAS)?;
    p.a.mov(eax, dword_ptr(rax + r15 * 4 + 4))?;
    p.a.inc(r15)?;
    p.a.cmp(rax, qword_ptr(state::OWN_ID))?;
    p.a.je(skip)?;
    p.a.mov(r12, rax)?;
    p.a.inc(ebp)?;
    p.a.mov(r13d, ebp)?;
    p.a.xor(r14d, r14d)?;
    p.a.call(start)?;
    p.a.set_label(&mut skip)?;
    p.a.jmp(next)?;
    p.a.set_label(&mut done)?;
    p.a.mov(rax, rbp)?;
    wait_for_reports(p)
}

/// Destroys the last processor that was created, if there is one, and creates it again.
fn create_again(p: &mut Program, start: CodeLabel) -> Result<(), IcedError> {
    let mut alone = p.a.create_label();
    p.a.test(ebp, ebp)?;
    p.a.je(alone)?;
    p.a.xor(eax, eax)?;
    p.a.xor(edx, edx)?;
    request_processor(p, DESTROY)?;
    p.a.mov(r14d, 1)?;
    p.a.call(start)?;
    p.a.lea(rax, ptr(rbp + 1))?;
    wait_for_reports(p)?;
    // The assembler takes one label per instruction, and waiting ends with one.
    p.a.nop()?;
    p.a.set_label(&mut alone)
}

/// Waits until RAX reports have come.
fn wait_for_reports(p: &mut Program) -> Result<(), IcedError> {
    let (mut wait, mut all) = (p.a.create_label(), p.a.create_label());
    p.a.set_label(&mut wait)?;
    p.a.cmp(rax, qword_ptr(state::REPORTED))?;
    p.a.je(all)?;
    p.a.pause()?;
    p.a.jmp(wait)?;
    p.a.set_label(&mut all)
}

/// AP creation for the APIC ID in R12. RDX: the VMSA, RAX: SEV_FEATURES.
fn request_processor(p: &mut Program, request: u32) -> Result<(), IcedError> {
    p.a.mov(edi, exit_code::AP_CREATION as u32)?;
    p.a.mov(rsi, r12)?;
    p.a.shl(rsi, 32)?;
    p.a.or(rsi, request as i32)?;
    p.a.call(p.routines.vmgexit)?;
    p.a.test(eax, eax)?;
    p.fail_unless_zero(Failure::ApCreation)
}

/// Creates a processor. R12: APIC ID, R13: its number, from 1 on, R14: 1 if it was created before. R8 is its block of pages.
fn emit_start(p: &mut Program, mut start: CodeLabel) -> Result<(), IcedError> {
    let (mut again, mut fill) = (p.a.create_label(), p.a.create_label());
    p.a.set_label(&mut start)?;
    p.a.mov(r8, r13)?;
    p.a.shl(r8, BLOCK.trailing_zeros())?;
    p.a.add(r8, FREE.0 as i32)?;
    p.a.test(r14d, r14d)?;
    p.a.jne(again)?;
    p.a.lea(rdi, ptr(r8 + STACK))?;
    p.a.call(p.routines.accept)?;
    p.a.lea(rdi, ptr(r8 + VMSA))?;
    p.a.jmp(fill)?;
    // Another page: the first VMSA stays the processor's until it has stopped.
    p.a.set_label(&mut again)?;
    p.a.lea(rdi, ptr(r8 + SECOND_VMSA))?;
    p.a.set_label(&mut fill)?;
    p.a.call(p.routines.accept)?;
    p.a.mov(r9, rdi)?;
    p.a.mov(rsi, TEMPLATE.0)?;
    p.a.mov(ecx, PAGE_SIZE as u32 / 8)?;
    p.a.rep().movsq()?;

    // What is the processor's own: its stack, its GHCB, and what it tells of itself.
    let field = |offset: usize| qword_ptr(r9 + offset as u64);
    p.a.lea(rax, ptr(r8 + (STACK + PAGE_SIZE as u64)))?;
    p.a.mov(field(offset_of!(Vmsa, rsp)), rax)?;
    p.a.mov(rax, ALIAS)?;
    p.a.add(rax, r8)?;
    p.a.mov(field(offset_of!(Vmsa, rbx)), rax)?;
    p.a.mov(field(offset_of!(Vmsa, r12)), r12)?;
    p.a.mov(field(offset_of!(Vmsa, r13)), r13)?;
    p.a.mov(field(offset_of!(Vmsa, r14)), r14)?;

    p.a.mov(rax, r9)?;
    p.a.xor(ecx, ecx)?;
    p.a.mov(edx, INTO_VMSA)?;
    p.a.rmpadjust()?;
    p.a.test(eax, eax)?;
    p.fail_unless_zero(Failure::RmpAdjust)?;

    p.a.mov(rdx, r9)?;
    p.a.mov(eax, FEATURES.0 as u32)?;
    request_processor(p, CREATE)?;
    p.a.ret()
}

/// What the other processors do: report, count, and halt. RBX: GHCB, R12: APIC ID, R13: number, R14: 1 if created before.
fn emit_other(p: &mut Program, other: &mut CodeLabel) -> Result<(), IcedError> {
    let mut halt = p.a.create_label();
    p.a.set_label(other)?;
    p.a.call(p.routines.set_up_ghcb)?;
    p.a.call(p.routines.lock)?;
    p.say("processor ")?;
    p.a.mov(rax, r13)?;
    p.a.call(p.routines.print_decimal)?;
    p.say_hex(", APIC ID ", r12, "")?;
    let mut first = p.a.create_label();
    p.a.test(r14d, r14d)?;
    p.a.je(first)?;
    p.say(", created again")?;
    p.a.set_label(&mut first)?;
    p.say("\n")?;
    p.a.call(p.routines.unlock)?;
    p.a.lock().inc(qword_ptr(state::REPORTED))?;
    // HLT through the GHCB: the instruction itself would raise #VC.
    p.a.set_label(&mut halt)?;
    p.a.mov(edi, exit_code::HLT as u32)?;
    p.a.xor(eax, eax)?;
    p.a.xor(esi, esi)?;
    p.a.xor(edx, edx)?;
    p.a.call(p.routines.vmgexit)?;
    p.a.jmp(halt)
}
