//! Reset states: what each VMM, in each era, puts into the VMSA of a processor that comes out of reset.
//!
//! The rows are data: `profiles.toml` beside this crate's manifest, with the source of each and the vector that proves it.
//! All rows of one `state` share that state and differ in what their columns say. A new VMM or era is one more row.

use snp_abi::{Segment, SevFeatures, Vmsa};

use crate::era::{Date, Era, KernelVersion};

/// What RDX holds at reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetRdx {
    /// The processor's signature, as the architecture has it.
    Signature,
    /// The same for every processor.
    Fixed(u64),
}

/// What a profile's processors start in, before the columns are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartState {
    /// Real mode; the upper half of EIP in CS.base.
    Reset,
    /// 32-bit protected mode with flat segments and EIP in RIP, as COCONUT-SVSM starts; the same for all processors.
    Flat,
}

/// When the CPUID page of a firmware's metadata is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidOrder {
    /// Where it stands in the metadata.
    InOrder,
    /// After all other pages of the metadata.
    Last,
}

/// The page type with which a firmware's SEC_MEM sections are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecMem {
    /// ZERO.
    Zero,
    /// UNMEASURED.
    Unmeasured,
}

/// The reset state of one VMM in one era: one row of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetProfile {
    /// The name by which it is asked for, lower case.
    pub name: &'static str,
    /// The VMM.
    pub vmm: &'static str,
    /// When it applies, in words.
    pub era: &'static str,
    /// Rows of one family follow each other in time.
    pub family: &'static str,
    /// The first day of the era; `None` if it is open.
    pub since: Option<Date>,
    /// The first day after the era; `None` if it is open.
    pub until: Option<Date>,
    /// The first kernel version of the era and the first after it; `None` if the kernel does not matter.
    pub linux: Option<[Option<KernelVersion>; 2]>,
    /// What the columns below are applied to.
    pub state: StartState,
    /// Attributes of CS.
    pub cs_attrib: u16,
    /// Attributes of CS for a processor that starts at [`BOOT_EIP`].
    pub boot_cs_attrib: u16,
    /// Attributes of SS.
    pub ss_attrib: u16,
    /// Attributes of DS, ES, FS and GS in real mode.
    pub data_attrib: u16,
    /// Attributes of TR.
    pub tr_attrib: u16,
    /// RDX.
    pub rdx: ResetRdx,
    /// RSP of a processor that starts at [`BOOT_EIP`].
    pub rsp: u64,
    /// RBP of a processor that starts at [`BOOT_EIP`].
    pub rbp: u64,
    /// RSI of a processor that starts at [`BOOT_EIP`].
    pub rsi: u64,
    /// MXCSR.
    pub mxcsr: u32,
    /// The x87 control word.
    pub fcw: u16,
    /// G_PAT.
    pub g_pat: u64,
    /// SEV_FEATURES of a guest that asks for none.
    pub features: SevFeatures,
    /// When the CPUID page is measured.
    pub cpuid: CpuidOrder,
    /// How SEC_MEM sections are measured.
    pub sec_mem: SecMem,
    /// Where the row comes from.
    pub source: &'static str,
    /// The test that proves it.
    pub vector: &'static str,
}

/// Where the boot processor starts: the architecture's reset vector, 16 bytes below 4 GiB.
pub const BOOT_EIP: u32 = 0xffff_fff0;

// PROFILES, which the build script makes of profiles.toml.
include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// Every known reset state, in the registry's order.
///
/// `direct` is this project's own: what the direct uAPI profiles give the boot processor when the user supplies no VMSA.
/// It equals `qemu`, the state in which KVM itself starts a processor, so that firmware finds what it expects whoever made
/// its VMSA. In particular it has EFER.SVME, without which VMRUN refuses any VMSA, and CR4.MCE, which KVM sets. It is a row
/// of its own because `qemu` follows what QEMU does, while a digest made with `direct` must never change.
pub fn profiles() -> &'static [ResetProfile] {
    PROFILES
}

/// The profile called `name` (upper and lower case alike).
pub fn find(name: &str) -> Option<&'static ResetProfile> {
    profiles().iter().find(|profile| profile.name.eq_ignore_ascii_case(name))
}

