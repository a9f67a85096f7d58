//! Which uAPI a kernel has.

use snp_abi::kvm::proposed::{KVM_CAP_SNP_DIRECT_VMSA, KVM_CAP_SNP_VCPU_STATE};

/// The uAPI of a KVM, by what it offers for a VMSA of user space's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Linux 7.3 as released: KVM makes a VMSA for every vCPU.
    Mainline,
    /// One VMSA page for the boot processor at LAUNCH_UPDATE.
    DirectVmsa,
    /// KVM_SEV_SNP_SET_VCPU_STATE on the boot processor.
    VcpuState,
    /// The same, after KVM_ENABLE_CAP.
    VcpuStateExplicit,
}

impl Profile {
    /// The profile of a KVM that answers KVM_CHECK_EXTENSION so. The numbers are the proposals'; Linux 7.3 has them for
    /// other architectures and answers 0 on x86.
    pub fn probe(check_extension: impl Fn(u32) -> i32) -> Self {
        let has = |capability| check_extension(capability) > 0;
        match (has(KVM_CAP_SNP_DIRECT_VMSA), has(KVM_CAP_SNP_VCPU_STATE)) {
            (false, false) => Self::Mainline,
            (true, false) => Self::DirectVmsa,
            (false, true) => Self::VcpuState,
            (true, true) => Self::VcpuStateExplicit,
        }
    }

    /// The name, as `--profile` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainline => "mainline",
            Self::DirectVmsa => "direct-vmsa",
            Self::VcpuState => "vcpu-state",
            Self::VcpuStateExplicit => "vcpu-state-explicit",
        }
    }

    /// Whether user space may supply the boot processor's VMSA.
    pub const fn is_direct(self) -> bool {
        !matches!(self, Self::Mainline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_tell_the_profile() {
        let with = |known: &'static [u32]| Profile::probe(move |capability| i32::from(known.contains(&capability)));
        assert_eq!(with(&[]), Profile::Mainline);
        assert_eq!(with(&[250]), Profile::Mainline);
        assert_eq!(with(&[249]), Profile::DirectVmsa);
        assert_eq!(with(&[251]), Profile::VcpuState);
        assert_eq!(with(&[249, 251]), Profile::VcpuStateExplicit);
        assert_eq!(Profile::probe(|_| -1), Profile::Mainline);
    }
}
