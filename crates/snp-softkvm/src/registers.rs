//! A vCPU's registers as KVM keeps them, and the rules by which user space may set them.

use snp_abi::Errno;
use snp_abi::kvm::*;

use crate::cpuid::Reserved;
use crate::fpu::FpuState;
use crate::msrs;

/// EFER.LME, EFER.LMA.
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
/// EFER bits that KVM lets user space set: SCE, LME, LMA, NX, SVME, LMSLE, FFXSR, TCE, AUTOIBRS.
const EFER_VALID: u64 = 1 | LME | LMA | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15 | 1 << 21;
/// CR0.PE, CR0.ET, CR0.NW, CR0.CD, CR0.PG.
const PE: u64 = 1;
const ET: u64 = 1 << 4;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
/// CR4.PAE.
const PAE: u64 = 1 << 5;
/// The fixed bits of RFLAGS, DR6 and DR7.
const RFLAGS_FIXED: u64 = 2;
pub(crate) const DR6_FIXED: u64 = 0xffff_0ff0;
pub(crate) const DR7_FIXED: u64 = 0x400;
/// G_PAT at reset.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// XCR0 bits: x87, SSE, AVX, and the three of AVX-512.
const XCR0_X87: u64 = 1;
const XCR0_SSE: u64 = 2;
const XCR0_AVX: u64 = 4;
const XCR0_AVX512: u64 = 0xe0;

const MSR_PAT: u32 = 0x277;

/// The registers of a vCPU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Registers {
    pub(crate) general: kvm_regs,
    /// EFER, CR0 and CR4 as user space gave them, but for what KVM forces.
    pub(crate) system: kvm_sregs,
    pub(crate) debug: kvm_debugregs,
    pub(crate) xcr0: u64,
    /// The components that XCR0 may have: what the host has.
    supported_xcr0: u64,
    pub(crate) pat: u64,
    /// Of the MSRs below, in their order.
    pub(crate) msrs: [u64; SAVED_MSRS.len()],
    pub(crate) fpu: FpuState,
    pub(crate) guest_debug: GuestDebug,
    pub(crate) cpuid: Vec<kvm_cpuid_entry2>,
    /// What CPUID does not allow.
    reserved: Reserved,
    pub(crate) mp_state: u32,
}

/// KVM_SET_GUEST_DEBUG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestDebug {
    /// `KVM_GUESTDBG_…`; none without KVM_GUESTDBG_ENABLE.
    control: u32,
    /// User space's DR0 to DR3 and DR7.
    registers: ([u64; 4], u64),
}

impl GuestDebug {
    const ENABLE: u32 = 1;
    const SINGLESTEP: u32 = 2;
    const USE_SW_BP: u32 = 1 << 16;
    const USE_HW_BP: u32 = 1 << 17;
    const BLOCKIRQ: u32 = 1 << 20;

