//! Reference values for Trustee (confidential-containers/trustee).
//!
//! Read in its source at commit 78962cd4 (August 2026):
//!
//! - `attestation-service/src/ear_token/ear_default_policy_cpu.rego`: `input.snp.measurement in
//!   query_reference_value("snp_launch_measurement")`: one list under one name, and membership decides.
//! - `deps/verifier/src/snp/mod.rs`, `parse_tee_evidence`: the claim `measurement` is lower-case **hex**. It was base64
//!   until commit d7831293 (February 2026); the first release with hex is v0.18.0. The Azure vTPM verifier beside it
//!   (`az_snp_vtpm`) still says base64, under the name `measurement`; its values are not for this function.
//! - `rvps/src/lib.rs`, `Message`, and `rvps/src/extractors/sample`: the envelope and its payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::{Error, ReferenceValues};

/// The name under which Trustee's default policy looks for launch digests.
pub const LAUNCH_MEASUREMENT: &str = "snp_launch_measurement";

/// The claims by name: `{"snp_launch_measurement": ["…", …]}`, each digest once, lower-case hex.
///
/// This is the payload of [`rvps()`], for those who merge it with others'. All accepted digests must be registered
/// together: the RVPS replaces a name's list, it does not add to it.
pub fn rvps_claims(values: &ReferenceValues) -> Result<Map<String, Value>, Error> {
    let mut digests: Vec<String> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for value in values.distinct()? {
        if seen.insert(value.digest) {
            digests.push(value.digest.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    Ok(Map::from_iter([(LAUNCH_MEASUREMENT.to_owned(), json!(digests))]))
}

/// The message that registers the digests with the RVPS, as its "sample" extractor takes it.
///
/// Give it to `rvps-tool register --path FILE`, or POST it to the KBS at `/kbs/v0/reference-value`. `kbs-client config
/// set-sample-reference-value` builds this very message, but for a single digest per name.
///
/// Nothing in it is signed; the sample extractor takes it on trust and dates it twelve months ahead. Names, host data and key
/// digests are not in it: the default policy asks for none of them. Nor is the guest policy, of which Trustee demands "no
/// debugging, no migration agent" without being told.
pub fn rvps(values: &ReferenceValues) -> Result<Value, Error> {
    let payload = Value::Object(rvps_claims(values)?).to_string();
    Ok(json!({ "version": "0.1.0", "type": "sample", "payload": STANDARD.encode(payload) }))
}
