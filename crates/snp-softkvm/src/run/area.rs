//! The pages that KVM_RUN shares with user space, and the exits as they lie there.

use std::mem::offset_of;
use std::sync::{PoisonError, RwLock};

use snp_abi::PAGE_SIZE;
use snp_abi::kvm::*;
use snp_memory::HostPage;
use zerocopy::{FromBytes, IntoBytes};

/// Offsets in [`kvm_run`].
const EXIT_REASON: usize = 8;
const UNION: usize = 32;

/// The pages of a vCPU's mapping: the run structure, the data of port I/O, and the ring of coalesced MMIO.
#[derive(Clone, Debug)]
pub struct RunArea {
    pages: [HostPage; 3],
}

impl Default for RunArea {
    fn default() -> Self {
        Self { pages: std::array::from_fn(|_| HostPage::zeroed()) }
    }
}

impl RunArea {
    /// Pages that user space maps.
    pub fn new(pages: [HostPage; 3]) -> Self {
        Self { pages }
    }

    /// The structure, copied: user space may write it at any time.
    pub fn read(&self) -> kvm_run {
        let mut bytes = [0; size_of::<kvm_run>()];
        self.pages[0].read(0, &mut bytes);
        kvm_run::read_from_bytes(&bytes).expect("sizes are equal")
    }

    /// `request_interrupt_window`.
    pub(super) fn requests_interrupt_window(&self) -> bool {
        self.pages[0].load8(offset_of!(kvm_run, request_interrupt_window)) != 0
    }

    /// `kvm_valid_regs`: the classes of registers that user space wants to see.
    pub(super) fn valid_regs(&self) -> u64 {
        self.pages[0].load64(offset_of!(kvm_run, kvm_valid_regs))
    }

    /// `immediate_exit`.
    pub fn immediate_exit(&self) -> bool {
        self.pages[0].load8(1) != 0
    }

    /// Sets `immediate_exit`, as user space does.
    pub fn set_immediate_exit(&self, exit: bool) {
        self.pages[0].store8(1, exit.into());
    }

    /// Writes one byte of the structure, as user space does.
    pub fn write_u8(&self, offset: usize, value: u8) {
        self.pages[0].store8(offset, value);
    }

    /// Writes eight bytes of it.
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.pages[0].store64(offset, value);
    }

    /// Data of the last KVM_EXIT_IO.
    pub fn port_data(&self, into: &mut [u8]) {
        self.pages[1].read(0, into);
    }

    /// Answers a KVM_EXIT_IO that reads.
    pub fn set_port_data(&self, data: &[u8]) {
        self.pages[1].write(0, data);
    }

    /// The bytes of an MMIO read.
    pub fn mmio_data(&self) -> [u8; 8] {
        self.pages[0].load64(UNION + 8).to_le_bytes()
    }

    /// Answers a KVM_EXIT_MMIO that reads.
    pub fn set_mmio_data(&self, data: &[u8; 8]) {
        self.pages[0].write(UNION + 8, data);
    }

    /// `hypercall.ret`.
    pub fn hypercall_return(&self) -> u64 {
        self.pages[0].load64(UNION + 56)
    }

    /// Answers a KVM_EXIT_HYPERCALL.
    pub fn set_hypercall_return(&self, value: u64) {
        self.pages[0].store64(UNION + 56, value);
    }

    /// `hypercall.flags`, as it is.
    pub(crate) fn hypercall_flags(&self) -> u64 {
        self.pages[0].load64(UNION + 64)
    }

    /// `snp_req_certs.npages` and `ret`.
    pub(crate) fn certificates_answer(&self) -> (u64, u64) {
        (self.pages[0].load64(UNION + 8), self.pages[0].load64(UNION + 16))
    }

    /// Answers a KVM_EXIT_SNP_REQ_CERTS: how many pages there are, and an errno or 0.
    pub fn set_certificates_answer(&self, pages: u64, errno: u64) {
        self.pages[0].store64(UNION + 8, pages);
        self.pages[0].store64(UNION + 16, errno);
    }

    /// `msr.error` and `msr.data`.
    pub fn msr_answer(&self) -> (bool, u64) {
        (self.pages[0].load8(UNION) != 0, self.pages[0].load64(UNION + 16))
    }

    /// Answers a KVM_EXIT_X86_RDMSR or _WRMSR.
    pub fn set_msr_answer(&self, error: bool, data: u64) {
        self.pages[0].store8(UNION, error.into());
        self.pages[0].store64(UNION + 16, data);
    }

    /// Writes an exit's reason and its part of the union; bytes that the exit does not have stay.
    pub(crate) fn put(&self, exit: &RunExit) {
        let page = &self.pages[0];
        page.store32(EXIT_REASON, exit.reason());
        let bytes = exit.bytes();
        page.write(UNION, &bytes);
    }

    pub(crate) fn clear_flags(&self) {
        self.pages[0].store16(14, 0);
    }

    /// What every return from KVM_RUN leaves.
    pub(crate) fn put_summary(&self, ready: bool, if_flag: bool, cr8: u64, apic_base: u64) {
        let page = &self.pages[0];
        page.store8(12, ready.into());
        page.store8(13, if_flag.into());
        page.store64(16, cr8);
        page.store64(24, apic_base);
    }

    pub(crate) fn put_sync(&self, at: usize, bytes: &[u8]) {
        const SYNC: usize = 304;
        self.pages[0].write(SYNC + at, bytes);
    }

    pub(crate) fn clear_dirty(&self) {
        self.pages[0].store64(296, 0);
    }

    /// The exit that KVM_RUN left.
    pub fn exit(&self) -> RunExit {
        RunExit::of(&self.read())
    }
}

