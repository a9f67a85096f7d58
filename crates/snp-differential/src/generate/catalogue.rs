//! Which instructions there are to choose from.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};

/// Kinds of instructions, so that a sequence can be about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Moves, arithmetic, bits.
    Integer,
    /// REP and its like.
    String,
    /// Branches, calls, the stack.
    Control,
    /// What user programs may not.
    Privileged,
    /// MMX.
    Mmx,
    /// SSE.
    Sse,
    /// VEX.
    Avx,
    /// x87.
    X87,
}

/// The instructions that this machine has and that have one right result.
#[derive(Debug)]
pub struct Catalogue {
    classes: BTreeMap<Class, Vec<(Mnemonic, Vec<Code>)>>,
    codes: HashSet<Code>,
    /// What this machine lacks, in words.
    pub missing: BTreeSet<String>,
}

impl Catalogue {
    /// Every instruction of user mode in 64-bit mode that this machine has.
    pub fn of_this_machine() -> Self {
        let mut catalogue = Self { classes: BTreeMap::new(), codes: HashSet::new(), missing: BTreeSet::new() };
        for code in Code::values().filter(|code| is_meant(*code)) {
            let features = code.cpuid_features();
            if !features.iter().all(|feature| detect(*feature).is_some()) {
                continue;
            }
            match features.iter().find(|feature| detect(**feature) == Some(false)) {
                Some(feature) => {
                    catalogue.missing.insert(format!("{feature:?}"));
                }
                None => catalogue.add(code),
            }
        }
        catalogue
    }

    /// Of those, the ones with such a mnemonic (in any case) or of such a feature.
    pub fn only(mut self, names: &[String]) -> Self {
        let wanted = |code: &Code| {
            let mut its = vec![format!("{:?}", code.mnemonic()), format!("{code:?}")];
            its.extend(code.cpuid_features().iter().map(|feature| format!("{feature:?}")));
            names.iter().any(|name| its.iter().any(|it| it.eq_ignore_ascii_case(name)))
        };
        let codes: Vec<Code> = self.codes.iter().copied().filter(wanted).collect();
        (self.classes, self.codes) = (BTreeMap::new(), HashSet::new());
        for code in codes {
            self.add(code);
        }
        for mnemonics in self.classes.values_mut() {
            mnemonics.sort_by_key(|(mnemonic, _)| *mnemonic as u32);
            mnemonics.iter_mut().for_each(|(_, codes)| codes.sort_by_key(|code| *code as u32));
        }
        self
    }

    fn add(&mut self, code: Code) {
        self.codes.insert(code);
        let class = self.classes.entry(class(code)).or_default();
        match class.iter_mut().find(|(mnemonic, _)| *mnemonic == code.mnemonic()) {
            Some((_, codes)) => codes.push(code),
            None => class.push((code.mnemonic(), vec![code])),
        }
    }

    /// The instructions of a class, by mnemonic.
    pub fn class(&self, class: Class) -> &[(Mnemonic, Vec<Code>)] {
        self.classes.get(&class).map_or(&[], Vec::as_slice)
    }

    /// The classes that have instructions.
    pub fn classes(&self) -> impl Iterator<Item = Class> + '_ {
        self.classes.keys().copied()
    }

    /// Whether an instruction is in.
    pub fn contains(&self, code: Code) -> bool {
        self.codes.contains(&code)
    }

    /// How many instructions are in.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }
}

fn class(code: Code) -> Class {
    use CpuidFeature::*;
    let info = code.op_code();
    let features = code.cpuid_features();
    if info.is_privileged() || info.must_be_cpl0() || info.may_require_cpl0() || info.is_input_output() {
        return Class::Privileged;
    }
    if code.encoding() == EncodingKind::VEX {
        let general = features.iter().any(|feature| matches!(feature, BMI1 | BMI2));
        return if general { Class::Integer } else { Class::Avx };
    }
    if features.iter().any(|feature| matches!(feature, FPU | FPU287 | FPU387)) {
        return Class::X87;
    }
    let mmx = info.op_kinds().iter().any(|kind| format!("{kind:?}").starts_with("mm_"));
    if mmx || code.mnemonic() == Mnemonic::Emms {
        return Class::Mmx;
    }
    if features
        .iter()
        .any(|feature| matches!(feature, SSE | SSE2 | SSE3 | SSSE3 | SSE4_1 | SSE4_2 | SSE4A | AES | PCLMULQDQ | SHA))
    {
        return Class::Sse;
    }
    if code.is_string_instruction() {
        return Class::String;
    }
    if info.is_stack_instruction() || code.flow_control() != iced_x86::FlowControl::Next {
        return Class::Control;
    }
    Class::Integer
}

