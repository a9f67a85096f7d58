//! KVM's SEV-SNP launch uAPI, in software.
//!
//! [`SoftKvm`] stands for /dev/kvm, [`Vm`] and [`Vcpu`] for the descriptors that it hands out, [`GuestMemfd`] for a
//! guest_memfd. Their methods are the ioctls: typed structures in, an [`Errno`](snp_abi::Errno) out, every check in the order
//! of Linux 7.3; the two proposals for a user-supplied VMSA are [`UapiProfile`]s beside it. Whatever an ioctl reads or
//! writes in user memory goes through [`UserSpace`], so that a foreign program's ioctls can be fed in as they come.
//!
//! [`Vcpu::run`] is KVM_RUN, on the processors of an [`Engine`]; [`Vcpu::run_within`] is the same within bounds, and an
//! [`Observer`] watches.
//!
//! [`SoftPlatform`] is the back end of `snp-launch` that performs a whole plan this way.
//!
//! All objects may be used from several threads at once. Locks are taken in the order running vCPU, VM, vCPU, memory, host; a VM's
//! lock is held throughout an SEV command, as in Linux, and a vCPU's throughout KVM_RUN.
//!
//! # Source
//! Linux 7.3: arch/x86/kvm/svm/sev.c, arch/x86/kvm/x86.c, virt/kvm/kvm_main.c, virt/kvm/guest_memfd.c, read for behaviour.

// Until KVM_RUN calls it.
mod apic;
mod attributes;
mod backend;
mod capabilities;
mod cpuid;
mod devices;
mod fpu;
mod frames;
// Until KVM_RUN calls it.
mod ghcb;
mod guest_memfd;
mod guest_request;
mod host;
mod host_msrs;
pub mod ioctl;
mod kvm;
mod memory;
mod memslot;
mod msrs;
mod observer;
mod process;
mod profile;
pub mod profiles;
mod registers;
mod run;
mod sev;
mod sev_device;
mod user;
mod vcpu;
mod vm;
mod vmsa;

pub use backend::{Machine, SoftPlatform};
pub use guest_memfd::GuestMemfd;
pub use host_msrs::HostMsrs;
pub use kvm::SoftKvm;
pub use observer::{Observer, RmpCause, RmpChange};
pub use process::Process;
pub use profile::{UapiProfile, VcpuStateCommand, VmsaPages};
pub use run::{Bounds, Engine, Interpreters, NoEngine, RunArea, RunExit, Stop};
pub use sev_device::SevDevice;
pub use user::{Counter, Eventfd, Fault, UserSpace};
pub use vcpu::{Vcpu, VcpuVmsa};
pub use vm::{MAX_VCPU_IDS, MAX_VCPUS, Vm};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after another thread panicked: a bug in one thread's call must not hang every other.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
