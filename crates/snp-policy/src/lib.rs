//! Policy files: what a relying party asks of a report, in YAML, of which JSON is a part.
//!
//! ```yaml
//! measurement: [ad5ab1…, 77c0fe…]     # any of these launch digests
//! min-tcb: { bootloader: 4, snp: 20, microcode: 209 }
//! policy-forbid: [debug, migrate]      # also policy-require
//! platform-require: [alias-check]      # also platform-forbid
//! mitigations: 0x3                     # bits of both mitigation vectors
//! vmpl: 0
//! min-svn: 3
//! host-data: 0000…                    # also report-data, id-key, author-key, family-id, image-id, chip-id
//! provider: Some Cloud                # whose VLEK signed
//! allow-debug: false                  # also allow-unknown-version
//! ```

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use snp_abi::{GuestPolicy, LaunchDigest, PlatformInfo, TcbComponent, TcbParts};
use snp_attest::policy::{Flags, MinTcb, Policy};
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
    policy_require: Vec<String>,
    platform_forbid: Vec<String>,
    platform_require: Vec<String>,
    mitigations: u64,
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
    #[serde(deserialize_with = "given")]
    provider: Option<String>,
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
    let value = Option::<T>::deserialize(field)?;
    value.map(Some).ok_or_else(|| D::Error::custom("it has no value: want one, or leave the field out"))
}

/// Whether there are comments and white space only.
fn is_empty(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// The parser's error in words for people who write policies, not programs.
fn told(error: &serde_saphyr::Error) -> String {
    let told = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    told.strip_prefix("error: ").map(str::to_owned).unwrap_or(told)
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
    let document: Document = serde_saphyr::from_str(text).map_err(|error| PolicyError::Yaml(told(&error)))?;
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
        vmpl: document.vmpl.map(vmpl).transpose()?,
        guest_policy: Flags {
            require: GUEST_POLICY.bits("policy-require", &document.policy_require)?,
            forbid: GUEST_POLICY.bits("policy-forbid", &document.policy_forbid)?,
        },
        platform: Flags {
            require: PLATFORM.bits("platform-require", &document.platform_require)?,
            forbid: PLATFORM.bits("platform-forbid", &document.platform_forbid)?,
        },
        mitigations: document.mitigations,
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
        provider: document.provider.map(provider).transpose()?,
    })
}

/// The names of a field's bits: those of the specification in any case, `-` for `_`, without `_EN` or `_ALLOW` at the end; and
/// a few shorter ones.
pub struct FlagNames {
    flags: &'static [(&'static str, u64)],
    short: &'static [(&'static str, &'static str)],
}

/// Of the guest's policy: `debug`, `migrate`, `smt`, `cxl`, `single-socket` …
pub const GUEST_POLICY: FlagNames = FlagNames {
    flags: GuestPolicy::FLAGS,
    short: &[("MIGRATE", "MIGRATE_MA"), ("CIPHERTEXT_HIDING", "CIPHERTEXT_HIDING_DRAM")],
};

/// Of PLATFORM_INFO: `smt`, `tsme`, `ecc`, `rapl-dis`, `ciphertext-hiding`, `alias-check`, `tio`.
pub const PLATFORM: FlagNames = FlagNames {
    flags: PlatformInfo::FLAGS,
    short: &[("CIPHERTEXT_HIDING", "CIPHERTEXT_HIDING_DRAM_EN"), ("ALIAS_CHECK", "ALIAS_CHECK_COMPLETE")],
};

impl FlagNames {
    /// The bits that `names` name. `field` is where they stand, for errors.
    ///
    /// # Errors
    /// [`PolicyError::Value`]: an unknown name.
    pub fn bits<T: AsRef<str>>(&self, field: &'static str, names: &[T]) -> Result<u64, PolicyError> {
        names.iter().map(|name| self.bit(field, name.as_ref())).try_fold(0, |bits, bit| Ok(bits | bit?))
    }

