//! Layouts, numbers and status codes of AMD SEV-SNP and of the KVM uAPI that launches it.
//!
//! One definition per structure, no logic, no I/O, `no_std`. Every field offset is asserted at compile time (see
//! [`AbiLayout`]) and, for the structures that Linux exports, compared with the real kernel headers by
//! `cargo xtask header-check`.
//!
//! Wire values are open newtypes ([`PageType`], [`FwStatus`], [`GuestPolicy`] …): a value that this crate does not know
//! survives a round trip.
//!
//! # Source
//! AMD 56860 (SEV-SNP Firmware ABI), AMD 24593 (APM volume 2), Linux 7.3 uapi headers.

#![no_std]

#[cfg(target_endian = "big")]
compile_error!("the structures of SEV-SNP are little-endian and are used in place");

mod address;
mod cpuid;
mod errno;
mod firmware;
pub mod ghcb;
mod guest_message;
mod id_block;
pub mod kvm;
mod layout;
mod page_info;
mod policy;
mod report;
mod rmp;
mod secrets;
pub mod sev_guest;
mod tcb;
mod vmsa;

pub use address::{Asid, Gfn, Gpa, PAGE_SIZE, Pfn, Vmpl};
pub use cpuid::{CPUID_FUNCTION_LIMIT, CpuidFunction, CpuidPage};
pub use errno::Errno;
pub use firmware::{Command, FwStatus, GuestState, GuestStatus, SnpPlatformStatus};
pub use guest_message::{
    GuestFieldSelect, GuestMessageHeader, KeyRequest, KeyRequest2, KeyResponse, KeySelect, MessageType, ReportRequest,
    ReportResponseHeader, TscInfoRequest, TscInfoResponse,
};
pub use id_block::{CURVE_P384, EcdsaPublicKey, EcdsaSignature, ID_BLOCK_VERSION, IdAuth, IdBlock, KeyAlgorithm};
pub use layout::{AbiLayout, FieldLayout};
pub use page_info::{LaunchDigest, PageInfo, PageType, VmplPermissions};
pub use policy::GuestPolicy;
pub use report::{
    AttestationReport, CpuidSignature, FirmwareVersion, MitigationVectors, PlatformInfo, ReportVersion, SignerInfo,
    SigningKey,
};
pub use rmp::{PageSize, PageState, RmpEntry};
pub use secrets::SecretsPage;
pub use tcb::{ProductLine, TcbComponent, TcbParts, TcbVersion};
pub use vmsa::{LEGACY_VMSA_GPA, Segment, SevFeatures, Vmsa};
