//! The child process: runs sequences on this processor and records how they end.
//!
//! # Unsafety
//! The code that runs here is arbitrary, so that this process is one that nothing of value is in: a fork, whose only way out is
//! the memory that it shares with us. Strict seccomp leaves it no system call but exit, so that what it does to
//! itself stays there; if it destroys itself we only learn that it is gone. Between fork and exit nothing is allocated and no
//! lock is taken, as the other threads of the parent are not there.
#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::Ordering;

use libc::{c_int, c_void};

use super::shared::{Frame, NO_FAULT, NativeCase, NativeOutcome, Shared};
use crate::case::{Outcome, hash_change};
use crate::layout::*;

/// The registers of the sequence that runs, and what must survive it.
#[repr(C, align(64))]
struct Context {
    frame: Frame,
    host_rsp: u64,
    host_fs: u64,
    vector: u32,
    error: u32,
    address: u64,
}

static mut CONTEXT: Context = Context { frame: Frame::ZERO, host_rsp: 0, host_fs: 0, vector: 0, error: 0, address: 0 };

const MXCSR: u32 = 0x1f80;
static DEFAULT_MXCSR: u32 = MXCSR;

/// Loads all registers from [`CONTEXT`] and jumps into the sequence. Returns when the sequence comes to [`leave`], or when
/// [`handler`] was called; all registers are in [`CONTEXT`] then.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter() {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "sub rsp, 8",
        "mov qword ptr [rip + {c} + {host_rsp}], rsp",
        "rdfsbase rax",
        "mov qword ptr [rip + {c} + {host_fs}], rax",
        "mov eax, 7",
        "xor edx, edx",
        "xrstor64 [rip + {c}]",
        "mov rax, qword ptr [rip + {c} + {fs}]",
        "wrfsbase rax",
        "mov rax, qword ptr [rip + {c} + {gs}]",
        "wrgsbase rax",
        "push qword ptr [rip + {c} + {rflags}]",
        "popfq",
        "mov rax, qword ptr [rip + {c} + {gpr}]",
        "mov rcx, qword ptr [rip + {c} + {gpr} + 8]",
        "mov rdx, qword ptr [rip + {c} + {gpr} + 16]",
        "mov rbx, qword ptr [rip + {c} + {gpr} + 24]",
        "mov rsp, qword ptr [rip + {c} + {gpr} + 32]",
        "mov rbp, qword ptr [rip + {c} + {gpr} + 40]",
        "mov rsi, qword ptr [rip + {c} + {gpr} + 48]",
        "mov rdi, qword ptr [rip + {c} + {gpr} + 56]",
        "mov r8, qword ptr [rip + {c} + {gpr} + 64]",
        "mov r9, qword ptr [rip + {c} + {gpr} + 72]",
        "mov r10, qword ptr [rip + {c} + {gpr} + 80]",
        "mov r11, qword ptr [rip + {c} + {gpr} + 88]",
        "mov r12, qword ptr [rip + {c} + {gpr} + 96]",
        "mov r13, qword ptr [rip + {c} + {gpr} + 104]",
        "mov r14, qword ptr [rip + {c} + {gpr} + 112]",
        "mov r15, qword ptr [rip + {c} + {gpr} + 120]",
        "jmp qword ptr [rip + {c} + {rip_}]",
        c = sym CONTEXT,
        host_rsp = const offset_of!(Context, host_rsp),
        host_fs = const offset_of!(Context, host_fs),
        gpr = const offset_of!(Frame, gpr),
        rip_ = const offset_of!(Frame, rip),
        rflags = const offset_of!(Frame, rflags),
        fs = const offset_of!(Frame, fs_base),
        gs = const offset_of!(Frame, gs_base),
    )
}

