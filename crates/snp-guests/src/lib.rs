//! snpkit's own example guests.
//!
//! Each is assembled from source in this crate, by a Rust assembler, and starts in 64-bit mode from its own boot VMSA: no
//! firmware, no external toolchain. They are small enough to read in one sitting and portable by the rules of
//! `snp igvm lint`: every measured page has data, one VMSA, after all other pages, at a GPA that is not 2 MiB-aligned.

mod ghcb;
mod hello;
mod image;
mod long_mode;
mod probe;
mod program;
mod report;
mod smp;

use snp_abi::{Gpa, GuestPolicy, PageType, SevFeatures, Vmsa};

/// A guest that is ready to launch.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The name by which `snp example` and `snp launch --example` know it.
    pub name: String,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// The policy to launch it with.
    pub policy: GuestPolicy,
    /// The SEV features of its VMSA.
    pub features: SevFeatures,
    /// Its memory: start and length in bytes. Pages in it that are not launched are for the guest to accept or to share.
    pub memory: (Gpa, u64),
    /// Its pages in launch order, without the VMSA.
    pub pages: Vec<GuestPage>,
    /// The boot processor's VMSA, launched after all pages.
    pub vmsa: Box<Vmsa>,
    /// Where the VMSA lies.
    pub vmsa_gpa: Gpa,
}

/// One launched page of a [`Guest`].
#[derive(Clone, Debug)]
pub struct GuestPage {
    /// Where it lies.
    pub gpa: Gpa,
    /// Normal, secrets or CPUID.
    pub page_type: PageType,
    /// 4096 bytes for a normal page, nothing for the others.
    pub data: Vec<u8>,
}

/// The names of all guests; those with a colon are modes of one guest.
pub const NAMES: &[&str] = &[
    "hello",
    "smp",
    "report",
    "probe:unvalidated",
    "probe:validated-twice",
    "probe:private-access",
    "probe:rmpadjust",
    "probe:vmsa-write",
    "probe:vmsa-2mib",
    "probe:unregistered-ghcb",
    "probe:foreign-apic-id",
    "probe:page-state",
];

/// The guest of that name: one of [`NAMES`], or `smp:N`, which starts at most N processors beside the first.
pub fn find(name: &str) -> Option<Guest> {
    match name.split_once(':') {
        None if name == "hello" => Some(hello::guest()),
        None if name == report::NAME => Some(report::guest()),
        None if name == smp::NAME => Some(smp::guest(None)),
        Some((smp::NAME, most)) => Some(smp::guest(Some(most.parse().ok()?))),
        Some((probe::NAME, mode)) => probe::guest(mode),
        _ => None,
    }
}
