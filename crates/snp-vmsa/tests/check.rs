//! Every rule with a state that keeps it and one that breaks it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use snp_abi::{Gpa, Segment, SevFeatures, Vmpl, Vmsa};
use snp_vmsa::check::{LaunchRules, Severity, launch_findings, rules, vmrun_findings};
use snp_vmsa::reset::{BOOT_EIP, find, profiles};
use zerocopy::FromBytes;

const FEATURES: SevFeatures = SevFeatures(SevFeatures::SNP_ACTIVE);
const GOOD_GPA: Gpa = Gpa(0x10_a000);

fn reset_state() -> Vmsa {
    find("qemu").unwrap().vmsa(BOOT_EIP, 0x00a0_0f11, FEATURES)
}

/// 64-bit mode, with the bits set that the reset state leaves clear.
fn long_state() -> Vmsa {
    Vmsa {
        cs: Segment { selector: 8, attrib: 0x29b, limit: 0xffff_ffff, base: 0 },
        ss: Segment { selector: 0x10, attrib: 0xc93, limit: 0xffff_ffff, base: 0 },
        gs: Segment { base: 0xffff_8000_0000_0000, ..Segment::default() },
        efer: 0x1d01,
        cr0: 0x8005_0033,
        cr3: 0x8_0000_0010_2000,
        cr4: 0x00f7_1ee0 & !(1 << 12),
        rip: 0xffff_ffff_8000_0000,
        rflags: 0x24_0202,
        xcr0: 0x2e7,
        xss: 0x1800,
        s_cet: 3,
        u_cet: 1,
        ssp: 0xffff_ffff_ffff_f000,
        lstar: 0xffff_ffff_8100_0000,
        ..reset_state()
    }
}

/// Compatibility mode: protected, with paging, limits and CPL 3.
fn compatibility_state() -> Vmsa {
    Vmsa {
        cs: Segment { selector: 0x1b, attrib: 0xcfb, limit: 0xffff_ffff, base: 0 },
        ss: Segment { selector: 0x23, attrib: 0xcf3, limit: 0xffff_ffff, base: 0 },
        rip: 0x40_0000,
        cpl: 3,
        ..long_state()
    }
}

fn injecting_state() -> Vmsa {
    let features = SevFeatures::SNP_ACTIVE | SevFeatures::ALTERNATE_INJECTION;
    Vmsa { sev_features: SevFeatures(features), vintr_ctrl: 0x400, event_inj: 0x8000_030d, ..reset_state() }
}

fn with(mut vmsa: Vmsa, change: impl Fn(&mut Vmsa)) -> Vmsa {
    change(&mut vmsa);
    vmsa
}

#[test]
fn good_states_pass() {
    let virtual_8086 = with(reset_state(), |v| (v.cr0, v.rflags, v.cpl) = (0x11, 0x2_0002, 3));
    let tom = with(reset_state(), |v| (v.sev_features.0, v.virtual_tom) = (3, 0x8000_0000));
    let secure_avic = with(reset_state(), |v| {
        v.sev_features.0 = SevFeatures::SNP_ACTIVE | SevFeatures::SECURE_AVIC;
        v.reserved_0x320 = 0x10_b003_u64.to_le_bytes();
    });
    // 57-bit addresses under LA57; a null SS in 64-bit mode; EFER.LME before paging is on.
    let la57 = with(long_state(), |v| (v.cr4, v.rip) = (v.cr4 | 1 << 12, 0xff00_0000_0000_0000));
    let null_ss = with(long_state(), |v| v.ss = Segment::default());
    let lme_without_paging = with(reset_state(), |v| v.efer = 0x1100);
    for (i, vmsa) in [
        reset_state(),
        long_state(),
        compatibility_state(),
        injecting_state(),
        virtual_8086,
        tom,
        secure_avic,
        la57,
        null_ss,
        lme_without_paging,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(vmrun_findings(&vmsa), [], "state {i}");
        assert_eq!(launch_findings(&vmsa, Some(GOOD_GPA), vmsa.sev_features, LaunchRules::DirectVmsa), [], "state {i}");
    }
}

#[test]
fn every_reset_profile_passes() {
    for profile in profiles() {
        for eip in [BOOT_EIP, 0x80_b004] {
            let vmsa = profile.vmsa(eip, 0x00a1_0f10, SevFeatures(0x21));
            assert_eq!(vmrun_findings(&vmsa), [], "{} at {eip:#x}", profile.name);
        }
    }
}

