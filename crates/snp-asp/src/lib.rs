//! The AMD Secure Processor's SEV-SNP firmware and the RMP, in software.
//!
//! [`Firmware`] takes the commands that a hypervisor issues, in any order and with any arguments, and answers with the
//! status codes of AMD 56860. A refused command changes nothing. It holds guest contexts and the [`Rmp`]; page contents come
//! and go as [`SealedPage`]s. It does no I/O and no randomness: every secret is derived from [`PlatformConfig::seed`].
//!
//! # Source
//! AMD 56860 (SEV-SNP Firmware ABI); AMD 24593 (APM volume 2) for the RMP and RMPUPDATE. AMD 56860 does not print an order
//! for all checks of a command; where a command can be wrong in two ways, the order here is this model's.

mod config;
mod context;
mod cpuid;
mod derived_key;
mod endorsement;
mod firmware;
mod guest_access;
mod guest_request;
mod id_block;
mod launch;
mod message;
mod page;
mod policy;
mod report;
mod reporting;
mod rmp;
mod sev;
mod tsc_info;

pub use config::{AsidRanges, PlatformConfig, Product, Release};
pub use context::GuestIdentity;
pub use endorsement::{Endorsement, EndorsementKey};
pub use firmware::Firmware;
pub use guest_access::{GuestAccess, GuestPage, PermissionChange, RmpAnswer, RmpFault};
pub use guest_request::RefusedRequest;
pub use launch::{LaunchFinish, LaunchStart, LaunchUpdate, RefusedPage};
pub use page::{SealedPage, WrongLength};
pub use reporting::{SNP_CONFIG_LEN, VLEK_HASHSTICK_LEN};
pub use rmp::{Rmp, RmpUpdate, RmpUpdateError};
pub use sev::{SEV_MEASUREMENT_LEN, SEV_SECRET_HEADER_LEN, SevState};
