//! Policy files: what a relying party asks of a report, in YAML, of which JSON is a part.
//!
//! ```yaml
//! measurement: [ad5ab1…, 77c0fe…]     # any of these launch digests
//! min-tcb: { bootloader: 4, snp: 20, microcode: 209 }
//! policy-forbid: [debug, migrate]
//! vmpl: 0
//! min-svn: 3
//! host-data: 0000…                    # also report-data, id-key, author-key, family-id, image-id, chip-id
//! allow-debug: false                  # also allow-unknown-version
//! ```

use serde::{Deserialize, Deserializer};
use snp_abi::{GuestPolicy, LaunchDigest, TcbComponent, TcbParts};
use snp_attest::policy::{MinTcb, Policy};
use thiserror::Error;

/// The longest policy file, in bytes.
pub const LONGEST: usize = 1 << 20;

/// A policy that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// More bytes than any policy has.
    #[error("the policy has {0} bytes, at most {LONGEST}")]
    TooLong(usize),
    /// Not YAML, an unknown field, or a field of another type. The parser tells the place.
    #[error("{0}")]
    Yaml(String),
    /// No field at all, as of a file that was cut off. `{}` says that nothing is meant.
    #[error("it is empty and asks for nothing: want at least one field, or {{}} if that is meant")]
    Empty,
    /// A value that the field cannot have.
    #[error("{field}: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A policy as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Document {
    #[serde(deserialize_with = "given")]
    measurement: Option<Vec<String>>,
    min_tcb: Tcb,
    #[serde(deserialize_with = "given")]
    vmpl: Option<u32>,
    policy_forbid: Vec<String>,
    allow_debug: bool,
    allow_unknown_version: bool,
    #[serde(deserialize_with = "given")]
    host_data: Option<String>,
    #[serde(deserialize_with = "given")]
    report_data: Option<String>,
    #[serde(deserialize_with = "given")]
    id_key: Option<String>,
    #[serde(deserialize_with = "given")]
    author_key: Option<String>,
    #[serde(deserialize_with = "given")]
    family_id: Option<String>,
    #[serde(deserialize_with = "given")]
    image_id: Option<String>,
    #[serde(deserialize_with = "given")]
    min_svn: Option<u32>,
    #[serde(deserialize_with = "given")]
    chip_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tcb {
    #[serde(deserialize_with = "given")]
    fmc: Option<u8>,
    #[serde(deserialize_with = "given")]
    bootloader: Option<u8>,
    #[serde(deserialize_with = "given")]
    tee: Option<u8>,
    #[serde(deserialize_with = "given")]
    snp: Option<u8>,
    #[serde(deserialize_with = "given")]
    microcode: Option<u8>,
}

/// A field that is there has a value: `host-data:` with nothing behind it asks for nothing, and cannot be meant.
fn given<'a, D: Deserializer<'a>, T: Deserialize<'a>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// Whether there are comments and white space only.
fn is_empty(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// Reads a policy file.
///
/// # Errors
/// [`PolicyError`]
pub fn parse(text: &str) -> Result<Policy, PolicyError> {
    if text.len() > LONGEST {
        return Err(PolicyError::TooLong(text.len()));
    }
    if is_empty(text) {
        return Err(PolicyError::Empty);
    }
    let document: Document = serde_saphyr::from_str(text).map_err(|error| PolicyError::Yaml(error.to_string()))?;
    let reason = "an empty list lets no launch pass; leave the field out to let all pass".to_owned();
    let measurements = match document.measurement {
        Some(digests) if digests.is_empty() => return Err(PolicyError::Value { field: "measurement", reason }),
        digests => digests.unwrap_or_default(),
    };
    let measurements = measurements.iter().map(|text| hex("measurement", text).map(LaunchDigest));
    let Tcb { fmc, bootloader, tee, snp, microcode } = document.min_tcb;
    Ok(Policy {
        measurements: measurements.collect::<Result<_, _>>()?,
        min_tcb: MinTcb { fmc, bootloader, tee, snp, microcode },
        vmpl: document.vmpl,
        forbid: forbidden(document.policy_forbid.iter().map(String::as_str))?,
        allow_debug: document.allow_debug,
        allow_unknown_version: document.allow_unknown_version,
        host_data: optional("host-data", document.host_data.as_deref())?,
        report_data: document.report_data.as_deref().map(report_data).transpose()?,
        id_key_digest: optional("id-key", document.id_key.as_deref())?,
        author_key_digest: optional("author-key", document.author_key.as_deref())?,
        family_id: optional("family-id", document.family_id.as_deref())?,
        image_id: optional("image-id", document.image_id.as_deref())?,
        min_svn: document.min_svn,
        chip_id: optional("chip-id", document.chip_id.as_deref())?,
    })
}

/// Bits of a guest policy by their names in the specification, in any case: `debug`, `migrate` (MIGRATE_MA), `smt`, `cxl`.
///
/// # Errors
/// [`PolicyError::Value`]: an unknown name.
pub fn forbidden<'a>(names: impl Iterator<Item = &'a str>) -> Result<u64, PolicyError> {
    names.map(bit).try_fold(0, |bits, bit| Ok(bits | bit?))
}

