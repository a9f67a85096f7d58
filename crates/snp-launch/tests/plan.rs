//! Which plans are refused, and what is said about those that are not.

use proptest::prelude::*;
use snp_abi::{Gpa, GuestPolicy, PageType, SevFeatures, Vmpl, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PageBytes, PlanError, PlanWarning};

const FEATURES: SevFeatures = SevFeatures(SevFeatures::SNP_ACTIVE);

fn vmsa(gpa: u64) -> LaunchPage {
    LaunchPage::Vmsa { gpa: Gpa(gpa), vmsa: Box::new(Vmsa { sev_features: FEATURES, ..Vmsa::default() }) }
}

fn zero(gpa: u64, len: u64) -> LaunchPage {
    LaunchPage::Zero { gpa: Gpa(gpa), len }
}

fn region(gpa: u64, len: u64) -> MemoryRegion {
    MemoryRegion { gpa: Gpa(gpa), len }
}

/// A plan without fault: two adjacent regions and one apart, a run that crosses from one region into the next.
fn valid() -> LaunchPlan {
    LaunchPlan {
        policy: GuestPolicy::DEFAULT,
        gosvw: [0; 16],
        features: FEATURES,
        memory: vec![region(0x10_0000, 0x10_0000), region(0, 0x10_0000), region(0xffff_0000, 0x1_0000)],
        pages: vec![zero(0xf_f000, 0x2000), zero(0xffff_f000, 0x1000), vmsa(0x1000)],
        boot: BootState::Direct { vmsa_gpa: Gpa(0x1000) },
        vcpus: 1,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    }
}

fn refused(change: impl FnOnce(&mut LaunchPlan)) -> PlanError {
    let mut plan = valid();
    change(&mut plan);
    plan.validate().expect_err("the plan is refused")
}

#[test]
fn a_valid_plan() {
    assert_eq!(valid().validate(), Ok(()));
    assert_eq!(valid().warnings(), []);
}

#[test]
fn every_refusal() {
    for vcpus in [0, 4097] {
        assert_eq!(refused(|plan| plan.vcpus = vcpus), PlanError::VcpuCount { vcpus });
    }
    let features = SevFeatures(0x20);
    assert_eq!(refused(|plan| plan.features = features), PlanError::NotSnp { features });
    for (gpa, len) in [(0x800, 0x1000), (0x1000, 0), (0x1000, 0x800), (1 << 52, 0x1000), (!0xfff, 0x1000), (0, !0xfff)]
    {
        let expected = PlanError::Region { gpa: Gpa(gpa), len };
        assert_eq!(refused(|plan| plan.memory.push(region(gpa, len))), expected);
        let expected = PlanError::Range { gpa: Gpa(gpa), len };
        assert_eq!(refused(|plan| plan.pages.push(zero(gpa, len))), expected);
    }
    let expected = PlanError::RegionsOverlap { first: Gpa(0x10_0000), second: Gpa(0x1f_f000) };
    assert_eq!(refused(|plan| plan.memory.push(region(0x1f_f000, 0x2000))), expected);
    for (gpa, len) in [(0x20_0000, 0x1000), (0x1f_f000, 0x2000), (0xfffe_f000, 0x2000), (0x20_0000, 1 << 40)] {
        let expected = PlanError::NoMemory { page_type: PageType::ZERO, gpa: Gpa(gpa), len };
        assert_eq!(refused(|plan| plan.pages.push(zero(gpa, len))), expected);
    }
    let twice = |gpa| PlanError::PageTwice { gpa: Gpa(gpa) };
    assert_eq!(refused(|plan| plan.pages.push(zero(0x0, 0x2000))), twice(0x1000));
    assert_eq!(refused(|plan| plan.pages.push(zero(0x10_0000, 0x1000))), twice(0x10_0000));
    let missing = BootState::Direct { vmsa_gpa: Gpa(0xf_f000) };
    assert_eq!(refused(|plan| plan.boot = missing), PlanError::NoBootVmsa { gpa: Gpa(0xf_f000) });
    assert_eq!(PageBytes::new(vec![0; 100].into()), Err(PlanError::Length { len: 100 }));
    assert_eq!(PageBytes::new(vec![].into()), Err(PlanError::Length { len: 0 }));
}

#[test]
fn a_plan_of_petabytes_is_checked_at_once() {
    let mut plan = valid();
    plan.memory = vec![region(0, 1 << 52)];
    plan.pages = vec![zero(0x2000, (1 << 52) - 0x2000), vmsa(0x1000)];
    assert_eq!(plan.validate(), Ok(()));
}

#[test]
fn every_warning() {
    let odd = Vmsa { tsc_scale: 1, tsc_offset: 2, vmpl: Vmpl(1), sev_features: SevFeatures(0x21), ..Vmsa::default() };
    let mut plan = valid();
    plan.policy.0 |= GuestPolicy::DEBUG;
    plan.pages.push(LaunchPage::Vmsa { gpa: Gpa(0x20_0000), vmsa: Box::new(odd) });
    let gpa = Gpa(0x20_0000);
    let expected = [
        PlanWarning::TscFields { gpa, scale: 1, offset: 2 },
        PlanWarning::VmsaAt2Mib { gpa },
        PlanWarning::VmsaFeatures { gpa, vmsa: SevFeatures(0x21), plan: FEATURES },
        PlanWarning::VmsaVmpl { gpa, vmpl: Vmpl(1) },
        PlanWarning::SeveralVmsas { count: 2 },
        PlanWarning::DebugPolicy,
    ];
    assert_eq!(plan.warnings(), expected);
    assert!(plan.warnings()[0].to_string().contains("will disagree"));
}

#[test]
fn registers_are_looked_at_as_far_as_they_are_used() {
    let odd = Box::new(Vmsa { tsc_offset: 2, ..Vmsa::default() });
    let mut plan = valid();
    plan.boot = BootState::Registers { boot: Box::default(), others: odd };
    assert_eq!(plan.warnings(), []);
    plan.vcpus = 2;
    assert!(matches!(plan.warnings()[..], [PlanWarning::TscFields { offset: 2, .. }]));
}

proptest! {
    /// The check of runs agrees with a check of every single page.
    #[test]
    fn runs_are_checked_like_single_pages(
        memory in prop::collection::vec((0..24_u64, 1..8_u64), 0..4),
        pages in prop::collection::vec((0..24_u64, 1..6_u64), 0..5),
    ) {
        let plan = LaunchPlan {
            memory: memory.iter().map(|(at, len)| region(at << 12, len << 12)).collect(),
            pages: pages.iter().map(|(at, len)| zero(at << 12, len << 12)).collect(),
            boot: BootState::Registers { boot: Box::default(), others: Box::default() },
            ..valid()
        };
        let count = |ranges: &[(u64, u64)], page| ranges.iter().filter(|(at, len)| (*at..at + len).contains(&page)).count();
        let ok = (0..40).all(|page| {
            let (regions, runs) = (count(&memory, page), count(&pages, page));
            regions <= 1 && runs <= regions
        });
        prop_assert_eq!(plan.validate().is_ok(), ok);
    }
}
