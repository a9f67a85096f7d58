//! SNP_GUEST_REQUEST: what guests ask of the firmware.

use std::fmt;

use snp_abi::{FwStatus, GuestMessageHeader, GuestState, MessageType, Pfn};

use crate::context::GuestContext;
use crate::message::{self, MessagePage};
use crate::{Firmware, derived_key, report, tsc_info};

/// Why a request has no response. Nothing changed: the guest's next message has the same sequence number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RefusedRequest {
    /// The firmware refused it.
    Status(FwStatus),
    /// The firmware would answer it, this model cannot.
    Unmodelled(MessageType),
}

impl From<FwStatus> for RefusedRequest {
    fn from(status: FwStatus) -> Self {
        Self::Status(status)
    }
}

impl fmt::Display for RefusedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Unmodelled(message) => write!(f, "{message} is not modelled"),
        }
    }
}

impl fmt::Debug for RefusedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for RefusedRequest {}

/// A request that was opened.
pub(crate) struct Request<'a> {
    pub(crate) context: &'a GuestContext,
    /// The key that it came under: the most privileged VMPL that it may speak for.
    pub(crate) vmpck: u8,
    pub(crate) version: u8,
    pub(crate) payload: &'a [u8],
}

impl Request<'_> {
    /// Whether the request may speak for that VMPL.
    pub(crate) fn may_speak_for(&self, vmpl: u32) -> bool {
        (u32::from(self.vmpck)..=3).contains(&vmpl)
    }
}

impl Firmware {
    /// SNP_GUEST_REQUEST: a message page of a guest in, the message page of the firmware's answer out.
    ///
    /// What the firmware thinks of a well-formed request is in the STATUS of the answer, which only the guest can read.
    ///
    /// # Errors
    /// INVALID_GUEST: `gctx` is no context. INVALID_GUEST_STATE: not in GSTATE_RUNNING. INVALID_PARAM: a malformed header, an
    /// unknown type or version, or a payload of the wrong length. AEAD_OFLOW: not the next sequence number under this VMPCK
    /// (a replay, a message out of order), or there is no next one. BAD_MEASUREMENT: the message does not authenticate.
    /// [`RefusedRequest::Unmodelled`]: messages of migration agents, and MSG_CPUID_REQ.
    ///
    /// # Source
    /// AMD 56860, SNP_GUEST_REQUEST. AEAD_OFLOW for a wrong sequence number is what hardware was seen to answer
    /// (AMDESE/linux-svsm issue 22, AMDESE/sev-guest issue 40).
    pub fn guest_request(&mut self, gctx: Pfn, page: &MessagePage) -> Result<Box<MessagePage>, RefusedRequest> {
        let context = self.context(gctx)?;
        if context.state != GuestState::Running {
            return Err(FwStatus::INVALID_GUEST_STATE.into());
        }
        let header = message::header(page)?;
        let number = usize::from(header.msg_vmpck);
        let count = context.message_counts[number];
        if header.msg_seqno != next(count)? {
            return Err(FwStatus::AEAD_OFLOW.into());
        }
        let vmpck = context.vmpcks[number];
        let payload = message::open(&vmpck, &header, page)?;
        let answer = self.answer(context, &header, &payload)?;
        self.context_mut(gctx)?.message_counts[number] = header.msg_seqno + 1;
        Ok(message::seal_response(&vmpck, &header, &answer))
    }

    /// The payload of the answer.
    fn answer(
        &self,
        context: &GuestContext,
        header: &GuestMessageHeader,
        payload: &[u8],
    ) -> Result<Vec<u8>, RefusedRequest> {
        let request = Request { context, vmpck: header.msg_vmpck, version: header.msg_version, payload };
        match message::request_type(header)? {
            MessageType::REPORT_REQ => Ok(report::answer(self, &request)?),
            MessageType::KEY_REQ => Ok(derived_key::answer(self, &request)?),
            MessageType::TSC_INFO_REQ => Ok(tsc_info::answer(self, &request)?),
            other => Err(RefusedRequest::Unmodelled(other)),
        }
    }
}

/// The sequence number of the next request, if that of its answer exists, too.
fn next(count: u64) -> Result<u64, FwStatus> {
    let response = count.checked_add(2).ok_or(FwStatus::AEAD_OFLOW)?;
    Ok(response - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sequence_number_needs_one_for_its_answer() {
        assert_eq!(next(0), Ok(1));
        assert_eq!(next(u64::MAX - 3), Ok(u64::MAX - 2));
        assert_eq!(next(u64::MAX - 2), Ok(u64::MAX - 1));
        assert_eq!(next(u64::MAX - 1), Err(FwStatus::AEAD_OFLOW));
    }
}
