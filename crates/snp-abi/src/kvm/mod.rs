//! The KVM uAPI as far as an SEV-SNP launch needs it. Structures and constants keep their C names.
//!
//! # Source
//! Linux 7.3 `include/uapi/linux/kvm.h`, `arch/x86/include/uapi/asm/kvm.h`. The constants of proposals that are not
//! merged are in [`proposed`].

#![allow(non_camel_case_types)]

mod capabilities;
mod devices;
mod ioctls;
mod memory;
pub mod proposed;
mod registers;
mod run;
mod sev;

pub use capabilities::*;
pub use devices::*;
pub use ioctls::*;
pub use memory::*;
pub use registers::*;
pub use run::*;
pub use sev::*;

/// The answer of KVM_GET_API_VERSION.
pub const KVM_API_VERSION: u32 = 12;
/// VM type: not protected.
pub const KVM_X86_DEFAULT_VM: u64 = 0;
/// VM type: software-protected, for tests.
pub const KVM_X86_SW_PROTECTED_VM: u64 = 1;
/// VM type: SEV.
pub const KVM_X86_SEV_VM: u64 = 2;
/// VM type: SEV-ES.
pub const KVM_X86_SEV_ES_VM: u64 = 3;
/// VM type: SEV-SNP.
pub const KVM_X86_SNP_VM: u64 = 4;
/// VM type: Intel TDX.
pub const KVM_X86_TDX_VM: u64 = 5;

/// Legacy initialisation for SEV.
pub const KVM_SEV_INIT: u32 = 0;
/// Legacy initialisation for SEV-ES.
pub const KVM_SEV_ES_INIT: u32 = 1;
/// [`kvm_sev_launch_start`].
pub const KVM_SEV_LAUNCH_START: u32 = 2;
/// [`kvm_sev_launch_update_data`].
pub const KVM_SEV_LAUNCH_UPDATE_DATA: u32 = 3;
/// A VMSA for every vCPU; no structure.
pub const KVM_SEV_LAUNCH_UPDATE_VMSA: u32 = 4;
/// [`kvm_sev_launch_secret`].
pub const KVM_SEV_LAUNCH_SECRET: u32 = 5;
/// [`kvm_sev_launch_measure`].
pub const KVM_SEV_LAUNCH_MEASURE: u32 = 6;
/// The end of a launch; no structure.
pub const KVM_SEV_LAUNCH_FINISH: u32 = 7;
/// [`kvm_sev_guest_status`].
pub const KVM_SEV_GUEST_STATUS: u32 = 16;
/// [`kvm_sev_dbg`].
pub const KVM_SEV_DBG_DECRYPT: u32 = 17;
/// [`kvm_sev_dbg`].
pub const KVM_SEV_DBG_ENCRYPT: u32 = 18;
/// Initialisation by [`kvm_sev_init`].
pub const KVM_SEV_INIT2: u32 = 22;
/// [`kvm_sev_snp_launch_start`].
pub const KVM_SEV_SNP_LAUNCH_START: u32 = 100;
/// [`kvm_sev_snp_launch_update`].
pub const KVM_SEV_SNP_LAUNCH_UPDATE: u32 = 101;
/// [`kvm_sev_snp_launch_finish`].
pub const KVM_SEV_SNP_LAUNCH_FINISH: u32 = 102;
/// Asks for KVM_EXIT_SNP_REQ_CERTS.
pub const KVM_SEV_SNP_ENABLE_REQ_CERTS: u32 = 103;

/// Memory slot flag: log dirty pages.
pub const KVM_MEM_LOG_DIRTY_PAGES: u32 = 1 << 0;
/// Memory slot flag: read-only.
pub const KVM_MEM_READONLY: u32 = 1 << 1;
/// Memory slot flag: private memory from a guest_memfd.
pub const KVM_MEM_GUEST_MEMFD: u32 = 1 << 2;
/// The range is private to the guest.
pub const KVM_MEMORY_ATTRIBUTE_PRIVATE: u64 = 1 << 3;
/// The hypercall by which a guest changes page states.
pub const KVM_HC_MAP_GPA_RANGE: u64 = 12;
/// Device attribute group of SEV.
pub const KVM_X86_GRP_SEV: u32 = 1;
/// Attribute of group 0: supported XCR0 bits.
pub const KVM_X86_XCOMP_GUEST_SUPP: u64 = 0;
/// Attribute: supported VMSA features.
pub const KVM_X86_SEV_VMSA_FEATURES: u64 = 0;
/// Attribute: supported policy bits.
pub const KVM_X86_SNP_POLICY_BITS: u64 = 1;
/// Attribute: KVM_EXIT_SNP_REQ_CERTS is supported.
pub const KVM_X86_SEV_SNP_REQ_CERTS: u64 = 2;

/// The vCPU is running.
pub const KVM_MP_STATE_RUNNABLE: u32 = 0;
/// The vCPU is waiting for INIT.
pub const KVM_MP_STATE_UNINITIALIZED: u32 = 1;
/// The vCPU is waiting for SIPI.
pub const KVM_MP_STATE_INIT_RECEIVED: u32 = 2;
/// The vCPU is halted.
pub const KVM_MP_STATE_HALTED: u32 = 3;
/// The vCPU is starting after SIPI.
pub const KVM_MP_STATE_SIPI_RECEIVED: u32 = 4;
/// The vCPU is in an AP reset hold.
pub const KVM_MP_STATE_AP_RESET_HOLD: u32 = 9;

/// Bytes of an ID block.
pub const KVM_SEV_SNP_ID_BLOCK_SIZE: usize = 96;
/// Bytes of the ID authentication data.
pub const KVM_SEV_SNP_ID_AUTH_SIZE: usize = 4096;
