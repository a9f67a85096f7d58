//! Sequences in the model: a user program under a kernel that stops at every exception.

use std::sync::atomic::AtomicBool;

use snp_abi::Segment;
use snp_memory::HostPage;
use snp_vcpu::{Exit, Extended, FlatMemory, Interpreter, Limits, Processor, Segments, State};

use crate::case::{Case, Fault, Outcome, Registers, hash_change};
use crate::layout::*;

/// Guest-physical addresses. The user's pages first.
const CODE_GPA: u64 = 0x10_0000;
const DATA_GPA: u64 = 0x20_0000;
const STACK_GPA: u64 = 0x30_0000;
const EXIT_GPA: u64 = 0x40_0000;
/// The kernel: handlers, tables, a stack, at this linear address and in these pages.
const KERNEL: u64 = 0xffff_8000_0000_0000;
const KERNEL_GPA: u64 = 0x50_0000;
const HANDLERS: u64 = 0;
const IDT: u64 = 0x1000;
const GDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
/// Its last two pages are the stack.
const KERNEL_LEN: u64 = 0x6000;
const TABLES_GPA: u64 = 0x60_0000;
/// HLT, at the exit: #GP there is the end of a sequence.
const HLT: u8 = 0xf4;
/// More than any sequence takes.
const MOST_INSTRUCTIONS: u64 = 1_000_000;

const CR0: u64 = 0x8005_0033;
/// PAE, PGE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE.
const CR4: u64 = 0x5_0ea0;
const EFER: u64 = 0xd01;

/// The model with its memory.
#[derive(Debug)]
pub struct Model {
    interpreter: Interpreter,
    memory: FlatMemory,
    data: Vec<HostPage>,
    code: Vec<HostPage>,
    start: State,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Why the model gives no outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// It does not have an instruction, and says so.
    Unmodelled(String),
    /// It stopped in a way that a program cannot cause.
    Wrongly(String),
}

/// Page tables that grow in guest memory.
struct Tables<'a> {
    memory: &'a FlatMemory,
    next: u64,
}

impl Tables<'_> {
    /// Maps a page, with these bits in its entry.
    fn map(&mut self, linear: u64, gpa: u64, bits: u64) {
        let mut table = TABLES_GPA;
        for level in (1..4).rev() {
            let place = table + 8 * (linear >> (12 + 9 * level) & 511);
            let entry = u64::from_le_bytes(self.memory.read(place, 8).try_into().expect("eight bytes"));
            if entry == 0 {
                self.next += PAGE as u64;
                self.memory.write(place, &(self.next | 7).to_le_bytes());
                table = self.next;
            } else {
                table = entry & !0xfff;
            }
        }
        self.memory.write(table + 8 * (linear >> 12 & 511), &(gpa | bits).to_le_bytes());
    }

    fn map_all(&mut self, linear: u64, gpa: u64, len: usize, bits: u64) {
        for offset in (0..len as u64).step_by(PAGE) {
            self.map(linear + offset, gpa + offset, bits);
        }
    }
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x60;
const RF: u64 = 1 << 16;
const NO_EXECUTE: u64 = 1 << 63;

impl Model {
    /// The model, with the read-only page filled.
    pub fn new(images: &Images) -> Self {
        let data_len = DATA_LEN + READ_ONLY_LEN;
        let memory = FlatMemory::new()
            .with_zeros(CODE_GPA, CODE_LEN as u64)
            .with_zeros(DATA_GPA, data_len as u64)
            .with_zeros(STACK_GPA, STACK_LEN as u64)
            .with_zeros(EXIT_GPA, PAGE as u64)
            .with_zeros(KERNEL_GPA, KERNEL_LEN)
            .with_zeros(TABLES_GPA, 0x2_0000);
        let mut tables = Tables { memory: &memory, next: TABLES_GPA };
        let user = PRESENT | USER | ACCESSED;
        for base in [DATA, DATA_HIGH] {
            tables.map_all(base, DATA_GPA, DATA_LEN, user | WRITABLE | NO_EXECUTE);
            tables.map_all(base + DATA_LEN as u64, DATA_GPA + DATA_LEN as u64, READ_ONLY_LEN, user | NO_EXECUTE);
        }
        tables.map_all(CODE, CODE_GPA, CODE_LEN, user | WRITABLE);
        tables.map_all(STACK, STACK_GPA, STACK_LEN, user | WRITABLE | NO_EXECUTE);
        tables.map(EXIT, EXIT_GPA, user);
        tables.map_all(KERNEL, KERNEL_GPA, KERNEL_LEN as usize, PRESENT | WRITABLE | ACCESSED);
        memory.write(DATA_GPA + DATA_LEN as u64, &*images.read_only);
        memory.write(EXIT_GPA, &[HLT]);
        kernel(&memory);
        let page = |gpa: u64| memory.page(gpa).expect("it was made");
        let pages = |gpa: u64, len: usize| (0..len as u64).step_by(PAGE).map(move |offset| gpa + offset);
        let data = pages(DATA_GPA, DATA_LEN).chain(pages(STACK_GPA, STACK_LEN)).map(page).collect();
        let code = pages(CODE_GPA, CODE_LEN).map(page).collect();
        Self {
            interpreter: Interpreter::new(),
            data,
            code,
            start: start(),
            before: vec![0; WRITABLE_LEN],
            after: vec![0; WRITABLE_LEN],
            memory,
        }
    }

