//! The central test: digest engine and software platform give the same digest for the same plan, though neither calls the
//! other.

use conformance::{Boot, any_plan};
use proptest::prelude::*;
use snp_abi::LaunchDigest;
use snp_asp::PlatformConfig;
use snp_launch::{LaunchPlan, NoObserver, Platform, predict};
use snp_softkvm::{SoftPlatform, UapiProfile, profiles};

fn launch(plan: &LaunchPlan, profile: &'static UapiProfile) -> LaunchDigest {
    let platform = SoftPlatform::new(PlatformConfig::genoa(), profile);
    let launched = platform.launch(plan, &mut NoObserver).expect("the plan can be carried out");
    launched.digest.expect("the software platform knows its digest")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn direct_vmsa(plan in any_plan(Boot::Direct)) {
        prop_assert_eq!(launch(&plan, &profiles::DIRECT_VMSA), predict(&plan));
    }

    #[test]
    fn vcpu_state(plan in any_plan(Boot::Direct)) {
        prop_assert_eq!(launch(&plan, &profiles::VCPU_STATE), predict(&plan));
    }

    #[test]
    fn registers_under_every_profile(plan in any_plan(Boot::Registers)) {
        for profile in profiles::ALL {
            prop_assert_eq!(launch(&plan, profile), predict(&plan), "{}", profile.name);
        }
    }

    /// The point of the project.
    #[test]
    fn a_direct_digest_does_not_depend_on_the_vcpu_count(plan in any_plan(Boot::Direct), more in 1..40u32) {
        let larger = LaunchPlan { vcpus: plan.vcpus + more, ..plan.clone() };
        prop_assert_eq!(launch(&plan, &profiles::DIRECT_VMSA), launch(&larger, &profiles::DIRECT_VMSA));
    }

    #[test]
    fn a_legacy_digest_depends_on_the_vcpu_count(plan in any_plan(Boot::Registers), more in 1..8u32) {
        let larger = LaunchPlan { vcpus: plan.vcpus + more, ..plan.clone() };
        prop_assert_ne!(launch(&plan, &profiles::MAINLINE), launch(&larger, &profiles::MAINLINE));
    }
}
