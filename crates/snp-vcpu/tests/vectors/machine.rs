//! A processor that has only what [`Operands`] asks for: registers, and one piece of memory at a linear address.

use iced_x86::{Instruction, OpKind, Register};
use snp_vcpu::{Exception, Extended, Operands, Trap};

/// CR0 as a kernel has it: PE, MP, NE, PG.
pub(crate) const CR0: u64 = 0x8000_0033;
/// CR4: OSFXSR, OSXMMEXCPT, OSXSAVE.
pub(crate) const CR4: u64 = 0x4_0600;

/// The processor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) extended: Extended,
    /// In the order in which instructions number them.
    pub(crate) gpr: [u64; 16],
    pub(crate) rflags: u64,
    pub(crate) cr0: u64,
    pub(crate) cr4: u64,
    pub(crate) xss: u64,
    pub(crate) efer: u64,
    pub(crate) cpl: u8,
    pub(crate) long: bool,
    /// Where `memory` begins.
    pub(crate) base: u64,
    pub(crate) memory: Vec<u8>,
}

impl Machine {
    /// With all that the operating system has to enable enabled, and memory of so many bytes.
    pub(crate) fn new(base: u64, memory: usize) -> Self {
        Self {
            extended: Extended { xcr0: 7, ..Extended::default() },
            gpr: [0; 16],
            rflags: 2,
            cr0: CR0,
            cr4: CR4,
            xss: 0,
            efer: 0xd01,
            cpl: 3,
            long: true,
            base,
            memory: vec![0; memory],
        }
    }

    fn range(&self, address: u64, len: usize, write: bool) -> Result<std::ops::Range<usize>, Trap> {
        let fault = Exception::page_fault(4 | u32::from(write) << 1, address);
        let from = address.checked_sub(self.base).filter(|from| *from <= self.memory.len() as u64).ok_or(fault)?;
        let range = from as usize..from as usize + len;
        if range.end > self.memory.len() { Err(fault.into()) } else { Ok(range) }
    }

    fn aligned(&mut self, instruction: &Instruction, len: u64, alignment: u64) -> Result<u64, Trap> {
        let address = self.linear(instruction, len)?;
        if address % alignment == 0 { Ok(address) } else { Err(Exception::general_protection(0).into()) }
    }
}

impl Operands for Machine {
    fn extended(&mut self) -> &mut Extended {
        &mut self.extended
    }

    fn register(&self, register: Register) -> u64 {
        if register == Register::None {
            return 0;
        }
        let whole = self.gpr[register.full_register().number()];
        match register.size() {
            1 if (Register::AH..=Register::BH).contains(&register) => whole >> 8 & 0xff,
            8 => whole,
            size => whole & ((1 << (8 * size)) - 1),
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        assert!(register.size() >= 4, "{register:?}");
        self.gpr[register.full_register().number()] = value;
    }

    fn load(&mut self, instruction: &Instruction, into: &mut [u8], alignment: u64) -> Result<(), Trap> {
        let address = self.aligned(instruction, into.len() as u64, alignment)?;
        self.load_linear(address, into)
    }

    fn store(&mut self, instruction: &Instruction, data: &[u8], alignment: u64) -> Result<(), Trap> {
        let address = self.aligned(instruction, data.len() as u64, alignment)?;
        self.store_linear(address, data)
    }

    fn linear(&mut self, instruction: &Instruction, _len: u64) -> Result<u64, Trap> {
        assert!((0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory));
        let index = self.register(instruction.memory_index()).wrapping_mul(instruction.memory_index_scale().into());
        let base = self.register(instruction.memory_base());
        Ok(base.wrapping_add(index).wrapping_add(instruction.memory_displacement64()))
    }

    fn load_linear(&mut self, address: u64, into: &mut [u8]) -> Result<(), Trap> {
        let range = self.range(address, into.len(), false)?;
        into.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn store_linear(&mut self, address: u64, data: &[u8]) -> Result<(), Trap> {
        let range = self.range(address, data.len(), true)?;
        self.memory[range].copy_from_slice(data);
        Ok(())
    }

    fn check_store(&mut self, address: u64, len: usize) -> Result<(), Trap> {
        self.range(address, len, true).map(drop)
    }

    fn rflags(&mut self) -> &mut u64 {
        &mut self.rflags
    }

    fn cr0(&self) -> u64 {
        self.cr0
    }

    fn cr4(&self) -> u64 {
        self.cr4
    }

    fn xss(&self) -> u64 {
        self.xss
    }

    fn efer(&self) -> u64 {
        self.efer
    }

    fn cpl(&self) -> u8 {
        self.cpl
    }

    fn is_64_bit(&self) -> bool {
        self.long
    }
}