    /// Whether the case that ran last wrote to the code pages.
    pub fn wrote_code(&self) -> bool {
        self.before[IMAGE_LEN..] != self.after[IMAGE_LEN..]
    }

    /// Runs a case.
    ///
    /// # Errors
    /// The model does not have an instruction of it.
    pub fn run(&mut self, case: &Case, images: &Images) -> Result<Outcome, Stopped> {
        self.before[..IMAGE_LEN].copy_from_slice(&*images.images[case.image]);
        self.before[IMAGE_LEN..].fill(FILLER);
        self.before[IMAGE_LEN + case.entry..][..case.code.len()].copy_from_slice(&case.code);
        let (data, code) = self.before.split_at(IMAGE_LEN);
        for (page, contents) in self.data.iter().zip(data.chunks_exact(PAGE)) {
            page.write(0, contents);
        }
        // Whoever writes code must say so.
        self.memory.write(CODE_GPA, code);
        let mut state = self.start.clone();
        enter(&mut state, case);
        let limits = Limits {
            instructions: MOST_INSTRUCTIONS,
            kick: &AtomicBool::new(false),
            interrupt_window: false,
            breakpoints: &[],
        };
        match self.interpreter.run(&mut state, &self.memory, &limits) {
            Exit::Halt { .. } => self.outcome(&state),
            Exit::Unmodelled(what) => Err(Stopped::Unmodelled(what)),
            other => Err(Stopped::Wrongly(format!("{other:?} at {:#x}", state.rip))),
        }
    }

    /// What the handler of the exception finds: registers, and the frame on its stack.
    fn outcome(&mut self, state: &State) -> Result<Outcome, Stopped> {
        let vector = state.rip.wrapping_sub(KERNEL + HANDLERS) / 16;
        let vector = u8::try_from(vector)
            .map_err(|_| Stopped::Wrongly(format!("HLT at {:#x}, which is no handler", state.rip)))?;
        let frame = self.memory.read(KERNEL_GPA + (state.gpr[State::RSP] - KERNEL), 48);
        let word = |at: usize| u64::from_le_bytes(frame[8 * at..][..8].try_into().expect("eight bytes"));
        // Handlers of vectors with an error code find it on top.
        let has_error = KERNEL + KERNEL_LEN - state.gpr[State::RSP] == 48;
        let base = usize::from(has_error);
        let (selector, rip, rflags, rsp) = (word(base + 1), word(base), word(base + 2), word(base + 3));
        if selector != u64::from(USER_CS) || word(base + 4) != u64::from(USER_SS) {
            return Err(Stopped::Wrongly(format!("it was interrupted with CS {selector:#x}")));
        }
        let done = vector == 13 && rip == EXIT;
        let fault = (!done).then(|| Fault {
            vector,
            error: if has_error { word(0) as u32 } else { 0 },
            address: if vector == 14 { state.cr2 } else { 0 },
        });
        let mut registers = registers(state);
        registers.gpr[State::RSP] = rsp;
        // RF is the exit's.
        (registers.rip, registers.rflags) = (rip, if done { rflags & !RF } else { rflags });
        let mut outcome = Outcome { registers, fault, changes: Vec::new(), changed: 0, hash: 0 };
        let pages = self.data.iter().chain(&self.code);
        for (page, contents) in pages.zip(self.after.chunks_exact_mut(PAGE)) {
            page.read(0, contents);
        }
        for number in (0..WRITABLE_LEN).step_by(PAGE) {
            if self.before[number..][..PAGE] != self.after[number..][..PAGE] {
                self.changes(&mut outcome, number);
            }
        }
        Ok(outcome)
    }

