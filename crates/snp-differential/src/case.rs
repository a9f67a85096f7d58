//! A test case and its result.

use std::fmt;

use iced_x86::Instruction;

/// The registers of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// The base of FS.
    pub fs_base: u64,
    /// The base of GS.
    pub gs_base: u64,
    /// YMM0 to YMM15.
    pub ymm: [[u8; 32]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// The x87 control word.
    pub fcw: u16,
    /// The x87 status word.
    pub fsw: u16,
    /// The abridged x87 tag word.
    pub ftw: u8,
    /// The x87 registers by their physical number.
    pub x87: [[u8; 10]; 8],
}

/// One instruction of a sequence.
#[derive(Clone, Debug)]
pub struct Item {
    /// It.
    pub instruction: Instruction,
    /// Bytes of their own instead of those that the encoder would choose: redundant prefixes.
    pub bytes: Option<Vec<u8>>,
    /// The item that its branch, or its RIP-relative operand, leads to.
    pub target: Option<usize>,
    /// Flags that the manual leaves undefined before it.
    pub undefined_before: u64,
}

/// A test case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its seed: the case alone can be made again from it.
    pub seed: u64,
    /// The sequence.
    pub items: Vec<Item>,
    /// Where it begins in the code pages.
    pub entry: usize,
    /// The registers before.
    pub registers: Registers,
    /// Which memory image.
    pub image: usize,
    /// Flags that the manual leaves undefined after the last item.
    pub undefined_after: u64,
    /// Flags that the manual leaves undefined somewhere.
    pub undefined_anywhere: u64,
    /// The encoded sequence, with the jump to the exit.
    pub code: Vec<u8>,
    /// Where the items begin in it.
    pub offsets: Vec<usize>,
}

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The vector.
    pub vector: u8,
    /// The error code, 0 for vectors without.
    pub error: u32,
    /// CR2, for page faults.
    pub address: u64,
}

/// What a sequence did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The registers afterwards. RIP is at [`crate::layout::EXIT`] unless there was a fault.
    pub registers: Registers,
    /// The exception that ended it.
    pub fault: Option<Fault>,
    /// Which aligned quadwords of memory changed, by their number in [`crate::layout::WRITABLE_LEN`], and what is there now;
    /// the first [`Outcome::MOST_CHANGES`] of them.
    pub changes: Vec<(u32, u64)>,
    /// How many there are.
    pub changed: u32,
    /// A hash of all of them.
    pub hash: u64,
}

impl Outcome {
    /// How many changes are kept.
    pub const MOST_CHANGES: usize = 40;
}

/// Continues a hash of changes.
pub fn hash_change(hash: u64, offset: u32, value: u64) -> u64 {
    let mixed = hash.rotate_left(5) ^ value ^ (u64::from(offset) << 48);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector {}, error code {:#x}", self.vector, self.error)?;
        if self.vector == 14 {
            write!(f, ", address {:#x}", self.address)?;
        }
        Ok(())
    }
}
