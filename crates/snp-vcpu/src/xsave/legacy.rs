//! The legacy region: the 512 bytes of FXSAVE.
//!
//! # Source
//! AMD 24593 (APM volume 2), "FXSAVE and FXRSTOR Instructions": the memory images. CPUID function 8000_0008 EBX bit 2
//! (RstrFpErrPtrs) is taken for set: the error pointers are always written, as zeros unless an exception is pending, and
//! always restored.

use crate::{Exception, Extended, Operands, Trap};

/// Bits of MXCSR that may be set: those of all SSE processors, and AMD's for misaligned operands.
pub(super) use crate::simd::MXCSR_MASK;

const MXCSR: u64 = 24;
const ST0: u64 = 32;
const XMM0: u64 = 160;

/// How the pointers of the last x87 instruction are saved, and how many XMM registers there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// REX.W: pointers of 64 bits instead of selectors and 32 bits.
    pub(super) wide: bool,
    /// XMM registers that can be named.
    pub(super) registers: usize,
}

/// x87 status: an unmasked exception is pending.
const EXCEPTION_SUMMARY: u16 = 1 << 7;

fn top(extended: &Extended) -> usize {
    usize::from(extended.fsw >> 11 & 7)
}

/// Saves x87 state but MXCSR.
pub(super) fn save_x87(cpu: &mut impl Operands, address: u64, form: Form) -> Result<(), Trap> {
    let x87 = cpu.extended();
    let mut image = [0; 160];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &x87.fcw.to_le_bytes());
    put(2, &x87.fsw.to_le_bytes());
    put(4, &[x87.ftw]);
    let pending = x87.fsw & EXCEPTION_SUMMARY != 0;
    if pending {
        put(6, &x87.fop.to_le_bytes());
    }
    if pending && form.wide {
        put(8, &x87.fip.to_le_bytes());
        put(16, &x87.fdp.to_le_bytes());
    } else if pending {
        put(8, &(x87.fip as u32).to_le_bytes());
        put(12, &x87.fcs.to_le_bytes());
        put(16, &(x87.fdp as u32).to_le_bytes());
        put(20, &x87.fds.to_le_bytes());
    }
    let top = top(x87);
    for index in 0..8 {
        put(ST0 as usize + 16 * index, &x87.x87[(top + index) & 7]);
    }
    cpu.store_linear(address, &image[..MXCSR as usize])?;
    cpu.store_linear(address + ST0, &image[ST0 as usize..])
}

/// Saves MXCSR and its mask.
pub(super) fn save_mxcsr(cpu: &mut impl Operands, address: u64) -> Result<(), Trap> {
    let mxcsr = u64::from(cpu.extended().mxcsr) | u64::from(MXCSR_MASK) << 32;
    cpu.store_linear(address + MXCSR, &mxcsr.to_le_bytes())
}

/// Saves the XMM registers.
pub(super) fn save_xmm(cpu: &mut impl Operands, address: u64, form: Form) -> Result<(), Trap> {
    let mut image = [0; 256];
    for (into, ymm) in image.chunks_exact_mut(16).zip(&cpu.extended().ymm) {
        into.copy_from_slice(&ymm[..16]);
    }
    cpu.store_linear(address + XMM0, &image[..16 * form.registers])
}

/// Reads the region.
pub(super) fn read(cpu: &mut impl Operands, address: u64, form: Form) -> Result<[u8; 512], Trap> {
    let mut image = [0; 512];
    cpu.load_linear(address, &mut image[..XMM0 as usize + 16 * form.registers])?;
    Ok(image)
}

/// MXCSR of an image.
///
/// # Errors
/// #GP: reserved bits are set.
pub(super) fn mxcsr(image: &[u8; 512]) -> Result<u32, Trap> {
    let value = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if value & !MXCSR_MASK != 0 { Err(Exception::general_protection(0).into()) } else { Ok(value) }
}

/// Restores x87 state.
pub(super) fn restore_x87(x87: &mut Extended, image: &[u8; 512], form: Form) {
    let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| image[at + index]));
    (x87.fcw, x87.fsw, x87.ftw, x87.fop) = (word(0), word(2), image[4], word(6) & 0x7ff);
    if form.wide {
        (x87.fip, x87.fcs, x87.fdp, x87.fds) = (quad(8), 0, quad(16), 0);
    } else {
        (x87.fip, x87.fcs) = (quad(8) & 0xffff_ffff, word(12));
        (x87.fdp, x87.fds) = (quad(16) & 0xffff_ffff, word(20));
    }
    let top = top(x87);
    for index in 0..8 {
        let from = ST0 as usize + 16 * index;
        x87.x87[(top + index) & 7].copy_from_slice(&image[from..from + 10]);
    }
}

/// Restores the XMM registers.
pub(super) fn restore_xmm(extended: &mut Extended, image: &[u8; 512], form: Form) {
    let images = image[XMM0 as usize..].chunks_exact(16);
    for (ymm, image) in extended.ymm[..form.registers].iter_mut().zip(images) {
        ymm[..16].copy_from_slice(image);
    }
}