/// Where [`EXIT`] leads: stores all registers, and returns from [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "mov qword ptr [rip + {c} + {gpr}], rax",
        "mov qword ptr [rip + {c} + {gpr} + 8], rcx",
        "mov qword ptr [rip + {c} + {gpr} + 16], rdx",
        "mov qword ptr [rip + {c} + {gpr} + 24], rbx",
        "mov qword ptr [rip + {c} + {gpr} + 32], rsp",
        "mov qword ptr [rip + {c} + {gpr} + 40], rbp",
        "mov qword ptr [rip + {c} + {gpr} + 48], rsi",
        "mov qword ptr [rip + {c} + {gpr} + 56], rdi",
        "mov qword ptr [rip + {c} + {gpr} + 64], r8",
        "mov qword ptr [rip + {c} + {gpr} + 72], r9",
        "mov qword ptr [rip + {c} + {gpr} + 80], r10",
        "mov qword ptr [rip + {c} + {gpr} + 88], r11",
        "mov qword ptr [rip + {c} + {gpr} + 96], r12",
        "mov qword ptr [rip + {c} + {gpr} + 104], r13",
        "mov qword ptr [rip + {c} + {gpr} + 112], r14",
        "mov qword ptr [rip + {c} + {gpr} + 120], r15",
        "mov rsp, qword ptr [rip + {c} + {host_rsp}]",
        "pushfq",
        "pop qword ptr [rip + {c} + {rflags}]",
        // Alignment checks and the direction flag are the sequence's, not ours.
        "push 2",
        "popfq",
        "rdfsbase rax",
        "mov qword ptr [rip + {c} + {fs}], rax",
        "rdgsbase rax",
        "mov qword ptr [rip + {c} + {gs}], rax",
        "mov rax, qword ptr [rip + {c} + {host_fs}]",
        "wrfsbase rax",
        "mov eax, 7",
        "xor edx, edx",
        "xsave64 [rip + {c}]",
        "fninit",
        "vzeroupper",
        "ldmxcsr [rip + {mxcsr}]",
        "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        c = sym CONTEXT,
        mxcsr = sym DEFAULT_MXCSR,
        host_rsp = const offset_of!(Context, host_rsp),
        host_fs = const offset_of!(Context, host_fs),
        gpr = const offset_of!(Frame, gpr),
        rflags = const offset_of!(Frame, rflags),
        fs = const offset_of!(Frame, fs_base),
        gs = const offset_of!(Frame, gs_base),
    )
}

/// The handler of the signals that exceptions become. It never returns to the sequence: it unwinds to the caller of [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn handler() {
    naked_asm!(
        "push 2",
        "popfq",
        "rdfsbase rax",
        "mov qword ptr [rip + {c} + {fs}], rax",
        "rdgsbase rax",
        "mov qword ptr [rip + {c} + {gs}], rax",
        "mov rax, qword ptr [rip + {c} + {host_fs}]",
        "wrfsbase rax",
        "mov rdi, rdx",
        "and rsp, -16",
        "call {record}",
        "mov rsp, qword ptr [rip + {c} + {host_rsp}]",
        "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        c = sym CONTEXT,
        record = sym record,
        host_rsp = const offset_of!(Context, host_rsp),
        host_fs = const offset_of!(Context, host_fs),
        fs = const offset_of!(Frame, fs_base),
        gs = const offset_of!(Frame, gs_base),
    )
}

/// Takes the registers at the exception from the signal's frame.
unsafe extern "sysv64" fn record(context: *const libc::ucontext_t) {
    use libc::*;
    // The order of instructions' encoding.
    const ORDER: [c_int; 16] = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
        REG_R12, REG_R13, REG_R14, REG_R15,
    ];
    // SAFETY: the kernel's frame, of which the extended state is an XSAVE area of all that the processor has; one thread.
    unsafe {
        let machine = &(*context).uc_mcontext;
        let ours = &raw mut CONTEXT;
        let ours = &mut *ours;
        for (to, from) in ours.frame.gpr.iter_mut().zip(ORDER) {
            *to = machine.gregs[from as usize] as u64;
        }
        ours.frame.rip = machine.gregs[REG_RIP as usize] as u64;
        ours.frame.rflags = machine.gregs[REG_EFL as usize] as u64;
        ours.vector = machine.gregs[REG_TRAPNO as usize] as u32;
        ours.error = machine.gregs[REG_ERR as usize] as u32;
        ours.address = machine.gregs[REG_CR2 as usize] as u64;
        ptr::copy_nonoverlapping(machine.fpregs.cast(), ours.frame.xsave.as_mut_ptr(), ours.frame.xsave.len());
    }
}

