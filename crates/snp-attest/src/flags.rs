//! Bits that a relying party wants set, and bits that it does not.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use snp_abi::{GuestPolicy, PlatformInfo};

use crate::error::Failure;
use crate::verdict::Checks;

/// What is asked of a field of bits. Nothing is asked of bits that are in neither mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Bits that must be set.
    pub require: u64,
    /// Bits that may not be set.
    pub forbid: u64,
}

/// A field of bits, its checks and its failures.
pub(crate) struct BitField {
    names: &'static [(&'static str, u64)],
    require: &'static str,
    required: fn(String) -> Failure,
    forbid: &'static str,
    forbidden: fn(String) -> Failure,
}

/// POLICY.
pub(crate) const GUEST_POLICY: BitField = BitField {
    names: GuestPolicy::FLAGS,
    require: "policy-require",
    required: |bits| Failure::PolicyRequired { bits },
    forbid: "policy-forbid",
    forbidden: |bits| Failure::PolicyForbidden { bits },
};

/// PLATFORM_INFO.
pub(crate) const PLATFORM: BitField = BitField {
    names: PlatformInfo::FLAGS,
    require: "platform-require",
    required: |bits| Failure::PlatformRequired { bits },
    forbid: "platform-forbid",
    forbidden: |bits| Failure::PlatformForbidden { bits },
};

impl BitField {
    /// Makes both checks of `wanted` on the field's value.
    pub(crate) fn check(&self, wanted: Flags, got: u64, checks: &mut Checks) {
        self.check_mask(self.forbid, wanted.forbid, wanted.forbid & got, "without", self.forbidden, checks);
        self.check_mask(self.require, wanted.require, wanted.require & !got, "with", self.required, checks);
    }

    /// `wrong`: those bits of `mask` that are not as asked for.
    fn check_mask(
        &self,
        name: &'static str,
        mask: u64,
        wrong: u64,
        found: &str,
        failure: fn(String) -> Failure,
        checks: &mut Checks,
    ) {
        if mask == 0 {
            return checks.skip(name, crate::policy::NOT_ASKED);
        }
        let result =
            if wrong == 0 { Ok(format!("{found} {}", self.words(mask))) } else { Err(failure(self.words(wrong))) };
        checks.check(name, result);
    }

    /// Bits by their names, and those without one as a number.
    fn words(&self, bits: u64) -> String {
        let flags = self.names.iter().filter(|(_, bit)| bits & bit != 0);
        let rest = bits & !self.names.iter().fold(0, |all, (_, bit)| all | bit);
        let rest = (rest != 0).then(|| format!("{rest:#x}"));
        flags.map(|(name, _)| (*name).to_string()).chain(rest).collect::<Vec<_>>().join(", ")
    }
}
