//! Firmware, IGVM and kernel files to launch plans.
//!
//! Two readers, [`Ovmf`] and [`Igvm`], check untrusted files and keep their pages as shared slices of the file. Two
//! makers, [`OvmfLaunch`] and [`IgvmLaunch`], turn a checked file and the user's [`GuestOptions`] into a
//! [`LaunchPlan`](snp_launch::LaunchPlan). [`IgvmWriter`] goes the other way. Nothing here does I/O.

mod bounded;
mod guest;
mod guid;
mod igvm;
mod igvm_launch;
mod kernel;
mod legacy;
pub mod lint;
pub mod loader;
mod memory;
mod ovmf;
mod ovmf_launch;
mod replay;
mod reset;
mod svsm_launch;

pub use bounded::Truncated;
pub use guest::{Delivery, GuestOptions, ImageError, ImageWarning, PageRules, Prepared};
pub use guid::Guid;
pub use igvm::{Directive, Igvm, IgvmError, IgvmFault, IgvmWriteError, IgvmWriter, PageKind, ParameterKind};
pub use igvm_launch::IgvmLaunch;
pub use kernel::{HashTableError, KernelHashes};
pub use legacy::{SevEs, sev_digest, sev_es_digests};
pub use loader::IgvmLoader;
pub use ovmf::{OVMF_SIZE_LIMIT, Ovmf, OvmfError, Section, SectionKind, Table, TableEntry};
pub use ovmf_launch::OvmfLaunch;
pub use svsm_launch::SvsmLaunch;
