//! Two CoRIM readers that are not ours read what we write: `corim` (github.com/Azure/corim, draft-ietf-rats-corim-11), which
//! also appraises, and `corim-rs` (github.com/veraison/corim-rs), which Trustee's RVPS uses.

mod common;

use common::{full, sample};
use corim::types::common::{ClassIdChoice, InstanceIdChoice, MeasuredElement, TagIdChoice};
use corim::types::corim::{CorimId, CorimMap, ProfileChoice};
use corim::types::environment::{ClassMap, EnvironmentMap};
use corim::types::measurement::{
    Digest, IntRangeChoice, MeasurementMap, MeasurementValuesMap, RawValueChoice, SvnChoice,
};
use corim::types::triples::ReferenceTriple;
use corim::validate::{EvidenceClaim, decode_and_validate_at, match_reference_values};
use snp_reference::{CorimOptions, CorimProfile, ReferenceValues, Validity, corim as write, corim_with};

const VERAISON: CorimOptions =
    CorimOptions { profile: CorimProfile::Veraison, signer: snp_reference::ReportSigner::Vcek, validity: None };

/// DER of 1.3.6.1.4.1.3704.3.1: tag, length, contents.
const BY_CHIP: [u8; 11] = [0x06, 0x09, 0x2b, 6, 1, 4, 1, 0x9c, 0x78, 3, 1];

/// Through `corim`'s decoder and structural checks; tag identifiers and triples, in order.
fn azure(bytes: &[u8]) -> (CorimMap, Vec<(String, ReferenceTriple)>) {
    let (corim, comids) = decode_and_validate_at(bytes, 0).expect("`corim` takes it");
    let mut triples = Vec::new();
    for comid in comids {
        let TagIdChoice::Text(id) = comid.tag_identity.tag_id else { panic!("a text identifier") };
        let mut of_comid = comid.triples.reference_triples.expect("reference triples");
        assert_eq!(of_comid.len(), 1);
        triples.push((id, of_comid.remove(0)));
    }
    (corim, triples)
}

/// The digests under mkey 641, and nothing else under it.
fn azure_digests(triples: &[(String, ReferenceTriple)]) -> Vec<Vec<u8>> {
    let measured = |triple: &ReferenceTriple| {
        let mut at = triple.measurements().iter().filter(|m| m.mkey == Some(MeasuredElement::Uint(641)));
        let measurement = at.next().expect("MEASUREMENT").clone();
        assert!(at.next().is_none(), "MEASUREMENT is there once");
        let [digest] = &measurement.mval.digests.expect("digests")[..] else { panic!("one digest") };
        assert_eq!(digest.alg().as_int(), Some(7));
        digest.value().to_vec()
    };
    triples.iter().map(|(_, triple)| measured(triple)).collect()
}

/// What Trustee's CoRIM extractor (`rvps/src/extractors/corim/mod.rs`) makes of a CoRIM, with its reader: names and lists
/// of hex, in the order in which they are stored. Restated for `digests` and unsigned keys, which is all it keeps of ours
/// beside raw bytes.
fn trustee(bytes: &[u8]) -> Vec<(String, Vec<Vec<u8>>)> {
    let corim = corim_rs::Corim::from_cbor(bytes).expect("`corim-rs` takes it");
    let mut stored = Vec::new();
    for tag in &corim.as_map_ref().tags {
        let corim_rs::ConciseTagTypeChoice::Mid(comid) = tag else { panic!("a CoMID, not {tag:?}") };
        for triple in comid.as_ref().triples.reference_triples.as_ref().expect("reference triples") {
            let class = triple.ref_env.class.as_ref().expect("a class");
            assert!(class.vendor.is_none() && class.model.is_none());
            assert!(matches!(class.class_id, Some(corim_rs::ClassIdTypeChoice::Oid(_))));
            for claim in &triple.ref_claims {
                let Some(corim_rs::MeasuredElementTypeChoice::UInt(key)) = &claim.mkey else { panic!("an mkey") };
                if let Some(digests) = &claim.mval.digests {
                    let digests = digests.iter().map(|digest| digest.val.as_ref().to_vec()).collect();
                    stored.push((format!("claim{key}/digests"), digests));
                }
            }
        }
    }
    stored
}