/// The profile of a family in an era. Where more than one applies, the first of the registry: rows that are asked for by
/// name only stand after it.
///
/// ```
/// use snp_vmsa::reset::find_in_era;
/// assert_eq!(find_in_era("ec2", &"2025-06-01".parse()?).unwrap().name, "ec2-pre-2026");
/// assert_eq!(find_in_era("qemu", &"6.8".parse()?).unwrap().name, "qemu-pre-6.10");
/// # Ok::<(), snp_vmsa::era::EraError>(())
/// ```
pub fn find_in_era(family: &str, era: &Era) -> Option<&'static ResetProfile> {
    profiles().iter().find(|profile| profile.family.eq_ignore_ascii_case(family) && profile.applies_in(era))
}

impl ResetProfile {
    /// Whether the profile applies at a date, or on a kernel. A profile that is bounded by dates alone is not known to apply on
    /// a kernel, which may run on any date after its release; one without bounds applies on every kernel.
    pub fn applies_in(&self, era: &Era) -> bool {
        match era {
            Era::Date(date) => {
                self.since.is_none_or(|since| since <= *date) && self.until.is_none_or(|until| *date < until)
            }
            Era::Kernel(version) => match self.linux {
                None => self.since.is_none() && self.until.is_none(),
                Some([since, until]) => {
                    since.is_none_or(|since| since <= *version) && until.is_none_or(|until| *version < until)
                }
            },
        }
    }

    /// The VMSA of a processor that starts at `eip`.
    ///
    /// `eip`: 32-bit linear address; in real mode its upper half becomes CS.base, its lower half RIP. `cpu_signature`: as
    /// [`cpu::signature`](crate::cpu::signature) gives it; unused where the VMM puts something else into RDX. `features`:
    /// with SNPActive.
    ///
    /// # Source
    /// The row's own `source`. What the rows share is compared byte for byte with the pages that sev-snp-measure builds; that
    /// it is the state of AMD 24593 (APM volume 2), "Processor Initialization State", was not checked against the document.
    pub fn vmsa(&self, eip: u32, cpu_signature: u32, features: SevFeatures) -> Vmsa {
        let boot = eip == BOOT_EIP;
        let cs_attrib = if boot { self.boot_cs_attrib } else { self.cs_attrib };
        let start = match self.state {
            StartState::Reset => self.reset(eip, cs_attrib),
            StartState::Flat => self.flat(eip, cs_attrib),
        };
        let of_boot = |value| if boot { value } else { 0 };
        Vmsa {
            gdtr: real_mode_segment(0),
            ldtr: real_mode_segment(0x82),
            idtr: real_mode_segment(0),
            tr: real_mode_segment(self.tr_attrib),
            efer: 0x1000,
            cr4: 0x40,
            dr7: 0x400,
            dr6: 0xffff_0ff0,
            rflags: 0x2,
            rsp: of_boot(self.rsp),
            rbp: of_boot(self.rbp),
            rsi: of_boot(self.rsi),
            g_pat: self.g_pat,
            rdx: match self.rdx {
                ResetRdx::Signature => cpu_signature.into(),
                ResetRdx::Fixed(value) => value,
            },
            sev_features: features,
            xcr0: 1,
            mxcsr: self.mxcsr,
            x87_fcw: self.fcw,
            ..start
        }
    }

    /// Real mode at `eip`.
    fn reset(&self, eip: u32, cs_attrib: u16) -> Vmsa {
        let data = real_mode_segment(self.data_attrib);
        Vmsa {
            es: data,
            cs: Segment { selector: 0xf000, base: u64::from(eip & 0xffff_0000), ..real_mode_segment(cs_attrib) },
            ss: real_mode_segment(self.ss_attrib),
            ds: data,
            fs: data,
            gs: data,
            cr0: 0x10,
            rip: u64::from(eip & 0xffff),
            ..Vmsa::default()
        }
    }

    /// 32-bit protected mode at `eip`.
    fn flat(&self, eip: u32, cs_attrib: u16) -> Vmsa {
        let flat = |selector, attrib| Segment { selector, attrib, limit: 0xffff_ffff, base: 0 };
        let data = flat(16, self.ss_attrib);
        Vmsa {
            es: data,
            cs: flat(8, cs_attrib),
            ss: data,
            ds: data,
            fs: data,
            gs: real_mode_segment(0x93),
            cr0: 0x11,
            rip: eip.into(),
            ..Vmsa::default()
        }
    }
}

/// A segment as reset leaves it: at 0, 64 KiB long.
fn real_mode_segment(attrib: u16) -> Segment {
    Segment { selector: 0, attrib, limit: 0xffff, base: 0 }
}
