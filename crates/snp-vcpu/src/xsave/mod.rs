//! FXSAVE, FXRSTOR and the XSAVE family.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Extended State Management"; AMD 26568 (volume 4), "XSAVE" and its kin. A component counts as in
//! use (XINUSE) when it is not in its initial state.

mod layout;
mod legacy;

use iced_x86::{Instruction, Mnemonic, Register};

use self::layout::{AVX, COMPACTED, EXTENDED, HEADER, MODELLED, PKRU, SSE, X87};
use self::legacy::Form;
use crate::{Exception, Extended, Operands, Trap};

pub(crate) use self::layout::in_use;

const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER_FFXSR: u64 = 1 << 14;
/// MXCSR after reset.
const MXCSR_INITIAL: u32 = 0x1f80;

/// How a component is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Save {
    /// XSAVE: whatever is asked for, in the standard format.
    All,
    /// XSAVEOPT: what is in use, in the standard format.
    InUse,
    /// XSAVEC and XSAVES: what is in use, compacted.
    Compacted,
}

/// Executes an instruction of this room; `false`: it is not one.
///
/// RIP stays where it is: the caller moves on.
///
/// # Errors
/// The fault, with registers as they were; memory may have been written in part.
pub fn execute(instruction: &Instruction, cpu: &mut impl Operands) -> Result<bool, Trap> {
    let wide = matches!(
        instruction.mnemonic(),
        Mnemonic::Fxsave64
            | Mnemonic::Fxrstor64
            | Mnemonic::Xsave64
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsavec64
            | Mnemonic::Xsaves64
            | Mnemonic::Xrstor64
            | Mnemonic::Xrstors64
    );
    let form = Form { wide, registers: if cpu.is_64_bit() { 16 } else { 8 } };
    match instruction.mnemonic() {
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => fxsave(instruction, cpu, form),
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => fxrstor(instruction, cpu, form),
        Mnemonic::Xsave | Mnemonic::Xsave64 => save(instruction, cpu, form, Save::All, false),
        Mnemonic::Xsaveopt | Mnemonic::Xsaveopt64 => save(instruction, cpu, form, Save::InUse, false),
        Mnemonic::Xsavec | Mnemonic::Xsavec64 => save(instruction, cpu, form, Save::Compacted, false),
        Mnemonic::Xsaves | Mnemonic::Xsaves64 => save(instruction, cpu, form, Save::Compacted, true),
        Mnemonic::Xrstor | Mnemonic::Xrstor64 => restore(instruction, cpu, form, false),
        Mnemonic::Xrstors | Mnemonic::Xrstors64 => restore(instruction, cpu, form, true),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn aligned(instruction: &Instruction, cpu: &mut impl Operands, len: u64, alignment: u64) -> Result<u64, Trap> {
    let address = cpu.linear(instruction, len)?;
    if address.is_multiple_of(alignment) { Ok(address) } else { Err(Exception::general_protection(0).into()) }
}

/// Where FXSAVE's area is, and whether XMM registers are in it.
fn fx_area(instruction: &Instruction, cpu: &mut impl Operands) -> Result<(u64, bool), Trap> {
    if cpu.cr0() & (CR0_EM | CR0_TS) != 0 {
        return Err(Exception::NO_DEVICE.into());
    }
    let fast = cpu.efer() & EFER_FFXSR != 0 && cpu.cpl() == 0 && cpu.is_64_bit();
    Ok((aligned(instruction, cpu, HEADER, 16)?, !fast))
}

fn fxsave(instruction: &Instruction, cpu: &mut impl Operands, form: Form) -> Result<(), Trap> {
    let (address, xmm) = fx_area(instruction, cpu)?;
    legacy::save_x87(cpu, address, form)?;
    if cpu.cr4() & CR4_OSFXSR == 0 {
        return Ok(());
    }
    legacy::save_mxcsr(cpu, address)?;
    if xmm { legacy::save_xmm(cpu, address, form) } else { Ok(()) }
}

fn fxrstor(instruction: &Instruction, cpu: &mut impl Operands, form: Form) -> Result<(), Trap> {
    let (address, xmm) = fx_area(instruction, cpu)?;
    let image = legacy::read(cpu, address, form)?;
    if cpu.cr4() & CR4_OSFXSR != 0 {
        cpu.extended().mxcsr = legacy::mxcsr(&image)?;
        if xmm {
            legacy::restore_xmm(cpu.extended(), &image, form);
        }
    }
    legacy::restore_x87(cpu.extended(), &image, form);
    Ok(())
}

/// The components that an instruction of the XSAVE family is about: those enabled, and those among them that EDX:EAX
/// requests.
fn components(cpu: &mut impl Operands, supervisor: bool) -> Result<(u64, u64), Trap> {
    if cpu.cr4() & CR4_OSXSAVE == 0 {
        return Err(Exception::UNDEFINED.into());
    }
    if cpu.cr0() & CR0_TS != 0 {
        return Err(Exception::NO_DEVICE.into());
    }
    if supervisor && cpu.cpl() != 0 {
        return Err(Exception::general_protection(0).into());
    }
    let enabled = cpu.extended().xcr0 | if supervisor { cpu.xss() } else { 0 };
    let requested = cpu.register(Register::EDX) << 32 | cpu.register(Register::EAX);
    Ok((enabled, enabled & requested))
}

fn save(
    instruction: &Instruction,
    cpu: &mut impl Operands,
    form: Form,
    how: Save,
    supervisor: bool,
) -> Result<(), Trap> {
    let (_, requested) = components(cpu, supervisor)?;
    let compacted = how == Save::Compacted;
    let xcomp_bv = if compacted { requested | COMPACTED } else { 0 };
    let address = aligned(instruction, cpu, layout::area(requested, xcomp_bv), 64)?;

    let mut used = in_use(cpu.extended());
    if compacted && cpu.extended().mxcsr != MXCSR_INITIAL {
        used |= SSE;
    }
    let saved = if how == Save::All { requested } else { requested & used };
    if saved & X87 != 0 {
        legacy::save_x87(cpu, address, form)?;
    }
    if (if compacted { saved & SSE } else { requested & (SSE | AVX) }) != 0 {
        legacy::save_mxcsr(cpu, address)?;
    }
    if saved & SSE != 0 {
        legacy::save_xmm(cpu, address, form)?;
    }
    for (offset, component) in layout::places(saved, xcomp_bv) {
        let (mut image, size) = ([0; 1024], component.size as usize);
        component_image(cpu.extended(), component.bit, form, &mut image);
        cpu.store_linear(address + offset, &image[..size])?;
    }

    if compacted {
        cpu.store_linear(address + HEADER, &(requested & used).to_le_bytes())?;
        return cpu.store_linear(address + HEADER + 8, &xcomp_bv.to_le_bytes());
    }
    let mut header = [0; 8];
    cpu.load_linear(address + HEADER, &mut header)?;
    let kept = u64::from_le_bytes(header) & !requested;
    cpu.store_linear(address + HEADER, &(kept | requested & used).to_le_bytes())
}

/// A component beyond the legacy region in memory. Those that are not modelled are in their initial state: zeros.
fn component_image(extended: &Extended, bit: u64, form: Form, image: &mut [u8]) {
    match bit {
        AVX => {
            for (into, ymm) in image.chunks_exact_mut(16).zip(&extended.ymm[..form.registers]) {
                into.copy_from_slice(&ymm[16..]);
            }
        }
        PKRU => image[..4].copy_from_slice(&extended.pkru.to_le_bytes()),
        _ => {}
    }
}

/// The header of an XSAVE area: XSTATE_BV and XCOMP_BV.
///
/// # Errors
/// #GP: it is not one that XRSTOR takes.
fn header(cpu: &mut impl Operands, address: u64, enabled: u64, supervisor: bool) -> Result<(u64, u64), Trap> {
    let mut bytes = [0; (EXTENDED - HEADER) as usize];
    cpu.load_linear(address + HEADER, &mut bytes)?;
    let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * index + byte]));
    let (xstate_bv, xcomp_bv) = (word(0), word(1));
    let compacted = xcomp_bv & COMPACTED != 0;
    let reserved = if compacted { (2..8).any(|index| word(index) != 0) } else { xcomp_bv != 0 || word(2) != 0 };
    let allowed = if compacted { xcomp_bv & !COMPACTED } else { enabled };
    let wrong = reserved || allowed & !enabled != 0 || xstate_bv & !allowed != 0 || supervisor && !compacted;
    if wrong { Err(Exception::general_protection(0).into()) } else { Ok((xstate_bv, xcomp_bv)) }
}

