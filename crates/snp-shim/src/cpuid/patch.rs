//! Replaces instructions of the program.
//!
//! # Unsafety
//! Reads the program's loaded segments where the dynamic linker says they are, and writes two bytes of code at places that
//! were decoded as CPUID.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;

use super::scan::Program;

/// UD2, as long as CPUID is.
const UD2: u16 = u16::from_le_bytes([0x0f, 0x0b]);
const PAGE: u64 = snp_abi::PAGE_SIZE as u64;

/// The program's executable segments and its unwind table; `None` if it has none.
pub(crate) fn program() -> Option<Program<'static>> {
    let mut found: Option<Program<'static>> = None;
    // SAFETY: the callback gets the pointer that is passed here, and is called only until this returns.
    unsafe { libc::dl_iterate_phdr(Some(first_object), ptr::from_mut(&mut found).cast()) };
    found
}

/// The first object that the dynamic linker lists is the program.
unsafe extern "C" fn first_object(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker gives a valid structure; `data` is what `program` passed.
    let (info, found) = unsafe { (&*info, &mut *data.cast::<Option<Program<'static>>>()) };
    // SAFETY: as many headers as it says.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let contents = |header: &libc::Elf64_Phdr| {
        let address = info.dlpi_addr + header.p_vaddr;
        // SAFETY: the segment is loaded there, and stays as long as the program runs.
        (address, unsafe { std::slice::from_raw_parts(address as *const u8, header.p_filesz as usize) })
    };
    let executable = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
    let code: Vec<_> = headers.iter().filter(executable).map(contents).collect();
    if let Some(unwind) = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME) {
        *found = Some(Program { code, unwind: contents(unwind) });
    }
    1
}

/// Puts UD2 at the places.
///
/// # Errors
/// The system does not let code be written.
pub(crate) fn replace(program: &Program<'_>, places: &[u64]) -> Result<(), String> {
    for &(base, code) in &program.code {
        let start = base / PAGE * PAGE;
        let len = (base + code.len() as u64).next_multiple_of(PAGE) - start;
        let inside = places.iter().filter(|place| (base..base + code.len() as u64).contains(place));
        let mut inside = inside.peekable();
        if inside.peek().is_none() {
            continue;
        }
        let run = libc::PROT_READ | libc::PROT_EXEC;
        protect(start, len, run | libc::PROT_WRITE)?;
        for place in inside {
            // SAFETY: two bytes of a segment that is writable now. Nobody executes them half-written: x86 fetches what one
            // store wrote whole, but for stores across cache lines, and VMMs open /dev/kvm before their threads ask CPUID.
            unsafe { ptr::write_unaligned(*place as *mut u16, UD2) };
        }
        protect(start, len, run)?;
    }
    Ok(())
}

fn protect(start: u64, len: u64, access: c_int) -> Result<(), String> {
    // SAFETY: the range is the program's own code, which keeps being readable and executable.
    let answer = unsafe { libc::mprotect(start as *mut c_void, len as usize, access) };
    if answer == 0 { Ok(()) } else { Err("the system does not let the program's code be changed".into()) }
}
