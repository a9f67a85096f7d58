//! Attestation reports: every field, by version and product line, and who signed them.

mod common;

use common::*;
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use p384::elliptic_curve::sec1::FromEncodedPoint;
use snp_abi::{
    AbiLayout, AttestationReport, CpuidSignature, EcdsaPublicKey, FirmwareVersion, FwStatus, GuestState, KeyAlgorithm,
    KeySelect, MitigationVectors, PageState, PageType, PlatformInfo, ProductLine, ReportRequest, ReportVersion,
    SignerInfo, SigningKey, TcbVersion,
};
use snp_asp::{EndorsementKey, Firmware, LaunchFinish, PlatformConfig, Release, SNP_CONFIG_LEN, VLEK_HASHSTICK_LEN};
use snp_attest::{Identity, key_digest, sign};
use snp_sev_guest::Channel;
use zerocopy::IntoBytes;

const REQUEST: ReportRequest = ReportRequest { report_data: [0xd5; 64], vmpl: 1, key_sel: 0, reserved_0x48: [0; 24] };

fn get(firmware: &mut Firmware, channel: &mut Channel) -> AttestationReport {
    report(firmware, channel, &REQUEST).unwrap()
}

/// The report of a plain guest on that platform.
fn report_of(config: PlatformConfig) -> (Firmware, AttestationReport) {
    let (mut firmware, secrets) = running(config, &PLAIN);
    let mut channel = Channel::new(&secrets, 1).unwrap();
    let report = get(&mut firmware, &mut channel);
    (firmware, report)
}

fn big_endian(field: &[u8; 72]) -> [u8; 48] {
    assert!(field[48..].iter().all(|byte| *byte == 0));
    std::array::from_fn(|i| field[47 - i])
}

/// Whether the key signed the report; independent of the firmware's code and of snp-attest's.
fn signed_by(report: &AttestationReport, key: &EcdsaPublicKey) -> bool {
    let point =
        p384::EncodedPoint::from_affine_coordinates(&big_endian(&key.qx).into(), &big_endian(&key.qy).into(), false);
    let key = VerifyingKey::from(p384::PublicKey::from_encoded_point(&point).unwrap());
    let signature = Signature::from_scalars(big_endian(&report.signature.r), big_endian(&report.signature.s)).unwrap();
    report.signature.reserved_0x90 == [0; 368] && key.verify(report.signed(), &signature).is_ok()
}

fn snp_config(tcb: u64, flags: u8) -> [u8; SNP_CONFIG_LEN] {
    let mut config = [0; SNP_CONFIG_LEN];
    config[..8].copy_from_slice(&tcb.to_le_bytes());
    config[8] = flags;
    config
}

const PLATFORMS: [fn() -> PlatformConfig; 3] = [PlatformConfig::milan, PlatformConfig::genoa, PlatformConfig::turin];

#[test]
fn a_report_says_what_the_guest_and_its_platform_are() {
    for config in PLATFORMS {
        let config = config();
        let (firmware, report) = report_of(config.clone());
        assert_eq!((report.policy, report.report_data, report.vmpl), (START.policy, [0xd5; 64], 1));
        assert_eq!(Some(report.measurement), firmware.launch_digest(GCTX));
        assert_eq!((report.host_data, report.guest_svn), ([5; 32], 0));
        assert_eq!((report.family_id, report.image_id), ([0; 16], [0; 16]));
        assert_eq!((report.id_key_digest, report.author_key_digest), ([0; 48], [0; 48]));
        assert_eq!((report.report_id == [0; 32], report.report_id_ma), (false, [0xff; 32]));
        assert_eq!(report.chip_id, firmware.chip_id());
        assert_eq!(report.signature_algo, KeyAlgorithm::ECDSA_P384_SHA384);
        assert_eq!(report.signer_info, SignerInfo::new(SigningKey::VCEK, false, false));
        assert_eq!([report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb], [config.tcb; 4]);
        let version = FirmwareVersion { major: config.api.0, minor: config.api.1, build: config.build };
        assert_eq!((report.current_version(), report.committed_version()), (version, version));
        assert!(report.platform_info.has(PlatformInfo::SMT_EN | PlatformInfo::ECC_EN));
        assert_eq!(report.platform_info.has(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN), config.ciphertext_hiding_dram);
        assert_eq!(report.platform_info.reserved(), 0);
        assert!(signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vcek)));
        assert!(!signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vlek)));
    }
}

