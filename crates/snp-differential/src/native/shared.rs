//! What passes between us and the child process: registers as XSAVE writes them, cases, outcomes.

use std::sync::atomic::AtomicU32;

use crate::case::{Case, Outcome, Registers};

/// Bytes of an XSAVE area with x87, SSE and AVX state.
pub(super) const XSAVE_LEN: usize = 832;
const XSTATE_BV: usize = 512;
const YMM_HIGH: usize = 576;

/// Registers, as `child` loads and stores them.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) xsave: [u8; XSAVE_LEN],
    pub(super) gpr: [u64; 16],
    pub(super) rip: u64,
    pub(super) rflags: u64,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
}

impl Frame {
    pub(super) const ZERO: Self =
        Self { xsave: [0; XSAVE_LEN], gpr: [0; 16], rip: 0, rflags: 0, fs_base: 0, gs_base: 0 };

    fn of(registers: &Registers) -> Self {
        let mut xsave = [0; XSAVE_LEN];
        xsave[0..2].copy_from_slice(&registers.fcw.to_le_bytes());
        xsave[2..4].copy_from_slice(&registers.fsw.to_le_bytes());
        xsave[4] = registers.ftw;
        xsave[24..28].copy_from_slice(&registers.mxcsr.to_le_bytes());
        for index in 0..8 {
            let physical = (usize::from(registers.fsw >> 11) + index) & 7;
            xsave[32 + 16 * index..][..10].copy_from_slice(&registers.x87[physical]);
        }
        for (index, ymm) in registers.ymm.iter().enumerate() {
            xsave[160 + 16 * index..][..16].copy_from_slice(&ymm[..16]);
            xsave[YMM_HIGH + 16 * index..][..16].copy_from_slice(&ymm[16..]);
        }
        xsave[XSTATE_BV] = 7;
        Self {
            xsave,
            gpr: registers.gpr,
            rip: registers.rip,
            rflags: registers.rflags,
            fs_base: registers.fs_base,
            gs_base: registers.gs_base,
        }
    }

    fn registers(&self) -> Registers {
        let xsave = &self.xsave;
        // A component that is in its initial state may not have been written.
        let [has_x87, has_sse, has_avx] = [1, 2, 4].map(|bit| xsave[XSTATE_BV] & bit != 0);
        let word = |at: usize| u16::from_le_bytes([xsave[at], xsave[at + 1]]);
        let mut registers = Registers {
            gpr: self.gpr,
            rip: self.rip,
            rflags: self.rflags,
            fs_base: self.fs_base,
            gs_base: self.gs_base,
            ymm: [[0; 32]; 16],
            mxcsr: u32::from_le_bytes(xsave[24..28].try_into().expect("four bytes")),
            fcw: 0x37f,
            fsw: 0,
            ftw: 0,
            x87: [[0; 10]; 8],
        };
        if has_x87 {
            (registers.fcw, registers.fsw, registers.ftw) = (word(0), word(2), xsave[4]);
            for index in 0..8 {
                let physical = (usize::from(registers.fsw >> 11) + index) & 7;
                registers.x87[physical].copy_from_slice(&xsave[32 + 16 * index..][..10]);
            }
        }
        for (index, ymm) in registers.ymm.iter_mut().enumerate() {
            if has_sse {
                ymm[..16].copy_from_slice(&xsave[160 + 16 * index..][..16]);
            }
            if has_avx {
                ymm[16..].copy_from_slice(&xsave[YMM_HIGH + 16 * index..][..16]);
            }
        }
        registers
    }
}

/// Longest sequence in bytes.
pub(super) const CODE_MAX: usize = 512;

/// A case.
#[repr(C)]
pub(super) struct NativeCase {
    pub(super) frame: Frame,
    pub(super) code: [u8; CODE_MAX],
    pub(super) code_len: usize,
    pub(super) entry: usize,
    pub(super) image: usize,
}

impl NativeCase {
    pub(super) fn of(case: &Case) -> Self {
        let mut code = [0; CODE_MAX];
        code[..case.code.len()].copy_from_slice(&case.code);
        Self {
            frame: Frame::of(&case.registers),
            code,
            code_len: case.code.len(),
            entry: case.entry,
            image: case.image,
        }
    }
}

/// There was no exception.
pub(super) const NO_FAULT: u32 = u32::MAX;

/// An outcome.
#[repr(C)]
pub(super) struct NativeOutcome {
    pub(super) frame: Frame,
    pub(super) vector: u32,
    pub(super) error: u32,
    pub(super) address: u64,
    pub(super) hash: u64,
    pub(super) changed: u32,
    pub(super) changes: [(u32, u64); Outcome::MOST_CHANGES],
}

impl NativeOutcome {
    pub(super) fn outcome(&self) -> Outcome {
        let fault = (self.vector != NO_FAULT).then_some(crate::case::Fault {
            vector: self.vector as u8,
            error: self.error,
            address: if self.vector == 14 { self.address } else { 0 },
        });
        Outcome {
            registers: self.frame.registers(),
            fault,
            changes: self.changes[..(self.changed as usize).min(Outcome::MOST_CHANGES)].to_vec(),
            changed: self.changed,
            hash: self.hash,
        }
    }
}

/// How many cases one child runs.
pub(super) const BATCH: usize = 2048;

/// The memory that we share with the child.
#[repr(C)]
pub(super) struct Shared {
    /// The case that the child is in; [`SET_UP`] before the first, the number of cases after the last.
    pub(super) current: AtomicU32,
    /// How many there are.
    pub(super) count: usize,
    pub(super) cases: [NativeCase; BATCH],
    pub(super) outcomes: [NativeOutcome; BATCH],
}

/// See [`Shared::current`].
pub(super) const SET_UP: u32 = u32::MAX;
