//! What KVM keeps for a VM and a vCPU beside memory and registers: interrupt controllers, timers, clocks, events, MSRs.
//!
//! As long as no guest runs, a device is the state that user space puts there and reads back. The checks are KVM's.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/x86.c (`kvm_arch_vm_ioctl`, `kvm_arch_vcpu_ioctl`), virt/kvm/kvm_main.c, virt/kvm/eventfd.c.

pub(crate) mod enable_cap;
mod eventfd;
mod interrupts;
mod irqfd;
pub(crate) mod msr_filter;
mod vcpu;
mod vm;

pub(crate) use irqfd::Irqfds;
pub(crate) use vcpu::{MCE_SUPPORTED, VcpuDevices};
pub(crate) use vm::VmDevices;

/// The rate of the platform's time-stamp counter.
pub(crate) const TSC_KHZ: u32 = 2_450_000;