/// Where a vCPU's pages are.
#[derive(Debug, Default)]
pub(crate) struct RunPages(RwLock<RunArea>);

impl RunPages {
    pub(crate) fn get(&self) -> RunArea {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, area: RunArea) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = area;
    }
}

/// An exit to user space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunExit {
    /// KVM_EXIT_IO. The data are at [`RunArea::port_data`].
    Io {
        /// IN or INS.
        input: bool,
        /// Bytes of an item.
        size: u8,
        /// The port.
        port: u16,
        /// Items.
        count: u32,
    },
    /// KVM_EXIT_MMIO.
    Mmio {
        /// Guest-physical address.
        gpa: u64,
        /// What is written; the answer goes here for reads.
        data: [u8; 8],
        /// Bytes.
        len: u32,
        /// A write.
        write: bool,
    },
    /// KVM_EXIT_HYPERCALL.
    Hypercall {
        /// The number.
        nr: u64,
        /// The arguments.
        args: [u64; 6],
        /// `KVM_EXIT_HYPERCALL_LONG_MODE`.
        flags: u64,
    },
    /// KVM_EXIT_DEBUG.
    Debug {
        /// The vector.
        exception: u32,
        /// RIP, with the base of CS.
        pc: u64,
        /// DR6.
        dr6: u64,
        /// DR7.
        dr7: u64,
    },
    /// KVM_EXIT_HLT.
    Halt,
    /// KVM_EXIT_IRQ_WINDOW_OPEN.
    InterruptWindow,
    /// KVM_EXIT_SHUTDOWN.
    Shutdown,
    /// KVM_EXIT_FAIL_ENTRY.
    FailEntry {
        /// The exit code.
        hardware_entry_failure_reason: u64,
        /// The processor.
        cpu: u32,
    },
    /// KVM_EXIT_INTR.
    Interrupted,
    /// KVM_EXIT_SET_TPR.
    SetTpr,
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError {
        /// `KVM_INTERNAL_ERROR_…`.
        suberror: u32,
        /// What else there is; at most 16.
        data: Vec<u64>,
    },
    /// KVM_EXIT_SYSTEM_EVENT.
    SystemEvent {
        /// `KVM_SYSTEM_EVENT_…`.
        kind: u32,
        /// At most 16.
        data: Vec<u64>,
    },
    /// KVM_EXIT_IOAPIC_EOI.
    IoapicEoi {
        /// The vector.
        vector: u8,
    },
    /// KVM_EXIT_X86_RDMSR and KVM_EXIT_X86_WRMSR.
    Msr {
        /// WRMSR.
        write: bool,
        /// `KVM_MSR_EXIT_REASON_…`.
        reason: u32,
        /// ECX.
        index: u32,
        /// EDX:EAX of WRMSR.
        data: u64,
    },
    /// KVM_EXIT_AP_RESET_HOLD.
    ApResetHold,
    /// KVM_EXIT_MEMORY_FAULT.
    MemoryFault {
        /// `KVM_MEMORY_EXIT_FLAG_PRIVATE`.
        flags: u64,
        /// Guest-physical address.
        gpa: u64,
        /// Bytes.
        size: u64,
    },
    /// KVM_EXIT_SNP_REQ_CERTS.
    RequestCertificates {
        /// Where the guest wants them.
        gpa: u64,
        /// For how many pages it has room.
        pages: u64,
    },
    /// Another reason, or none yet.
    Other(u32),
}

/// A union being filled in, in the order of its fields.
struct Fields(Vec<u8>);

