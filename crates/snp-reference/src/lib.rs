//! Predicted launch digests as reference values: what a verifier is given ahead of time, so that it knows a good guest when
//! a report of one arrives.
//!
//! Two forms come out. [`corim()`] writes an unsigned CoRIM (CBOR) in AMD's SEV-SNP profile; [`rvps()`] writes the message
//! that registers the digests with Trustee's reference value provider service (RVPS). Both are pure functions of their
//! arguments: no clock, no randomness, so that a build that predicts the same digests publishes the same bytes.
//!
//! Neither form is signed here. A reference value is worth what its delivery is worth; signing is for the caller.

mod claims;
mod corim;
mod rvps;

pub use crate::corim::{CorimOptions, CorimProfile, ReportSigner, Validity, corim, corim_with};
pub use crate::rvps::{LAUNCH_MEASUREMENT, rvps, rvps_claims};

/// What was predicted about one guest: a digest for each way to launch it, and what is the same for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    /// What was measured, for instance a file name. For people; no verifier compares it.
    pub name: String,
    /// Its version. For people.
    pub version: Option<String>,
    /// The digests to accept. Any one of them is enough.
    pub values: Vec<ReferenceValue>,
    /// The guest policy that the report must show, exactly.
    pub policy: Option<u64>,
    /// The guest's security version, from its ID block.
    pub guest_svn: Option<u32>,
    /// The family ID, from its ID block.
    pub family_id: Option<[u8; 16]>,
    /// The image ID, from its ID block.
    pub image_id: Option<[u8; 16]>,
    /// The host data given to LAUNCH_FINISH.
    pub host_data: Option<[u8; 32]>,
    /// SHA-384 of the ID key, as the report shows it.
    pub id_key_digest: Option<[u8; 48]>,
    /// SHA-384 of the author key, as the report shows it.
    pub author_key_digest: Option<[u8; 48]>,
}

/// One launch digest to accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValue {
    /// The launch digest: MEASUREMENT of the report.
    pub digest: [u8; 48],
    /// What sets this launch apart from the others, for instance `4 vCPUs, EPYC-Milan`. For people.
    pub label: String,
    /// The VMPL at which the report must have been asked for. `None` accepts any.
    pub vmpl: Option<u32>,
}

/// Why there is no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No digest. A list of nothing would not mean "accept nothing" everywhere: without a launch digest, the CoRIM would
    /// still vouch for every guest that has the policy and the names.
    #[error("no reference values: there must be at least one launch digest")]
    Empty,
    /// The validity ends before it begins.
    #[error("the validity ends ({not_after}) before it begins ({not_before})")]
    Validity {
        /// Its first second, Unix time.
        not_before: i64,
        /// Its last second, Unix time.
        not_after: i64,
    },
}

impl ReferenceValues {
    /// The values without repetitions, in the caller's order. The same digest may appear under several labels.
    fn distinct(&self) -> Result<Vec<&ReferenceValue>, Error> {
        let mut distinct: Vec<&ReferenceValue> = Vec::with_capacity(self.values.len());
        let mut seen = std::collections::BTreeSet::new();
        for value in &self.values {
            if seen.insert((value.digest, &value.label, value.vmpl)) {
                distinct.push(value);
            }
        }
        if distinct.is_empty() { Err(Error::Empty) } else { Ok(distinct) }
    }
}
