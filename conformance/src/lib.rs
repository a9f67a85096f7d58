//! Launch plans of every shape, for the tests that ask every back end the same question.

use bytes::Bytes;
use proptest::prelude::*;
use snp_abi::{CpuidPage, Gpa, GuestPolicy, PAGE_SIZE, Segment, SevFeatures, Vmpl, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PageBytes};

/// The first byte of every plan's memory.
const BASE: u64 = 0x20_0000;

/// Pages of every plan's memory.
const PAGES: u64 = 64;

/// How the boot processor gets its state in an [`any_plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// From registers, as mainline Linux does.
    Registers,
    /// From a VMSA page of the plan.
    Direct,
}

/// Any plan that every back end can carry out: all page types, runs that cross memory slots, any order of pages, any
/// contents, non-zero TSC fields in the supplied VMSA.
pub fn any_plan(boot: Boot) -> impl Strategy<Value = LaunchPlan> {
    let cuts = prop::collection::btree_set(1..PAGES, 0..4);
    let runs = prop::collection::vec((1..6u64, 0..6u8, any::<u64>()), 1..12);
    (cuts, runs, any_vmsa(), any_vmsa(), 1..6u32, any::<[u8; 32]>(), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(move |(cuts, runs, first, second, vcpus, host_data, boot_at, reverse)| {
            let mut pages = lay_out(&runs);
            if reverse {
                pages.reverse();
            }
            let boot = match boot {
                Boot::Registers => {
                    BootState::Registers { boot: Box::new(as_registers(first)), others: Box::new(as_registers(second)) }
                }
                Boot::Direct => {
                    let gpa = Gpa(BASE + (PAGES - 1) * PAGE_SIZE as u64);
                    pages.insert(boot_at.index(pages.len() + 1), LaunchPage::Vmsa { gpa, vmsa: Box::new(first) });
                    BootState::Direct { vmsa_gpa: gpa }
                }
            };
            LaunchPlan {
                policy: GuestPolicy::DEFAULT,
                gosvw: [0; 16],
                features: SevFeatures(SevFeatures::SNP_ACTIVE),
                memory: regions(&cuts),
                pages,
                boot,
                vcpus,
                id_block: None,
                host_data,
                vcek_disabled: false,
            }
        })
}

/// The memory, cut into adjacent regions, so that runs of pages cross memory slots.
fn regions(cuts: &std::collections::BTreeSet<u64>) -> Vec<MemoryRegion> {
    let ends = cuts.iter().copied().chain([PAGES]);
    ends.scan(0, |start, end| {
        let region =
            MemoryRegion { gpa: Gpa(BASE + *start * PAGE_SIZE as u64), len: (end - *start) * PAGE_SIZE as u64 };
        *start = end;
        Some(region)
    })
    .collect()
}

/// Runs of pages one after the other, with a gap after some, up to the last page but one.
fn lay_out(runs: &[(u64, u8, u64)]) -> Vec<LaunchPage> {
    let mut at = 0;
    let mut pages = Vec::new();
    for &(count, kind, seed) in runs {
        let count = if matches!(kind, 3 | 4) { 1 } else { count };
        if at + count >= PAGES {
            break;
        }
        let gpa = Gpa(BASE + at * PAGE_SIZE as u64);
        pages.push(match kind {
            0 | 5 => LaunchPage::Normal { gpa, data: contents(seed, count) },
            1 => LaunchPage::Unmeasured { gpa, data: contents(seed, count) },
            2 => LaunchPage::Zero { gpa, len: count * PAGE_SIZE as u64 },
            3 => LaunchPage::Secrets { gpa },
            _ => LaunchPage::Cpuid { gpa, table: Box::<CpuidPage>::default() },
        });
        at += count + seed % 2;
    }
    pages
}

/// Contents that differ from page to page; some pages are zero.
fn contents(seed: u64, pages: u64) -> PageBytes {
    let mut state = seed | 1;
    let mut data = Vec::with_capacity(pages as usize * PAGE_SIZE);
    for page in 0..pages {
        for _ in 0..PAGE_SIZE / 8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = if (seed >> (page % 8)) & 7 == 0 { 0 } else { state };
            data.extend_from_slice(&word.to_le_bytes());
        }
    }
    PageBytes::new(Bytes::from(data)).expect("whole pages")
}

/// A VMSA with every field that KVM can carry from its registers non-zero somewhere, and TSC fields that are measured as
/// zero.
pub fn any_vmsa() -> impl Strategy<Value = Vmsa> {
    let segment = || (any::<u16>(), 0u16..0x1000, any::<u32>(), any::<u64>());
    let segments = prop::collection::vec(segment(), 8);
    (segments, prop::collection::vec(any::<u64>(), 32), any::<[u8; 16]>()).prop_map(|(segments, words, fp)| {
        let segment = |i: usize| {
            let (selector, attrib, limit, base): (u16, u16, u32, u64) = segments[i];
            Segment { selector, attrib, limit, base }
        };
        let mut vmsa = Vmsa {
            es: segment(0),
            cs: segment(1),
            ss: segment(2),
            ds: segment(3),
            fs: segment(4),
            gs: segment(5),
            ldtr: segment(6),
            tr: segment(7),
            gdtr: Segment { selector: 0, attrib: 0, limit: words[0] as u32 & 0xffff, base: words[1] },
            idtr: Segment { selector: 0, attrib: 0, limit: words[2] as u32 & 0xffff, base: words[3] },
            vmpl: Vmpl(0),
            sev_features: SevFeatures(SevFeatures::SNP_ACTIVE),
            efer: 0x1000,
            cr0: 0x10,
            cr4: 0x40,
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            rflags: 2,
            xcr0: 1,
            g_pat: 0x0007_0406_0007_0406,
            mxcsr: 0x1f80,
            x87_fcw: 0x37f,
            rip: words[4],
            rax: words[5],
            rbx: words[6],
            rcx: words[7],
            rdx: words[8],
            rsi: words[9],
            rdi: words[10],
            rsp: words[11],
            rbp: words[12],
            r8: words[13],
            r9: words[14],
            r10: words[15],
            r11: words[16],
            r12: words[17],
            r13: words[18],
            r14: words[19],
            r15: words[20],
            cr3: words[21] & 0x000f_ffff_ffff_f000,
            cr2: words[22],
            tsc_scale: words[23],
            tsc_offset: words[24],
            ..Vmsa::default()
        };
        vmsa.fpreg_xmm[..16].copy_from_slice(&fp);
        vmsa
    })
}

/// The same state as KVM would build it from registers: what no register carries is as KVM leaves it.
fn as_registers(mut vmsa: Vmsa) -> Vmsa {
    vmsa.tsc_scale = 0;
    vmsa.tsc_offset = 0;
    vmsa.cr2 = 0;
    vmsa.fpreg_xmm = [0; 256];
    for segment in [
        &mut vmsa.es,
        &mut vmsa.cs,
        &mut vmsa.ss,
        &mut vmsa.ds,
        &mut vmsa.fs,
        &mut vmsa.gs,
        &mut vmsa.ldtr,
        &mut vmsa.tr,
    ] {
        // Present, so that KVM does not take the segment for unusable.
        segment.attrib |= 0x80;
    }
    // Not in 64-bit mode: KVM refuses a 64-bit code segment.
    vmsa.cs.attrib &= !0x200;
    vmsa.cpl = ((vmsa.ss.attrib >> 5) & 3) as u8;
    vmsa
}
