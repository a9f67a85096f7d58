//! MSG_TSC_INFO_REQ: how the guest's time stamp counter relates to the host's.

use snp_abi::{FwStatus, TscInfoRequest, TscInfoResponse};
use zerocopy::{FromBytes, IntoBytes};

use crate::Firmware;
use crate::guest_request::Request;

/// A scale of one, in 8.32 fixed point.
const ONE: u64 = 1 << 32;

/// Answers the request.
///
/// # Errors
/// INVALID_PARAM: an unknown version, or a payload of the wrong length.
///
/// # Source
/// AMD 56860, MSG_TSC_INFO_REQ; Linux 7.3, arch/x86/coco/sev/core.c (`snp_get_tsc_info`). GUEST_TSC_OFFSET and TSC_FACTOR are
/// zero: the guest's counter starts with the host's, and the nominal frequency is the real one.
pub(crate) fn answer(firmware: &Firmware, request: &Request<'_>) -> Result<Vec<u8>, FwStatus> {
    let wanted = TscInfoRequest::read_from_bytes(request.payload).map_err(|_| FwStatus::INVALID_PARAM)?;
    if request.version != 1 {
        return Err(FwStatus::INVALID_PARAM);
    }
    let response = if wanted == TscInfoRequest::default() {
        let guest_tsc_scale = scale(request.context.desired_tsc_khz, firmware.config.tsc_khz);
        TscInfoResponse { guest_tsc_scale, ..TscInfoResponse::default() }
    } else {
        TscInfoResponse { status: FwStatus::INVALID_PARAM.0, ..TscInfoResponse::default() }
    };
    Ok(response.as_bytes().to_vec())
}

/// The guest's frequency by the host's.
fn scale(desired_khz: u32, host_khz: u32) -> u64 {
    match (desired_khz, host_khz) {
        (0, _) | (_, 0) => ONE,
        (desired, host) => ONE * u64::from(desired) / u64::from(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_a_fixed_point_number() {
        assert_eq!(scale(0, 2_450_000), ONE);
        assert_eq!(scale(2_450_000, 2_450_000), ONE);
        assert_eq!(scale(1_225_000, 2_450_000), ONE / 2);
        assert_eq!(scale(u32::MAX, 1), ONE * 0xffff_ffff);
    }
}
