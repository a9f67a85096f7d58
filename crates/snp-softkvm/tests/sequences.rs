//! Random command sequences: every answer and the digest as the reference model predicts them.

#[allow(dead_code, unreachable_pub, reason = "shared with a fuzz target")]
mod model;

use proptest::prelude::*;
use snp_softkvm::profiles;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn as_the_model_predicts(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for profile in [&profiles::MAINLINE, &profiles::DIRECT_VMSA, &profiles::VCPU_STATE] {
            model::run(profile, &model::decode(&bytes));
        }
    }

    /// The same after a beginning that leads into the launch, so that the rest is not spent before it.
    #[test]
    fn within_a_launch(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
        let beginning = [0, 0, 0, 0, 1, 4, 0, 0, 5, 0, 0, 0, 5, 1, 0, 0, 6, 0, 11, 1, 6, 10, 5, 1];
        let bytes: Vec<u8> = beginning.into_iter().chain(bytes).collect();
        for profile in [&profiles::MAINLINE, &profiles::DIRECT_VMSA, &profiles::VCPU_STATE] {
            model::run(profile, &model::decode(&bytes));
        }
    }
}
