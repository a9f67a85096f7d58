//! A host with SEV-SNP.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use kvm_ioctls::Kvm;
use snp_abi::kvm::{KVM_CAP_VM_TYPES, KVM_X86_SNP_VM};
use snp_abi::{CPUID_FUNCTION_LIMIT, CpuidFunction, CpuidPage, Errno};
use snp_launch::{LaunchError, LaunchObserver, LaunchPlan, Launched, Platform};
use thiserror::Error;

use crate::launcher::Launcher;
use crate::profile::Profile;

const KVM_DEVICE: &str = "/dev/kvm";
const SEV_DEVICE: &str = "/dev/sev";

/// /dev/kvm and /dev/sev of this machine.
#[derive(Debug)]
pub struct KvmPlatform {
    kvm: Kvm,
    sev: File,
    profile: Profile,
}

/// Why this machine launches no SNP guest.
#[derive(Debug, Error)]
pub enum Unusable {
    /// There is no such device.
    #[error("{device} does not exist: {hint}")]
    Missing {
        /// Its path.
        device: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// It cannot be opened.
    #[error("{device} cannot be opened: {reason}")]
    NotOpened {
        /// Its path.
        device: &'static str,
        /// The errno and what to do.
        reason: String,
    },
    /// KVM has no SNP VMs.
    #[error(
        "this KVM has no SEV-SNP VMs (KVM_CAP_VM_TYPES is {types:#x}, bit 4 is not set): want an EPYC 7003 or newer, SNP \
         enabled in the firmware settings, and kvm_amd.sev_snp=Y on Linux 6.11 or newer"
    )]
    NoSnp {
        /// What KVM_CAP_VM_TYPES answered.
        types: i32,
    },
}

impl KvmPlatform {
    /// Opens both devices and probes the profile.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn open() -> Result<Self, Unusable> {
        // kvm-ioctls opens it too, but does not say more than an errno.
        let hint = "want a host with KVM, or the software platform (--backend soft)";
        drop(open(KVM_DEVICE, hint)?);
        let kvm = Kvm::new().map_err(|error| not_opened(KVM_DEVICE, error.errno()))?;
        let types = kvm.check_extension_raw(KVM_CAP_VM_TYPES.into());
        if types <= 0 || types & (1 << KVM_X86_SNP_VM) == 0 {
            return Err(Unusable::NoSnp { types });
        }
        let sev = open(SEV_DEVICE, "is the ccp driver loaded, and SEV enabled in the firmware settings?")?;
        let profile = Profile::probe(|capability| kvm.check_extension_raw(capability.into()));
        Ok(Self { kvm, sev, profile })
    }

    /// The uAPI that was found.
    pub fn uapi(&self) -> Profile {
        self.profile
    }

    /// The CPUID page of a guest whose processor is the host's as KVM_GET_SUPPORTED_CPUID tells it, without the
    /// hypervisor's own leaves.
    ///
    /// # Errors
    /// The errno of KVM_GET_SUPPORTED_CPUID.
    pub fn cpuid_page(&self) -> Result<Box<CpuidPage>, Errno> {
        const ENTRIES: usize = 256;
        let supported = self.kvm.get_supported_cpuid(ENTRIES).map_err(|error| Errno(error.errno()))?;
        let mut page = Box::<CpuidPage>::default();
        let of_processor = supported.as_slice().iter().filter(|entry| entry.function >> 16 != 0x4000);
        for (function, entry) in page.functions.iter_mut().zip(of_processor).take(CPUID_FUNCTION_LIMIT) {
            *function = CpuidFunction {
                eax_in: entry.function,
                ecx_in: entry.index,
                eax: entry.eax,
                ebx: entry.ebx,
                ecx: entry.ecx,
                edx: entry.edx,
                ..CpuidFunction::default()
            };
            page.count += 1;
        }
        Ok(page)
    }
}

impl Platform for KvmPlatform {
    fn backend(&self) -> &'static str {
        "kvm"
    }

    fn profile(&self) -> &'static str {
        self.profile.name()
    }

    fn launch(&self, plan: &LaunchPlan, observer: &mut dyn LaunchObserver) -> Result<Launched, LaunchError> {
        plan.validate()?;
        Launcher::new(&self.kvm, self.sev.as_raw_fd(), self.profile, observer)?.launch(plan)
    }
}

fn open(device: &'static str, hint: &'static str) -> Result<File, Unusable> {
    OpenOptions::new().read(true).write(true).open(device).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Unusable::Missing { device, hint },
        _ => not_opened(device, error.raw_os_error().unwrap_or_default()),
    })
}

fn not_opened(device: &'static str, errno: i32) -> Unusable {
    const EACCES: i32 = 13;
    let reason = match errno {
        EACCES => format!("permission denied; run as root, or as a user of the group that owns {device}"),
        _ => Errno(errno).to_string(),
    };
    Unusable::NotOpened { device, reason }
}
