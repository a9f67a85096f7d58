//! The processor while it runs: its state, and what is derived from it.

use iced_x86::{Instruction, Register};
use snp_abi::{Segment, Vmpl};

use super::flags;
use super::tlb::{Rights, Tlb};
use crate::{Exception, GuestMemory, Segments, State, Trap};

/// An instruction's way out. A pointer, so that the usual answer is one register.
pub(crate) type Fault = Box<Trap>;
/// What an instruction answers.
pub(crate) type Done<T = ()> = Result<T, Fault>;

impl From<Exception> for Fault {
    fn from(exception: Exception) -> Self {
        Box::new(Trap::Exception(exception))
    }
}

impl From<crate::Exit> for Fault {
    fn from(exit: crate::Exit) -> Self {
        Box::new(Trap::from(exit))
    }
}

pub(crate) const CR0_PE: u64 = 1;
pub(crate) const CR0_TS: u64 = 1 << 3;
pub(crate) const CR0_WP: u64 = 1 << 16;
pub(crate) const CR0_PG: u64 = 1 << 31;
pub(crate) const CR4_TSD: u64 = 1 << 2;
pub(crate) const CR4_DE: u64 = 1 << 3;
pub(crate) const CR4_PSE: u64 = 1 << 4;
pub(crate) const CR4_PAE: u64 = 1 << 5;
pub(crate) const CR4_PGE: u64 = 1 << 7;
pub(crate) const CR4_PCE: u64 = 1 << 8;
pub(crate) const CR4_UMIP: u64 = 1 << 11;
pub(crate) const CR4_LA57: u64 = 1 << 12;
pub(crate) const CR4_FSGSBASE: u64 = 1 << 16;
pub(crate) const CR4_PCIDE: u64 = 1 << 17;
pub(crate) const CR4_OSXSAVE: u64 = 1 << 18;
pub(crate) const CR4_SMEP: u64 = 1 << 20;
pub(crate) const CR4_SMAP: u64 = 1 << 21;
pub(crate) const CR4_PKE: u64 = 1 << 22;
pub(crate) const EFER_SCE: u64 = 1;
pub(crate) const EFER_LME: u64 = 1 << 8;
pub(crate) const EFER_LMA: u64 = 1 << 10;
pub(crate) const EFER_NXE: u64 = 1 << 11;
pub(crate) const EFER_SVME: u64 = 1 << 12;

/// Attributes of a segment, in the VMSA's form.
pub(crate) mod attribute {
    /// Conforming code, or data that grow down.
    pub(crate) const CONFORMING: u16 = 1 << 2;
    /// Readable code, or writable data.
    pub(crate) const READ_WRITE: u16 = 1 << 1;
    pub(crate) const CODE: u16 = 1 << 3;
    /// Code or data, not a system segment.
    pub(crate) const S: u16 = 1 << 4;
    pub(crate) const PRESENT: u16 = 1 << 7;
    pub(crate) const LONG: u16 = 1 << 9;
    pub(crate) const BIG: u16 = 1 << 10;
    pub(crate) const DPL_SHIFT: u16 = 5;
}

/// How instructions are decoded and addresses made, derived from CS, SS, CR0 and EFER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// 16, 32 or 64: the default size of code.
    pub(crate) bits: u32,
    /// EFER.LMA.
    pub(crate) long: bool,
    /// CR0.PE.
    pub(crate) protected: bool,
    /// Virtual-8086 mode.
    pub(crate) virtual_8086: bool,
    /// The mask of the stack pointer.
    pub(crate) stack_mask: u64,
}

impl Mode {
    pub(crate) fn of(state: &State) -> Self {
        let long = state.efer & EFER_LMA != 0;
        let protected = state.cr0 & CR0_PE != 0;
        let virtual_8086 = protected && !long && state.rflags & flags::VM != 0;
        let code = state.segments[Segments::CS].attrib;
        let bits = match () {
            () if long && code & attribute::LONG != 0 => 64,
            () if code & attribute::BIG != 0 && !virtual_8086 => 32,
            () => 16,
        };
        let big_stack = state.segments[Segments::SS].attrib & attribute::BIG != 0;
        let stack_mask = match bits {
            64 => u64::MAX,
            _ if big_stack => u64::from(u32::MAX),
            _ => u64::from(u16::MAX),
        };
        Self { bits, long, protected, virtual_8086, stack_mask }
    }

    /// In one number, for the cache of decoded code.
    pub(crate) fn code_key(self) -> u8 {
        (self.bits >> 4) as u8
    }

    /// The mask of the instruction pointer.
    #[inline(always)]
    pub(crate) fn ip_mask(self) -> u64 {
        if self.bits == 64 { u64::MAX } else { u32::MAX.into() }
    }

    /// Selectors are just addresses.
    pub(crate) fn is_real(self) -> bool {
        !self.protected || self.virtual_8086
    }
}

/// A processor that runs.
#[derive(Debug)]
pub(crate) struct Cpu<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) memory: &'a dyn GuestMemory,
    pub(crate) tlb: &'a mut Tlb,
    pub(crate) mode: Mode,
    /// Whose rights data accesses have.
    pub(crate) rights: Rights,
    /// Where the instruction that is executed ends.
    pub(crate) next_rip: u64,
    /// What follows must be decoded anew: code, mode or translations changed.
    pub(crate) end_block: bool,
    /// How many of `State::mmio` this instruction has used.
    pub(crate) mmio_used: usize,
    /// Debug conditions that the instruction met, as bits of DR6.
    pub(crate) debug_hits: u64,
}

impl std::fmt::Debug for dyn GuestMemory + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuestMemory")
    }
}

