//! The claims of one reference triple: which field of the report, under which measurement key, in which type.
//!
//! The keys (`mkey`) are those of draft-deeglaze-amd-sev-snp-corim-profile, section "AMD SEV-SNP measurements"; version -02
//! and the editor's copy agree on them. The types are where the versions and the verifier at hand differ: see
//! [`CorimProfile`].

use ciborium::Value;

use crate::{CorimProfile, ReferenceValue, ReferenceValues};

// mkey numbers.
const GUEST_SVN: u64 = 1;
const POLICY: u64 = 2;
const FAMILY_ID: u64 = 3;
const IMAGE_ID: u64 = 4;
const VMPL: u64 = 5;
const MEASUREMENT: u64 = 641;
const HOST_DATA: u64 = 642;
const ID_KEY_DIGEST: u64 = 643;
const AUTHOR_KEY_DIGEST: u64 = 644;

// Code points of measurement-values-map, draft-ietf-rats-corim-11.
const SVN: u64 = 1;
const DIGESTS: u64 = 2;
const RAW_VALUE: u64 = 4;
const INT_RANGE: u64 = 15;

// CBOR tags of draft-ietf-rats-corim-11.
const TAG_SVN: u64 = 552;
const TAG_MIN_SVN: u64 = 553;
pub(crate) const TAG_BYTES: u64 = 560;

/// SHA-384 in the IANA registry "Named Information Hash Algorithm", which `digest` draws on.
const SHA_384: u64 = 7;

/// `ref-claims`: all that the report must show beside the digest, and the digest, in the order of the keys.
///
/// Every entry is one condition more; a label or a name here would be a condition that no report meets, so people's text
/// is in the tag's identity instead. The profile's anonymous `flags` entry (is-debug) repeats bit 19 of POLICY and is left
/// out: verifiers differ on entries without a key, and POLICY is compared bit for bit anyway.
pub(crate) fn claims(all: &ReferenceValues, value: &ReferenceValue, profile: CorimProfile) -> Value {
    let veraison = profile == CorimProfile::Veraison;
    let mut claims = Vec::new();
    let mut claim = |mkey: u64, (code_point, measured): (u64, Value)| {
        claims.push(map([(0, mkey.into()), (1, map([(code_point, measured)]))]));
    };
    // The draft hashes nothing here: it lists HOST_DATA and the key digests as SHA-384 "digests" whatever their length.
    let listed = |bytes: &[u8]| if veraison { raw(bytes) } else { digest(bytes) };

    if let Some(svn) = all.guest_svn {
        // Veraison states the evidence as a minimum, and a minimum matches nothing but the same minimum.
        let tag = if veraison { TAG_MIN_SVN } else { TAG_SVN };
        claim(GUEST_SVN, (SVN, Value::Tag(tag, Box::new(svn.into()))));
    }
    if let Some(policy) = all.policy {
        claim(POLICY, raw(&if veraison { policy.to_be_bytes() } else { policy.to_le_bytes() }));
    }
    if let Some(family_id) = &all.family_id {
        claim(FAMILY_ID, raw(family_id));
    }
    if let Some(image_id) = &all.image_id {
        claim(IMAGE_ID, raw(image_id));
    }
    if let Some(vmpl) = value.vmpl {
        claim(VMPL, if veraison { raw(&vmpl.to_be_bytes()) } else { (INT_RANGE, vmpl.into()) });
    }
    claim(MEASUREMENT, digest(&value.digest));
    if let Some(host_data) = &all.host_data {
        claim(HOST_DATA, listed(host_data));
    }
    if let Some(key) = &all.id_key_digest {
        claim(ID_KEY_DIGEST, listed(key));
    }
    if let Some(key) = &all.author_key_digest {
        claim(AUTHOR_KEY_DIGEST, listed(key));
    }
    Value::Array(claims)
}

fn raw(bytes: &[u8]) -> (u64, Value) {
    (RAW_VALUE, tagged_bytes(bytes))
}

fn digest(bytes: &[u8]) -> (u64, Value) {
    (DIGESTS, Value::Array(vec![Value::Array(vec![SHA_384.into(), Value::Bytes(bytes.to_vec())])]))
}

/// `tagged-bytes`.
pub(crate) fn tagged_bytes(bytes: &[u8]) -> Value {
    Value::Tag(TAG_BYTES, Box::new(Value::Bytes(bytes.to_vec())))
}

/// A map with integer keys. Callers give them in ascending order, which is the deterministic one (RFC 8949, 4.2.1).
pub(crate) fn map<const N: usize>(entries: [(u64, Value); N]) -> Value {
    debug_assert!(entries.is_sorted_by_key(|(key, _)| *key));
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}