    pub(crate) fn new(debug: &kvm_guest_debug) -> Self {
        let [dr0, dr1, dr2, dr3, .., dr7] = debug.debugreg;
        let enabled = debug.control & Self::ENABLE != 0;
        // In a VMCB all bits of DR7 count as a processor has them.
        Self { control: if enabled { debug.control } else { 0 }, registers: ([dr0, dr1, dr2, dr3], dr7 | DR7_FIXED) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.control != 0
    }

    pub(crate) fn single_step(&self) -> bool {
        self.control & Self::SINGLESTEP != 0
    }

    pub(crate) fn blocks_interrupts(&self) -> bool {
        self.control & Self::BLOCKIRQ != 0
    }

    /// What takes the place of the guest's debug registers.
    pub(crate) fn breakpoints(&self) -> Option<([u64; 4], u64)> {
        (self.control & Self::USE_HW_BP != 0).then_some(self.registers)
    }

    /// The exceptions that are user space's, as bits: #DB, #BP.
    pub(crate) fn intercepts(&self) -> u32 {
        let debug = self.control & (Self::SINGLESTEP | Self::USE_HW_BP) != 0;
        u32::from(debug) << 1 | u32::from(self.control & Self::USE_SW_BP != 0) << 3
    }
}

/// The MSRs that lie in a VMSA.
pub(crate) const SAVED_MSRS: [u32; 9] = [
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0102, // KERNEL_GS_BASE
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xda0,       // XSS
];

impl Registers {
    /// What KVM_CREATE_VCPU leaves, of the boot processor or another.
    pub(crate) fn reset(boot: bool, supported_xcr0: u64) -> Self {
        let data = kvm_segment { limit: 0xffff, r#type: 3, present: 1, s: 1, ..kvm_segment::default() };
        let system_segment = |kind| kvm_segment { s: 0, r#type: kind, ..data };
        let code = kvm_segment { selector: 0xf000, base: 0xffff_0000, r#type: 0xb, ..data };
        let table = kvm_dtable { limit: 0xffff, ..kvm_dtable::default() };
        Self {
            // RDX 0x600: KVM does not know the CPUID yet.
            general: kvm_regs { rip: 0xfff0, rdx: 0x600, rflags: RFLAGS_FIXED, ..kvm_regs::default() },
            system: kvm_sregs {
                cs: code,
                ds: data,
                es: data,
                fs: data,
                gs: data,
                ss: data,
                ldt: system_segment(2),
                // init_sys_seg makes a busy 16-bit TSS.
                tr: system_segment(3),
                gdt: table,
                idt: table,
                cr0: ET | NW | CD,
                apic_base: 0xfee0_0800 | if boot { 0x100 } else { 0 },
                ..kvm_sregs::default()
            },
            debug: kvm_debugregs { dr6: DR6_FIXED, dr7: DR7_FIXED, ..kvm_debugregs::default() },
            xcr0: 1,
            supported_xcr0,
            pat: PAT_RESET,
            msrs: [0; SAVED_MSRS.len()],
            fpu: FpuState::default(),
            guest_debug: GuestDebug::default(),
            cpuid: Vec::new(),
            reserved: Reserved::of(&[], &[]),
            mp_state: KVM_MP_STATE_RUNNABLE,
        }
    }

    /// INIT of a vCPU that has run, or its reset: CPUID, MP state and who is the boot processor stay; INIT also leaves caches,
    /// MTRRs, x87, SSE and AVX state alone.
    pub(crate) fn reset_again(&mut self, init: bool, supported_xcr0: u64, signature: u32) {
        const BOOT: u64 = 0x100;
        let boot = self.system.apic_base & BOOT != 0;
        let mut new = Self::reset(boot, supported_xcr0);
        new.general.rdx = signature.into();
        new.cpuid = std::mem::take(&mut self.cpuid);
        new.reserved = self.reserved;
        new.mp_state = self.mp_state;
        new.guest_debug = self.guest_debug;
        if init {
            new.fpu = self.fpu.clone();
            new.xcr0 = self.xcr0;
            new.pat = self.pat;
            new.system.apic_base = self.system.apic_base;
            new.system.cr0 = ET | self.system.cr0 & (NW | CD);
        }
        *self = new;
    }

    /// KVM_SET_CPUID2, on a host that supports this.
    pub(crate) fn set_cpuid(&mut self, functions: &[kvm_cpuid_entry2], supported: &[kvm_cpuid_entry2]) {
        self.reserved = Reserved::of(functions, supported);
        self.cpuid = functions.to_vec();
    }

    /// KVM_SET_REGS.
    pub(crate) fn set_general(&mut self, regs: &kvm_regs) {
        self.general = *regs;
        self.general.rflags |= RFLAGS_FIXED;
    }

    /// KVM_SET_SREGS: the combinations that Linux refuses (`kvm_is_valid_sregs`), then the registers.
    pub(crate) fn set_system(&mut self, sregs: &kvm_sregs) -> Result<(), Errno> {
        let long = sregs.efer & LME != 0 && sregs.cr0 & PG != 0;
        let mode =
            if long { sregs.cr4 & PAE != 0 && sregs.efer & LMA != 0 } else { sregs.efer & LMA == 0 && sregs.cs.l == 0 };
        let cr0 = sregs.cr0 >> 32 == 0
            && !(sregs.cr0 & NW != 0 && sregs.cr0 & CD == 0)
            && !(sregs.cr0 & PG != 0 && sregs.cr0 & PE == 0);
        let offered = sregs.cr4 & self.reserved.cr4 == 0 && sregs.efer & (!EFER_VALID | self.reserved.efer) == 0;
        // Nobody complains about what is there already.
        let apic = sregs.apic_base == self.system.apic_base || self.may_have_apic_base(sregs.apic_base);
        if !mode || !cr0 || !offered || !apic {
            return Err(Errno::EINVAL);
        }
        self.system = *sregs;
        // The processor has had an x87 unit for decades: ET cannot be cleared.
        self.system.cr0 |= ET;
        for segment in [&mut self.system.cs, &mut self.system.ss, &mut self.system.ds, &mut self.system.es] {
            segment.padding = 0;
        }
        Ok(())
    }

    /// Whether user space may put the local APIC there: a physical address that the guest has, in a mode that exists.
    fn may_have_apic_base(&self, base: u64) -> bool {
        const ENABLED: u64 = 1 << 11;
        const X2APIC: u64 = 1 << 10;
        const RESERVED: u64 = 0x2ff;
        /// Bits of physical addresses that CPUID does not tell.
        const ADDRESS_BITS: u32 = 36;
        let leaf = |function| self.cpuid.iter().find(|leaf| leaf.function == function);
        let bits = leaf(0x8000_0008).map_or(ADDRESS_BITS, |leaf| leaf.eax & 0xff);
        let has_x2apic = leaf(1).is_some_and(|leaf| leaf.ecx >> 21 & 1 != 0);
        let x2apic = base & X2APIC != 0;
        base & RESERVED == 0
            && base.checked_shr(bits).unwrap_or_default() == 0
            && (!x2apic || has_x2apic && base & ENABLED != 0)
    }

    /// KVM_SET_DEBUGREGS.
    pub(crate) fn set_debug(&mut self, debug: &kvm_debugregs) -> Result<(), Errno> {
        if debug.flags != 0 || debug.dr6 >> 32 != 0 || debug.dr7 >> 32 != 0 {
            return Err(Errno::EINVAL);
        }
        self.debug = *debug;
        Ok(())
    }

    /// KVM_SET_XCRS.
    pub(crate) fn set_xcrs(&mut self, xcrs: &kvm_xcrs) -> Result<(), Errno> {
        if xcrs.nr_xcrs as usize > xcrs.xcrs.len() || xcrs.flags != 0 {
            return Err(Errno::EINVAL);
        }
        for xcr in &xcrs.xcrs[..xcrs.nr_xcrs as usize] {
            if xcr.xcr == 0 {
                let value = xcr.value;
                let avx512 = value & XCR0_AVX512;
                // x87 is always on, AVX needs SSE, AVX-512 needs AVX and is had whole.
                let good = value & XCR0_X87 != 0
                    && (value & XCR0_AVX == 0 || value & XCR0_SSE != 0)
                    && (avx512 == 0 || avx512 == XCR0_AVX512 && value & XCR0_AVX != 0)
                    && value & !self.supported_xcr0 == 0;
                if !good {
                    return Err(Errno::EINVAL);
                }
                self.xcr0 = value;
                break;
            }
        }
        Ok(())
    }

    /// KVM_GET_XCRS.
    pub(crate) fn xcrs(&self) -> kvm_xcrs {
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
        xcrs.xcrs[0].value = self.xcr0;
        xcrs
    }

    /// KVM_SET_XSAVE.
    pub(crate) fn set_xsave(&mut self, xsave: &kvm_xsave) -> Result<(), Errno> {
        self.fpu.set(xsave, self.supported_xcr0)
    }

    /// KVM_SET_SREGS2.
    pub(crate) fn set_system2(&mut self, sregs: &kvm_sregs2) -> Result<(), Errno> {
        const PDPTRS_VALID: u64 = 1;
        if sregs.flags & !PDPTRS_VALID != 0 {
            return Err(Errno::EINVAL);
        }
        let kvm_sregs2 { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer, apic_base, .. } =
            *sregs;
        let interrupt_bitmap = self.system.interrupt_bitmap;
        self.set_system(&kvm_sregs {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            interrupt_bitmap,
        })
    }

    /// KVM_GET_SREGS2.
    pub(crate) fn system2(&self) -> kvm_sregs2 {
        let kvm_sregs { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer, apic_base, .. } =
            self.system;
        let (flags, pdptrs) = (0, [0; 4]);
        kvm_sregs2 {
            cs,
            ds,
            es,
            fs,
            gs,
            ss,
            tr,
            ldt,
            gdt,
            idt,
            cr0,
            cr2,
            cr3,
            cr4,
            cr8,
            efer,
            apic_base,
            flags,
            pdptrs,
        }
    }

    /// One MSR of KVM_SET_MSRS; `false` if it is not one that these registers hold.
    pub(crate) fn set_msr(&mut self, index: u32, value: u64) -> bool {
        match index {
            MSR_PAT => self.pat = value,
            msrs::EFER => self.system.efer = value,
            msrs::FS_BASE => self.system.fs.base = value,
            msrs::GS_BASE => self.system.gs.base = value,
            msrs::APIC_BASE => self.system.apic_base = value,
            _ => match SAVED_MSRS.iter().position(|msr| *msr == index) {
                Some(place) => self.msrs[place] = value,
                None => return false,
            },
        }
        true
    }

    /// One MSR of KVM_GET_MSRS.
    pub(crate) fn msr(&self, index: u32) -> Option<u64> {
        match index {
            MSR_PAT => Some(self.pat),
            msrs::EFER => Some(self.system.efer),
            msrs::FS_BASE => Some(self.system.fs.base),
            msrs::GS_BASE => Some(self.system.gs.base),
            msrs::APIC_BASE => Some(self.system.apic_base),
            _ => SAVED_MSRS.iter().position(|msr| *msr == index).map(|place| self.msrs[place]),
        }
    }
}
