//! The GHCB page while KVM has it mapped.

use snp_abi::PAGE_SIZE;
use snp_abi::ghcb::{Ghcb as Layout, GhcbError, GhcbExit, response};
use zerocopy::IntoBytes;

use super::Machine;
use super::scratch::Scratch;

/// The page of one exit. What the guest wrote is read once, so that a guest that changes it meanwhile changes nothing.
#[derive(Debug)]
pub(super) struct Page {
    gpa: u64,
    request: Box<Layout>,
    /// The guest's general registers as KVM knows them: what the guest marked valid, else zero.
    pub(super) registers: Registers,
    pub(super) scratch: Option<Scratch>,
    /// SW_EXITINFO1 and SW_EXITINFO2 of the answer, as soon as there is one.
    answer: Option<(u64, u64)>,
}

/// General registers, as far as the protocol hands them over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) rax: u64,
    pub(super) rbx: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
}

/// A field that the guest marks valid, as its bit in the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field(u32);

impl Field {
    pub(super) const CPL: Self = Self::at(std::mem::offset_of!(Layout, cpl));
    pub(super) const RAX: Self = Self::at(std::mem::offset_of!(Layout, rax));
    pub(super) const RBX: Self = Self::at(std::mem::offset_of!(Layout, rbx));
    pub(super) const RCX: Self = Self::at(std::mem::offset_of!(Layout, rcx));
    pub(super) const RDX: Self = Self::at(std::mem::offset_of!(Layout, rdx));
    pub(super) const RSI: Self = Self::at(std::mem::offset_of!(Layout, rsi));
    pub(super) const EXIT_CODE: Self = Self::at(std::mem::offset_of!(Layout, sw_exit_code));
    pub(super) const EXIT_INFO_1: Self = Self::at(std::mem::offset_of!(Layout, sw_exit_info_1));
    pub(super) const EXIT_INFO_2: Self = Self::at(std::mem::offset_of!(Layout, sw_exit_info_2));
    pub(super) const SCRATCH: Self = Self::at(std::mem::offset_of!(Layout, sw_scratch));
    pub(super) const XCR0: Self = Self::at(std::mem::offset_of!(Layout, xcr0));

    const fn at(offset: usize) -> Self {
        Self((offset / 8) as u32)
    }

    const fn bit(self) -> u128 {
        1 << self.0
    }
}

impl Page {
    /// Reads the page at `gpa`; `None` if KVM cannot map it.
    pub(super) fn map(gpa: u64, machine: &mut dyn Machine) -> Option<Box<Self>> {
        if !machine.is_writable(gpa) {
            return None;
        }
        let mut request = Box::<Layout>::default();
        machine.read(gpa, request.as_mut_bytes()).ok()?;
        let mut page = Self { gpa, request, registers: Registers::default(), scratch: None, answer: None };
        let valid = |field, value| if page.has(field) { value } else { 0 };
        page.registers = Registers {
            rax: valid(Field::RAX, page.request.rax),
            rbx: valid(Field::RBX, page.request.rbx),
            rcx: valid(Field::RCX, page.request.rcx),
            rdx: valid(Field::RDX, page.request.rdx),
            rsi: valid(Field::RSI, page.request.rsi),
        };
        Some(Box::new(page))
    }

    /// Whether the guest marked a field valid.
    pub(super) fn has(&self, field: Field) -> bool {
        u128::from_le_bytes(self.request.valid_bitmap) & field.bit() != 0
    }

    pub(super) fn gpa(&self) -> u64 {
        self.gpa
    }

    pub(super) fn usage(&self) -> u32 {
        self.request.ghcb_usage
    }

    pub(super) fn exit_code(&self) -> GhcbExit {
        GhcbExit(self.request.sw_exit_code)
    }

    pub(super) fn exit_info_1(&self) -> u64 {
        self.request.sw_exit_info_1
    }

    pub(super) fn exit_info_2(&self) -> u64 {
        self.request.sw_exit_info_2
    }

    pub(super) fn valid_scratch(&self) -> u64 {
        if self.has(Field::SCRATCH) { self.request.sw_scratch } else { 0 }
    }

    pub(super) fn valid_xcr0(&self) -> Option<u64> {
        self.has(Field::XCR0).then_some(self.request.xcr0)
    }

    /// CPL; 0 if the guest did not tell.
    pub(super) fn valid_cpl(&self) -> u8 {
        if self.has(Field::CPL) { self.request.cpl } else { 0 }
    }

    /// SW_EXITINFO1 and SW_EXITINFO2 of the answer.
    pub(super) fn answer(&self) -> Option<(u64, u64)> {
        self.answer
    }

    /// Bytes of the page as the guest wrote them.
    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.request.as_bytes()[range]
    }

    /// The request was handled.
    pub(super) fn success(&mut self, info_2: u64) {
        self.answer = Some((response::NO_ACTION, info_2));
    }

    /// The request was malformed.
    pub(super) fn malformed(&mut self, error: GhcbError) {
        self.answer = Some((response::MALFORMED_INPUT, error.0));
    }

    /// The guest shall raise an exception.
    pub(super) fn exception(&mut self, vector: u8) {
        const VALID: u64 = 1 << 31;
        const EXCEPTION: u64 = 3 << 8;
        self.answer = Some((response::ISSUE_EXCEPTION, VALID | EXCEPTION | u64::from(vector)));
    }

    /// Writes what the guest shall find: the scratch area, RAX to RDX, the answer, and which of all that is valid.
    ///
    /// KVM still has the page mapped when user space takes its memory away meanwhile; here nothing is written then.
    pub(super) fn unmap(self, machine: &mut dyn Machine) {
        const RAX: u64 = std::mem::offset_of!(Layout, rax) as u64;
        const RCX: u64 = std::mem::offset_of!(Layout, rcx) as u64;
        const INFO_1: u64 = std::mem::offset_of!(Layout, sw_exit_info_1) as u64;
        const BITMAP: u64 = std::mem::offset_of!(Layout, valid_bitmap) as u64;
        if let Some(scratch) = &self.scratch {
            scratch.write_back(machine);
        }
        let Registers { rax, rbx, rcx, rdx, .. } = self.registers;
        let mut valid = Field::RAX.bit() | Field::RBX.bit() | Field::RCX.bit() | Field::RDX.bit();
        let mut put = |offset: u64, bytes: &[u8]| {
            let _ = machine.write(self.gpa + offset, bytes);
        };
        put(RAX, rax.as_bytes());
        put(RCX, [rcx, rdx, rbx].as_bytes());
        if let Some((info_1, info_2)) = self.answer {
            valid |= Field::EXIT_INFO_1.bit() | Field::EXIT_INFO_2.bit();
            put(INFO_1, [info_1, info_2].as_bytes());
        }
        put(BITMAP, valid.as_bytes());
    }
}

const _: () = {
    assert!(size_of::<Layout>() == PAGE_SIZE);
    assert!(std::mem::offset_of!(Layout, rdx) == std::mem::offset_of!(Layout, rcx) + 8);
    assert!(std::mem::offset_of!(Layout, rbx) == std::mem::offset_of!(Layout, rcx) + 16);
};
