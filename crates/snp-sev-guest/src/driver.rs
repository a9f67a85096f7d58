//! Linux's sev-guest driver: one VMPCK, one message at a time.

use snp_abi::sev_guest::{
    SEV_FW_BLOB_MAX_SIZE, SNP_GUEST_VMM_ERR_BUSY, SNP_GUEST_VMM_ERR_INVALID_LEN, SNP_REPORT_RESP_LEN,
    snp_derived_key_req, snp_derived_key_resp, snp_report_req,
};
use snp_abi::{Errno, FwStatus, MessageType, PAGE_SIZE};
use zerocopy::IntoBytes;

use crate::{Channel, MessagePage};

/// Who carries messages to the firmware: VMGEXIT, seen from the guest.
pub trait Hypervisor {
    /// A guest request. Writes the response page, and returns what it leaves in SW_EXITINFO2.
    fn guest_request(&mut self, request: &MessagePage, response: &mut MessagePage) -> u64;

    /// An extended guest request: as a guest request, and certificates go to `certificates`, whole pages. Returns
    /// SW_EXITINFO2, and, with SNP_GUEST_VMM_ERR_INVALID_LEN in its upper half, how many pages it takes.
    fn extended_guest_request(
        &mut self,
        request: &MessagePage,
        response: &mut MessagePage,
        certificates: &mut [u8],
    ) -> (u64, u64);
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What ioctl(2) answers.
    pub errno: Errno,
    /// `exitinfo2` of the request: the firmware's status below, the hypervisor's own above.
    pub exitinfo2: u64,
    /// SNP_GUEST_VMM_ERR_INVALID_LEN: the bytes that certificates take.
    pub certs_len: u32,
}

/// A report, and the buffer for certificates as the hypervisor left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedReport {
    /// The payload of MSG_REPORT_RSP, padded with zeros to [`SNP_REPORT_RESP_LEN`] bytes.
    pub response: Vec<u8>,
    /// As long as it was asked for.
    pub certificates: Vec<u8>,
}

/// The driver.
#[derive(Debug)]
pub struct SevGuest<H> {
    /// `None` once the key was wiped.
    channel: Option<Channel>,
    hypervisor: H,
}

/// `exitinfo2` before the hypervisor was asked. Linux 7.3: SEV_RET_NO_FW_CALL of the guest, 0xff.
const NOT_ASKED: u64 = 0xff;
/// How often a busy hypervisor is asked again. Linux: for a minute, every two seconds.
const RETRIES: usize = 30;
/// The sequence number that Linux no longer uses: it has 32 bits for it.
const LAST_SEQNO: u64 = u32::MAX as u64;

impl<H: Hypervisor> SevGuest<H> {
    /// A driver that was just loaded.
    pub fn new(channel: Channel, hypervisor: H) -> Self {
        Self { channel: Some(channel), hypervisor }
    }

    /// The number of its VMPCK, the least VMPL that it may ask for; `None` once the key was wiped.
    pub fn vmpck(&self) -> Option<u8> {
        self.channel.as_ref().map(Channel::vmpck)
    }

    /// SNP_GET_REPORT: the payload of MSG_REPORT_RSP, padded with zeros.
    ///
    /// # Errors
    /// [`Failure`]. ENOTTY: the key was wiped after an earlier failure. EIO: hypervisor or firmware refused. EBADMSG: the
    /// response is none. The last two wipe the key, as no sequence number may be used twice.
    pub fn report(&mut self, version: u8, request: &snp_report_req) -> Result<Vec<u8>, Failure> {
        let payload = self.ask(MessageType::REPORT_REQ, version, request.as_bytes(), SNP_REPORT_RESP_LEN, None)?;
        Ok(padded(payload, SNP_REPORT_RESP_LEN))
    }

    /// SNP_GET_DERIVED_KEY.
    ///
    /// # Errors
    /// As [`SevGuest::report`].
    pub fn derived_key(&mut self, version: u8, request: &snp_derived_key_req) -> Result<snp_derived_key_resp, Failure> {
        const LEN: usize = size_of::<snp_derived_key_resp>();
        let payload = self.ask(MessageType::KEY_REQ, version, request.as_bytes(), LEN, None)?;
        let mut response = snp_derived_key_resp { data: [0; LEN] };
        response.data[..payload.len()].copy_from_slice(&payload);
        Ok(response)
    }

