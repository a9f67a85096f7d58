//! The RVPS message, read as Trustee reads it.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{full, sample};
use serde_json::{Value, json};
use snp_reference::{LAUNCH_MEASUREMENT, rvps, rvps_claims};

/// What `rvps/src/lib.rs` (`Message`, the version check) and `rvps/src/extractors/sample` do with a message: the payload of
/// the "sample" type is base64 (standard alphabet, padded) of a JSON object, name to value.
fn extract(message: &Value) -> Value {
    assert_eq!(message["version"], "0.1.0");
    assert_eq!(message["type"], "sample");
    let payload = STANDARD.decode(message["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn all_digests_are_in_one_list_of_lower_case_hex() {
    let message = rvps(&full()).unwrap();
    assert_eq!(message.as_object().unwrap().len(), 3);
    let expected = json!({ "snp_launch_measurement": ["11".repeat(48), "22".repeat(48)] });
    assert_eq!(extract(&message), expected);
    assert_eq!(Value::Object(rvps_claims(&full()).unwrap()), expected);
}

/// `deps/verifier/src/snp/mod.rs`: `"measurement": hex::encode(report.measurement)`, and in the default policy
/// `input.snp.measurement in query_reference_value("snp_launch_measurement")`.
#[test]
fn the_default_policy_finds_the_measurement_of_a_report() {
    let digest: [u8; 48] = std::array::from_fn(|i| 0xa0 + i as u8);
    let mut values = sample(&[(0x11, "1"), (0, "2")]);
    values.values[1].digest = digest;
    let claim = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf";
    let accepted = extract(&rvps(&values).unwrap());
    assert!(accepted[LAUNCH_MEASUREMENT].as_array().unwrap().contains(&json!(claim)));
}

#[test]
fn many_labels_of_one_digest_are_one_entry() {
    let values = sample(&[(0x11, "EPYC-Milan"), (0x22, "b"), (0x11, "EPYC-Genoa")]);
    let accepted = rvps_claims(&values).unwrap();
    assert_eq!(accepted[LAUNCH_MEASUREMENT], json!(["11".repeat(48), "22".repeat(48)]));
}

#[test]
fn the_message_is_reproducible() {
    assert_eq!(rvps(&full()).unwrap().to_string(), rvps(&full()).unwrap().to_string());
}
