//! uAPI profiles: what user space sees of KVM, as data.

use snp_abi::Errno;

/// One version of the uAPI. A new one is a new file in `profiles/`.
#[derive(Debug, PartialEq, Eq)]
pub struct UapiProfile {
    /// The name that `--profile` takes.
    pub name: &'static str,
    /// Which kernel or proposal it is.
    pub origin: &'static str,
    /// Capabilities that Linux 7.3 does not have on x86, with KVM_CHECK_EXTENSION's answer.
    pub capabilities: &'static [(u32, i32)],
    /// Whether LAUNCH_UPDATE takes VMSA pages.
    pub vmsa_pages: VmsaPages,
    /// What user space sees when the first page of a LAUNCH_UPDATE is a VMSA that KVM refuses.
    pub refused_vmsa: Errno,
    /// The vCPU-scoped state commands, if the profile has them.
    pub vcpu_state: Option<VcpuStateCommand>,
}

/// Which VMSA pages LAUNCH_UPDATE takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmsaPages {
    /// None: the page type is unknown.
    None,
    /// One, which becomes the boot processor's.
    BootProcessor,
    /// Any number; which vCPU uses which is said by a vCPU command.
    Any,
}

/// SNP_GET_VCPU_STATE and SNP_SET_VCPU_STATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuStateCommand {
    /// A capability of the VM that must be enabled before SET.
    pub enabled_by: Option<u32>,
}
