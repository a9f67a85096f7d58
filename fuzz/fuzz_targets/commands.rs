//! Random command sequences on the software platform against a small reference model, which the property tests of
//! `snp-softkvm` use too.
#![no_main]

#[allow(dead_code, unreachable_pub)]
#[path = "../../crates/snp-softkvm/tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use snp_softkvm::profiles;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let profile = match choice % 3 {
        0 => &profiles::MAINLINE,
        1 => &profiles::DIRECT_VMSA,
        _ => &profiles::VCPU_STATE,
    };
    model::run(profile, &model::decode(data));
});