fn bit(name: &str) -> Result<u64, PolicyError> {
    let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
    let wanted = match wanted.as_str() {
        "MIGRATE" => "MIGRATE_MA",
        "CXL" => "CXL_ALLOW",
        other => other,
    };
    let found = GuestPolicy::FLAGS.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, bit)| *bit).ok_or_else(|| {
        let known: Vec<_> = GuestPolicy::FLAGS.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        PolicyError::Value {
            field: "policy-forbid",
            reason: format!("{name:?} is no flag; flags are {}", known.join(", ")),
        }
    })
}

/// Lower bounds of a TCB version as a list: `bootloader=4,snp=20,microcode=209`.
///
/// # Errors
/// [`PolicyError::Value`]: an unknown part, one that is there twice, or a level that is not a number below 256.
pub fn min_tcb(text: &str) -> Result<MinTcb, PolicyError> {
    let wrong = |reason: String| PolicyError::Value { field: "min-tcb", reason };
    let mut bounds = MinTcb::default();
    for item in text.split(',').map(str::trim) {
        let (name, level) = item.split_once('=').ok_or_else(|| wrong(format!("{item:?}: want PART=LEVEL")))?;
        let names: Vec<_> = TcbParts::COMPONENTS.iter().map(|part: &TcbComponent| part.name()).collect();
        let part = TcbParts::COMPONENTS.iter().find(|part| part.name() == name.trim());
        let part = part.ok_or_else(|| wrong(format!("{name:?} is no part; parts are {}", names.join(", "))))?;
        let level = level.trim().parse().map_err(|error| wrong(format!("{item:?}: {error}, want 0 to 255")))?;
        if bounds.slot(*part).replace(level).is_some() {
            return Err(wrong(format!("{} is there twice", part.name())));
        }
    }
    Ok(bounds)
}

/// REPORT_DATA: up to 64 bytes; what is missing at the end is zero.
///
/// # Errors
/// [`PolicyError::Value`]
pub fn report_data(text: &str) -> Result<[u8; 64], PolicyError> {
    let digits = text.trim().strip_prefix("0x").unwrap_or(text.trim());
    if digits.is_empty() || digits.len() > 128 || !digits.len().is_multiple_of(2) {
        let reason = format!("want 2 to 128 hexadecimal digits, an even number, got {}", digits.len());
        return Err(PolicyError::Value { field: "report-data", reason });
    }
    hex("report-data", &format!("{digits:0<128}"))
}

fn optional<const N: usize>(field: &'static str, text: Option<&str>) -> Result<Option<[u8; N]>, PolicyError> {
    text.map(|text| hex(field, text)).transpose()
}

fn hex<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], PolicyError> {
    hex_bytes(text.trim()).map_err(|reason| PolicyError::Value { field, reason })
}