fn restore(instruction: &Instruction, cpu: &mut impl Operands, form: Form, supervisor: bool) -> Result<(), Trap> {
    let (enabled, requested) = components(cpu, supervisor)?;
    let address = aligned(instruction, cpu, EXTENDED, 64)?;
    let (xstate_bv, xcomp_bv) = header(cpu, address, enabled, supervisor)?;
    let loaded = requested & xstate_bv;
    if loaded & !MODELLED != 0 {
        return Err(Trap::Unmodelled(format!("XRSTOR of state components {:#x}", loaded & !MODELLED).into()));
    }
    aligned(instruction, cpu, layout::area(loaded, xcomp_bv), 64)?;

    // All is read and checked before anything changes.
    let image = legacy::read(cpu, address, form)?;
    let mut new = cpu.extended().clone();
    let compacted = xcomp_bv & COMPACTED != 0;
    if !compacted && requested & (SSE | AVX) != 0 || loaded & SSE != 0 {
        new.mxcsr = legacy::mxcsr(&image)?;
    } else if requested & SSE != 0 {
        new.mxcsr = MXCSR_INITIAL;
    }
    initialise(&mut new, requested & !loaded, form);
    if loaded & X87 != 0 {
        legacy::restore_x87(&mut new, &image, form);
    }
    if loaded & SSE != 0 {
        legacy::restore_xmm(&mut new, &image, form);
    }
    for (offset, component) in layout::places(loaded, xcomp_bv) {
        let mut bytes = [0; 256];
        cpu.load_linear(address + offset, &mut bytes[..component.size as usize])?;
        if component.bit == PKRU {
            new.pkru = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            continue;
        }
        for (ymm, image) in new.ymm[..form.registers].iter_mut().zip(bytes.chunks_exact(16)) {
            ymm[16..].copy_from_slice(image);
        }
    }
    *cpu.extended() = new;
    Ok(())
}

/// Puts components into their initial state, MXCSR aside.
fn initialise(extended: &mut Extended, components: u64, form: Form) {
    if components & X87 != 0 {
        let initial = Extended::default();
        *extended = Extended {
            ymm: extended.ymm,
            mxcsr: extended.mxcsr,
            xcr0: extended.xcr0,
            pkru: extended.pkru,
            supported_xcr0: extended.supported_xcr0,
            ..initial
        };
    }
    for ymm in &mut extended.ymm[..form.registers] {
        if components & SSE != 0 {
            ymm[..16].fill(0);
        }
        if components & AVX != 0 {
            ymm[16..].fill(0);
        }
    }
    if components & PKRU != 0 {
        extended.pkru = 0;
    }
}
