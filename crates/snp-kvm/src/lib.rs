//! Launch plans on a real /dev/kvm.
//!
//! [`KvmPlatform`] is the back end of `snp-launch` for a host with SEV-SNP. It shares layouts with the software platform
//! (`snp-abi`) and no sequencing, so that their agreement means something. What it can launch depends on the kernel: the uAPI
//! profile is found by probing ([`Profile::probe`]).

mod launcher;
mod platform;
mod profile;
mod raw;

pub use platform::{KvmPlatform, Unusable};
pub use profile::Profile;
