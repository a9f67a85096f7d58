//! The known uAPI profiles, one file each.

mod direct_vmsa;
mod mainline;
mod vcpu_state;

pub use direct_vmsa::DIRECT_VMSA;
pub use mainline::MAINLINE;
pub use vcpu_state::{VCPU_STATE, VCPU_STATE_EXPLICIT};

use crate::UapiProfile;

/// All profiles.
pub const ALL: &[&UapiProfile] = &[&DIRECT_VMSA, &VCPU_STATE, &VCPU_STATE_EXPLICIT, &MAINLINE];

/// The profile of that name.
pub fn find(name: &str) -> Option<&'static UapiProfile> {
    ALL.iter().find(|profile| profile.name == name).copied()
}
