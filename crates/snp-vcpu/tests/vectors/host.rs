//! Single instructions on the processor that runs the test.
#![allow(unsafe_code)]

use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, eax, edx, ptr, qword_ptr, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi,
};
use iced_x86::{Instruction, Register};
use libc::{REG_R13, REG_R14, REG_RIP, SA_NODEFER, SA_SIGINFO, SIGFPE, SIGILL, SIGSEGV, c_int, c_void, siginfo_t};
use memmap2::{Mmap, MmapMut};

use crate::machine::Machine;

/// CF, PF, AF, ZF, SF, OF.
pub(crate) const STATUS_FLAGS: u64 = 0x8d5;
/// Where the operand in memory is.
pub(crate) const PLACE: u64 = 256;
const MEMORY: usize = 1536;

/// What the stub loads before the instruction and stores after it.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct Frame {
    /// As XSAVE lays it out: x87, SSE, AVX.
    pub(crate) xsave: [u8; 832],
    pub(crate) memory: [u8; MEMORY],
    /// RAX, RCX, RDX, RBX, RSI, RDI.
    pub(crate) general: [u64; 6],
    pub(crate) flags: u64,
    control: u64,
    /// The signal that the instruction caused, or 0.
    signal: u64,
}

const GENERAL: [(Register, usize); 6] = [
    (Register::RAX, 0),
    (Register::RCX, 1),
    (Register::RDX, 2),
    (Register::RBX, 3),
    (Register::RSI, 6),
    (Register::RDI, 7),
];

/// A xorshift generator: the same operands in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The stub and the frame.
pub(crate) struct Native {
    code: Mmap,
    pub(crate) frame: Box<Frame>,
}

/// Goes on after the instruction under test, and notes the signal: R14 and R13 of the stub.
extern "C" fn continue_after(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a ucontext_t to a handler that was installed with SA_SIGINFO, and nobody else has it.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let ours = registers[REG_RIP as usize] >> 12 == registers[REG_R14 as usize] >> 12;
    if !ours {
        std::process::abort();
    }
    registers[REG_RIP as usize] = registers[REG_R14 as usize];
    registers[REG_R13 as usize] = signal.into();
}

fn install_handlers() {
    for signal in [SIGFPE, SIGILL, SIGSEGV] {
        // SAFETY: zeros are a valid sigaction (no flags, an empty mask), completed before it is passed; the handler touches
        // only the context of the stub that it interrupts, and ends the process if it interrupts anything else.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = SA_SIGINFO | SA_NODEFER;
            action.sa_sigaction = continue_after as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(installed, 0);
    }
}

impl Native {
    pub(crate) fn new() -> Self {
        install_handlers();
        let code = MmapMut::map_anon(4096).expect("memory").make_exec().expect("executable memory");
        let frame =
            Frame { xsave: [0; 832], general: [0; 6], flags: 2, control: 0x1f80, signal: 0, memory: [0; MEMORY] };
        Self { code, frame: Box::new(frame) }
    }

    pub(crate) fn memory_address(&self) -> u64 {
        self.frame.memory.as_ptr() as u64
    }

    /// Makes a stub around the instruction.
    pub(crate) fn load(&mut self, instruction: Instruction) -> Result<(), iced_x86::IcedError> {
        let general = std::mem::offset_of!(Frame, general);
        let flags = std::mem::offset_of!(Frame, flags);
        let signal = std::mem::offset_of!(Frame, signal);
        let control = std::mem::offset_of!(Frame, control);
        let registers = [rax, rcx, rdx, rbx, rsi, rdi];
        let mut a = CodeAssembler::new(64)?;
        for register in [rbx, rbp, r12, r13, r14, r15] {
            a.push(register)?;
        }
        a.mov(r15, rdi)?;
        let mut after = a.create_label();
        a.lea(r14, ptr(after))?;
        a.mov(r13, 0_u64)?;
        a.mov(eax, 7)?;
        a.mov(edx, 0)?;
        a.xrstor64(ptr(r15))?;
        a.push(qword_ptr(r15 + flags))?;
        a.popfq()?;
        for (index, register) in registers.into_iter().enumerate() {
            a.mov(register, qword_ptr(r15 + (general + 8 * index)))?;
        }
        a.add_instruction(instruction)?;
        a.set_label(&mut after)?;
        for (index, register) in registers.into_iter().enumerate() {
            a.mov(qword_ptr(r15 + (general + 8 * index)), register)?;
        }
        a.mov(qword_ptr(r15 + signal), r13)?;
        a.pushfq()?;
        a.pop(qword_ptr(r15 + flags))?;
        a.mov(eax, 7)?;
        a.mov(edx, 0)?;
        a.xsave64(ptr(r15))?;
        a.fninit()?;
        a.ldmxcsr(dword_ptr(r15 + control))?;
        a.vzeroupper()?;
        for register in [r15, r14, r13, r12, rbp, rbx] {
            a.pop(register)?;
        }
        a.ret()?;
        let bytes = a.assemble(self.code.as_ptr() as u64)?;
        let mut writable =
            std::mem::replace(&mut self.code, MmapMut::map_anon(1).expect("memory").make_read_only().expect("memory"))
                .make_mut()
                .expect("writable memory");
        writable[..bytes.len()].copy_from_slice(&bytes);
        self.code = writable.make_exec().expect("executable memory");
        Ok(())
    }

    /// Executes the stub; the signal that the instruction caused, or 0.
    pub(crate) fn run(&mut self) -> c_int {
        // SAFETY: the mapping holds the stub that `load` assembled, and signals come back to it. It follows the C calling convention: callee-saved
        // registers are pushed and popped, RSP is balanced, the x87 unit and MXCSR are left as they are on entry. It writes
        // nothing but the frame that is passed; the instruction under test addresses `Frame::memory` only, within bounds
        // (`Case::new`).
        let stub: extern "C" fn(*mut Frame) = unsafe { std::mem::transmute(self.code.as_ptr()) };
        stub(&mut *self.frame);
        self.frame.signal as c_int
    }
}

/// The state of the model as the frame has it, and the other way round.
pub(crate) fn machine_of(frame: &Frame, base: u64) -> Machine {
    let mut machine = Machine::new(base, frame.memory.len());
    machine.memory.copy_from_slice(&frame.memory);
    machine.rflags = frame.flags;
    for ((_, number), value) in GENERAL.into_iter().zip(frame.general) {
        machine.gpr[number] = value;
    }
    let word = |at: usize| u16::from_le_bytes([frame.xsave[at], frame.xsave[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| frame.xsave[at + index]));
    let extended = &mut machine.extended;
    extended.mxcsr = quad(24) as u32;
    // What XSTATE_BV leaves out is in its initial state.
    if frame.xsave[512] & 1 != 0 {
        (extended.fcw, extended.fsw, extended.ftw, extended.fop) = (word(0), word(2), frame.xsave[4], word(6));
        (extended.fip, extended.fdp) = (quad(8), quad(16));
        let top = usize::from(extended.fsw >> 11 & 7);
        for index in 0..8 {
            let from = 32 + 16 * index;
            extended.x87[(top + index) & 7].copy_from_slice(&frame.xsave[from..from + 10]);
        }
    }
    for index in 0..16 {
        if frame.xsave[512] & 2 != 0 {
            extended.ymm[index][..16].copy_from_slice(&frame.xsave[160 + 16 * index..176 + 16 * index]);
        }
        if frame.xsave[512] & 4 != 0 {
            extended.ymm[index][16..].copy_from_slice(&frame.xsave[576 + 16 * index..592 + 16 * index]);
        }
    }
    machine
}