impl<'a> Cpu<'a> {
    pub(crate) fn new(state: &'a mut State, memory: &'a dyn GuestMemory, tlb: &'a mut Tlb) -> Self {
        let mode = Mode::of(state);
        let mut cpu = Self {
            state,
            memory,
            tlb,
            mode,
            rights: Rights::Supervisor,
            next_rip: 0,
            end_block: false,
            mmio_used: 0,
            debug_hits: 0,
        };
        cpu.update_rights();
        cpu
    }

    /// After a change of CPL, CR4 or RFLAGS.AC.
    pub(crate) fn update_rights(&mut self) {
        self.rights = match () {
            () if self.state.cpl == 3 => Rights::User,
            () if self.state.cr4 & CR4_SMAP != 0 && self.state.rflags & flags::AC == 0 => Rights::Strict,
            () => Rights::Supervisor,
        };
    }

    /// After a change of anything that a mode depends on.
    pub(crate) fn update_mode(&mut self) {
        self.mode = Mode::of(self.state);
        self.update_rights();
        self.end_block = true;
    }

    pub(crate) fn flush_tlb(&mut self) {
        self.tlb.flush();
        self.end_block = true;
    }

    /// Sets RFLAGS and what follows from it.
    pub(crate) fn set_rflags(&mut self, value: u64) {
        self.state.rflags = value | flags::FIXED;
        self.update_mode();
    }

    /// Replaces the bits of `mask`.
    #[inline(always)]
    pub(crate) fn replace_flags(&mut self, mask: u64, value: u64) {
        self.state.rflags = self.state.rflags & !mask | value;
    }

    pub(crate) fn set_flag(&mut self, flag: u64, on: bool) {
        self.replace_flags(flag, if on { flag } else { 0 });
    }

    pub(crate) fn flag(&self, flag: u64) -> bool {
        self.state.rflags & flag != 0
    }

    pub(crate) fn is_64_bit(&self) -> bool {
        self.mode.bits == 64
    }

    /// Bits of a linear address.
    pub(crate) fn linear_bits(&self) -> u32 {
        if self.state.cr4 & CR4_LA57 != 0 { 57 } else { 48 }
    }

    pub(crate) fn is_canonical(&self, address: u64) -> bool {
        let shift = 64 - self.linear_bits();
        (address << shift) as i64 >> shift == address as i64
    }

    /// The address bits that a page-table entry or CR3 may name, without the C-bit.
    pub(crate) fn physical_mask(&self) -> u64 {
        (1 << self.memory.physical_address_bits()) - 1
    }

    /// The C-bit, or 0 in guests without SEV.
    pub(crate) fn c_bit(&self) -> u64 {
        if self.state.sev { 1 << self.memory.c_bit() } else { 0 }
    }

    pub(crate) fn vmpl(&self) -> Option<Vmpl> {
        self.state.snp().then_some(self.state.vmpl)
    }

    /// #GP(0) unless at CPL 0.
    pub(crate) fn want_cpl0(&self) -> Done {
        if self.state.cpl == 0 && !self.mode.virtual_8086 { Ok(()) } else { Err(gp()) }
    }

    pub(crate) fn segment(&self, register: Register) -> (usize, Segment) {
        let index = segment_index(register);
        (index, self.state.segments[index])
    }

    /// A general register, zero-extended.
    pub(crate) fn register(&self, register: Register) -> u64 {
        let gpr = &self.state.gpr;
        match register {
            Register::AH | Register::CH | Register::DH | Register::BH => {
                gpr[register as usize - Register::AH as usize] >> 8 & 0xff
            }
            _ => {
                let full = gpr[number(register)];
                match register.size() {
                    8 => full,
                    4 => full & 0xffff_ffff,
                    2 => full & 0xffff,
                    _ => full & 0xff,
                }
            }
        }
    }

    /// Writes a general register; 32 bits clear the upper half.
    pub(crate) fn set_register(&mut self, register: Register, value: u64) {
        let gpr = &mut self.state.gpr;
        match register {
            Register::AH | Register::CH | Register::DH | Register::BH => {
                let place = &mut gpr[register as usize - Register::AH as usize];
                *place = *place & !0xff00 | (value & 0xff) << 8;
            }
            _ => {
                let place = &mut gpr[number(register)];
                *place = match register.size() {
                    8 => value,
                    4 => value & 0xffff_ffff,
                    2 => *place & !0xffff | value & 0xffff,
                    _ => *place & !0xff | value & 0xff,
                };
            }
        }
    }

    /// An instruction that KVM intercepts: #VC in guests with encrypted state, an exit in others.
    pub(crate) fn intercepted<T>(&self, exit_code: u32, exit: crate::Exit) -> Done<T> {
        if self.state.sev_es { Err(Exception::vmm_communication(exit_code).into()) } else { Err(exit.into()) }
    }
}

/// The number of a general register, whatever its width.
pub(crate) fn number(register: Register) -> usize {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => register as usize - Register::AH as usize,
        _ => register.full_register() as usize - Register::RAX as usize,
    }
}

/// ES to GS as 0 to 5.
pub(crate) fn segment_index(register: Register) -> usize {
    register as usize - Register::ES as usize
}

/// #GP(0).
#[cold]
pub(crate) fn gp() -> Fault {
    Exception::general_protection(0).into()
}

/// #UD.
#[cold]
pub(crate) fn ud() -> Fault {
    Exception::UNDEFINED.into()
}

/// The model does not have the instruction.
#[cold]
pub(crate) fn unmodelled(instruction: &Instruction) -> Fault {
    Box::new(Trap::Unmodelled(format!("the instruction {:?}", instruction.code()).into()))
}
