//! MSG_KEY_REQ: keys for the guest's own use, from a root and what the guest chooses to mix in.

use hmac::{Hmac, Mac};
use sha2::Sha384;
use snp_abi::{FwStatus, GuestFieldSelect, KeyRequest, KeyRequest2, KeyResponse, KeySelect};
use zerocopy::{FromBytes, IntoBytes};

use crate::guest_request::Request;
use crate::reporting::at_most;
use crate::{EndorsementKey, Firmware};

/// The firmware's version since which message version 2 is known.
const VERSION_2_SINCE: (u8, u8) = (1, 58);

/// Answers the request.
///
/// # Errors
/// INVALID_PARAM: an unknown version, or a payload of the wrong length.
pub(crate) fn answer(firmware: &Firmware, request: &Request<'_>) -> Result<Vec<u8>, FwStatus> {
    let wanted = parse(firmware, request)?;
    let response = match check(firmware, request, &wanted) {
        Ok(root) => {
            let key = derive(firmware, request, &wanted, root);
            KeyResponse { derived_key: key, ..KeyResponse::refused(FwStatus::SUCCESS) }
        }
        Err(status) => KeyResponse::refused(status),
    };
    Ok(response.as_bytes().to_vec())
}

fn parse(firmware: &Firmware, request: &Request<'_>) -> Result<KeyRequest2, FwStatus> {
    match request.version {
        1 => {
            let v1 = KeyRequest::read_from_bytes(request.payload).map_err(|_| FwStatus::INVALID_PARAM)?;
            Ok(KeyRequest2 { v1, launch_mit_vector: 0 })
        }
        2 if firmware.config.api >= VERSION_2_SINCE => {
            KeyRequest2::read_from_bytes(request.payload).map_err(|_| FwStatus::INVALID_PARAM)
        }
        _ => Err(FwStatus::INVALID_PARAM),
    }
}

/// The root of a derived key.
#[derive(Clone, Copy)]
enum Root {
    Vmrk,
    Endorsement(EndorsementKey),
}

/// Whether the guest may have the key.
///
/// # Errors
/// The STATUS of the response. INVALID_PARAM: reserved bits, a VMPL that the message may not speak for, an SVN, TCB or
/// mitigation that the guest or platform does not have. INVALID_KEY: the root is not to be had.
///
/// # Source
/// AMD 56860, MSG_KEY_REQ and MSG_KEY_RSP. That LAUNCH_MIT_VECTOR may name only mitigations that were there at launch, and
/// that a masked chip key is INVALID_KEY, is this model's reading.
fn check(firmware: &Firmware, request: &Request<'_>, wanted: &KeyRequest2) -> Result<Root, FwStatus> {
    const KEY_SEL: u32 = 0b11 << KeyRequest::KEY_SEL_SHIFT;
    let KeyRequest2 { v1, launch_mit_vector } = wanted;
    let known_fields = match request.version {
        1 => GuestFieldSelect::LAUNCH_MIT_VECTOR - 1,
        _ => (GuestFieldSelect::LAUNCH_MIT_VECTOR << 1) - 1,
    };
    let clean = v1.root_key_select & !(KeyRequest::VMRK | KEY_SEL) == 0
        && v1.reserved_0x4 == 0
        && v1.guest_field_select.0 & !known_fields == 0;
    let allowed = request.may_speak_for(v1.vmpl)
        && v1.guest_svn <= request.context.identity.guest_svn
        && at_most(v1.tcb_version, firmware.reporting.committed.tcb)
        && launch_mit_vector & !request.context.launch_mitigations == 0;
    if !clean || !allowed {
        return Err(FwStatus::INVALID_PARAM);
    }
    if v1.root_key_select & KeyRequest::VMRK != 0 {
        return Ok(Root::Vmrk);
    }
    let select = KeySelect((v1.root_key_select & KEY_SEL) >> KeyRequest::KEY_SEL_SHIFT);
    match firmware.select_key(request.context, select)? {
        EndorsementKey::Vcek if firmware.reporting.mask_chip_key => Err(FwStatus::INVALID_KEY),
        key => Ok(Root::Endorsement(key)),
    }
}

/// The key. Everything that is mixed in is told apart by its bit, so that no two mixes are the same message.
///
/// # Source
/// The firmware's own derivation is not public; here it is HMAC-SHA-384, cut to 256 bits.
fn derive(firmware: &Firmware, request: &Request<'_>, wanted: &KeyRequest2, root: Root) -> [u8; 32] {
    let KeyRequest2 { v1, launch_mit_vector } = wanted;
    let (context, identity) = (request.context, &request.context.identity);
    let mut mac = match root {
        Root::Vmrk => keyed(&context.vmrk),
        Root::Endorsement(key) => keyed(&firmware.signing_key(key).to_bytes()),
    };
    let root_name: &[u8] = match root {
        Root::Vmrk => b"VMRK",
        Root::Endorsement(EndorsementKey::Vcek) => b"VCEK",
        Root::Endorsement(EndorsementKey::Vlek) => b"VLEK",
    };
    mac.update(b"snpkit derived key: ");
    mac.update(root_name);
    mac.update(&v1.vmpl.to_le_bytes());
    mac.update(&v1.guest_field_select.0.to_le_bytes());
    // All of a field's values have one length, and which fields there are was said above.
    let fields: [(u64, &[u8]); 7] = [
        (GuestFieldSelect::GUEST_POLICY, &context.policy.0.to_le_bytes()),
        (GuestFieldSelect::IMAGE_ID, &identity.image_id),
        (GuestFieldSelect::FAMILY_ID, &identity.family_id),
        (GuestFieldSelect::MEASUREMENT, &context.digest.0),
        (GuestFieldSelect::GUEST_SVN, &v1.guest_svn.to_le_bytes()),
        (GuestFieldSelect::TCB_VERSION, &v1.tcb_version.0.to_le_bytes()),
        (GuestFieldSelect::LAUNCH_MIT_VECTOR, &launch_mit_vector.to_le_bytes()),
    ];
    for (_, value) in fields.iter().filter(|(field, _)| v1.guest_field_select.has(*field)) {
        mac.update(value);
    }
    let mut key = [0; 32];
    key.copy_from_slice(&mac.finalize().into_bytes()[..32]);
    key
}

fn keyed(root: &[u8]) -> Hmac<Sha384> {
    Hmac::new_from_slice(root).expect("HMAC takes keys of any length")
}