    fn bit(&self, field: &'static str, name: &str) -> Result<u64, PolicyError> {
        let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
        let long = self.short.iter().find(|(short, _)| *short == wanted).map(|(_, long)| *long);
        let same = |name: &str| Some(name) == long || name == wanted || plain(name) == wanted;
        let found = self.flags.iter().find(|(name, _)| same(name));
        found.map(|(_, bit)| *bit).ok_or_else(|| {
            let known = self.flags.iter().map(|(name, _)| plain(name).to_ascii_lowercase().replace('_', "-"));
            let known: Vec<_> = known.collect();
            PolicyError::Value { field, reason: format!("{name:?} is no flag; flags are {}", known.join(", ")) }
        })
    }
}

/// A flag's name without what says that it is a switch.
fn plain(name: &str) -> &str {
    name.strip_suffix("_EN").or_else(|| name.strip_suffix("_ALLOW")).unwrap_or(name)
}

fn vmpl(level: u32) -> Result<u32, PolicyError> {
    match level {
        0..=3 => Ok(level),
        _ => Err(PolicyError::Value { field: "vmpl", reason: format!("{level} is no VMPL: want 0 to 3") }),
    }
}

/// A provider's name, which is not empty.
///
/// # Errors
/// [`PolicyError::Value`]
pub fn provider(name: String) -> Result<String, PolicyError> {
    if name.trim().is_empty() {
        return Err(PolicyError::Value { field: "provider", reason: "want the cspID of a VLEK's certificate".into() });
    }
    Ok(name)
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
        let level = match level.trim().strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16),
            None => level.trim().parse(),
        };
        let level = level.map_err(|error| wrong(format!("{item:?}: {error}, want 0 to 255")))?;
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
             image-id: {1}\nmin-svn: 7\nchip-id: {0}{0}\nallow-unknown-version: true\npolicy-require: [single-socket]\n\
             platform-require: [alias-check, ecc_en]\nplatform-forbid: [SMT]\nmitigations: 0x5\nprovider: A Cloud\n",
            "01".repeat(32),
            "02".repeat(16),
        );
        let policy = parse(&yaml).unwrap();
        assert_eq!(policy.measurements[0].0[47], 0x2f);
        assert_eq!(
            (policy.min_tcb.bootloader, policy.min_tcb.microcode, policy.min_tcb.fmc),
            (Some(4), Some(209), None)
        );
        let forbid = GuestPolicy::DEBUG | GuestPolicy::MIGRATE_MA;
        assert_eq!(policy.guest_policy, Flags { require: GuestPolicy::SINGLE_SOCKET, forbid });
        let (require, forbid) = (PlatformInfo::ALIAS_CHECK_COMPLETE | PlatformInfo::ECC_EN, PlatformInfo::SMT_EN);
        assert_eq!(policy.platform, Flags { require, forbid });
        assert_eq!((policy.mitigations, policy.provider.as_deref()), (5, Some("A Cloud")));
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
        assert!(
            told("platform-require: [debug]")
                .starts_with("platform-require: \"debug\" is no flag; flags are smt, tsme")
        );
        let empty = told("vmpl: 0\nhost-data:");
        assert!(empty.starts_with("line 2 column 1") && empty.contains("it has no value"), "{empty}");
        let twice = told("vmpl: 0\nvmpl: 1");
        assert!(twice.contains("duplicate") && !twice.contains("Options"), "{twice}");
        assert_eq!(told("vmpl: 4"), "vmpl: 4 is no VMPL: want 0 to 3");
        assert!(told("provider: ' '").starts_with("provider: "));
        assert!(parse("mitigations: -1").is_err());
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
            "measurement min-tcb vmpl policy-forbid policy-require platform-forbid platform-require mitigations \
             allow-debug allow-unknown-version host-data report-data id-key author-key family-id image-id min-svn \
             chip-id provider"
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
        let bounds = min_tcb("fmc=1, bootloader=2,tee=3,snp=0x4,microcode=255").unwrap();
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
