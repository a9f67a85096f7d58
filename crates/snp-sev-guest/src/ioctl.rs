//! ioctl(2) on /dev/sev-guest.

use snp_abi::Errno;
use snp_abi::sev_guest::{
    SNP_GET_DERIVED_KEY, SNP_GET_EXT_REPORT, SNP_GET_REPORT, SNP_GUEST_VMM_ERR_INVALID_LEN, snp_derived_key_req,
    snp_derived_key_resp, snp_ext_report_req, snp_guest_request_ioctl, snp_report_req,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{ExtendedReport, Failure, Hypervisor, SevGuest};

/// The memory of the program that asks.
pub trait UserMemory {
    /// Fills `buffer` from memory at `address`.
    ///
    /// # Errors
    /// EFAULT
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Writes `data` to memory at `address`.
    ///
    /// # Errors
    /// EFAULT
    fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno>;
}

/// The driver behind the device: [`SevGuest`] itself, or one in another process.
pub trait Driver {
    /// As [`SevGuest::report`].
    ///
    /// # Errors
    /// As there.
    fn report(&mut self, version: u8, request: &snp_report_req) -> Result<Vec<u8>, Failure>;

    /// As [`SevGuest::derived_key`].
    ///
    /// # Errors
    /// As there.
    fn derived_key(&mut self, version: u8, request: &snp_derived_key_req) -> Result<snp_derived_key_resp, Failure>;

    /// As [`SevGuest::extended_report`].
    ///
    /// # Errors
    /// As there.
    fn extended_report(
        &mut self,
        version: u8,
        request: &snp_report_req,
        certs_len: u32,
    ) -> Result<ExtendedReport, Failure>;
}

impl<H: Hypervisor> Driver for SevGuest<H> {
    fn report(&mut self, version: u8, request: &snp_report_req) -> Result<Vec<u8>, Failure> {
        SevGuest::report(self, version, request)
    }

    fn derived_key(&mut self, version: u8, request: &snp_derived_key_req) -> Result<snp_derived_key_resp, Failure> {
        SevGuest::derived_key(self, version, request)
    }

    fn extended_report(
        &mut self,
        version: u8,
        request: &snp_report_req,
        certs_len: u32,
    ) -> Result<ExtendedReport, Failure> {
        SevGuest::extended_report(self, version, request, certs_len)
    }
}

/// ioctl(2) on a descriptor of /dev/sev-guest: every request has a `struct snp_guest_request_ioctl`.
///
/// # Errors
/// EFAULT. EINVAL: message version 0, or no address for request or response. ENOTTY: an unknown request, or the key was wiped.
/// Those of the driver, with the reason in `exitinfo2`.
///
/// # Source
/// Linux 7.3, drivers/virt/coco/sev-guest/sev-guest.c (`snp_guest_ioctl`).
pub fn ioctl(driver: &mut dyn Driver, memory: &dyn UserMemory, request: u32, argument: u64) -> Result<(), Errno> {
    let mut input: snp_guest_request_ioctl = read(memory, argument)?;
    if input.msg_version == 0 {
        return Err(Errno::EINVAL);
    }
    let answer = match request {
        SNP_GET_REPORT => get_report(driver, memory, &input),
        SNP_GET_DERIVED_KEY => get_derived_key(driver, memory, &input),
        SNP_GET_EXT_REPORT => get_ext_report(driver, memory, &input),
        _ => Err(Failure::not_asked(Errno::ENOTTY)),
    };
    if let Err(failure) = answer {
        // An exitinfo2 of zero is left as the program had it.
        if failure.exitinfo2 != 0 {
            input.exitinfo2 = failure.exitinfo2;
            memory.write(argument, input.as_bytes())?;
        }
        return Err(failure.errno);
    }
    Ok(())
}

fn read<T: FromBytes + IntoBytes>(memory: &dyn UserMemory, address: u64) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    memory.read(address, value.as_mut_bytes())?;
    Ok(value)
}

/// The structure behind `req_data`; both addresses must be there.
fn request<T: FromBytes + IntoBytes>(memory: &dyn UserMemory, input: &snp_guest_request_ioctl) -> Result<T, Failure> {
    if input.req_data == 0 || input.resp_data == 0 {
        return Err(Failure::not_asked(Errno::EINVAL));
    }
    read(memory, input.req_data).map_err(Failure::not_asked)
}

/// Copying an answer out failed. The firmware was asked, so that `exitinfo2` is its success.
fn lost(errno: Errno) -> Failure {
    Failure { errno, exitinfo2: 0, certs_len: 0 }
}

fn get_report(
    driver: &mut dyn Driver,
    memory: &dyn UserMemory,
    input: &snp_guest_request_ioctl,
) -> Result<(), Failure> {
    let wanted = request(memory, input)?;
    let response = driver.report(input.msg_version, &wanted)?;
    memory.write(input.resp_data, &response).map_err(lost)
}

fn get_derived_key(
    driver: &mut dyn Driver,
    memory: &dyn UserMemory,
    input: &snp_guest_request_ioctl,
) -> Result<(), Failure> {
    let wanted = request(memory, input)?;
    let response = driver.derived_key(input.msg_version, &wanted)?;
    memory.write(input.resp_data, response.as_bytes()).map_err(lost)
}

fn get_ext_report(
    driver: &mut dyn Driver,
    memory: &dyn UserMemory,
    input: &snp_guest_request_ioctl,
) -> Result<(), Failure> {
    let mut wanted: snp_ext_report_req = request(memory, input)?;
    let certs_len = if wanted.certs_address == 0 { 0 } else { wanted.certs_len };
    match driver.extended_report(input.msg_version, &wanted.data, certs_len) {
        Ok(extended) => {
            if certs_len != 0 {
                memory.write(wanted.certs_address, &extended.certificates).map_err(lost)?;
            }
            memory.write(input.resp_data, &extended.response).map_err(lost)
        }
        Err(failure) => {
            if (failure.exitinfo2 >> 32) as u32 == SNP_GUEST_VMM_ERR_INVALID_LEN {
                wanted.certs_len = failure.certs_len;
                memory.write(input.req_data, wanted.as_bytes()).map_err(|errno| Failure { errno, ..failure })?;
            }
            Err(failure)
        }
    }
}
