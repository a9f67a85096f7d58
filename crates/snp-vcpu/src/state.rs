//! The architectural state of a virtual processor.

use std::collections::VecDeque;

use snp_abi::{Segment, SevFeatures, Vmpl};

use crate::Extended;

/// Indices of the segment registers, as instructions number them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// ES, CS, SS, DS, FS, GS.
    pub registers: [Segment; 6],
}

impl Segments {
    /// ES.
    pub const ES: usize = 0;
    /// CS.
    pub const CS: usize = 1;
    /// SS.
    pub const SS: usize = 2;
    /// DS.
    pub const DS: usize = 3;
    /// FS.
    pub const FS: usize = 4;
    /// GS.
    pub const GS: usize = 5;
}

impl std::ops::Index<usize> for Segments {
    type Output = Segment;

    fn index(&self, index: usize) -> &Segment {
        &self.registers[index]
    }
}

impl std::ops::IndexMut<usize> for Segments {
    fn index_mut(&mut self, index: usize) -> &mut Segment {
        &mut self.registers[index]
    }
}

/// Debug registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
}

/// Everything that a virtual processor is, beside the memory that it runs in.
///
/// Fields are named as the VMSA's. Segment attributes are in the VMSA's compressed form (bits 7:0 type, S, DPL, P; 11:8 AVL,
/// L, D/B, G), and limits in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: as instructions number them.
    pub gpr: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// The current privilege level.
    pub cpl: u8,
    /// ES to GS.
    pub segments: Segments,
    /// GDTR, of which only base and limit count.
    pub gdtr: Segment,
    /// IDTR, likewise.
    pub idtr: Segment,
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8: the task priority, bits 3:0.
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// x87, SSE and AVX state, XCR0, PKRU.
    pub extended: Extended,
    /// XSS.
    pub xss: u64,
    /// STAR.
    pub star: u64,
    /// LSTAR.
    pub lstar: u64,
    /// CSTAR.
    pub cstar: u64,
    /// SFMASK.
    pub sfmask: u64,
    /// KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// SYSENTER_CS.
    pub sysenter_cs: u64,
    /// SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// PAT.
    pub g_pat: u64,
    /// TSC_AUX.
    pub tsc_aux: u32,
    /// The GHCB MSR (C001_0130).
    pub ghcb: u64,
    /// The time-stamp counter: moves on with every instruction, and when the hypervisor says so.
    pub tsc: u64,
    /// Seed and state of RDRAND and RDSEED.
    pub random: u64,
    /// Instructions that were begun since the state was made, those that faulted included.
    pub instructions: u64,
    /// SEV_FEATURES of the VMSA; without [`SevFeatures::SNP_ACTIVE`] no RMP is looked at.
    pub sev_features: SevFeatures,
    /// VIRTUAL_TOM of the VMSA.
    pub virtual_tom: u64,
    /// The VMPL that it runs at.
    pub vmpl: Vmpl,
    /// The guest's memory is encrypted (SEV): the C-bit of page tables means something.
    pub sev: bool,
    /// The guest's state is encrypted (SEV-ES, SEV-SNP): instructions that KVM intercepts raise #VC.
    pub sev_es: bool,
    /// The next instruction is in the shadow of STI or of a load of SS.
    pub interrupt_shadow: bool,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// An event that is delivered before the next instruction, in the form of the VMCB's EVENTINJ field: vector in bits 7:0,
    /// type in 10:8 (0 interrupt, 2 NMI, 3 exception, 4 software interrupt), error code valid in 11, valid in 31, error code
    /// in 63:32.
    pub event_inj: u64,
    /// Exceptions that end with [`Exit::Exception`](crate::Exit::Exception) in place of the guest's handler: a bit per vector, as
    /// in the VMCB. Those that are met on the way to a handler are not among them.
    pub intercepts: u32,
    /// The guest's own debug registers, which it reads and writes, while the hypervisor uses the processor's.
    pub hidden_debug: Option<DebugRegisters>,
    /// What the hypervisor answered to accesses to memory-mapped devices of the instruction that is about to be executed
    /// again, in their order: address and bytes of reads, address and nothing of writes.
    pub mmio: VecDeque<(u64, Vec<u8>)>,
    /// What the hypervisor read from a port for the INS that is about to be executed again: the bytes of whole items.
    pub port_input: VecDeque<u8>,
}

impl State {
    /// RAX, as an index of `gpr`.
    pub const RAX: usize = 0;
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
    /// RSP.
    pub const RSP: usize = 4;
    /// RBP.
    pub const RBP: usize = 5;
    /// RSI.
    pub const RSI: usize = 6;
    /// RDI.
    pub const RDI: usize = 7;

    /// The processor's debug registers.
    pub fn debug_registers(&self) -> DebugRegisters {
        DebugRegisters { dr: self.dr, dr6: self.dr6, dr7: self.dr7 }
    }

    /// Sets them.
    pub fn set_debug_registers(&mut self, registers: &DebugRegisters) {
        DebugRegisters { dr: self.dr, dr6: self.dr6, dr7: self.dr7 } = *registers;
    }

    /// Whether the hypervisor takes an exception of that vector.
    pub fn is_intercepted(&self, vector: u8) -> bool {
        self.intercepts >> (vector & 31) & 1 != 0
    }

    /// Whether the guest's RMP entries count: SEV-SNP is active.
    pub fn snp(&self) -> bool {
        self.sev_features.has(SevFeatures::SNP_ACTIVE)
    }

    /// Whether an external interrupt would be taken now.
    pub fn takes_interrupts(&self) -> bool {
        const IF: u64 = 1 << 9;
        const VALID: u64 = 1 << 31;
        self.rflags & IF != 0 && !self.interrupt_shadow && self.event_inj & VALID == 0
    }
}

impl Default for State {
    /// A processor after INIT, but for CPUID's signature in RDX.
    ///
    /// # Source
    /// AMD 24593 (APM volume 2), "Processor Initialization State".
    fn default() -> Self {
        let data = Segment { selector: 0, attrib: 0x93, limit: 0xffff, base: 0 };
        let table = Segment { selector: 0, attrib: 0, limit: 0xffff, base: 0 };
        let mut segments = Segments { registers: [data; 6] };
        segments[Segments::CS] = Segment { selector: 0xf000, attrib: 0x9b, limit: 0xffff, base: 0xffff_0000 };
        Self {
            gpr: [0; 16],
            rip: 0xfff0,
            rflags: 2,
            cpl: 0,
            segments,
            gdtr: table,
            idtr: table,
            ldtr: Segment { attrib: 0x82, ..table },
            tr: Segment { attrib: 0x8b, ..table },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            dr: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            extended: Extended::default(),
            xss: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            g_pat: 0x0007_0406_0007_0406,
            tsc_aux: 0,
            ghcb: 0,
            tsc: 0,
            random: 0,
            instructions: 0,
            sev_features: SevFeatures(0),
            virtual_tom: 0,
            vmpl: Vmpl(0),
            sev: false,
            sev_es: false,
            interrupt_shadow: false,
            nmi_blocked: false,
            event_inj: 0,
            intercepts: 0,
            hidden_debug: None,
            mmio: VecDeque::new(),
            port_input: VecDeque::new(),
        }
    }
}
