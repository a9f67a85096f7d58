//! Extended state: PAT, XCR0, XSS, MXCSR, shadow stacks.

use super::Severity::{Suspicious, VmrunRefuses};
use super::{CONSISTENCY, Rule, bit, reserved, when};

/// U_CET and S_CET: SH_STK_EN, WR_SHSTK_EN. AMD processors have shadow stacks and no indirect-branch tracking.
const CET_DEFINED: u64 = 0b11;
const CET_SH_STK_EN: u64 = 1;
/// Memory types in PAT: UC, WC, WT, WP, WB, UC-.
const PAT_TYPES: [u8; 6] = [0, 1, 4, 5, 6, 7];
/// XCR0: x87, SSE, AVX, the three of AVX-512, MPK; LWP is gone but still defined.
const XCR0_DEFINED: u64 = 0x4000_0000_0000_02e7;
const XCR0_SSE: u64 = 1 << 1;
const XCR0_AVX: u64 = 1 << 2;
const XCR0_AVX512: u64 = 7 << 5;
/// XSS: CET_U, CET_S.
const XSS_DEFINED: u64 = 3 << 11;

const XCR0_SOURCE: &str = "APM 2, Extended Control Register XCR0 (XSETBV would refuse it; the APM leaves VMRUN open)";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "g-pat-type",
        severity: VmrunRefuses,
        field: "g_pat",
        source: "APM 2, Nested Paging and VMRUN/#VMEXIT",
        test: |vmsa| {
            let types = vmsa.g_pat.to_le_bytes();
            let wrong = types.iter().position(|memory_type| !PAT_TYPES.contains(memory_type))?;
            Some(format!("G_PAT is {:#x}: PA{wrong} is {:#x}, not a memory type", vmsa.g_pat, types[wrong]))
        },
    },
    Rule {
        id: "s-cet-reserved",
        severity: VmrunRefuses,
        field: "s_cet",
        source: CONSISTENCY,
        test: |vmsa| reserved("S_CET", vmsa.s_cet, CET_DEFINED),
    },
    Rule {
        id: "u-cet-reserved",
        severity: VmrunRefuses,
        field: "u_cet",
        source: CONSISTENCY,
        test: |vmsa| reserved("U_CET", vmsa.u_cet, CET_DEFINED),
    },
    Rule {
        id: "u-cet-vm",
        severity: VmrunRefuses,
        field: "u_cet",
        source: CONSISTENCY,
        test: |vmsa| {
            let shadow_stack = vmsa.cr4 & bit::CR4_CET != 0 && vmsa.u_cet & CET_SH_STK_EN != 0;
            when(shadow_stack && vmsa.rflags & bit::RFLAGS_VM != 0, || {
                "CR4.CET and U_CET.SH_STK_EN are set while RFLAGS.VM is set".into()
            })
        },
    },
    Rule {
        id: "xcr0-x87",
        severity: Suspicious,
        field: "xcr0",
        source: XCR0_SOURCE,
        test: |vmsa| when(vmsa.xcr0 & 1 == 0, || format!("XCR0 is {:#x}: bit 0 (x87) is always one", vmsa.xcr0)),
    },
    Rule {
        id: "xcr0-avx",
        severity: Suspicious,
        field: "xcr0",
        source: XCR0_SOURCE,
        test: |vmsa| {
            when(vmsa.xcr0 & (XCR0_AVX | XCR0_SSE) == XCR0_AVX, || {
                format!("XCR0 is {:#x}: AVX (bit 2) without SSE (bit 1)", vmsa.xcr0)
            })
        },
    },
    Rule {
        id: "xcr0-avx512",
        severity: Suspicious,
        field: "xcr0",
        source: XCR0_SOURCE,
        test: |vmsa| {
            let partial = !matches!(vmsa.xcr0 & XCR0_AVX512, 0 | XCR0_AVX512);
            let without_avx = vmsa.xcr0 & XCR0_AVX512 != 0 && vmsa.xcr0 & XCR0_AVX == 0;
            when(partial || without_avx, || {
                format!("XCR0 is {:#x}: AVX-512 wants bits 5, 6 and 7 together, with AVX", vmsa.xcr0)
            })
        },
    },
    Rule {
        id: "xcr0-reserved",
        severity: Suspicious,
        field: "xcr0",
        source: XCR0_SOURCE,
        test: |vmsa| reserved("XCR0", vmsa.xcr0, XCR0_DEFINED),
    },
    Rule {
        id: "xss-reserved",
        severity: Suspicious,
        field: "xss",
        source: "APM 2, Extended Supervisor State Mask (the APM does not say what VMRUN does)",
        test: |vmsa| reserved("XSS", vmsa.xss, XSS_DEFINED),
    },
    Rule {
        id: "mxcsr-reserved",
        severity: Suspicious,
        field: "mxcsr",
        source: "APM 2, MXCSR (LDMXCSR would refuse it; the APM does not say what VMRUN does)",
        test: |vmsa| reserved("MXCSR", vmsa.mxcsr.into(), 0x2_ffff),
    },
];
