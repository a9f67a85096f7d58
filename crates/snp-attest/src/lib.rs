//! ID blocks: how a guest owner binds a launch to an identity, ahead of the launch.
//!
//! An ID block holds the launch digest that the guest must have, its policy and names. The owner signs it with the *ID
//! key* and may sign the ID key with an *author key*; the firmware checks both signatures at LAUNCH_FINISH, and the
//! attestation report shows digests of both keys. With a direct VMSA the digest does not depend on the vCPU count, so that
//! one block serves every size of a guest.

mod id_block;
mod key;
mod verify;

pub use id_block::{Identity, sign};
pub use key::{KeyError, SigningKey, key_digest};
pub use verify::{Check, Outcome, Verdict, verify};
