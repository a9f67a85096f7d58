//! Guests of plain SEV and SEV-ES: handles, states, the launch measurement, and who may see through encryption.
//!
//! Memory encryption is modelled as a keyed pad that depends on the guest and on the address: what user space sees of
//! encrypted memory is not what is in it, and only this guest's key at this address makes it readable again. It is no AES
//! and keeps no secret.
//!
//! # Source
//! AMD 55766 (SEV API), LAUNCH_START, LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE, LAUNCH_FINISH, GUEST_STATUS,
//! DBG_DECRYPT, DBG_ENCRYPT, DECOMMISSION.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use snp_abi::FwStatus;

use crate::Firmware;

/// GSTATE of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SevState {
    /// LUPDATE: pages are encrypted and measured.
    LaunchUpdate = 1,
    /// LSECRET: the measurement was taken.
    LaunchSecret = 2,
    /// RUNNING.
    Running = 3,
}

/// LAUNCH_MEASURE's answer: MEASURE and MNONCE, bytes.
pub const SEV_MEASUREMENT_LEN: usize = 48;

/// LAUNCH_SECRET's header: FLAGS, IV and MAC, bytes.
pub const SEV_SECRET_HEADER_LEN: usize = 52;

/// The transport integrity key of a launch without a session.
const TRANSPORT_KEY: [u8; 16] = [0; 16];

/// Pages are encrypted in blocks of this many bytes.
const BLOCK: u64 = 16;
/// POLICY.NODBG.
const NO_DEBUG: u32 = 1;

/// A guest.
#[derive(Clone, Debug)]
pub(crate) struct SevGuest {
    policy: u32,
    state: SevState,
    /// GCTX.LD so far.
    digest: Sha256,
    key: u64,
    nonce: [u8; 16],
    /// MEASURE, once it was taken.
    measure: [u8; 32],
}

impl PartialEq for SevGuest {
    /// Hashers are equal if their digests are.
    fn eq(&self, other: &Self) -> bool {
        let plain = |guest: &Self| (guest.policy, guest.state, guest.key, guest.nonce, guest.measure);
        plain(self) == plain(other) && self.digest.clone().finalize() == other.digest.clone().finalize()
    }
}

impl Eq for SevGuest {}

impl Firmware {
    /// LAUNCH_START of a new guest: its handle. There is no session; the keys of one that is not given are zero.
    pub fn sev_launch_start(&mut self, policy: u32) -> u32 {
        self.sev_started += 1;
        let handle = self.sev_started;
        let seed =
            Sha256::new().chain_update(self.config.seed).chain_update(b"SEV guest").chain_update(handle.to_le_bytes());
        let seed = seed.finalize();
        let guest = SevGuest {
            policy,
            state: SevState::LaunchUpdate,
            digest: Sha256::new(),
            key: u64::from_le_bytes(std::array::from_fn(|i| seed[i])),
            nonce: std::array::from_fn(|i| seed[16 + i]),
            measure: [0; 32],
        };
        self.sev_guests.insert(handle, guest);
        handle
    }

    /// LAUNCH_UPDATE_DATA: measures `data`, which lies at `address`, and encrypts it in place.
    ///
    /// # Errors
    /// INVALID_GUEST, INVALID_GUEST_STATE, INVALID_ADDRESS and INVALID_LEN for what is not whole blocks.
    pub fn sev_launch_update_data(&mut self, handle: u32, address: u64, data: &mut [u8]) -> Result<(), FwStatus> {
        let guest = self.sev_guest(handle)?;
        guest.want(&[SevState::LaunchUpdate])?;
        if !address.is_multiple_of(BLOCK) {
            return Err(FwStatus::INVALID_ADDRESS);
        }
        if data.is_empty() || !(data.len() as u64).is_multiple_of(BLOCK) {
            return Err(FwStatus::INVALID_LEN);
        }
        guest.digest.update(&*data);
        guest.pad(address, data);
        Ok(())
    }

    /// LAUNCH_UPDATE_VMSA: measures a VMSA.
    ///
    /// # Errors
    /// INVALID_GUEST. Any state will do: a mirror makes its vCPUs after the launch.
    pub fn sev_launch_update_vmsa(&mut self, handle: u32, vmsa: &[u8]) -> Result<(), FwStatus> {
        let guest = self.sev_guest(handle)?;
        if guest.state == SevState::LaunchUpdate {
            guest.digest.update(vmsa);
        }
        Ok(())
    }

