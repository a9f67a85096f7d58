//! /dev/sev.

use std::sync::Arc;

use snp_abi::{Errno, FwStatus};
use zerocopy::IntoBytes;

use crate::UserSpace;
use crate::host::Host;
use crate::lock;
use crate::user::read_struct;

/// The request SEV_ISSUE_CMD, the only one: `struct sev_issue_cmd` is command, data and error, packed.
pub(crate) const SEV_ISSUE_CMD: u32 = 0xc010_5300;

/// Commands of SEV_ISSUE_CMD.
const PLATFORM_STATUS: u32 = 1;
const GET_ID2: u32 = 8;
const SNP_PLATFORM_STATUS: u32 = 9;
const SNP_COMMIT: u32 = 10;
const LAST: u32 = 13;

/// Bytes of a chip's ID.
const ID_LEN: u32 = 64;

/// /dev/sev on a host with SEV-SNP.
///
/// # Source
/// Linux 7.3, include/uapi/linux/psp-sev.h, drivers/crypto/ccp/sev-dev.c (`sev_ioctl`).
#[derive(Clone, Debug)]
pub struct SevDevice {
    host: Arc<Host>,
}

impl SevDevice {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }

    /// SEV_ISSUE_CMD: `argument` is the user address of a `struct sev_issue_cmd`.
    ///
    /// # Errors
    /// EINVAL: no such command. EFAULT. ENOSYS: a command that is not modelled; it is noted in
    /// [`crate::SoftKvm::unmodelled`].
    pub fn issue_cmd(&self, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
        let mut command: [u8; 16] = read_struct(user, argument)?;
        let id = u32::from_le_bytes(std::array::from_fn(|i| command[i]));
        let data = u64::from_le_bytes(std::array::from_fn(|i| command[4 + i]));
        let answer = match id {
            PLATFORM_STATUS => self.platform_status(user, data),
            SNP_PLATFORM_STATUS => {
                let status = lock(&self.host.firmware).platform_status();
                Ok(user.write(data, status.as_bytes())?)
            }
            GET_ID2 => self.get_id2(user, data),
            // The running firmware is the committed one.
            SNP_COMMIT => Ok(()),
            0..=LAST => Err(self.host.unmodelled(format!("SEV_ISSUE_CMD {id}"))),
            _ => Err(Errno::EINVAL),
        };
        command[12..].copy_from_slice(&FwStatus::SUCCESS.0.to_le_bytes());
        user.write(argument, &command)?;
        answer
    }

    /// SEV_PLATFORM_STATUS: API version, state, flags, build, guests; 12 bytes.
    fn platform_status(&self, user: &dyn UserSpace, data: u64) -> Result<(), Errno> {
        const INITIALISED: u8 = 1;
        const CONFIG_ES: u32 = 1 << 8;
        let snp = lock(&self.host.firmware).platform_status();
        let mut status = [0; 12];
        status[..3].copy_from_slice(&[snp.api_major, snp.api_minor, INITIALISED]);
        status[3..7].copy_from_slice(&CONFIG_ES.to_le_bytes());
        status[7] = snp.build_id as u8;
        status[8..].copy_from_slice(&snp.guest_count.to_le_bytes());
        Ok(user.write(data, &status)?)
    }

    /// SEV_GET_ID2: the buffer's address and length; a length that is too short is answered with the right one.
    fn get_id2(&self, user: &dyn UserSpace, data: u64) -> Result<(), Errno> {
        let mut request: [u8; 12] = read_struct(user, data)?;
        let address = u64::from_le_bytes(std::array::from_fn(|i| request[i]));
        let len = u32::from_le_bytes(std::array::from_fn(|i| request[8 + i]));
        request[8..].copy_from_slice(&ID_LEN.to_le_bytes());
        user.write(data, &request)?;
        if address == 0 || len < ID_LEN {
            return Ok(());
        }
        Ok(user.write(address, &lock(&self.host.firmware).chip_id())?)
    }
}