#[test]
fn the_version_follows_the_firmware_unless_it_is_chosen() {
    let of_api = |minor| report_of(PlatformConfig { api: (1, minor), ..PlatformConfig::genoa() }).1.version;
    assert_eq!([51, 55, 56, 57, 58, 60].map(of_api), [2, 2, 3, 4, 5, 5].map(ReportVersion));
    for version in [2, 3, 4, 5].map(ReportVersion) {
        for config in PLATFORMS {
            let (firmware, report) = report_of(PlatformConfig { report_version: Some(version), ..config() });
            assert_eq!(report.version, version);
            assert!(signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vcek)));
            // Fields that a version has not are zero, and so is all that is reserved.
            for field in AttestationReport::FIELDS {
                let zero = report.as_bytes()[field.offset..][..field.size].iter().all(|byte| *byte == 0);
                assert!(zero || AttestationReport::has_field(version, field), "{version}: {}", field.name);
            }
            let since_3 = version >= ReportVersion::V3;
            assert_eq!(report.platform_info.has(PlatformInfo::ALIAS_CHECK_COMPLETE), since_3);
            let line = report.cpuid().and_then(CpuidSignature::product_line);
            assert_eq!(line, since_3.then_some(firmware.config().product.line()));
        }
    }
    let (_, report) = report_of(PlatformConfig::genoa());
    assert_eq!(report.mitigation_vectors(), Some(MitigationVectors { launch: 3, current: 3 }));
    assert_eq!(report.cpuid(), Some(CpuidSignature { family: 0x19, model: 0x11, stepping: 1 }));
    let (_, report) = report_of(PlatformConfig::turin());
    assert_eq!(
        (&report.chip_id[8..], report.cpuid().unwrap().product_line()),
        (&[0; 56][..], Some(ProductLine::Turin))
    );
}

/// Current, committed, reported and launch TCB are four things.
#[test]
fn four_tcbs() {
    let committed =
        Release { version: FirmwareVersion { major: 1, minor: 57, build: 3 }, tcb: TcbVersion(0x5316_0000_0000_0009) };
    let (mut firmware, secrets) =
        running(PlatformConfig { committed: Some(committed), ..PlatformConfig::genoa() }, &PLAIN);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    let current = firmware.config().tcb;
    let report = get(&mut firmware, &mut channel);
    assert_eq!([report.current_tcb, report.launch_tcb], [current; 2]);
    assert_eq!([report.committed_tcb, report.reported_tcb], [committed.tcb; 2]);
    assert_eq!((report.current_version().minor, report.committed_version()), (58, committed.version));

    let lower = TcbVersion(0x5315_0000_0000_0009);
    let key_before = firmware.endorsement_key(EndorsementKey::Vcek);
    firmware.snp_config(&snp_config(lower.0, 0)).unwrap();
    let report = get(&mut firmware, &mut channel);
    assert_eq!([report.current_tcb, report.committed_tcb, report.reported_tcb], [current, committed.tcb, lower]);
    // The key is of the reported TCB.
    assert!(!signed_by(&report, &key_before));
    assert!(signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vcek)));

    firmware.commit();
    let report = get(&mut firmware, &mut channel);
    assert_eq!([report.committed_tcb, report.reported_tcb, report.launch_tcb], [current; 3]);
    assert_eq!(report.committed_version(), report.current_version());
}

#[test]
fn chip_and_key_can_be_masked() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    firmware.snp_config(&snp_config(0, 1)).unwrap();
    let report = get(&mut firmware, &mut channel);
    assert!(report.chip_id_is_masked());
    assert_eq!(report.signer_info, SignerInfo::new(SigningKey::VCEK, false, false));
    assert!(signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vcek)));

    firmware.snp_config(&snp_config(0, 2)).unwrap();
    let report = get(&mut firmware, &mut channel);
    assert!(!report.chip_id_is_masked());
    assert_eq!(report.signer_info, SignerInfo::new(SigningKey::NONE, true, false));
    assert_eq!(report.signature.as_bytes(), [0; 512]);
}

/// KEY_SEL against what is installed and what the launch allows.
#[test]
fn the_guest_selects_the_key() {
    const KEY: FwStatus = FwStatus::INVALID_KEY;
    const PARAM: FwStatus = FwStatus::INVALID_PARAM;
    const VCEK: Result<SigningKey, FwStatus> = Ok(SigningKey::VCEK);
    const VLEK: Result<SigningKey, FwStatus> = Ok(SigningKey::VLEK);
    //                 VLEK,  VCEK_DIS: default,  VCEK,     VLEK,     reserved
    let table = [
        (false, false, [VCEK, VCEK, Err(KEY), Err(PARAM)]),
        (true, false, [VLEK, VCEK, VLEK, Err(PARAM)]),
        (false, true, [Err(KEY), Err(KEY), Err(KEY), Err(PARAM)]),
        (true, true, [VLEK, Err(KEY), VLEK, Err(PARAM)]),
    ];
    for (vlek, vcek_disabled, expected) in table {
        let finish = LaunchFinish { vcek_disabled, ..PLAIN };
        let (mut firmware, secrets) = running(PlatformConfig::genoa(), &finish);
        if vlek {
            firmware.vlek_load(&[1; VLEK_HASHSTICK_LEN]);
        }
        let mut channel = Channel::new(&secrets, 0).unwrap();
        for (key_sel, expected) in (0..4).zip(expected) {
            let got = report(&mut firmware, &mut channel, &ReportRequest { key_sel, ..REQUEST });
            assert_eq!(got.map(|report| report.signer_info.signing_key()), expected, "{:?}", KeySelect(key_sel));
            if let Ok(report) = got {
                for key in [EndorsementKey::Vcek, EndorsementKey::Vlek] {
                    let own = key.signing_key() == report.signer_info.signing_key();
                    assert_eq!(signed_by(&report, &firmware.endorsement_key(key)), own);
                }
            }
        }
    }
}

