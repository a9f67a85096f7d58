//! The CoRIM: draft-ietf-rats-corim-11 (July 2026), with AMD's SEV-SNP profile of it.
//!
//! The base draft's numbers that are used here have been the same since -08; -08 brought `int-range` (15), on which the
//! profile's VMPL relies under its earlier name `raw-int`. Two rules of -11 shape the output:
//!
//! - "Different reference states for a Target Environment MUST be expressed using separate `reference-triple-record`
//!   entries", and a `digests` list must not have one algorithm twice, or it matches nothing. So each digest to accept has a
//!   triple of its own; several digests in one list would be a CoRIM that accepts no guest at all.
//! - `profile` is one value. The profile draft's example has an array, as CoRIM once had.

use ciborium::Value;
use sha2::{Digest, Sha256};

use crate::claims::{claims, map, tagged_bytes};
use crate::{Error, ReferenceValue, ReferenceValues};

// CBOR tags: RFC 8949 (epoch time, URI), RFC 9090 (OID), draft-ietf-rats-corim-11 (CoRIM, CoMID).
const TAG_TIME: u64 = 1;
const TAG_URI: u64 = 32;
const TAG_OID: u64 = 111;
const TAG_CORIM: u64 = 501;
const TAG_COMID: u64 = 506;

/// 1.3.6.1.4.1.3704.3, AMD's arc for target environments; the last node, by chip or by CSP, follows.
const AMD_ENVIRONMENT: [u8; 8] = [0x2b, 6, 1, 4, 1, 0x9c, 0x78, 3];

/// Which rules the CoRIM follows. They are not compatible, and the profile identifier in the CoRIM tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CorimProfile {
    /// The editor's copy of draft-deeglaze-amd-sev-snp-corim-profile after -02, at commit 0fbed55 (June 2025):
    /// `tag:amd.com,2025:snp-corim-profile`.
    ///
    /// Against the published -02 (December 2024, `tag:amd.com,2024:snp-corim-profile`) it says GUEST_SVN as `svn` and VMPL
    /// as an integer. Where the text is at odds with itself or with other specifications, this follows the rule by which
    /// the text makes evidence, since that is what reference values are compared with:
    ///
    /// - `class-id` is `111(h'06092b…')`, with DER tag and length inside; RFC 9090 wants the contents alone.
    /// - HOST_DATA is a SHA-384 `digest` of 32 bytes (`[7, R[0xC0:0xE0]]`); the definition of the key says 48.
    #[default]
    Draft,
    /// What Veraison's `sevsnp` scheme accepts (veraison/services, `scheme/sevsnp`, at commit 6b88102, August 2026):
    /// `tag:amd.com,2024:snp-corim-profile`, but not as -02 has it.
    ///
    /// The scheme finds reference values by an `instance` that repeats the launch digest (the draft has the chip's or the
    /// CSP's identity there); `class-id` is as in RFC 9090; and its evidence (jraman567/go-gen-ref, `cmd/sevsnp/parser.go`,
    /// commit 97b7e78) has GUEST_SVN as a *minimum*, POLICY and VMPL as big-endian bytes, and HOST_DATA and the key
    /// digests as raw values. It reads POLICY and does not compare it.
    Veraison,
}

/// Which key signs the reports. The profile has a class of target environment for each; a launch digest says nothing about
/// it, so that a guest that may meet both needs a CoRIM for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportSigner {
    /// The chip's own key. Class "by chip", 1.3.6.1.4.1.3704.3.1.
    #[default]
    Vcek,
    /// A key that AMD gave to a cloud service provider. Class "by CSP", 1.3.6.1.4.1.3704.3.2.
    Vlek,
}

/// From when to when a CoRIM holds, in seconds of Unix time. An argument, because this crate reads no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: Option<i64>,
    /// Its last second.
    pub not_after: i64,
}

/// How to write a CoRIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorimOptions {
    /// The rules to follow.
    pub profile: CorimProfile,
    /// Whose reports it is about.
    pub signer: ReportSigner,
    /// How long it holds. `None` says nothing about it.
    pub validity: Option<Validity>,
}

/// An unsigned CoRIM in the draft's profile, for reports signed by a VCEK: [`corim_with`] and the default options.
pub fn corim(values: &ReferenceValues) -> Result<Vec<u8>, Error> {
    corim_with(values, &CorimOptions::default())
}

