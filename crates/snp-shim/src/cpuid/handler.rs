//! Answers replaced instructions, and hands every other SIGILL to the program's own handler.
//!
//! # Unsafety
//! A signal handler reads and writes the registers of the instruction that raised the signal.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use libc::{REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RIP, sigaction as Sigaction, siginfo_t, ucontext_t};
use snp_asp::PlatformConfig;

use crate::real;
use crate::spin::Spin;

/// What the handler needs; set before the first instruction is replaced, and never again.
static REPLACED: OnceLock<Replaced> = OnceLock::new();
/// The program's own handler.
static PROGRAMS: Spin<Option<Sigaction>> = Spin::new(None);

struct Replaced {
    config: PlatformConfig,
    places: Vec<u64>,
}

/// Whether SIGILL is ours.
pub(crate) fn owns_sigill() -> bool {
    REPLACED.get().is_some()
}

/// Makes SIGILL ours.
///
/// # Errors
/// The system refuses the handler.
pub(crate) fn install(config: PlatformConfig, places: &[u64]) -> Result<(), String> {
    // SAFETY: zeros are a valid structure.
    let mut new: Sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handle as *const () as usize;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: as above.
    let mut old: Sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both structures live across the call; the handler has the signature of SA_SIGINFO.
    if unsafe { real::sigaction(libc::SIGILL, &new, &mut old) } != 0 {
        return Err("the system does not let SIGILL be handled".into());
    }
    *PROGRAMS.lock() = Some(old);
    REPLACED.get_or_init(|| Replaced { config, places: places.to_vec() });
    Ok(())
}

/// What the program sees of its own handler: the old one, and sets the new one if there is one.
pub(crate) fn exchange_handler(new: Option<Sigaction>) -> Sigaction {
    let mut programs = PROGRAMS.lock();
    // SAFETY: zeros are SIG_DFL.
    let old = programs.unwrap_or_else(|| unsafe { std::mem::zeroed() });
    if new.is_some() {
        *programs = new;
    }
    old
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a context to SA_SIGINFO handlers, and nobody else has it.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let place = registers[REG_RIP as usize] as u64;
    match REPLACED.get() {
        Some(replaced) if replaced.places.binary_search(&place).is_ok() => {
            let (leaf, subleaf) = (registers[REG_RAX as usize] as u32, registers[REG_RCX as usize] as u32);
            let values = super::answer(&replaced.config, leaf, subleaf);
            for (register, value) in [REG_RAX, REG_RBX, REG_RCX, REG_RDX].into_iter().zip(values) {
                registers[register as usize] = value.into();
            }
            registers[REG_RIP as usize] += 2;
        }
        _ => programs_own(signal, info, context),
    }
}

/// Somebody else's SIGILL.
fn programs_own(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let own = exchange_handler(None);
    match own.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The kernel does not let a program ignore its own illegal instruction either.
            // SAFETY: zeros are SIG_DFL; the instruction is run again and ends the program.
            unsafe {
                let default: Sigaction = std::mem::zeroed();
                real::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
        handler if own.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the program registered a handler with this signature.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: the program registered a handler with this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
