//! The AMD Secure Processor's SEV-SNP firmware and the RMP, in software.
//!
//! # Source
//! AMD 56860 (SEV-SNP Firmware ABI); AMD 24593 (APM volume 2) for the RMP and RMPUPDATE.

mod config;
mod firmware;
mod page;
mod rmp;

pub use config::{AsidRanges, PlatformConfig, Product};
pub use firmware::{Firmware, LaunchFinish, LaunchStart, LaunchUpdate, RefusedPage};
pub use page::{SealedPage, WrongLength};
pub use rmp::{Rmp, RmpUpdate, RmpUpdateError};