impl Fields {
    fn new() -> Self {
        Self(Vec::with_capacity(64))
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn half(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn quad(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn quads(self, values: &[u64]) -> Self {
        values.iter().fold(self, |fields, value| fields.quad(*value))
    }
}

/// The most words of `internal.data` and `system_event.data`.
const DATA: usize = 16;

impl RunExit {
    /// `exit_reason`.
    pub fn reason(&self) -> u32 {
        match self {
            Self::Io { .. } => KVM_EXIT_IO,
            Self::Mmio { .. } => KVM_EXIT_MMIO,
            Self::Hypercall { .. } => KVM_EXIT_HYPERCALL,
            Self::Debug { .. } => KVM_EXIT_DEBUG,
            Self::Halt => KVM_EXIT_HLT,
            Self::InterruptWindow => KVM_EXIT_IRQ_WINDOW_OPEN,
            Self::Shutdown => KVM_EXIT_SHUTDOWN,
            Self::FailEntry { .. } => KVM_EXIT_FAIL_ENTRY,
            Self::Interrupted => KVM_EXIT_INTR,
            Self::SetTpr => KVM_EXIT_SET_TPR,
            Self::InternalError { .. } => KVM_EXIT_INTERNAL_ERROR,
            Self::SystemEvent { .. } => KVM_EXIT_SYSTEM_EVENT,
            Self::IoapicEoi { .. } => KVM_EXIT_IOAPIC_EOI,
            Self::Msr { write: false, .. } => KVM_EXIT_X86_RDMSR,
            Self::Msr { write: true, .. } => KVM_EXIT_X86_WRMSR,
            Self::ApResetHold => KVM_EXIT_AP_RESET_HOLD,
            Self::MemoryFault { .. } => KVM_EXIT_MEMORY_FAULT,
            Self::RequestCertificates { .. } => KVM_EXIT_SNP_REQ_CERTS,
            Self::Other(reason) => *reason,
        }
    }

    /// The exit's part of the union.
    fn bytes(&self) -> Vec<u8> {
        let fields = Fields::new();
        let with_data = |kind: u32, data: &[u64]| {
            let data = &data[..data.len().min(DATA)];
            Fields::new().word(kind).word(data.len() as u32).quads(data)
        };
        let fields = match self {
            Self::Io { input, size, port, count } => {
                let direction = if *input { KVM_EXIT_IO_IN } else { KVM_EXIT_IO_OUT };
                fields.byte(direction as u8).byte(*size).half(*port).word(*count).quad(PAGE_SIZE as u64)
            }
            Self::Mmio { gpa, data, len, write } => {
                fields.quad(*gpa).quad(u64::from_le_bytes(*data)).word(*len).byte((*write).into())
            }
            Self::Hypercall { nr, args, flags } => fields.quad(*nr).quads(args).quad(0).quad(*flags),
            Self::Debug { exception, pc, dr6, dr7 } => fields.word(*exception).word(0).quads(&[*pc, *dr6, *dr7]),
            Self::FailEntry { hardware_entry_failure_reason, cpu } => {
                fields.quad(*hardware_entry_failure_reason).word(*cpu)
            }
            Self::InternalError { suberror, data } => with_data(*suberror, data),
            Self::SystemEvent { kind, data } => with_data(*kind, data),
            Self::IoapicEoi { vector } => fields.byte(*vector),
            Self::Msr { reason, index, data, .. } => fields.quad(0).word(*reason).word(*index).quad(*data),
            Self::MemoryFault { flags, gpa, size } => fields.quads(&[*flags, *gpa, *size]),
            Self::RequestCertificates { gpa, pages } => fields.quads(&[*gpa, *pages, 0]),
            Self::Halt
            | Self::InterruptWindow
            | Self::Shutdown
            | Self::Interrupted
            | Self::SetTpr
            | Self::ApResetHold
            | Self::Other(_) => fields,
        };
        fields.0
    }

    /// Reads an exit back.
    pub fn of(run: &kvm_run) -> Self {
        let union = &run.padding;
        let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| union[at + i]));
        let word = |at: usize| quad(at) as u32;
        let data = || (0..(word(4) as usize).min(DATA)).map(|i| quad(8 + 8 * i)).collect();
        match run.exit_reason {
            KVM_EXIT_IO => Self::Io {
                input: u32::from(union[0]) == KVM_EXIT_IO_IN,
                size: union[1],
                port: word(2) as u16,
                count: word(4),
            },
            KVM_EXIT_MMIO => {
                Self::Mmio { gpa: quad(0), data: quad(8).to_le_bytes(), len: word(16), write: union[20] != 0 }
            }
            KVM_EXIT_HYPERCALL => {
                Self::Hypercall { nr: quad(0), args: std::array::from_fn(|i| quad(8 + 8 * i)), flags: quad(64) }
            }
            KVM_EXIT_DEBUG => Self::Debug { exception: word(0), pc: quad(8), dr6: quad(16), dr7: quad(24) },
            KVM_EXIT_HLT => Self::Halt,
            KVM_EXIT_IRQ_WINDOW_OPEN => Self::InterruptWindow,
            KVM_EXIT_SHUTDOWN => Self::Shutdown,
            KVM_EXIT_FAIL_ENTRY => Self::FailEntry { hardware_entry_failure_reason: quad(0), cpu: word(8) },
            KVM_EXIT_INTR => Self::Interrupted,
            KVM_EXIT_SET_TPR => Self::SetTpr,
            KVM_EXIT_INTERNAL_ERROR => Self::InternalError { suberror: word(0), data: data() },
            KVM_EXIT_SYSTEM_EVENT => Self::SystemEvent { kind: word(0), data: data() },
            KVM_EXIT_IOAPIC_EOI => Self::IoapicEoi { vector: union[0] },
            KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR => Self::Msr {
                write: run.exit_reason == KVM_EXIT_X86_WRMSR,
                reason: word(8),
                index: word(12),
                data: quad(16),
            },
            KVM_EXIT_AP_RESET_HOLD => Self::ApResetHold,
            KVM_EXIT_MEMORY_FAULT => Self::MemoryFault { flags: quad(0), gpa: quad(8), size: quad(16) },
            KVM_EXIT_SNP_REQ_CERTS => Self::RequestCertificates { gpa: quad(0), pages: quad(8) },
            reason => Self::Other(reason),
        }
    }
}

/// The registers of `kvm_sync_regs`, in its order.
pub(crate) const SYNC_REGS_AT: usize = 0;
pub(crate) const SYNC_SREGS_AT: usize = size_of::<kvm_regs>();
pub(crate) const SYNC_EVENTS_AT: usize = SYNC_SREGS_AT + size_of::<kvm_sregs>();

/// A structure of `kvm_sync_regs`.
pub(crate) fn sync<T: FromBytes>(run: &kvm_run, at: usize) -> T {
    T::read_from_bytes(&run.s.as_bytes()[at..at + size_of::<T>()]).expect("sizes are equal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_is_read_as_it_was_written() {
        let exits = [
            RunExit::Io { input: true, size: 2, port: 0x3f8, count: 7 },
            RunExit::Io { input: false, size: 1, port: 0x80, count: 1 },
            RunExit::Mmio { gpa: 0xfee0_0020, data: [1, 2, 3, 4, 5, 6, 7, 8], len: 4, write: true },
            RunExit::Hypercall { nr: 12, args: [1, 2, 3, 4, 5, 6], flags: 1 },
            RunExit::Debug { exception: 1, pc: 2, dr6: 3, dr7: 4 },
            RunExit::Halt,
            RunExit::InterruptWindow,
            RunExit::Shutdown,
            RunExit::FailEntry { hardware_entry_failure_reason: u64::MAX, cpu: 3 },
            RunExit::Interrupted,
            RunExit::SetTpr,
            RunExit::InternalError { suberror: 1, data: vec![5; 16] },
            RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data: vec![0x23_100] },
            RunExit::IoapicEoi { vector: 0x30 },
            RunExit::Msr { write: false, reason: 2, index: 0x1234, data: 0 },
            RunExit::Msr { write: true, reason: 1, index: 0x1234, data: 9 },
            RunExit::ApResetHold,
            RunExit::MemoryFault { flags: 8, gpa: 0x1000, size: 4096 },
            RunExit::RequestCertificates { gpa: 0x2000, pages: 4 },
            RunExit::Other(0),
        ];
        let area = RunArea::default();
        for exit in exits {
            area.put(&exit);
            assert_eq!(area.exit(), exit);
        }
    }

    #[test]
    fn answers_lie_where_user_space_writes_them() {
        // Offsets of the unions in the uAPI header: mmio.data 8, hypercall.ret 56, msr.data 16.
        let area = RunArea::default();
        area.set_mmio_data(&[1; 8]);
        assert_eq!(area.read().padding[8..16], [1; 8]);
        area.set_hypercall_return(2);
        assert_eq!((area.read().padding[56], area.hypercall_return()), (2, 2));
        area.set_msr_answer(true, 3);
        assert_eq!((area.read().padding[0], area.read().padding[16], area.msr_answer()), (1, 3, (true, 3)));
    }
}
