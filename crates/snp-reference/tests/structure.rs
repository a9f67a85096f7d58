//! The bytes of a CoRIM, walked by hand: no CBOR library stands between the test and what is on the wire.

mod common;

use common::{full, sample};
use snp_reference::{
    CorimOptions, CorimProfile, Error, ReferenceValues, ReportSigner, Validity, corim, corim_with, rvps,
};

/// Prints CBOR in diagnostic notation (RFC 8949, section 8) and insists on core deterministic encoding (4.2.1): shortest
/// heads, definite lengths, map keys that ascend. Byte strings in tag 506 are walked into.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn whole(bytes: &[u8]) -> String {
        let mut walk = Walk { bytes, at: 0 };
        let text = walk.item();
        assert_eq!(walk.at, bytes.len(), "bytes after the item");
        text
    }

    fn take(&mut self, n: usize) -> &[u8] {
        let from = self.at;
        self.at += n;
        &self.bytes[from..self.at]
    }

    fn head(&mut self) -> (u8, u64) {
        let first = self.take(1)[0];
        let (major, info) = (first >> 5, first & 31);
        let (argument, least) = match info {
            0..=23 => return (major, info.into()),
            24..=27 => {
                let n = 1 << (info - 24);
                let argument = self.take(n).iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                (argument, if n == 1 { 24 } else { 1 << (n * 4) })
            }
            _ => panic!("indefinite length or reserved head {first:#04x}"),
        };
        assert!(argument >= least, "{argument} in a head that is too long");
        (major, argument)
    }

    fn item(&mut self) -> String {
        let (major, n) = self.head();
        match major {
            0 => n.to_string(),
            1 => (-1 - i128::from(n)).to_string(),
            2 => format!("h'{}'", hex(self.take(n as usize))),
            3 => format!("{:?}", std::str::from_utf8(self.take(n as usize)).unwrap()),
            4 => format!("[{}]", (0..n).map(|_| self.item()).collect::<Vec<_>>().join(", ")),
            5 => {
                let mut last = Vec::new();
                let mut entries = Vec::new();
                for _ in 0..n {
                    let from = self.at;
                    let key = self.item();
                    let encoded = self.bytes[from..self.at].to_vec();
                    assert!(last < encoded, "map keys out of order");
                    last = encoded;
                    entries.push(format!("{key}: {}", self.item()));
                }
                format!("{{{}}}", entries.join(", "))
            }
            6 if n == 506 => {
                let (major, length) = self.head();
                assert_eq!(major, 2, "tag 506 is a byte string (bytes .cbor concise-mid-tag)");
                format!("506(<< {} >>)", Walk::whole(self.take(length as usize)))
            }
            6 => format!("{n}({})", self.item()),
            _ => panic!("simple value or float {n}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Identifiers end in a UUID; its hash is not this test's matter, its form is.
fn mask_uuids(text: &str) -> String {
    let mut masked = text.to_owned();
    while let Some(at) = masked.match_indices("-8").map(|(at, _)| at).find(|at| {
        let candidate = at.checked_sub(13).and_then(|from| masked.get(from..from + 36));
        candidate.is_some_and(|uuid| {
            uuid.char_indices().all(|(i, c)| match i {
                8 | 13 | 18 | 23 => c == '-',
                19 => "89ab".contains(c),
                _ => c.is_ascii_hexdigit(),
            })
        })
    }) {
        masked.replace_range(at - 13..at + 23, "UUID");
    }
    masked
}

#[test]
fn the_smallest_corim() {
    let digest = hex(&[0x11; 48]);
    let expected = format!(
        r#"501({{0: "OVMF.fd UUID", 1: [506(<< {{1: {{0: "1 vCPU UUID"}}, 4: {{0: [[{{0: {{0: 111(h'06092b060104019c780301')}}}}, [{{0: 641, 1: {{2: [[7, h'{digest}']]}}}}]]]}}}} >>)], 3: 32("tag:amd.com,2025:snp-corim-profile")}})"#
    );
    let values = sample(&[(0x11, "1 vCPU")]);
    assert_eq!(mask_uuids(&Walk::whole(&corim(&values).unwrap())), expected);
}

#[test]
fn every_claim_of_the_draft() {
    let text = Walk::whole(&corim(&full()).unwrap());
    let claims = [
        "{0: 1, 1: {1: 552(7)}}".to_owned(),
        "{0: 2, 1: {4: 560(h'1f00030000000000')}}".to_owned(),
        format!("{{0: 3, 1: {{4: 560(h'{}')}}}}", hex(&[0xfa; 16])),
        format!("{{0: 4, 1: {{4: 560(h'{}')}}}}", hex(&[0x1a; 16])),
        "{0: 5, 1: {15: 2}}".to_owned(),
        format!("{{0: 641, 1: {{2: [[7, h'{}']]}}}}", hex(&[0x11; 48])),
        format!("{{0: 642, 1: {{2: [[7, h'{}']]}}}}", hex(&[0xda; 32])),
        format!("{{0: 643, 1: {{2: [[7, h'{}']]}}}}", hex(&[0x1d; 48])),
        format!("{{0: 644, 1: {{2: [[7, h'{}']]}}}}", hex(&[0xa0; 48])),
    ];
    assert!(text.contains(&format!("[{}]", claims.join(", "))), "{text}");
    // VMPL is the value's own matter: the second value accepts any.
    assert_eq!(text.matches("{0: 5, ").count(), 1);
    assert!(mask_uuids(&text).contains(r#"{0: "OVMF.fd 2026-08 UUID""#));
}

/// As in `scheme/sevsnp/test/corim/src/comid-sevsnp-refval.json` of veraison/services and `cmd/sevsnp/parser.go` of
/// jraman567/go-gen-ref.
#[test]
fn every_claim_for_veraison() {
    let options = CorimOptions { profile: CorimProfile::Veraison, ..CorimOptions::default() };
    let text = Walk::whole(&corim_with(&full(), &options).unwrap());
    let digest = hex(&[0x11; 48]);
    let expected = [
        format!("[{{0: {{0: 111(h'2b060104019c780301')}}, 1: 560(h'{digest}')}}, [{{0: 1, 1: {{1: 553(7)}}}}"),
        "{0: 2, 1: {4: 560(h'000000000003001f')}}".to_owned(),
        "{0: 5, 1: {4: 560(h'00000002')}}".to_owned(),
        format!("{{0: 641, 1: {{2: [[7, h'{digest}']]}}}}"),
        format!("{{0: 642, 1: {{4: 560(h'{}')}}}}", hex(&[0xda; 32])),
        format!("{{0: 643, 1: {{4: 560(h'{}')}}}}", hex(&[0x1d; 48])),
        format!("{{0: 644, 1: {{4: 560(h'{}')}}}}", hex(&[0xa0; 48])),
        r#"3: 32("tag:amd.com,2024:snp-corim-profile")"#.to_owned(),
    ];
    for part in expected {
        assert!(text.contains(&part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn vlek_and_validity() {
    let validity = Some(Validity { not_before: Some(1_700_000_000), not_after: 1_800_000_000 });
    let options = CorimOptions { signer: ReportSigner::Vlek, validity, ..CorimOptions::default() };
    let values = sample(&[(0x11, "")]);
    let text = Walk::whole(&corim_with(&values, &options).unwrap());
    assert!(text.contains("111(h'06092b060104019c780302')"));
    assert!(text.ends_with("4: {0: 1(1700000000), 1: 1(1800000000)}})"), "{text}");

    let validity = Some(Validity { not_before: None, not_after: -1 });
    let text = Walk::whole(&corim_with(&values, &CorimOptions { validity, ..options }).unwrap());
    assert!(text.ends_with("4: {1: 1(-1)}})"), "{text}");

    let validity = Some(Validity { not_before: Some(2), not_after: 1 });
    let error = corim_with(&values, &CorimOptions { validity, ..options });
    assert_eq!(error, Err(Error::Validity { not_before: 2, not_after: 1 }));
}

#[test]
fn the_same_content_has_the_same_bytes_and_any_other_has_other_identifiers() {
    let id = |values: &ReferenceValues, options: &CorimOptions| {
        let text = Walk::whole(&corim_with(values, options).unwrap());
        text.split('"').nth(1).unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    let default = CorimOptions::default();
    assert_eq!(corim(&full()), corim(&full()));
    let mut ids = vec![id(&full(), &default)];
    let changes: [fn(&mut ReferenceValues); 11] = [
        |v| v.name.push('x'),
        |v| v.version = None,
        |v| v.policy = Some(0x30000),
        |v| v.guest_svn = None,
        |v| v.family_id = None,
        |v| v.image_id = None,
        |v| v.host_data = None,
        |v| v.id_key_digest = None,
        |v| v.author_key_digest = None,
        |v| v.values[0].label.push('x'),
        |v| v.values.reverse(),
    ];
    for change in changes {
        let mut values = full();
        change(&mut values);
        ids.push(id(&values, &default));
    }
    ids.push(id(&full(), &CorimOptions { profile: CorimProfile::Veraison, ..default }));
    ids.push(id(&full(), &CorimOptions { signer: ReportSigner::Vlek, ..default }));
    let validity = Some(Validity { not_before: None, not_after: 1 });
    ids.push(id(&full(), &CorimOptions { validity, ..default }));
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:#?}");
}

/// Pinned, so that a change of the identifiers is a decision and not an accident: verifiers keep them.
#[test]
fn the_identifiers_do_not_change_between_versions() {
    let text = Walk::whole(&corim(&sample(&[(0x11, "1 vCPU")])).unwrap());
    let ids: Vec<_> = text.split('"').filter(|part| part.contains("-8")).collect();
    assert_eq!(ids, ["OVMF.fd c9a1c856-6468-8062-8bb3-2fb98acf9c0c", "1 vCPU 3b7d9650-0dd0-8dbb-9c64-4012dd8489c6"]);
}

#[test]
fn repetitions_are_said_once() {
    let once = sample(&[(0x11, "a"), (0x22, "b")]);
    let twice = sample(&[(0x11, "a"), (0x22, "b"), (0x11, "a"), (0x22, "b")]);
    assert_eq!(corim(&once), corim(&twice));
    // The same digest under another label is another launch, and stays.
    let labels = Walk::whole(&corim(&sample(&[(0x11, "a"), (0x11, "b")])).unwrap());
    assert_eq!(labels.matches("506(").count(), 2);
}

#[test]
fn nothing_to_accept_is_an_error() {
    let mut values = full();
    values.values.clear();
    assert_eq!(corim(&values), Err(Error::Empty));
    assert_eq!(rvps(&values), Err(Error::Empty));
}