    /// LAUNCH_MEASURE: HMAC-SHA-256 over 4, API version and build, policy, digest and nonce; then the nonce.
    ///
    /// # Errors
    /// INVALID_GUEST, INVALID_GUEST_STATE.
    pub fn sev_launch_measure(&mut self, handle: u32) -> Result<[u8; SEV_MEASUREMENT_LEN], FwStatus> {
        const CONTEXT: u8 = 4;
        let ((major, minor), build) = (self.config.api, self.config.build);
        let guest = self.sev_guest(handle)?;
        guest.want(&[SevState::LaunchUpdate, SevState::LaunchSecret])?;
        guest.state = SevState::LaunchSecret;
        let mut mac = Hmac::<Sha256>::new_from_slice(&TRANSPORT_KEY).expect("any key length will do");
        mac.update(&[CONTEXT, major, minor, build]);
        mac.update(&guest.policy.to_le_bytes());
        mac.update(&guest.digest.clone().finalize());
        mac.update(&guest.nonce);
        let mut measurement = [0; SEV_MEASUREMENT_LEN];
        measurement[..32].copy_from_slice(&mac.finalize().into_bytes());
        measurement[32..].copy_from_slice(&guest.nonce);
        guest.measure.copy_from_slice(&measurement[..32]);
        Ok(measurement)
    }

    /// LAUNCH_UPDATE_SECRET: whether a packet is the guest owner's. `header`: FLAGS, IV and MAC; `packet`: encrypted;
    /// `guest_len`: bytes of the memory that takes it. A launch without a session has a transport key that everybody knows.
    ///
    /// # Errors
    /// INVALID_GUEST. INVALID_GUEST_STATE: not yet measured. INVALID_LEN: a header of another size. BAD_MEASUREMENT: the
    /// MAC is not right.
    ///
    /// # Source
    /// AMD 55766 (SEV API), LAUNCH_SECRET.
    pub fn sev_launch_secret(
        &mut self,
        handle: u32,
        header: &[u8],
        packet: &[u8],
        guest_len: u32,
    ) -> Result<(), FwStatus> {
        const CONTEXT: u8 = 1;
        let guest = self.sev_guest(handle)?;
        guest.want(&[SevState::LaunchSecret])?;
        if header.len() != SEV_SECRET_HEADER_LEN {
            return Err(FwStatus::INVALID_LEN);
        }
        let (covered, told) = header.split_at(SEV_SECRET_HEADER_LEN - 32);
        let mut mac = Hmac::<Sha256>::new_from_slice(&TRANSPORT_KEY).expect("any key length will do");
        mac.update(&[CONTEXT]);
        mac.update(covered);
        mac.update(&guest_len.to_le_bytes());
        mac.update(&(packet.len() as u32).to_le_bytes());
        mac.update(packet);
        mac.update(&guest.measure);
        mac.verify_slice(told).map_err(|_| FwStatus::BAD_MEASUREMENT)
    }

    /// LAUNCH_FINISH.
    ///
    /// # Errors
    /// INVALID_GUEST, INVALID_GUEST_STATE.
    pub fn sev_launch_finish(&mut self, handle: u32) -> Result<(), FwStatus> {
        let guest = self.sev_guest(handle)?;
        guest.want(&[SevState::LaunchUpdate, SevState::LaunchSecret])?;
        guest.state = SevState::Running;
        Ok(())
    }

    /// GUEST_STATUS: policy and state.
    ///
    /// # Errors
    /// INVALID_GUEST.
    pub fn sev_guest_status(&mut self, handle: u32) -> Result<(u32, SevState), FwStatus> {
        let guest = self.sev_guest(handle)?;
        Ok((guest.policy, guest.state))
    }

    /// DBG_DECRYPT and DBG_ENCRYPT of `data`, whose encrypted form lies at `address`: the pad is its own inverse.
    ///
    /// # Errors
    /// INVALID_GUEST. POLICY_FAILURE: the policy forbids debugging.
    pub fn sev_debug(&mut self, handle: u32, address: u64, data: &mut [u8]) -> Result<(), FwStatus> {
        let guest = self.sev_guest(handle)?;
        if guest.policy & NO_DEBUG != 0 {
            return Err(FwStatus::POLICY_FAILURE);
        }
        guest.pad(address, data);
        Ok(())
    }

    /// The processor's own en- and decryption of `data`, whose encrypted form lies at `address`, for a guest that runs.
    /// Nothing happens to the memory of a guest that there is not.
    pub fn sev_memory(&self, handle: u32, address: u64, data: &mut [u8]) {
        if let Some(guest) = self.sev_guests.get(&handle) {
            guest.pad(address, data);
        }
    }

    /// DECOMMISSION.
    ///
    /// # Errors
    /// INVALID_GUEST.
    pub fn sev_decommission(&mut self, handle: u32) -> Result<(), FwStatus> {
        self.sev_guests.remove(&handle).map(drop).ok_or(FwStatus::INVALID_GUEST)
    }