/// Ends the process, with a number that says where.
fn exit(code: c_int) -> ! {
    // SAFETY: the system call `exit`, which strict seccomp allows; `_exit` would be `exit_group`.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    // SAFETY: not reached; if it were, this is an illegal instruction.
    unsafe { core::hint::unreachable_unchecked() }
}

fn require(works: bool, code: c_int) {
    if !works {
        exit(code);
    }
}

/// Runs every case and ends.
///
/// # Safety
/// Called in a forked child. `shared` is memory that the parent does not touch until the child has ended, but for the counter.
pub(super) unsafe fn run(shared: *mut Shared, images: &Images) -> ! {
    // SAFETY: as the caller promises.
    let shared = unsafe { &mut *shared };
    // SAFETY: the child's address space is its own.
    let pristine = unsafe { set_up(images) };
    for index in 0..shared.count {
        shared.current.store(index as u32, Ordering::Release);
        let (case, outcome) = (&shared.cases[index], &mut shared.outcomes[index]);
        // SAFETY: the memory was set up.
        unsafe { run_one(case, outcome, images, pristine) };
    }
    shared.current.store(shared.count as u32, Ordering::Release);
    exit(0)
}

/// Maps memory at a fixed address; `file` is a descriptor and an offset.
unsafe fn map(address: u64, len: usize, protection: c_int, file: Option<(c_int, i64)>) {
    let (flags, descriptor, offset) = match file {
        Some((descriptor, offset)) => (libc::MAP_SHARED, descriptor, offset),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
    };
    // Populated: a fault shall tell what sequences may do, not what was touched before.
    let flags = flags | libc::MAP_FIXED_NOREPLACE | libc::MAP_POPULATE;
    // SAFETY: nothing is replaced.
    let mapped = unsafe { libc::mmap(address as *mut c_void, len, protection, flags, descriptor, offset) };
    require(mapped as u64 == address, 2);
}

/// Maps the memory of sequences, installs the handlers, and gives up all rights. Returns a buffer of [`WRITABLE_LEN`] bytes.
unsafe fn set_up(images: &Images) -> *mut u8 {
    use libc::*;
    const RW: c_int = PROT_READ | PROT_WRITE;
    // Where no sum of two pointers of a sequence leads.
    const PRISTINE: u64 = 0x6123_4500_0000;
    const SIGNAL_STACK: u64 = 0x6123_4600_0000;
    const SIGNAL_STACK_LEN: usize = 64 * 1024;
    let data_len = DATA_LEN + READ_ONLY_LEN;
    // SAFETY: system calls with memory of our own; what is mapped at fixed addresses replaces nothing.
    unsafe {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        let file = memfd_create(c"differential".as_ptr(), MFD_CLOEXEC);
        require(file >= 0 && ftruncate(file, data_len as i64) == 0, 3);
        let read_only = images.read_only.as_ptr().cast();
        require(pwrite(file, read_only, READ_ONLY_LEN, DATA_LEN as i64) == READ_ONLY_LEN as isize, 4);
        for base in [DATA, DATA_HIGH] {
            map(base, DATA_LEN, RW, Some((file, 0)));
            map(base + DATA_LEN as u64, READ_ONLY_LEN, PROT_READ, Some((file, DATA_LEN as i64)));
        }
        map(STACK, STACK_LEN, RW, None);
        map(CODE, CODE_LEN, RW | PROT_EXEC, None);
        ptr::write_bytes(CODE as *mut u8, FILLER, CODE_LEN);
        map(EXIT, PAGE, RW, None);
        // jmp qword ptr [rip + 2], aligned for sequences that have alignment checked.
        let stub = EXIT as *mut u8;
        ptr::copy_nonoverlapping([0xff, 0x25, 2, 0, 0, 0].as_ptr(), stub, 6);
        stub.add(8).cast::<u64>().write(leave as *const () as u64);
        require(mprotect(EXIT as *mut c_void, PAGE, PROT_READ | PROT_EXEC) == 0, 5);
        map(PRISTINE, WRITABLE_LEN, RW, None);
        map(SIGNAL_STACK, SIGNAL_STACK_LEN, RW, None);

        let stack = stack_t { ss_sp: SIGNAL_STACK as *mut c_void, ss_flags: 0, ss_size: SIGNAL_STACK_LEN };
        require(sigaltstack(&stack, ptr::null_mut()) == 0, 6);
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for signal in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP] {
            require(libc::sigaction(signal, &action, ptr::null_mut()) == 0, 7);
        }
        // read and write remain possible: there shall be nothing to read or write.
        require(syscall(SYS_close_range, 0, u32::MAX, 0) == 0, 8);
        require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, 9);
        PRISTINE as *mut u8
    }
}