/// Exactly `N` bytes as hexadecimal digits, with or without `0x`.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn hex_bytes<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let wrong = || format!("want {} hexadecimal digits ({N} bytes), got {text:?}", 2 * N);
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str =
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

    #[test]
    fn a_whole_policy_is_read_from_yaml_and_json() {
        let yaml = format!(
            "measurement: [{DIGEST}]\nmin-tcb: {{bootloader: 4, microcode: 209}}\nvmpl: 1\npolicy-forbid: [debug, migrate]\n\
             host-data: {0}\nreport-data: 0xabcd\nid-key: {DIGEST}\nauthor-key: '{DIGEST}'\nfamily-id: {1}\n\
             image-id: {1}\nmin-svn: 7\nchip-id: {0}{0}\nallow-unknown-version: true\n",
            "01".repeat(32),
            "02".repeat(16),
        );
        let policy = parse(&yaml).unwrap();
        assert_eq!(policy.measurements[0].0[47], 0x2f);
        assert_eq!(
            (policy.min_tcb.bootloader, policy.min_tcb.microcode, policy.min_tcb.fmc),
            (Some(4), Some(209), None)
        );
        assert_eq!(policy.forbid, GuestPolicy::DEBUG | GuestPolicy::MIGRATE_MA);
        assert_eq!(policy.report_data.unwrap()[..3], [0xab, 0xcd, 0]);
        assert_eq!((policy.vmpl, policy.min_svn, policy.allow_debug), (Some(1), Some(7), false));
        assert_eq!((policy.host_data, policy.family_id), (Some([1; 32]), Some([2; 16])));
        assert!(policy.allow_unknown_version && policy.chip_id == Some([1; 64]));

        let json =
            format!(r#"{{"measurement": ["{DIGEST}", "{DIGEST}"], "allow-debug": true, "min-tcb": {{"fmc": 0}}}}"#);
        let policy = parse(&json).unwrap();
        assert_eq!((policy.measurements.len(), policy.allow_debug, policy.min_tcb.fmc), (2, true, Some(0)));
        assert_eq!(parse("{}").unwrap(), Policy::default());
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        let told = |text: &str| parse(text).unwrap_err().to_string();
        assert!(told("measurment: 00").contains("measurment"), "{}", told("measurment: 00"));
        assert!(told("measurement: [0011]").starts_with("measurement: want 96"));
        assert!(told("vmpl: minus").contains("vmpl") || told("vmpl: minus").contains('1'));
        assert!(
            told("min-tcb: {bootloader: 256}").contains("256") || told("min-tcb: {bootloader: 256}").contains("u8")
        );
        assert!(told("min-tcb: {kernel: 2}").contains("kernel"));
        assert!(told("policy-forbid: [fun]").starts_with("policy-forbid: \"fun\" is no flag"));
        assert!(told("report-data: abc").starts_with("report-data: want 2 to 128"));
        assert!(told(&format!("host-data: {DIGEST}")).starts_with("host-data: want 64"));
        assert!(parse("[").is_err() && parse(&" ".repeat(LONGEST + 1)) == Err(PolicyError::TooLong(LONGEST + 1)));
    }

    /// A policy that a broken pipeline left without its values must not let everything pass.
    #[test]
    fn what_asks_for_nothing_by_mistake_is_refused() {
        for nothing in ["", "\n", "# later\n", "---\n", "---\n# later\n...\n", "\u{feff}"] {
            assert_eq!(parse(nothing), Err(PolicyError::Empty), "{nothing:?}");
        }
        assert!(parse("null").is_err() && parse("~").is_err());
        assert!(parse("measurement: []").unwrap_err().to_string().starts_with("measurement: an empty list"));
        for field in
            "measurement min-tcb vmpl policy-forbid allow-debug allow-unknown-version host-data report-data id-key \
                      author-key family-id image-id min-svn chip-id"
                .split_whitespace()
        {
            for nothing in ["", " null", " ~"] {
                assert!(parse(&format!("{field}:{nothing}")).is_err(), "{field}:{nothing}");
            }
        }
        assert!(parse("min-tcb: {snp: }").is_err());
    }

    /// No other way of writing nothing does, either.
    #[test]
    fn what_is_no_policy_is_refused() {
        for nothing in ["--- # later\n", "--- !!map\n", "%YAML 1.2\n---\n", "[]", "- vmpl: 0", "vmpl", "''"] {
            assert!(parse(nothing).is_err(), "{nothing:?}");
        }
        for list in ["[null]", "['']", "!!binary ''", "''"] {
            assert!(parse(&format!("measurement: {list}")).is_err(), "{list}");
        }
    }

    /// A later word must not silently replace an earlier one.
    #[test]
    fn what_is_said_twice_is_refused() {
        for twice in [
            "vmpl: 0\nvmpl: 1",
            "min-tcb: {snp: 20, snp: 1}",
            r#"{"min-svn": 7, "min-svn": 0}"#,
            "vmpl: 0\n---\nvmpl: 1",
        ] {
            assert!(parse(twice).is_err(), "{twice}");
        }
    }

    #[test]
    fn bounds_are_read_from_a_list() {
        let bounds = min_tcb("fmc=1, bootloader=2,tee=3,snp=4,microcode=255").unwrap();
        let read: Vec<_> = bounds.bounds().map(|(_, level)| level).collect();
        assert_eq!(read, [1, 2, 3, 4, 255]);
        for wrong in ["", "snp", "snp=256", "snp=-1", "kernel=1", "snp=1;tee=2", "snp=20,tee=1,snp=1"] {
            assert!(min_tcb(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_want_their_exact_length() {
        assert_eq!(hex_bytes::<2>("0a0B"), Ok([0x0a, 0x0b]));
        assert_eq!(hex_bytes::<2>("0x0a0B"), Ok([0x0a, 0x0b]));
        for wrong in ["0a0", "0a0b0c", "zz00", "+a+b", "éa"] {
            assert!(hex_bytes::<2>(wrong).is_err(), "{wrong}");
        }
    }

    /// Aliases that grow without bounds must not.
    #[test]
    fn a_billion_laughs_are_refused() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (name, of) in "bcdefghij".chars().zip("abcdefghi".chars()) {
            bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 10].join(","));
        }
        bomb += "policy-forbid: *j\n";
        assert!(parse(&bomb).is_err());
    }
}