    fn sev_guest(&mut self, handle: u32) -> Result<&mut SevGuest, FwStatus> {
        self.sev_guests.get_mut(&handle).ok_or(FwStatus::INVALID_GUEST)
    }
}

impl SevGuest {
    fn want(&self, states: &[SevState]) -> Result<(), FwStatus> {
        if states.contains(&self.state) { Ok(()) } else { Err(FwStatus::INVALID_GUEST_STATE) }
    }

    fn pad(&self, address: u64, data: &mut [u8]) {
        let mut at = address;
        for byte in data {
            let word = mix(self.key ^ (at / 8));
            *byte ^= word.to_le_bytes()[(at % 8) as usize];
            at = at.wrapping_add(1);
        }
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlatformConfig;

    #[test]
    fn a_launch_and_its_refusals() {
        let mut firmware = Firmware::new(PlatformConfig::genoa());
        let handle = firmware.sev_launch_start(0);
        assert_eq!(firmware.sev_guest_status(handle), Ok((0, SevState::LaunchUpdate)));
        let mut data = [0x5a; 64];
        assert_eq!(firmware.sev_launch_update_data(handle, 8, &mut data), Err(FwStatus::INVALID_ADDRESS));
        assert_eq!(firmware.sev_launch_update_data(handle, 16, &mut data[..15]), Err(FwStatus::INVALID_LEN));
        assert_eq!(data, [0x5a; 64], "a refusal encrypts nothing");
        assert_eq!(firmware.sev_launch_update_data(handle, 16, &mut data), Ok(()));
        assert_ne!(data[..32], data[32..], "the pad depends on the address");
        // A part of it, not aligned to anything.
        let mut part: [u8; 5] = std::array::from_fn(|i| data[11 + i]);
        assert_eq!(firmware.sev_debug(handle, 16 + 11, &mut part), Ok(()));
        assert_eq!(part, [0x5a; 5]);

        let measurement = firmware.sev_launch_measure(handle).unwrap();
        let digest = Sha256::digest([0x5a; 64]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&[]).unwrap();
        mac.update(&[&[4, 1, 58, 6, 0, 0, 0, 0], digest.as_slice(), &measurement[32..]].concat());
        assert_eq!(measurement[..32], mac.finalize().into_bytes()[..]);
        assert_eq!(firmware.sev_launch_update_data(handle, 16, &mut data), Err(FwStatus::INVALID_GUEST_STATE));
        assert_eq!(firmware.sev_launch_finish(handle), Ok(()));
        assert_eq!(firmware.sev_launch_finish(handle), Err(FwStatus::INVALID_GUEST_STATE));
        assert_eq!(firmware.sev_decommission(handle), Ok(()));
        assert_eq!(firmware.sev_guest_status(handle), Err(FwStatus::INVALID_GUEST));
    }

    #[test]
    fn a_secret_is_the_owners_or_is_refused() {
        let mut firmware = Firmware::new(PlatformConfig::genoa());
        let handle = firmware.sev_launch_start(0);
        let packet = [7; 16];
        let mut header = [3; SEV_SECRET_HEADER_LEN];
        assert_eq!(firmware.sev_launch_secret(handle, &header, &packet, 16), Err(FwStatus::INVALID_GUEST_STATE));
        let measurement = firmware.sev_launch_measure(handle).unwrap();
        assert_eq!(firmware.sev_launch_secret(handle, &header[1..], &packet, 16), Err(FwStatus::INVALID_LEN));
        assert_eq!(firmware.sev_launch_secret(handle, &header, &packet, 16), Err(FwStatus::BAD_MEASUREMENT));
        let mut mac = Hmac::<Sha256>::new_from_slice(&[0; 16]).unwrap();
        let lengths = [16_u32.to_le_bytes(), 16_u32.to_le_bytes()].concat();
        mac.update(&[&[1], &header[..20], &lengths, &packet, &measurement[..32]].concat());
        header[20..].copy_from_slice(&mac.finalize().into_bytes());
        assert_eq!(firmware.sev_launch_secret(handle, &header, &packet, 16), Ok(()));
        assert_eq!(firmware.sev_launch_secret(handle, &header, &packet, 17), Err(FwStatus::BAD_MEASUREMENT));
        assert_eq!(firmware.sev_launch_secret(handle + 1, &header, &packet, 16), Err(FwStatus::INVALID_GUEST));
    }

    #[test]
    fn a_policy_without_debugging_keeps_its_memory() {
        let mut firmware = Firmware::new(PlatformConfig::milan());
        let handle = firmware.sev_launch_start(NO_DEBUG);
        let mut data = [1; 16];
        assert_eq!(firmware.sev_debug(handle, 0, &mut data), Err(FwStatus::POLICY_FAILURE));
        assert_eq!(data, [1; 16]);
    }
}