fn digests(values: &ReferenceValues) -> Vec<Vec<u8>> {
    values.values.iter().map(|value| value.digest.to_vec()).collect()
}

/// 300 values: more than one byte of array length, and digests of no pattern that a reader could mistake for a tag.
fn many() -> ReferenceValues {
    let mut many = sample(&[(0, "")]);
    let template = many.values.remove(0);
    for n in 0..300_u32 {
        let mut value = template.clone();
        value.digest = std::array::from_fn(|i| (n.wrapping_mul(2_654_435_761) >> (i % 4 * 8)) as u8 ^ i as u8);
        value.label = format!("{} vCPUs", n + 1);
        many.values.push(value);
    }
    many
}

#[test]
fn both_readers_find_the_digests() {
    for values in [sample(&[(0x11, "1")]), full(), many()] {
        for options in [CorimOptions::default(), VERAISON] {
            let bytes = corim_with(&values, &options).unwrap();
            assert_eq!(azure_digests(&azure(&bytes).1), digests(&values), "corim");

            let stored = trustee(&bytes);
            let measured: Vec<_> = stored.into_iter().filter(|(name, _)| name == "claim641/digests").collect();
            assert!(measured.iter().all(|(_, list)| list.len() == 1));
            let measured: Vec<_> = measured.into_iter().flat_map(|(_, list)| list).collect();
            assert_eq!(measured, digests(&values), "corim-rs");
        }
    }
}

#[test]
fn a_foreign_reader_finds_what_is_for_people_too() {
    let (corim, triples) = azure(&write(&full()).unwrap());
    let CorimId::Text(id) = corim.id else { panic!("a text identifier") };
    assert!(id.starts_with("OVMF.fd 2026-08 "), "{id}");
    assert!(triples[0].0.starts_with("1 vCPU, EPYC-Milan "), "{}", triples[0].0);
    assert!(triples[1].0.starts_with("2 vCPUs, EPYC-Milan "), "{}", triples[1].0);
    assert_eq!(corim.profile, Some(ProfileChoice::Uri("tag:amd.com,2025:snp-corim-profile".to_owned())));
    assert_eq!(corim.rim_validity, None);
}

/// The draft's "AMD SEV-SNP Evidence Translation" for the fields that `full()` speaks of, and REPORT_DATA, of which it does
/// not: `corim` appraises a report with our values.
fn report(digest: u8, vmpl: i64, debug: bool) -> EvidenceClaim {
    let one = |set: &dyn Fn(&mut MeasurementValuesMap)| {
        let mut mval = MeasurementValuesMap::default();
        set(&mut mval);
        mval
    };
    let bytes = |bytes: &[u8]| one(&|mval| mval.raw_value = Some(RawValueChoice::Bytes(bytes.to_vec())));
    let digest_of = |bytes: &[u8]| one(&|mval| mval.digests = Some(vec![Digest::new(7, bytes.to_vec())]));
    let svn = one(&|mval| mval.svn = Some(SvnChoice::ExactValue(7)));
    let vmpl = one(&|mval| mval.int_range = Some(IntRangeChoice::Int(vmpl)));
    let policy = 0x3001f | u64::from(debug) << 19;
    let claims = [
        (1, svn),
        (2, bytes(&policy.to_le_bytes())),
        (3, bytes(&[0xfa; 16])),
        (4, bytes(&[0x1a; 16])),
        (5, vmpl),
        (640, bytes(&[0x5e; 64])),
        (641, digest_of(&[digest; 48])),
        (642, digest_of(&[0xda; 32])),
        (643, digest_of(&[0x1d; 48])),
        (644, digest_of(&[0xa0; 48])),
    ];
    let class = ClassMap { class_id: Some(ClassIdChoice::Oid(BY_CHIP.to_vec())), ..ClassMap::default() };
    EvidenceClaim {
        environment: EnvironmentMap {
            class: Some(class),
            instance: Some(InstanceIdChoice::Bytes(vec![0xc1; 64])),
            group: None,
        },
        measurements: claims
            .into_iter()
            .map(|(mkey, mval)| MeasurementMap { mkey: Some(MeasuredElement::Uint(mkey)), mval, authorized_by: None })
            .collect(),
    }
}

