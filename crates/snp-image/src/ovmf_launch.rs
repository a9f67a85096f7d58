//! OVMF to launch plan.

use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, SevFeatures, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, PageBytes};
use snp_vmsa::reset::{CpuidOrder, SecMem};

use crate::{Delivery, GuestOptions, ImageError, KernelHashes, Ovmf, Prepared, Section, SectionKind, memory, reset};

/// Firmware, perhaps with a kernel for direct boot, and the guest's options.
///
/// Pages are launched in the VMM's order: the flash, the metadata sections in file order (EC2: the CPUID page last), then the
/// boot processor's VMSA.
///
/// # Where the boot VMSA goes
/// Unless told otherwise, to the page directly below the flash (0xFFBF_F000 for 4 MiB of flash), or the next lower page
/// that is neither 2 MiB-aligned nor a page of the image. No guest takes this page for RAM or gives it to a device: it
/// lies in the window below 4 GiB that PC chipsets reserve for firmware, outside of what the firmware declares as memory
/// and outside of the PCI window, and the largest flash leaves the APICs (0xFEC0_0000, 0xFEE0_0000) below it. The rule
/// depends on the image only, never on the number of vCPUs.
///
/// # Source
/// QEMU's order of launch updates, as sev-snp-measure 0.0.13 has it in `guest.py`.
#[derive(Clone, Debug)]
pub struct OvmfLaunch {
    /// The firmware.
    pub firmware: Ovmf,
    /// Hashes of what is booted directly.
    pub kernel: Option<KernelHashes>,
    /// The guest's options.
    pub options: GuestOptions,
}

impl OvmfLaunch {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn prepare(self) -> Result<Prepared, ImageError> {
        let mut pages = self.pages()?;
        let features = self.features();
        let boot = match &self.options.delivery {
            Delivery::Registers => self.registers(features)?,
            Delivery::Direct { vmsa, gpa } => {
                let vmsa_gpa = match gpa {
                    Some(gpa) => *gpa,
                    None => default_vmsa_gpa(self.firmware.gpa(), &pages)?,
                };
                let vmsa = vmsa
                    .clone()
                    .unwrap_or_else(|| Box::new(reset::direct(reset::BOOT_EIP, self.options.cpu_signature, features)));
                pages.push(LaunchPage::Vmsa { gpa: vmsa_gpa, vmsa });
                BootState::Direct { vmsa_gpa }
            }
        };
        let options = self.options;
        let plan = LaunchPlan {
            policy: options.policy.unwrap_or(GuestPolicy::DEFAULT),
            gosvw: [0; 16],
            features,
            memory: memory::regions(&pages, &[]),
            pages,
            boot,
            vcpus: options.vcpus,
            id_block: options.id_block,
            host_data: options.host_data,
            vcek_disabled: false,
        };
        Prepared::new(plan, Vec::new())
    }

    fn features(&self) -> SevFeatures {
        let (given, default) = match &self.options.delivery {
            Delivery::Direct { vmsa, .. } => {
                (vmsa.as_ref().map(|vmsa| vmsa.sev_features), SevFeatures(SevFeatures::SNP_ACTIVE))
            }
            Delivery::Registers => (None, self.options.vmm.features),
        };
        self.options.features.or(given).unwrap_or(default)
    }

    /// The flash and the metadata sections.
    fn pages(&self) -> Result<Vec<LaunchPage>, ImageError> {
        let flash = PageBytes::new(self.firmware.flash().clone())?;
        let mut pages = vec![LaunchPage::Normal { gpa: self.firmware.gpa(), data: flash }];
        let sections = Sections { firmware: &self.firmware, kernel: self.kernel.as_ref(), options: &self.options };
        sections.append(&mut pages)?;
        Ok(pages)
    }

    /// What the VMM's reset registers become.
    fn registers(&self, features: SevFeatures) -> Result<BootState, ImageError> {
        let options = &self.options;
        let reset = |eip| -> Box<Vmsa> { Box::new(options.vmm.vmsa(eip, options.cpu_signature, features)) };
        let others = match self.firmware.reset_eip()? {
            Some(eip) => eip,
            None if options.vcpus > 1 => return Err(ImageError::NoResetBlock { vcpus: options.vcpus }),
            None => reset::BOOT_EIP,
        };
        Ok(BootState::Registers { boot: reset(reset::BOOT_EIP), others: reset(others) })
    }
}

/// The pages that a firmware's metadata asks for.
pub(crate) struct Sections<'a> {
    pub(crate) firmware: &'a Ovmf,
    pub(crate) kernel: Option<&'a KernelHashes>,
    pub(crate) options: &'a GuestOptions,
}

impl Sections<'_> {
    /// Appends the sections in the order in which the VMM measures them.
    pub(crate) fn append(&self, pages: &mut Vec<LaunchPage>) -> Result<(), ImageError> {
        let last =
            |section: &&Section| section.kind == SectionKind::CPUID && self.options.pages.cpuid == CpuidOrder::Last;
        let sections = self.firmware.sections();
        for section in sections.iter().filter(|section| !last(section)).chain(sections.iter().filter(last)) {
            if section.kind == SectionKind::SEC_MEM && self.options.pages.sec_mem == SecMem::Unmeasured {
                memory::unmeasured_zeros(section.gpa, section.len, pages)?;
            } else {
                pages.push(self.page(section)?);
            }
        }
        let has_hashes = sections.iter().any(|section| section.kind == SectionKind::KERNEL_HASHES);
        if self.kernel.is_some() && !has_hashes {
            return Err(ImageError::NoKernelHashes);
        }
        Ok(())
    }

    fn page(&self, section: &Section) -> Result<LaunchPage, ImageError> {
        let (gpa, len) = (section.gpa, section.len);
        Ok(match section.kind {
            SectionKind::SEC_MEM | SectionKind::SVSM_CAA => LaunchPage::Zero { gpa, len },
            SectionKind::SECRETS => LaunchPage::Secrets { gpa },
            SectionKind::CPUID => LaunchPage::Cpuid { gpa, table: self.options.cpuid.clone() },
            SectionKind::KERNEL_HASHES => self.kernel_hashes(gpa)?,
            kind => return Err(ImageError::UnknownSection { kind, gpa }),
        })
    }

    /// The page for the hashes: zeros without a kernel.
    fn kernel_hashes(&self, section: Gpa) -> Result<LaunchPage, ImageError> {
        let Some(kernel) = self.kernel else {
            return Ok(LaunchPage::Zero { gpa: section, len: PAGE_SIZE as u64 });
        };
        let table = self.firmware.hash_table_gpa()?.ok_or(ImageError::NoKernelHashes)?;
        if table.gfn() != section.gfn() {
            return Err(ImageError::HashTableElsewhere { table, section });
        }
        let page = kernel.page(table)?;
        Ok(LaunchPage::Normal { gpa: section, data: PageBytes::padded(page.as_slice()) })
    }
}

/// The page below the flash, see [`OvmfLaunch`].
fn default_vmsa_gpa(flash: Gpa, pages: &[LaunchPage]) -> Result<Gpa, ImageError> {
    memory::free_page_below(flash, pages).ok_or(ImageError::NoFreePage { below: flash })
}