/// Whether an instruction belongs to user mode of 64-bit mode, is architectural, and has one right result.
fn is_meant(code: Code) -> bool {
    let info = code.op_code();
    let legacy = matches!(code.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
    info.is_instruction()
        && legacy
        && info.mode64()
        && info.decoder_option() == 0
        && !info.fwait()
        && !is_excluded(code)
}

/// Instructions that cannot be compared, and why.
fn is_excluded(code: Code) -> bool {
    use Mnemonic::*;
    match code.mnemonic() {
        // Answers that differ between any two processors or moments.
        Rdtsc | Rdtscp | Rdpmc | Rdpid | Rdrand | Rdseed | Rdpru | Cpuid | Xgetbv | Rdpkru | Wrpkru => true,
        // Linux, not the processor, answers: system calls, and the instructions of UMIP, which it emulates.
        Syscall | Sysenter | Sgdt | Sidt | Sldt | Smsw | Str => true,
        // What they see is in descriptor tables of Linux.
        Lar | Lsl | Verr | Verw | Lss | Lfs | Lgs | Iret | Iretd | Iretq | Retf => true,
        // Under a hypervisor, the hypervisor answers.
        Vmmcall | Vmcall | Vmgexit | Monitor | Mwait | Monitorx | Mwaitx | Umonitor | Umwait | Tpause => true,
        // Approximations, whose last bits are each processor's own.
        Rcpps | Rcpss | Rsqrtps | Rsqrtss | Vrcpps | Vrcpss | Vrsqrtps | Vrsqrtss => true,
        Fsin | Fcos | Fsincos | Fptan | Fpatan | F2xm1 | Fyl2x | Fyl2xp1 => true,
        // They show which components the processor knows to be in their initial state, and pointers to the last x87
        // instruction, which Linux' own saving and restoring changes.
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 => true,
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64 | Fnstenv | Fldenv | Fnsave | Frstor => true,
        // Undefined by the manual for 16 bits.
        Bswap => code == Code::Bswap_r16,
        // Selectors that are not null, or a change of mode.
        Jmp | Call => code.is_jmp_far_indirect() || code.is_call_far_indirect(),
        Mov => matches!(code, Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16),
        Pop => matches!(
            code,
            Code::Popw_FS | Code::Popd_FS | Code::Popq_FS | Code::Popw_GS | Code::Popd_GS | Code::Popq_GS
        ),
        // They write a line that another view of the memory has, or ask for a fault that nobody sees.
        Clzero | Clflush | Clflushopt | Clwb => false,
        // Reserved for the illegal: which opcodes these are differs between processors.
        Reservednop | Ud0 | Ud1 => true,
        _ => false,
    }
}

/// Whether this processor has a feature; `None` for features that are not the model's either.
fn detect(feature: CpuidFeature) -> Option<bool> {
    use CpuidFeature::*;
    macro_rules! detected {
        ($name:tt) => {
            std::is_x86_feature_detected!($name)
        };
    }
    Some(match feature {
        INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | FPU | FPU287 | FPU387 | CX8 | CMOV | MMX => true,
        MULTIBYTENOP | PAUSE | MSR | SSE | SSE2 | CLFSH | FSGSBASE | PREFETCHW => true,
        SSE3 => detected!("sse3"),
        SSSE3 => detected!("ssse3"),
        SSE4_1 => detected!("sse4.1"),
        SSE4_2 => detected!("sse4.2"),
        AVX => detected!("avx"),
        AVX2 => detected!("avx2"),
        FMA => detected!("fma"),
        F16C => detected!("f16c"),
        BMI1 => detected!("bmi1"),
        BMI2 => detected!("bmi2"),
        LZCNT => detected!("lzcnt"),
        POPCNT => detected!("popcnt"),
        MOVBE => detected!("movbe"),
        ADX => detected!("adx"),
        CMPXCHG16B => detected!("cmpxchg16b"),
        AES => detected!("aes"),
        PCLMULQDQ => detected!("pclmulqdq"),
        _ => return None,
    })
}
