//! COCONUT-SVSM below OVMF, launched without IGVM, to launch plan.

use snp_abi::{Gpa, GuestPolicy};
use snp_launch::{BootState, LaunchPage, LaunchPlan, PageBytes};

use crate::ovmf_launch::Sections;
use crate::{GuestOptions, ImageError, Ovmf, Prepared, memory};

/// An SVSM image that ends where the firmware's variable store starts, and the guest's options.
///
/// Measured are the firmware, the SVSM, the pages of the **SVSM's** metadata (not the firmware's), and for every vCPU the
/// same VMSA: the SVSM's entry point in the flat state of the `coconut-svsm` profiles. The VMSAs come from the VMM, so
/// [`GuestOptions::delivery`] is not asked.
///
/// # Source
/// sev-snp-measure 0.0.13, `guest.py`, `svsm_calc_launch_digest`.
#[derive(Clone, Debug)]
pub struct SvsmLaunch {
    /// The firmware.
    pub firmware: Ovmf,
    /// Bytes of the firmware's variable store, which lies between the SVSM and the firmware: whole pages.
    pub vars_size: u64,
    /// The SVSM; it has the table and the metadata of a firmware, and an SVSM info entry.
    pub svsm: Ovmf,
    /// The guest's options.
    pub options: GuestOptions,
}

impl SvsmLaunch {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`ImageError`]; among them that the SVSM names no entry point or does not fit below the variable store.
    pub fn prepare(self) -> Result<Prepared, ImageError> {
        let gpa = self.svsm_gpa()?;
        let entry = self.svsm.svsm_offset()?.ok_or(ImageError::NoSvsmInfo)?;
        let eip = u32::try_from(gpa.0 + u64::from(entry)).map_err(|_| ImageError::SvsmEntry { gpa, entry })?;
        let options = self.options;
        let features = options.features.unwrap_or(options.vmm.features);
        let mut pages = vec![
            LaunchPage::Normal { gpa: self.firmware.gpa(), data: PageBytes::new(self.firmware.flash().clone())? },
            LaunchPage::Normal { gpa, data: PageBytes::new(self.svsm.flash().clone())? },
        ];
        Sections { firmware: &self.svsm, kernel: None, options: &options }.append(&mut pages)?;
        let vmsa = Box::new(options.vmm.vmsa(eip, options.cpu_signature, features));
        let plan = LaunchPlan {
            policy: options.policy.unwrap_or(GuestPolicy::DEFAULT),
            gosvw: [0; 16],
            features,
            memory: memory::regions(&pages, &[]),
            pages,
            boot: BootState::Registers { boot: vmsa.clone(), others: vmsa },
            vcpus: options.vcpus,
            id_block: options.id_block,
            host_data: options.host_data,
            vcek_disabled: false,
        };
        Prepared::new(plan, Vec::new())
    }

    /// The SVSM ends where the variable store starts.
    fn svsm_gpa(&self) -> Result<Gpa, ImageError> {
        let below = self.firmware.gpa().0.checked_sub(self.vars_size);
        let start = below.and_then(|end| end.checked_sub(self.svsm.flash().len() as u64)).map(Gpa);
        start.filter(|gpa| gpa.is_page_aligned()).ok_or(ImageError::SvsmPlace { vars_size: self.vars_size })
    }
}
