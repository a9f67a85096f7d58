//! MSG_REPORT_REQ: the attestation report.

use snp_abi::{
    AttestationReport, CpuidSignature, FwStatus, KeyAlgorithm, KeySelect, PlatformInfo, ReportRequest,
    ReportResponseHeader, ReportVersion, SignerInfo, SigningKey,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::context::GuestContext;
use crate::guest_request::Request;
use crate::{EndorsementKey, Firmware};

/// KEY_SEL within its word.
const KEY_SEL: u32 = 0b11;
/// REPORT_ID_MA of a guest without a migration agent.
const NO_MIGRATION_AGENT: [u8; 32] = [0xff; 32];

/// Answers the request.
///
/// # Errors
/// INVALID_PARAM: an unknown version, or a payload of the wrong length.
pub(crate) fn answer(firmware: &Firmware, request: &Request<'_>) -> Result<Vec<u8>, FwStatus> {
    let wanted = ReportRequest::read_from_bytes(request.payload).map_err(|_| FwStatus::INVALID_PARAM)?;
    if request.version != 1 {
        return Err(FwStatus::INVALID_PARAM);
    }
    let report = check(firmware, request, &wanted).map(|key| make(firmware, request.context, &wanted, key));
    let (status, size) = match &report {
        Ok(_) => (FwStatus::SUCCESS, AttestationReport::LEN as u32),
        Err(status) => (*status, 0),
    };
    let header = ReportResponseHeader { status: status.0, report_size: size, ..ReportResponseHeader::default() };
    let mut answer = header.as_bytes().to_vec();
    // A refusal has the room of a report, too: who reads it learns nothing from its length.
    answer.extend_from_slice(report.unwrap_or_default().as_bytes());
    Ok(answer)
}

/// The key that is to sign.
///
/// # Errors
/// The STATUS of the response. INVALID_PARAM: reserved bits, or a VMPL that the message may not speak for. INVALID_KEY: the
/// key is not to be had.
///
/// # Source
/// AMD 56860, MSG_REPORT_REQ and MSG_REPORT_RSP.
fn check(firmware: &Firmware, request: &Request<'_>, wanted: &ReportRequest) -> Result<EndorsementKey, FwStatus> {
    let clean = wanted.key_sel & !KEY_SEL == 0 && wanted.reserved_0x48 == [0; 24];
    if !clean || !request.may_speak_for(wanted.vmpl) {
        return Err(FwStatus::INVALID_PARAM);
    }
    firmware.select_key(request.context, KeySelect(wanted.key_sel))
}

/// The report, signed unless the chip key is masked.
///
/// # Source
/// AMD 56860, "ATTESTATION_REPORT" and "Attestation". That MASK_CHIP_KEY leaves reports unsigned that the VLEK would sign is
/// this model's reading.
fn make(firmware: &Firmware, context: &GuestContext, wanted: &ReportRequest, key: EndorsementKey) -> AttestationReport {
    let (config, reporting, identity) = (&firmware.config, &firmware.reporting, &context.identity);
    let version = config.attestation_report_version();
    let (running, committed) = (config.running().version, reporting.committed.version);
    let masked = reporting.mask_chip_key;
    let signing_key = if masked { SigningKey::NONE } else { key.signing_key() };
    let mut report = AttestationReport {
        version,
        guest_svn: identity.guest_svn,
        policy: context.policy,
        family_id: identity.family_id,
        image_id: identity.image_id,
        vmpl: wanted.vmpl,
        signature_algo: KeyAlgorithm::ECDSA_P384_SHA384,
        current_tcb: config.tcb,
        platform_info: platform_info(firmware, version),
        signer_info: SignerInfo::new(signing_key, masked, identity.author_key_digest.is_some()),
        report_data: wanted.report_data,
        measurement: context.digest,
        host_data: identity.host_data,
        id_key_digest: identity.id_key_digest.unwrap_or([0; 48]),
        author_key_digest: identity.author_key_digest.unwrap_or([0; 48]),
        report_id: context.report_id,
        report_id_ma: NO_MIGRATION_AGENT,
        reported_tcb: firmware.reported_tcb(),
        chip_id: if reporting.mask_chip_id { [0; 64] } else { firmware.chip_id() },
        committed_tcb: reporting.committed.tcb,
        current_build: running.build,
        current_minor: running.minor,
        current_major: running.major,
        committed_build: committed.build,
        committed_minor: committed.minor,
        committed_major: committed.major,
        launch_tcb: context.launch_tcb,
        ..AttestationReport::default()
    };
    if version >= ReportVersion::V3 {
        let CpuidSignature { family, model, stepping } = CpuidSignature::from_eax(config.signature());
        (report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step) = (family, model, stepping);
    }
    if version >= ReportVersion::V5 {
        report.launch_mit_vector = context.launch_mitigations;
        report.current_mit_vector = config.mitigations;
    }
    if !masked {
        report.signature = firmware.sign(key, report.signed());
    }
    report
}

/// PLATFORM_INFO. ALIAS_CHECK_COMPLETE came with version 3.
fn platform_info(firmware: &Firmware, version: ReportVersion) -> PlatformInfo {
    let config = &firmware.config;
    let flags = [
        (config.smt_enabled, PlatformInfo::SMT_EN),
        (config.tsme_enabled, PlatformInfo::TSME_EN),
        (config.ecc_enabled, PlatformInfo::ECC_EN),
        (config.rapl_disabled, PlatformInfo::RAPL_DIS),
        (config.ciphertext_hiding_dram, PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN),
        (version >= ReportVersion::V3, PlatformInfo::ALIAS_CHECK_COMPLETE),
    ];
    PlatformInfo(flags.iter().filter(|(on, _)| *on).fold(0, |info, (_, flag)| info | flag))
}
