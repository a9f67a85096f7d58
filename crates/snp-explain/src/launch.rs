//! The description of one launch, from which it can be built and measured again.

use std::fmt;

use snp_abi::{Gpa, LaunchDigest, SevFeatures, Vmsa};
use snp_image::{Delivery, GuestOptions, IgvmLaunch, IgvmLoader, ImageError, KernelHashes, OvmfLaunch, Prepared};
use snp_launch::DigestEngine;
use snp_vmsa::cpu;
use snp_vmsa::reset::{CpuidOrder, ResetProfile, SecMem};

use crate::{Image, Question};

/// Who makes the VMSAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uapi {
    /// KVM, one for every vCPU (`mainline`).
    Mainline,
    /// User space, one for the boot processor (`direct-vmsa`, `vcpu-state`).
    Direct,
}

/// A kernel as it may have been booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The command line.
    pub cmdline: String,
    /// With the initial RAM disk.
    pub initrd: bool,
    /// The hashes that are measured.
    pub hashes: KernelHashes,
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Who makes the VMSAs.
    pub uapi: Uapi,
    /// The state that processors start in.
    pub profile: &'static ResetProfile,
    /// When the firmware's CPUID page is measured.
    pub cpuid: CpuidOrder,
    /// How the firmware's SEC_MEM sections are measured.
    pub sec_mem: SecMem,
    /// Number of vCPUs; the digest depends on it under `mainline` only.
    pub vcpus: u32,
    /// The signature that processors have in RDX.
    pub cpu_signature: u32,
    /// SEV_FEATURES.
    pub features: SevFeatures,
    /// The kernel that was booted directly.
    pub kernel: Option<Kernel>,
    /// The loader of an IGVM file.
    pub loader: Option<&'static IgvmLoader>,
    /// The boot VMSA was supplied.
    pub vmsa: Option<Box<Vmsa>>,
    /// Where the boot VMSA was supplied; `None`: at the default place.
    pub vmsa_gpa: Option<Gpa>,
}

impl Launch {
    /// A launch that differs from a current QEMU's in nothing.
    pub fn new(uapi: Uapi, profile: &'static ResetProfile) -> Self {
        Self {
            uapi,
            profile,
            cpuid: profile.cpuid,
            sec_mem: profile.sec_mem,
            vcpus: 1,
            cpu_signature: 0,
            features: profile.features,
            kernel: None,
            loader: None,
            vmsa: None,
            vmsa_gpa: None,
        }
    }

    /// Builds the launch of an image.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn prepare(&self, image: &Image) -> Result<Prepared, ImageError> {
        let delivery = match self.uapi {
            Uapi::Mainline => Delivery::Registers,
            Uapi::Direct => Delivery::Direct { vmsa: self.direct_vmsa(image), gpa: self.vmsa_gpa },
        };
        let options = GuestOptions {
            vcpus: self.vcpus,
            vmm: self.profile,
            pages: snp_image::PageRules { cpuid: self.cpuid, sec_mem: self.sec_mem },
            cpu_signature: self.cpu_signature,
            features: Some(self.features),
            ..GuestOptions::new(delivery)
        };
        match image {
            Image::Firmware { firmware, .. } => {
                let kernel = self.kernel.as_ref().map(|kernel| kernel.hashes);
                OvmfLaunch { firmware: (**firmware).clone(), kernel, options }.prepare()
            }
            Image::Igvm { file, append } => {
                let default =
                    if self.uapi == Uapi::Direct { IgvmLoader::qemu_direct() } else { IgvmLoader::qemu_replay() };
                let loader = self.loader.unwrap_or(default);
                IgvmLaunch { file: (**file).clone(), loader, append: append.clone(), options }.prepare()
            }
        }
    }

    /// The boot VMSA: the one supplied, for firmware the profile's, for IGVM files the file's own.
    fn direct_vmsa(&self, image: &Image) -> Option<Box<Vmsa>> {
        let made = || Box::new(self.profile.vmsa(snp_vmsa::reset::BOOT_EIP, self.cpu_signature, self.features));
        match image {
            _ if self.vmsa.is_some() => self.vmsa.clone(),
            Image::Firmware { .. } => Some(made()),
            Image::Igvm { .. } => None,
        }
    }

    /// Builds the launch and measures it in full.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn measure(&self, question: &Question) -> Result<LaunchDigest, ImageError> {
        let plan = self.prepare(&question.image)?.plan;
        let engine = DigestEngine::new();
        let verbatim = self.loader.is_some_and(|loader| loader.verbatim_tsc);
        let mut engine = if verbatim { engine.with_verbatim_vmsas() } else { engine };
        engine.plan(&plan, &mut |_| {});
        Ok(engine.digest())
    }

    /// What the processors are, in words.
    pub fn processor(&self) -> String {
        // The models of one signature differ in their version only: the first name has none.
        match cpu::MODELS.iter().find(|model| model.signature == self.cpu_signature) {
            Some(model) => format!("{} ({:#x})", model.name, self.cpu_signature),
            None => format!("{:#x}", self.cpu_signature),
        }
    }
}

impl fmt::Display for Uapi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mainline => "mainline",
            Self::Direct => "direct-vmsa",
        })
    }
}