/// An unsigned CoRIM: tag 501, with one CoMID (tag 506) for each value, in deterministic CBOR.
///
/// Each CoMID has one reference triple, and any one of them vouches for a guest. Its identifier is the label and a UUID, so
/// that a verifier's log says which launch it recognised; that of the CoRIM is the name, the version and a UUID. The UUIDs
/// are version 8, hashes of the content: the same content has the same identifiers, and any other content has others.
///
/// No triple names an instance (but for [`CorimProfile::Veraison`]): the values hold on every chip.
pub fn corim_with(values: &ReferenceValues, options: &CorimOptions) -> Result<Vec<u8>, Error> {
    let profile = match options.profile {
        CorimProfile::Draft => "tag:amd.com,2025:snp-corim-profile",
        CorimProfile::Veraison => "tag:amd.com,2024:snp-corim-profile",
    };
    let profile = (3, Value::Tag(TAG_URI, Box::new(profile.into())));
    let tags = values.distinct()?.into_iter().map(|value| comid(values, value, options)).collect();
    let tags = (1, Value::Array(tags));
    let validity = options.validity.map(validity_map).transpose()?.map(|validity| (4, validity));

    // The identifier covers all else. Its key, 0, is the least, so it goes in at the front.
    let rest = match validity {
        None => map([tags, profile]),
        Some(validity) => map([tags, profile, validity]),
    };
    let version = values.version.as_deref().unwrap_or("");
    let uuid = uuid("CoRIM", &Value::Array(vec![values.name.as_str().into(), version.into(), rest.clone()]));
    let Value::Map(mut entries) = rest else { unreachable!("made by map()") };
    entries.insert(0, (0.into(), identifier(&[&values.name, version, &uuid]).into()));
    Ok(encode(&Value::Tag(TAG_CORIM, Box::new(Value::Map(entries)))))
}

/// The CoMID of one value, in its tag and byte string.
fn comid(all: &ReferenceValues, value: &ReferenceValue, options: &CorimOptions) -> Value {
    let triple = Value::Array(vec![environment(value, options), claims(all, value, options.profile)]);
    let uuid = uuid("CoMID", &Value::Array(vec![value.label.as_str().into(), triple.clone()]));
    let identity = map([(0, identifier(&[&value.label, &uuid]).into())]);
    let triples = map([(0, Value::Array(vec![triple]))]);
    let comid = encode(&map([(1, identity), (4, triples)]));
    Value::Tag(TAG_COMID, Box::new(Value::Bytes(comid)))
}

/// `environment-map`. The class has nothing but its ID, as the profile demands: it is compared as one piece.
fn environment(value: &ReferenceValue, options: &CorimOptions) -> Value {
    let mut oid = Vec::new();
    if options.profile == CorimProfile::Draft {
        oid.extend([0x06, 0x09]);
    }
    oid.extend(AMD_ENVIRONMENT);
    oid.push(match options.signer {
        ReportSigner::Vcek => 1,
        ReportSigner::Vlek => 2,
    });
    let class = (0, map([(0, Value::Tag(TAG_OID, Box::new(Value::Bytes(oid))))]));
    match options.profile {
        CorimProfile::Draft => map([class]),
        CorimProfile::Veraison => map([class, (1, tagged_bytes(&value.digest))]),
    }
}

fn validity_map(Validity { not_before, not_after }: Validity) -> Result<Value, Error> {
    let time = |seconds: i64| Value::Tag(TAG_TIME, Box::new(seconds.into()));
    match not_before {
        Some(not_before) if not_before > not_after => Err(Error::Validity { not_before, not_after }),
        Some(not_before) => Ok(map([(0, time(not_before)), (1, time(not_after))])),
        None => Ok(map([(1, time(not_after))])),
    }
}

/// The parts that are not empty, with spaces between them.
fn identifier(parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A UUID of version 8 (RFC 9562, section 5.8): 122 bits of SHA-256 over what it identifies.
fn uuid(kind: &str, content: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(b"snpkit reference values, 1: ");
    hash.update(kind);
    hash.update([0]);
    hash.update(encode(content));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a Vec takes every byte, and a Value has a CBOR form");
    bytes
}
