//! SNP_CONFIG, SNP_COMMIT and SNP_VLEK_LOAD: what attestation reports say of the platform.

use snp_abi::{FwStatus, TcbVersion};

use crate::{Firmware, PlatformConfig, Release};

/// What the commands set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reporting {
    /// The firmware below which the platform does not go back.
    pub(crate) committed: Release,
    /// `None` until SNP_CONFIG sets it.
    pub(crate) reported_tcb: Option<TcbVersion>,
    pub(crate) mask_chip_id: bool,
    pub(crate) mask_chip_key: bool,
    /// A VLEK hashstick was loaded.
    pub(crate) vlek: bool,
}

impl Reporting {
    pub(crate) fn new(config: &PlatformConfig) -> Self {
        Self {
            committed: config.committed.unwrap_or(config.running()),
            reported_tcb: None,
            mask_chip_id: false,
            mask_chip_key: false,
            vlek: config.vlek,
        }
    }
}

/// Whether no component of a TCB version is above the same one of `limit`: each byte is the security version of one.
pub(crate) fn at_most(tcb: TcbVersion, limit: TcbVersion) -> bool {
    tcb.0.to_le_bytes().iter().zip(limit.0.to_le_bytes()).all(|(component, limit)| *component <= limit)
}

/// Bytes of the structure that SNP_CONFIG takes.
pub const SNP_CONFIG_LEN: usize = 64;
/// Bytes of a wrapped VLEK hashstick.
pub const VLEK_HASHSTICK_LEN: usize = 432;

impl Firmware {
    /// The TCB version that reports claim.
    pub fn reported_tcb(&self) -> TcbVersion {
        self.reporting.reported_tcb.unwrap_or(self.reporting.committed.tcb)
    }

    /// SNP_CONFIG: REPORTED_TCB (zero: the committed firmware's again), MASK_CHIP_ID and MASK_CHIP_KEY, then reserved bits.
    ///
    /// # Errors
    /// INVALID_PARAM: reserved bits are set, or a component of REPORTED_TCB is above the committed TCB's.
    ///
    /// # Source
    /// AMD 56860, SNP_CONFIG; Linux 7.3, `struct sev_user_data_snp_config`.
    pub fn snp_config(&mut self, config: &[u8; SNP_CONFIG_LEN]) -> Result<(), FwStatus> {
        const MASK_CHIP_ID: u32 = 1 << 0;
        const MASK_CHIP_KEY: u32 = 1 << 1;
        let tcb = u64::from_le_bytes(std::array::from_fn(|i| config[i]));
        let flags = u32::from_le_bytes(std::array::from_fn(|i| config[8 + i]));
        let reserved = flags & !(MASK_CHIP_ID | MASK_CHIP_KEY) != 0 || config[12..].iter().any(|byte| *byte != 0);
        if reserved || !at_most(TcbVersion(tcb), self.reporting.committed.tcb) {
            return Err(FwStatus::INVALID_PARAM);
        }
        self.reporting.reported_tcb = (tcb != 0).then_some(TcbVersion(tcb));
        self.reporting.mask_chip_id = flags & MASK_CHIP_ID != 0;
        self.reporting.mask_chip_key = flags & MASK_CHIP_KEY != 0;
        Ok(())
    }

    /// SNP_VLEK_LOAD. The hashstick is wrapped with a key of AMD's, so that it cannot be looked into: any is taken.
    ///
    /// # Source
    /// AMD 56860, SNP_VLEK_LOAD.
    pub fn vlek_load(&mut self, _wrapped: &[u8; VLEK_HASHSTICK_LEN]) {
        self.reporting.vlek = true;
    }

    /// SNP_COMMIT: the running firmware becomes the committed one; what is reported follows it.
    ///
    /// # Source
    /// AMD 56860, SNP_COMMIT.
    pub fn commit(&mut self) {
        self.reporting.committed = self.config.running();
        self.reporting.reported_tcb = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlatformConfig;

    fn config(tcb: u64, flags: u32) -> [u8; SNP_CONFIG_LEN] {
        let mut config = [0; SNP_CONFIG_LEN];
        config[..8].copy_from_slice(&tcb.to_le_bytes());
        config[8..12].copy_from_slice(&flags.to_le_bytes());
        config
    }

    #[test]
    fn what_is_reported_is_never_above_what_is_committed() {
        let mut firmware = Firmware::new(PlatformConfig::genoa());
        let committed = firmware.config().tcb.0;
        let before = firmware.clone();
        for wrong in [config(committed + 1, 0), config(committed + (1 << 56), 0), config(0, 4), config(u64::MAX, 0)] {
            assert_eq!(firmware.snp_config(&wrong), Err(FwStatus::INVALID_PARAM));
            assert_eq!(firmware, before);
        }
        let mut reserved = config(0, 0);
        reserved[63] = 1;
        assert_eq!(firmware.snp_config(&reserved), Err(FwStatus::INVALID_PARAM));
        assert_eq!(firmware, before);

        firmware.snp_config(&config(committed - 1, 3)).unwrap();
        let status = firmware.platform_status();
        assert_eq!((status.reported_tcb_version.0, status.current_tcb_version.0), (committed - 1, committed));
        assert_eq!(status.flags & 7, 3);
        firmware.vlek_load(&[0; VLEK_HASHSTICK_LEN]);
        assert_eq!(firmware.platform_status().flags & 7, 7);
        firmware.commit();
        assert_eq!(firmware.reported_tcb().0, committed);
    }
}
