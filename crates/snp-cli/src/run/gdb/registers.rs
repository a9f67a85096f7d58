//! A vCPU's state in GDB's order of registers.

use gdbstub_arch::x86::reg::X86_64CoreRegs;
use snp_vcpu::{Segments, State};

/// GDB counts RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP; instructions RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI.
const ORDER: [usize; 16] = [0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

/// A state's registers.
pub(super) fn of(state: &State) -> X86_64CoreRegs {
    let mut registers = X86_64CoreRegs {
        regs: ORDER.map(|register| state.gpr[register]),
        rip: state.rip,
        eflags: state.rflags as u32,
        mxcsr: state.extended.mxcsr,
        ..X86_64CoreRegs::default()
    };
    let selector = |segment: usize| u32::from(state.segments[segment].selector);
    registers.segments.cs = selector(Segments::CS);
    registers.segments.ss = selector(Segments::SS);
    registers.segments.ds = selector(Segments::DS);
    registers.segments.es = selector(Segments::ES);
    registers.segments.fs = selector(Segments::FS);
    registers.segments.gs = selector(Segments::GS);
    let extended = &state.extended;
    for (st, register) in registers.st.iter_mut().enumerate() {
        *register = extended.x87[(top(state) + st) & 7];
    }
    registers.fpu.fctrl = extended.fcw.into();
    registers.fpu.fstat = extended.fsw.into();
    // Of an abridged tag word it is known which registers are empty.
    registers.fpu.ftag = (0..8).filter(|bit| extended.ftw >> bit & 1 == 0).map(|bit| 3 << (2 * bit)).sum();
    registers.fpu.fop = extended.fop.into();
    for (register, ymm) in registers.xmm.iter_mut().zip(&extended.ymm) {
        *register = u128::from_le_bytes(std::array::from_fn(|byte| ymm[byte]));
    }
    registers
}

/// Takes over what a debugger may change: general registers, RIP, the flags, XMM and MXCSR. Selectors are not loaded.
pub(super) fn store(registers: &X86_64CoreRegs, state: &mut State) {
    for (register, value) in ORDER.into_iter().zip(registers.regs) {
        state.gpr[register] = value;
    }
    state.rip = registers.rip;
    // Bit 1 is always set.
    state.rflags = u64::from(registers.eflags) | 2;
    state.extended.mxcsr = registers.mxcsr & 0xffff;
    for (value, ymm) in registers.xmm.iter().zip(&mut state.extended.ymm) {
        ymm[..16].copy_from_slice(&value.to_le_bytes());
    }
}

fn top(state: &State) -> usize {
    usize::from(state.extended.fsw >> 11 & 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_debugger() {
        let mut state = State::default();
        for (number, register) in state.gpr.iter_mut().enumerate() {
            *register = number as u64 + 1;
        }
        state.rip = 0x1234;
        state.extended.ymm[3][0] = 7;
        let seen = of(&state);
        // RBX is GDB's second register and an instruction's fourth; RSP is GDB's eighth and an instruction's fifth.
        assert_eq!((seen.regs[1], seen.regs[7], seen.xmm[3], seen.rip), (4, 5, 7, 0x1234));
        let mut other = State::default();
        store(&seen, &mut other);
        assert_eq!((other.gpr, other.rip, other.extended.ymm[3]), (state.gpr, state.rip, state.extended.ymm[3]));
    }
}
