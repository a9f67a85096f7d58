//! Verifying ID blocks as the firmware does at LAUNCH_FINISH, each check by its name.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use p384::ecdsa::signature::Verifier;
use snp_abi::{
    EcdsaPublicKey, EcdsaSignature, FwStatus, GuestPolicy, ID_BLOCK_VERSION, IdAuth, IdBlock, KeyAlgorithm,
    LaunchDigest,
};
use zerocopy::IntoBytes;

use crate::key::parse;

/// The result of all checks, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Every check, also those that were not made.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold; the firmware would answer with this status.
    Failed {
        /// The firmware's answer.
        status: FwStatus,
        /// Expected and got.
        reason: String,
    },
    /// It was not made, for this reason.
    Skipped(&'static str),
}

impl Verdict {
    /// Whether no check failed. Skipped checks do not count: look at them.
    pub fn passed(&self) -> bool {
        self.first_failure().is_none()
    }

    /// What the firmware would answer: the first failure, or SUCCESS.
    pub fn status(&self) -> FwStatus {
        match self.first_failure().map(|check| &check.outcome) {
            Some(Outcome::Failed { status, .. }) => *status,
            _ => FwStatus::SUCCESS,
        }
    }

    fn first_failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| matches!(check.outcome, Outcome::Failed { .. }))
    }

    fn record(&mut self, name: &'static str, status: FwStatus, result: Result<(), String>) {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(reason) => Outcome::Failed { status, reason },
        };
        self.checks.push(Check { name, outcome });
    }

    fn skip(&mut self, name: &'static str, reason: &'static str) {
        self.checks.push(Check { name, outcome: Outcome::Skipped(reason) });
    }
}

/// Verifies an ID block against its authentication data, and against the digest and policy of a launch if they are given.
///
/// The author key is checked if AUTHOR_KEY_ALGO is not zero.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_FINISH. The order in which the firmware makes the checks is not specified there; the verdict
/// lists all of them.
pub fn verify(block: &IdBlock, auth: &IdAuth, digest: Option<LaunchDigest>, policy: Option<GuestPolicy>) -> Verdict {
    let mut verdict = Verdict { checks: Vec::new() };
    verdict.record("ID block version", FwStatus::INVALID_PARAM, equal(block.version, ID_BLOCK_VERSION));
    verdict.record(
        "ID key algorithm",
        FwStatus::INVALID_PARAM,
        equal(auth.id_key_algo.0, KeyAlgorithm::ECDSA_P384_SHA384.0),
    );
    verdict.record(
        "signature of the ID block by the ID key",
        FwStatus::BAD_SIGNATURE,
        signature(&auth.id_key, &auth.id_block_sig, block.as_bytes()),
    );
    author(&mut verdict, auth);
    match digest {
        Some(digest) => verdict.record(
            "launch digest",
            FwStatus::BAD_MEASUREMENT,
            if block.ld == digest { Ok(()) } else { Err(format!("block has {}, launch has {digest}", block.ld)) },
        ),
        None => verdict.skip("launch digest", "no launch to compare with"),
    }
    match policy {
        Some(policy) => verdict.record(
            "policy",
            FwStatus::POLICY_FAILURE,
            if block.policy == policy {
                Ok(())
            } else {
                Err(format!("block has {}, launch has {policy}", block.policy))
            },
        ),
        None => verdict.skip("policy", "no launch to compare with"),
    }
    verdict
}

fn author(verdict: &mut Verdict, auth: &IdAuth) {
    const NAME: &str = "signature of the ID key by the author key";
    if auth.author_key_algo == KeyAlgorithm(0) {
        verdict.skip(NAME, "no author key");
        return;
    }
    verdict.record(
        "author key algorithm",
        FwStatus::INVALID_PARAM,
        equal(auth.author_key_algo.0, KeyAlgorithm::ECDSA_P384_SHA384.0),
    );
    verdict.record(
        NAME,
        FwStatus::BAD_SIGNATURE,
        signature(&auth.author_key, &auth.id_key_sig, auth.id_key.as_bytes()),
    );
}

fn equal(got: u32, want: u32) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("got {got}, want {want}")) }
}

fn signature(key: &EcdsaPublicKey, signature: &EcdsaSignature, message: &[u8]) -> Result<(), String> {
    let Some((key, signature)) = parse(key, signature) else {
        return Err("key or signature is not a canonical P-384 value".into());
    };
    key.verify(message, &signature).map_err(|_| "the signature was not made by this key over these bytes".into())
}