    /// Adds what has changed in a page.
    fn changes(&self, outcome: &mut Outcome, page: usize) {
        for number in (page..page + PAGE).step_by(8) {
            let [before, after] = [&self.before, &self.after]
                .map(|bytes| u64::from_le_bytes(bytes[number..][..8].try_into().expect("eight bytes")));
            if before != after {
                if outcome.changes.len() < Outcome::MOST_CHANGES {
                    outcome.changes.push((number as u32, after));
                }
                outcome.changed += 1;
                outcome.hash = hash_change(outcome.hash, number as u32, after);
            }
        }
    }
}

/// Writes handlers, IDT, GDT and TSS.
fn kernel(memory: &FlatMemory) {
    const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
    const USER_DATA_DESCRIPTOR: u64 = 0x00cf_f300_0000_ffff;
    const USER_CODE_DESCRIPTOR: u64 = 0x00af_fb00_0000_ffff;
    for vector in 0..=255_u64 {
        let handler = KERNEL + HANDLERS + 16 * vector;
        memory.write(KERNEL_GPA + HANDLERS + 16 * vector, &[HLT; 16]);
        // Linux lets programs raise #BP and #OF.
        let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let low = handler & 0xffff | 0x10 << 16 | (0x8e00 | privilege << 13) << 32 | (handler >> 16 & 0xffff) << 48;
        memory.write(KERNEL_GPA + IDT + 16 * vector, &low.to_le_bytes());
        memory.write(KERNEL_GPA + IDT + 16 * vector + 8, &(handler >> 32).to_le_bytes());
    }
    // As in Linux: kernel code at 0x10, user data at 0x28, user code at 0x30.
    for (selector, descriptor) in [(0x10, CODE_DESCRIPTOR), (0x28, USER_DATA_DESCRIPTOR), (0x30, USER_CODE_DESCRIPTOR)]
    {
        memory.write(KERNEL_GPA + GDT + selector, &descriptor.to_le_bytes());
    }
    memory.write(KERNEL_GPA + TSS + 4, &(KERNEL + KERNEL_LEN).to_le_bytes());
    // No map of ports: programs may use none.
    memory.write(KERNEL_GPA + TSS + 102, &u16::MAX.to_le_bytes());
}

/// The processor in a 64-bit program.
fn start() -> State {
    let table = |base, limit| Segment { selector: 0, attrib: 0, limit, base };
    let mut state = State {
        cr0: CR0,
        cr3: TABLES_GPA,
        cr4: CR4,
        efer: EFER,
        cpl: 3,
        gdtr: table(KERNEL + GDT, 0x7f),
        idtr: table(KERNEL + IDT, 0xfff),
        tr: Segment { selector: 0x40, attrib: 0x8b, limit: 0x67, base: KERNEL + TSS },
        ..State::default()
    };
    for index in [Segments::ES, Segments::DS, Segments::FS, Segments::GS] {
        state.segments[index] = Segment { selector: 0, attrib: 0, limit: 0, base: 0 };
    }
    state.segments[Segments::CS] = Segment { selector: USER_CS, attrib: 0xafb, limit: u32::MAX, base: 0 };
    state.segments[Segments::SS] = Segment { selector: USER_SS, attrib: 0xcf3, limit: u32::MAX, base: 0 };
    state
}

/// Loads the registers of a case.
fn enter(state: &mut State, case: &Case) {
    let from = &case.registers;
    state.gpr = from.gpr;
    state.rip = CODE + case.entry as u64;
    state.rflags = from.rflags;
    state.segments[Segments::FS].base = from.fs_base;
    state.segments[Segments::GS].base = from.gs_base;
    state.extended = Extended {
        ymm: from.ymm,
        mxcsr: from.mxcsr,
        x87: from.x87,
        fcw: from.fcw,
        fsw: from.fsw,
        ftw: from.ftw,
        xcr0: 7,
        ..Extended::default()
    };
}

fn registers(state: &State) -> Registers {
    let extended = &state.extended;
    Registers {
        gpr: state.gpr,
        rip: state.rip,
        rflags: state.rflags,
        fs_base: state.segments[Segments::FS].base,
        gs_base: state.segments[Segments::GS].base,
        ymm: extended.ymm,
        mxcsr: extended.mxcsr,
        fcw: extended.fcw,
        fsw: extended.fsw,
        ftw: extended.ftw,
        x87: extended.x87,
    }
}
