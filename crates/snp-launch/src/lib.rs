//! What is launched, and who can launch it.
//!
//! A [`LaunchPlan`] says *what* is launched: an ordered list of page operations, the boot state, the policy, the ID block
//! and the vCPU count. A [`Platform`] is a back end that carries a plan out; only it knows *how*. The digest engine
//! ([`DigestEngine`], [`predict`]) computes the launch digest of a plan without performing it. Back ends and engine share
//! layouts (`snp-abi`) and no sequencing, so that their agreement means something.

mod digest;
mod hasher;
mod plan;
mod platform;
pub mod registers;
mod validate;

pub use digest::{DigestEngine, DigestStep, counts_from, predict, predict_counts, predict_steps};
pub use plan::{BootState, IdBlockPair, LaunchPage, LaunchPlan, MemoryRegion, PageBytes, PlanError};
pub use platform::{
    CommandRecord, LaunchError, LaunchObserver, Launched, LaunchedVcpu, NoObserver, PageRecord, Platform, VmsaSource,
};
pub use validate::PlanWarning;
