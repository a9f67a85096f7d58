//! CPUID, as KVM answers it from the table of KVM_SET_CPUID2.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/cpuid.c: `kvm_cpuid`.

use super::Session;
use crate::cpuid::{self, Runtime};

impl Session<'_> {
    /// EAX, EBX, ECX, EDX.
    pub(super) fn cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        let rules = self.vcpu.vm.lock().devices.cpuid_rules();
        let state = &self.running.state;
        let vcpu = self.vcpu.inner.lock();
        let runtime = Runtime {
            cr4: state.cr4,
            xcr0: state.extended.xcr0,
            xss: state.xss,
            ..Runtime::of(&vcpu.registers, &vcpu.devices, rules)
        };
        cpuid::answer(&vcpu.registers.cpuid, function, index, &runtime)
    }
}