#[test]
fn reserved_bits_of_a_request_are_refused() {
    let (mut firmware, secrets) = running(PlatformConfig::genoa(), &PLAIN);
    let mut channel = Channel::new(&secrets, 0).unwrap();
    let mut reserved = REQUEST;
    for bit in 2..32 {
        let request = ReportRequest { key_sel: 1 << bit, ..REQUEST };
        assert_eq!(report(&mut firmware, &mut channel, &request), Err(FwStatus::INVALID_PARAM));
    }
    for byte in 0..24 {
        reserved.reserved_0x48 = [0; 24];
        reserved.reserved_0x48[byte] = 0x80;
        assert_eq!(report(&mut firmware, &mut channel, &reserved), Err(FwStatus::INVALID_PARAM));
    }
}

/// A VLEK can also be there from the start.
#[test]
fn a_vlek_by_configuration() {
    let (firmware, report) = report_of(PlatformConfig { vlek: true, ..PlatformConfig::genoa() });
    assert_eq!(report.signer_info.signing_key(), SigningKey::VLEK);
    assert!(signed_by(&report, &firmware.endorsement_key(EndorsementKey::Vlek)));
    assert_eq!(firmware.platform_status().flags & 4, 4);
}

/// Keys belong to seed, product line and TCB; the VLEK is one for all chips of a provider, which one seed stands for.
#[test]
fn endorsement_keys_are_deterministic_and_distinct() {
    let keys = |config: PlatformConfig| {
        let firmware = Firmware::new(config);
        [EndorsementKey::Vcek, EndorsementKey::Vlek].map(|key| firmware.endorsement_key(key).qx)
    };
    let mut all = std::collections::BTreeSet::new();
    for config in PLATFORMS {
        assert_eq!(keys(config()), keys(config()));
        all.extend(keys(config()));
        all.extend(keys(PlatformConfig { seed: [4; 32], ..config() }));
        all.extend(keys(PlatformConfig { tcb: TcbVersion(7), ..config() }));
    }
    assert_eq!(all.len(), 18);
}

/// The ID block from its creation to the report.
#[test]
fn a_report_names_the_keys_of_the_id_block() {
    let key = |pem| snp_attest::SigningKey::from_pem(pem).unwrap();
    let id_key = key(include_str!("../../snp-attest/tests/keys/id.sec1.pem"));
    let author_key = key(include_str!("../../snp-attest/tests/keys/author.sec1.pem"));
    for author in [false, true] {
        let mut firmware = firmware(Some(GuestState::Launch), true);
        bring_page(&mut firmware, PageState::PreGuest).unwrap();
        let secrets = firmware.launch_update(GCTX, &update(PageType::SECRETS), page(0)).unwrap();
        let identity = Identity {
            digest: firmware.launch_digest(GCTX).unwrap(),
            policy: START.policy,
            family_id: [1; 16],
            image_id: [2; 16],
            guest_svn: 3,
        };
        let (block, auth) = sign(&identity, &id_key, author.then_some(&author_key));
        let finish = LaunchFinish { id_block: Some((&block, &auth)), author_key_enabled: author, ..PLAIN };
        firmware.launch_finish(GCTX, &finish).unwrap();
        let secrets = zerocopy::FromBytes::read_from_bytes(secrets.as_bytes()).unwrap();
        let report = get(&mut firmware, &mut Channel::new(&secrets, 0).unwrap());
        assert_eq!((report.family_id, report.image_id, report.guest_svn), ([1; 16], [2; 16], 3));
        assert_eq!(report.measurement, identity.digest);
        assert_eq!(report.id_key_digest, key_digest(&id_key.public()));
        let author_digest = if author { key_digest(&author_key.public()) } else { [0; 48] };
        assert_eq!(report.author_key_digest, author_digest);
        assert_eq!(report.signer_info.has(SignerInfo::AUTHOR_KEY_EN), author);
    }
}
