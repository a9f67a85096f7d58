//! What is known about one VMSA page: its fields by name, the reset states of VMMs, and whether a processor would run it.
//!
//! - [`reset`]: the state that each VMM and kernel era gives a processor at reset, as rows of a registry, and by [`era`];
//! - [`cpu`]: QEMU's CPU models and their signatures;
//! - [`fields`]: every field by name: read, print, set from text;
//! - [`diff`]: what differs between two pages, field by field;
//! - [`check`]: the processor's VMRUN checks, and the rules of an SEV-SNP launch.
//!
//! No I/O; any page of 4096 bytes is acceptable input to everything here.

pub mod check;
pub mod cpu;
pub mod diff;
pub mod era;
pub mod fields;
pub mod reset;