/// (rule, its severity, the rules that also fire, a state that breaks it).
fn violations() -> Vec<(&'static str, Severity, &'static [&'static str], Vmsa)> {
    use Severity::{Suspicious as S, VmrunRefuses as R};
    let reset = |change: fn(&mut Vmsa)| with(reset_state(), change);
    let long = |change: fn(&mut Vmsa)| with(long_state(), change);
    let injecting = |change: fn(&mut Vmsa)| with(injecting_state(), change);
    vec![
        ("efer-svme", R, &[], reset(|v| v.efer = 0)),
        ("efer-reserved", R, &[], reset(|v| v.efer |= 1 << 9)),
        ("efer-reserved", R, &[], reset(|v| v.efer |= 1 << 16)),
        ("efer-reserved", R, &[], reset(|v| v.efer |= 1 << 63)),
        ("efer-raz", S, &[], reset(|v| v.efer |= 2)),
        ("efer-lma", S, &[], reset(|v| v.efer |= 0x400)),
        ("efer-lma", S, &[], long(|v| v.efer &= !0x400)),
        ("cr0-cd-nw", R, &[], reset(|v| v.cr0 |= 1 << 29)),
        ("cr0-high", R, &[], reset(|v| v.cr0 |= 1 << 32)),
        ("cr0-reserved", S, &[], reset(|v| v.cr0 |= 1 << 17)),
        ("cr0-pg-pe", S, &[], reset(|v| v.cr0 |= 1 << 31)),
        ("cr3-reserved", R, &[], reset(|v| v.cr3 = 1 << 52)),
        ("cr4-reserved", R, &[], reset(|v| v.cr4 |= 1 << 19)),
        ("cr4-reserved", R, &[], reset(|v| v.cr4 |= 1 << 24)),
        ("cr4-pcide", S, &[], reset(|v| v.cr4 |= 1 << 17)),
        ("long-pae", R, &[], long(|v| v.cr4 &= !0x20)),
        ("long-pe", R, &["rip-limit"], long(|v| v.cr0 &= !1)),
        ("cet-wp", R, &[], long(|v| v.cr0 &= !0x1_0000)),
        ("dr6-high", R, &[], reset(|v| v.dr6 |= 1 << 32)),
        ("dr7-high", R, &[], reset(|v| v.dr7 |= 1 << 63)),
        ("rflags-one", S, &[], reset(|v| v.rflags = 0)),
        ("rflags-reserved", S, &[], reset(|v| v.rflags |= 1 << 3)),
        ("rflags-reserved", S, &[], reset(|v| v.rflags |= 1 << 22)),
        ("rflags-vm", S, &[], reset(|v| v.rflags |= 1 << 17)),
        ("dbgctl-reserved", S, &[], reset(|v| v.dbgctl = 1 << 6)),
        ("cs-l-d", R, &[], long(|v| v.cs.attrib |= 0x400)),
        ("cs-code", S, &[], reset(|v| v.cs.attrib = 0x93)),
        ("cs-code", S, &[], reset(|v| v.cs.attrib = 0x8b)),
        ("rip-canonical", S, &[], long(|v| v.rip = 1 << 47)),
        ("rip-limit", S, &[], reset(|v| v.rip = 0x1_0000)),
        ("cpl-range", S, &["cpl-ss-dpl"], long(|v| v.cpl = 4)),
        ("cpl-forced", S, &[], reset(|v| v.cpl = 3)),
        ("cpl-ss-dpl", S, &[], long(|v| v.cpl = 3)),
        ("ss-present", S, &[], reset(|v| v.ss.attrib = 0x13)),
        ("tr-tss", S, &[], reset(|v| v.tr.attrib = 0x89)),
        ("tr-tss", S, &[], reset(|v| v.tr.attrib = 0)),
        ("ldtr-ldt", S, &[], reset(|v| v.ldtr.attrib = 0x8b)),
        ("attrib-reserved", S, &[], reset(|v| v.fs.attrib |= 0x1000)),
        ("table-limit", S, &[], reset(|v| v.idtr.limit = 0x1_0000)),
        ("base-canonical", S, &[], long(|v| v.fs.base = 0x8000_0000_0000)),
        ("shadow-stack-canonical", S, &[], long(|v| v.pl2_ssp = 1 << 60)),
        ("msr-canonical", S, &[], long(|v| v.cstar = 1 << 50)),
        ("g-pat-type", R, &[], reset(|v| v.g_pat = 0x0002_0406_0007_0406)),
        ("g-pat-type", R, &[], reset(|v| v.g_pat |= 0x80)),
        ("s-cet-reserved", R, &[], reset(|v| v.s_cet = 4)),
        ("u-cet-reserved", R, &[], reset(|v| v.u_cet = 1 << 10)),
        ("u-cet-vm", R, &["rflags-vm"], long(|v| v.rflags |= 1 << 17)),
        ("xcr0-x87", S, &[], reset(|v| v.xcr0 = 2)),
        ("xcr0-avx", S, &[], reset(|v| v.xcr0 = 5)),
        ("xcr0-avx512", S, &[], reset(|v| v.xcr0 = 0x27)),
        ("xcr0-avx512", S, &[], reset(|v| v.xcr0 = 0xe3)),
        ("xcr0-reserved", S, &[], reset(|v| v.xcr0 |= 1 << 40)),
        ("xss-reserved", S, &[], reset(|v| v.xss = 1)),
        ("mxcsr-reserved", S, &[], reset(|v| v.mxcsr |= 1 << 16)),
        ("features-snp-active", R, &[], reset(|v| v.sev_features.0 = 0)),
        ("features-injection", R, &[], reset(|v| v.sev_features.0 = 0x19)),
        ("features-secure-avic", R, &[], reset(|v| v.sev_features.0 = 0x1_0009)),
        ("features-reserved", S, &[], reset(|v| v.sev_features.0 |= 1 << 17)),
        ("vmpl-range", S, &[], reset(|v| v.vmpl = Vmpl(4))),
        ("virtual-tom-aligned", S, &[], reset(|v| (v.sev_features.0, v.virtual_tom) = (3, 0x10_0000))),
        ("vintr-busy", R, &[], injecting(|v| v.vintr_ctrl = 1 << 63)),
        ("event-type", R, &[], injecting(|v| v.event_inj = 0x8000_0120)),
        ("event-type", R, &[], injecting(|v| v.event_inj = 0x8000_0420)),
        ("event-vector", R, &[], injecting(|v| v.event_inj = 0x8000_0302)),
        ("event-vector", R, &[], injecting(|v| v.event_inj = 0x8000_0303)),
        ("event-vector", R, &[], injecting(|v| v.event_inj = 0x8000_0320)),
        ("injection-ignored", S, &[], reset(|v| v.event_inj = 0x8000_0120)),
        (
            "secure-avic-control",
            S,
            &[],
            reset(|v| {
                v.sev_features.0 = 0x1_0001;
                v.reserved_0x320[0] = 4;
            }),
        ),
        ("tlb-tracking", S, &[], reset(|v| v.pcpu_id = 1)),
    ]
}

#[test]
fn every_rule_is_broken_by_its_state_and_by_it_alone() {
    let mut seen = BTreeSet::new();
    for (id, severity, others, vmsa) in violations() {
        let findings = vmrun_findings(&vmsa);
        let finding = findings.iter().find(|finding| finding.id == id).unwrap_or_else(|| panic!("{id}: {findings:?}"));
        assert_eq!(finding.severity, severity, "{id}");
        let extra: Vec<_> = findings.iter().filter(|other| other.id != id && !others.contains(&other.id)).collect();
        assert!(extra.is_empty(), "{id} also gives {extra:?}");
        seen.insert(id);
    }
    let known: BTreeSet<_> = rules().map(|rule| rule.id).collect();
    assert_eq!(known.len(), rules().count(), "rule names are unique");
    assert_eq!(seen, known, "every rule has a violating state");
}

#[test]
fn rules_name_their_field_and_source() {
    for rule in rules() {
        assert!(!rule.source.is_empty(), "{}", rule.id);
        assert!(rule.field.is_empty() || snp_vmsa::fields::find(rule.field).is_ok(), "{}: {}", rule.id, rule.field);
    }
}

#[test]
fn launch_rules_per_profile() {
    use LaunchRules::{DirectVmsa, Mainline, VcpuState};
    use Severity::{LaunchRefuses as L, Suspicious as S};
    let good = reset_state();
    let found = |vmsa: &Vmsa, gpa, rules| -> Vec<(&'static str, Severity)> {
        launch_findings(vmsa, gpa, FEATURES, rules).iter().map(|finding| (finding.id, finding.severity)).collect()
    };
    for rules in [DirectVmsa, VcpuState] {
        assert_eq!(found(&good, Some(GOOD_GPA), rules), []);
        assert_eq!(found(&good, None, rules), []);
        let features = with(good, |v| v.sev_features.0 = 0x21);
        assert_eq!(found(&features, None, rules), [("launch-features", L)]);
        assert_eq!(found(&with(good, |v| v.vmpl = Vmpl(1)), None, rules), [("launch-vmpl", L)]);
        assert_eq!(found(&good, Some(Gpa(0x10_a800)), rules), [("launch-gpa-page", L)]);
        assert_eq!(found(&with(good, |v| v.tsc_scale = 1), None, rules), [("measured-tsc", S)]);
        assert_eq!(found(&with(good, |v| v.tsc_offset = 1), None, rules), [("measured-tsc", S)]);
        assert_eq!(found(&with(good, |v| v.reserved_0x298[3] = 1), None, rules), [("measured-reserved", S)]);
        assert_eq!(found(&with(good, |v| v.unused_0x670[0x98f] = 1), None, rules), [("measured-reserved", S)]);
    }
    assert_eq!(found(&good, Some(Gpa(0x20_0000)), DirectVmsa), [("launch-gpa-2mib", S)]);
    assert_eq!(found(&good, Some(Gpa(0x20_0000)), VcpuState), [("launch-gpa-2mib", L)]);
    assert_eq!(found(&good, None, Mainline), [("launch-no-vmsa", L)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_page_is_judged_without_panic(page in proptest::collection::vec(any::<u8>(), 4096), gpa: u64, features: u64) {
        let vmsa = Vmsa::read_from_bytes(&page).unwrap();
        for finding in vmrun_findings(&vmsa) {
            prop_assert!(!finding.message.is_empty());
        }
        for rules in LaunchRules::ALL {
            launch_findings(&vmsa, Some(Gpa(gpa)), SevFeatures(features), rules);
        }
    }
}
