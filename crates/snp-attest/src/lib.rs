//! Attestation of AMD SEV-SNP guests: reports, the keys that sign them, ID blocks, and a verifier.
//!
//! - [`report::verify`] says whether a report is genuine and says what its reader asks for: the chain of certificates from
//!   a root that is built in, the signature, and a [`policy`]. Every check that was made, and every one that was not, is
//!   listed.
//! - [`authority`] is a TEST endorsement for the software platform: certificates as AMD makes them, under roots whose
//!   private keys are published.
//! - ID blocks: how a guest owner binds a launch to an identity, ahead of the launch. An ID block holds the launch digest
//!   that the guest must have, its policy and names. The owner signs it with the *ID key* and may sign the ID key with an
//!   *author key*; the firmware checks both signatures at LAUNCH_FINISH, and the attestation report shows digests of both
//!   keys. With a direct VMSA the digest does not depend on the vCPU count, so that one block serves every size of a guest.
//!
//! No I/O, no clock, no standard library: time and files come from the caller.
//!
//! # Speed
//! Most of a verification is arithmetic of P-384. The crate `p384` has two kinds of it; `--cfg p384_backend="fiat"` in RUSTFLAGS
//! takes fiat-crypto's, which is faster by a third and gives the same answers. This repository's `.cargo/config.toml` does so;
//! a program that uses this crate from elsewhere says so itself. For many reports of one key see [`chain::Chain::precompute`].

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod authority;
pub mod certificate;
pub mod certificate_table;
pub mod chain;
pub mod ecdsa;
pub mod error;
mod extensions;
mod flags;
mod id_block;
mod key;
pub mod policy;
mod pss;
pub mod report;
pub mod roots;
mod time;
pub mod verdict;
mod verify;

pub use extensions::EndorsementExtensions;
pub use id_block::{Identity, sign};
pub use key::{KeyError, SigningKey, key_digest, public_from_pem};
pub use time::UnixTime;
pub use verify::{Check, Outcome, Verdict, verify};