    /// SNP_GET_EXT_REPORT with a buffer of `certs_len` bytes for certificates, 0 for none.
    ///
    /// # Errors
    /// As [`SevGuest::report`]; EINVAL: `certs_len` is not whole pages or too much. EIO with INVALID_LEN: the buffer is too
    /// small; the report was asked for all the same and is lost, so that the key can be used on.
    pub fn extended_report(
        &mut self,
        version: u8,
        request: &snp_report_req,
        certs_len: u32,
    ) -> Result<ExtendedReport, Failure> {
        if certs_len > SEV_FW_BLOB_MAX_SIZE || !(certs_len as usize).is_multiple_of(PAGE_SIZE) {
            return Err(Failure::not_asked(Errno::EINVAL));
        }
        let mut certificates = vec![0; certs_len as usize];
        let payload = self.ask(
            MessageType::REPORT_REQ,
            version,
            request.as_bytes(),
            SNP_REPORT_RESP_LEN,
            Some(&mut certificates),
        )?;
        Ok(ExtendedReport { response: padded(payload, SNP_REPORT_RESP_LEN), certificates })
    }

    /// Any message, for what Linux has no ioctl: the payload of the answer.
    ///
    /// # Errors
    /// As [`SevGuest::report`].
    pub fn message(&mut self, msg_type: MessageType, version: u8, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        self.ask(msg_type, version, payload, snp_abi::GuestMessageHeader::PAYLOAD, None)
    }

    fn ask(
        &mut self,
        msg_type: MessageType,
        version: u8,
        payload: &[u8],
        room: usize,
        certificates: Option<&mut Vec<u8>>,
    ) -> Result<Vec<u8>, Failure> {
        let channel = self.channel.as_mut().ok_or(Failure::not_asked(Errno::ENOTTY))?;
        if channel.count() + 1 >= LAST_SEQNO {
            return Err(Failure::not_asked(Errno::EIO));
        }
        let request = channel.seal(msg_type, version, payload);
        let mut response = Box::new([0; PAGE_SIZE]);
        let issued = issue(&mut self.hypervisor, &request, &mut response, certificates);
        channel.sent();
        let answer = match issued {
            // The report was made and is lost; the key stays.
            Err(failure) if failure.certs_len != 0 => return Err(failure),
            Err(failure) => Err(failure),
            Ok(()) => channel.open(&request, &response).ok().filter(|payload| payload.len() <= room).ok_or(Failure {
                errno: Errno::EBADMSG,
                exitinfo2: 0,
                certs_len: 0,
            }),
        };
        if answer.is_err() {
            self.channel = None;
        }
        answer
    }
}

/// Has the hypervisor carry one request, again while it is busy, and without certificates if they do not fit.
fn issue(
    hypervisor: &mut impl Hypervisor,
    request: &MessagePage,
    response: &mut MessagePage,
    certificates: Option<&mut Vec<u8>>,
) -> Result<(), Failure> {
    let busy = vmm_error(SNP_GUEST_VMM_ERR_BUSY);
    let mut certificates = certificates;
    let mut too_small = None;
    for _ in 0..=RETRIES {
        let exitinfo2 = match &mut certificates {
            Some(buffer) if too_small.is_none() => {
                let (exitinfo2, pages) = hypervisor.extended_guest_request(request, response, buffer);
                if exitinfo2 == vmm_error(SNP_GUEST_VMM_ERR_INVALID_LEN) {
                    let certs_len = u32::try_from(pages.saturating_mul(PAGE_SIZE as u64)).unwrap_or(u32::MAX);
                    too_small = Some(Failure { errno: Errno::EIO, exitinfo2, certs_len });
                    continue;
                }
                exitinfo2
            }
            _ => hypervisor.guest_request(request, response),
        };
        return match (exitinfo2, too_small) {
            (code, _) if code == busy => continue,
            (0, None) => Ok(()),
            (0, Some(failure)) => Err(failure),
            (exitinfo2, _) => Err(Failure { errno: Errno::EIO, exitinfo2, certs_len: 0 }),
        };
    }
    Err(Failure { errno: Errno::ETIMEDOUT, exitinfo2: busy, certs_len: 0 })
}

fn vmm_error(error: u32) -> u64 {
    u64::from(error) << 32
}

fn padded(mut payload: Vec<u8>, len: usize) -> Vec<u8> {
    payload.resize(len, 0);
    payload
}

impl Failure {
    /// The hypervisor was not asked.
    pub const fn not_asked(errno: Errno) -> Self {
        Self { errno, exitinfo2: NOT_ASKED, certs_len: 0 }
    }

    /// The firmware's status.
    pub const fn fw_status(&self) -> FwStatus {
        FwStatus(self.exitinfo2 as u32)
    }
}