/// Runs one case.
unsafe fn run_one(case: &NativeCase, outcome: &mut NativeOutcome, images: &Images, pristine: *mut u8) {
    let image = images.images[case.image].as_ptr();
    // SAFETY: `set_up` has mapped all that is written here; the case's code lies within the code pages.
    unsafe {
        ptr::copy_nonoverlapping(image, pristine, IMAGE_LEN);
        ptr::copy_nonoverlapping(image, DATA as *mut u8, DATA_LEN);
        ptr::copy_nonoverlapping(image.add(DATA_LEN), STACK as *mut u8, STACK_LEN);
        let code = pristine.add(IMAGE_LEN);
        ptr::write_bytes(code, FILLER, CODE_LEN);
        ptr::copy_nonoverlapping(case.code.as_ptr(), code.add(case.entry), case.code_len);
        ptr::copy_nonoverlapping(code, CODE as *mut u8, CODE_LEN);
        let context = &raw mut CONTEXT;
        (*context).frame = case.frame;
        (*context).frame.rip = CODE + case.entry as u64;
        (*context).vector = NO_FAULT;
        enter();
        let context = &*context;
        outcome.frame = context.frame;
        (outcome.vector, outcome.error, outcome.address) = (context.vector, context.error, context.address);
        if context.vector == NO_FAULT {
            outcome.frame.rip = EXIT;
        }
        (outcome.hash, outcome.changed) = (0, 0);
        changes(outcome, pristine, DATA as *const u8, 0, DATA_LEN);
        changes(outcome, pristine, STACK as *const u8, DATA_LEN, STACK_LEN);
        changes(outcome, pristine, CODE as *const u8, IMAGE_LEN, CODE_LEN);
    }
}

/// Adds what has changed in a region.
unsafe fn changes(outcome: &mut NativeOutcome, before: *const u8, after: *const u8, first: usize, len: usize) {
    for offset in (0..len).step_by(8) {
        // SAFETY: both are of that length, at least, and aligned.
        let (old, new) = unsafe {
            (before.add(first + offset).cast::<u64>().read_volatile(), after.add(offset).cast::<u64>().read_volatile())
        };
        if old != new {
            let number = (first + offset) as u32;
            if (outcome.changed as usize) < Outcome::MOST_CHANGES {
                outcome.changes[outcome.changed as usize] = (number, new);
            }
            outcome.changed += 1;
            outcome.hash = hash_change(outcome.hash, number, new);
        }
    }
}

/// What an exit code of the child means.
pub(super) fn reason(code: c_int) -> &'static str {
    match code {
        2 => "an address that sequences need is taken",
        3 | 4 => "memfd_create does not work",
        5 => "a page cannot be made executable",
        6 | 7 => "signal handlers cannot be installed",
        8 => "close_range does not work",
        9 => "seccomp does not work",
        _ => "unknown",
    }
}