#[test]
fn a_foreign_verifier_accepts_each_value_and_no_other() {
    let triples: Vec<_> = azure(&write(&full()).unwrap()).1.into_iter().map(|(_, triple)| triple).collect();
    let accepted = |report: EvidenceClaim| match_reference_values(&triples, &[report]).len();
    assert_eq!(accepted(report(0x11, 2, false)), 1, "the first value");
    assert_eq!(accepted(report(0x22, 2, false)), 1, "the second value");
    assert_eq!(accepted(report(0x33, 2, false)), 0, "a digest that is not listed");
    assert_eq!(accepted(report(0x11, 0, false)), 0, "the first value, at another VMPL");
    assert_eq!(accepted(report(0x22, 0, false)), 1, "the second value, which names no VMPL");
    assert_eq!(accepted(report(0x11, 2, true)), 0, "another policy");
}

/// Why there is a triple for each value: the same digests in one list match none of them (draft-ietf-rats-corim-11,
/// "Comparison for digests entries").
#[test]
fn one_list_of_all_digests_would_accept_none() {
    let triples = azure(&write(&sample(&[(0x11, "a"), (0x22, "b")])).unwrap()).1;
    assert_eq!(match_reference_values(&[triples[0].1.clone()], &[report(0x11, 0, false)]).len(), 1);
    let mut claim = triples[0].1.measurements()[0].clone();
    claim.mval.digests.as_mut().unwrap().push(Digest::new(7, vec![0x22; 48]));
    let merged = ReferenceTriple::new(triples[0].1.environment().clone(), vec![claim]);
    for digest in [0x11, 0x22] {
        assert!(match_reference_values(std::slice::from_ref(&merged), &[report(digest, 0, false)]).is_empty());
    }
}

/// The draft puts DER tag and length into tag 111. Both readers take the bytes as they are; an evidence maker that goes by
/// RFC 9090 makes another class of it, and nothing matches.
#[test]
fn the_drafts_class_id_is_not_rfc_9090s() {
    let class = |options: &CorimOptions| {
        let bytes = corim_with(&sample(&[(0x11, "")]), options).unwrap();
        azure(&bytes).1[0].1.environment().class.clone().unwrap().class_id
    };
    assert_eq!(class(&CorimOptions::default()), Some(ClassIdChoice::Oid(BY_CHIP.to_vec())));
    assert_eq!(class(&VERAISON), Some(ClassIdChoice::Oid(BY_CHIP[2..].to_vec())));

    let triples: Vec<_> =
        azure(&write(&sample(&[(0x11, "")])).unwrap()).1.into_iter().map(|(_, triple)| triple).collect();
    assert_eq!(match_reference_values(&triples, &[report(0x11, 0, false)]).len(), 1);
    let mut rfc_9090 = report(0x11, 0, false);
    rfc_9090.environment.class.as_mut().unwrap().class_id = Some(ClassIdChoice::Oid(BY_CHIP[2..].to_vec()));
    assert!(match_reference_values(&triples, &[rfc_9090]).is_empty());
}

/// Trustee's CoRIM extractor names a value by its place in the CoRIM and keeps the last of a name, and its default policy
/// asks for another name. With more than one value, or with that policy, the way into Trustee is `rvps()`.
#[test]
fn trustees_corim_extractor_would_keep_the_last_value_only() {
    let kept: std::collections::BTreeMap<_, _> =
        trustee(&write(&sample(&[(0x11, "a"), (0x22, "b")])).unwrap()).into_iter().collect();
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), [("claim641/digests".to_owned(), vec![vec![0x22; 48]])]);
}

#[test]
fn a_foreign_reader_enforces_the_validity() {
    let validity = Some(Validity { not_before: Some(100), not_after: 200 });
    let bytes = corim_with(&full(), &CorimOptions { validity, ..CorimOptions::default() }).unwrap();
    assert!(decode_and_validate_at(&bytes, 150).is_ok());
    assert!(decode_and_validate_at(&bytes, 99).is_err());
    assert!(decode_and_validate_at(&bytes, 201).is_err());
    corim_rs::Corim::from_cbor(&bytes[..]).expect("`corim-rs` takes it");
}
