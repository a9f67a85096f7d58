//! /dev/sev.

use std::sync::Arc;

use snp_abi::{Errno, FwStatus};
use snp_asp::{SNP_CONFIG_LEN, VLEK_HASHSTICK_LEN};
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
const SNP_SET_CONFIG: u32 = 11;
const SNP_VLEK_LOAD: u32 = 12;

/// Bytes of a chip's ID.
const ID_LEN: u32 = 64;

/// /dev/sev on a host with SEV-SNP.
///
/// # Source
/// Linux 7.3, include/uapi/linux/psp-sev.h, drivers/crypto/ccp/sev-dev.c (`sev_ioctl`).
#[derive(Clone, Debug)]
pub struct SevDevice {
    host: Arc<Host>,
    writable: bool,
}

impl SevDevice {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host, writable: true }
    }

    /// The same device through a descriptor that was opened for reading only: commands that change the platform are EPERM.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writable: false, ..self }
    }

    /// SEV_ISSUE_CMD: `argument` is the user address of a `struct sev_issue_cmd`.
    ///
    /// # Errors
    /// EINVAL: no such command, or no structure. EFAULT. EPERM: the descriptor is read-only. EIO: the firmware refused, and
    /// `error` says why. ENOSYS: a command that is not modelled; it is noted in [`crate::SoftKvm::unmodelled`].
    pub fn issue_cmd(&self, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
        let mut command: [u8; 16] = read_struct(user, argument)?;
        let id = u32::from_le_bytes(std::array::from_fn(|i| command[i]));
        let data = u64::from_le_bytes(std::array::from_fn(|i| command[4 + i]));
        let mut status = FwStatus::SUCCESS;
        let answer = match id {
            PLATFORM_STATUS => self.platform_status(user, data),
            GET_ID2 => self.get_id2(user, data, &mut status),
            SNP_PLATFORM_STATUS => self.snp_platform_status(user, data),
            SNP_COMMIT => {
                lock(&self.host.firmware).commit();
                Ok(())
            }
            SNP_SET_CONFIG => self.set_config(user, data, &mut status),
            SNP_VLEK_LOAD => self.vlek_load(user, data),
            ..GET_ID2 => Err(self.host.unmodelled(format!("SEV_ISSUE_CMD {id}"))),
            _ => return Err(Errno::EINVAL),
        };
        command[12..].copy_from_slice(&status.0.to_le_bytes());
        user.write(argument, &command)?;
        answer
    }

    fn snp_platform_status(&self, user: &dyn UserSpace, data: u64) -> Result<(), Errno> {
        if data == 0 {
            return Err(Errno::EINVAL);
        }
        let status = lock(&self.host.firmware).platform_status();
        Ok(user.write(data, status.as_bytes())?)
    }

    /// A structure of a command that changes the platform.
    fn want_writable<T>(&self, user: &dyn UserSpace, data: u64) -> Result<T, Errno>
    where
        T: zerocopy::FromBytes + IntoBytes,
    {
        if data == 0 {
            return Err(Errno::EINVAL);
        }
        if !self.writable {
            return Err(Errno::EPERM);
        }
        Ok(read_struct(user, data)?)
    }

    /// SNP_SET_CONFIG: the firmware's SNP_CONFIG.
    fn set_config(&self, user: &dyn UserSpace, data: u64, status: &mut FwStatus) -> Result<(), Errno> {
        let config: [u8; SNP_CONFIG_LEN] = self.want_writable(user, data)?;
        lock(&self.host.firmware).snp_config(&config).map_err(|refused| {
            *status = refused;
            Errno::EIO
        })
    }

    /// SNP_VLEK_LOAD: length of this structure, version, and where the wrapped hashstick is.
    fn vlek_load(&self, user: &dyn UserSpace, data: u64) -> Result<(), Errno> {
        let request: [u8; 16] = self.want_writable(user, data)?;
        let len = u32::from_le_bytes(std::array::from_fn(|i| request[i]));
        let version = request[4];
        if len as usize != request.len() || version != 0 {
            return Err(Errno::EINVAL);
        }
        let address = u64::from_le_bytes(std::array::from_fn(|i| request[8 + i]));
        if address == 0 {
            return Err(Errno::EINVAL);
        }
        let wrapped: [u8; VLEK_HASHSTICK_LEN] = read_struct(user, address)?;
        lock(&self.host.firmware).vlek_load(&wrapped);
        Ok(())
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

    /// SEV_GET_ID2: the buffer's address and length. The right length is told in any case; a buffer that is too short, or
    /// none, is EIO with INVALID_LEN.
    fn get_id2(&self, user: &dyn UserSpace, data: u64, status: &mut FwStatus) -> Result<(), Errno> {
        let mut request: [u8; 12] = read_struct(user, data)?;
        let address = u64::from_le_bytes(std::array::from_fn(|i| request[i]));
        let len = u32::from_le_bytes(std::array::from_fn(|i| request[8 + i]));
        request[8..].copy_from_slice(&ID_LEN.to_le_bytes());
        user.write(data, &request)?;
        if address == 0 || len < ID_LEN {
            *status = FwStatus::INVALID_LEN;
            return Err(Errno::EIO);
        }
        Ok(user.write(address, &lock(&self.host.firmware).chip_id())?)
    }
}
