//! Devices of a vCPU.

use std::collections::BTreeMap;

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::TSC_KHZ;
use crate::capabilities::MCE_BANKS;
use crate::{Vcpu, lock};

/// KVM_VCPUEVENT_VALID_…
const NMI_PENDING: u32 = 1;
const SIPI_VECTOR: u32 = 2;
const SHADOW: u32 = 4;
const SMM: u32 = 8;
const PAYLOAD: u32 = 0x10;
const TRIPLE_FAULT: u32 = 0x20;
const NMI_VECTOR: u8 = 2;

/// Devices of a vCPU.
#[derive(Debug)]
pub(crate) struct VcpuDevices {
    /// KVM has a local APIC for the vCPU.
    local_apic: bool,
    pub(crate) events: kvm_vcpu_events,
    tsc_khz: u32,
    /// KVM_CAP_ENFORCE_PV_FEATURE_CPUID.
    pub(crate) enforce_pv_features: bool,
    /// MSRs that were set, beside those in [`crate::registers`].
    pub(crate) msrs: BTreeMap<u32, u64>,
}

impl VcpuDevices {
    pub(crate) fn new(local_apic: bool, tsc_khz: u32) -> Self {
        Self {
            local_apic,
            events: kvm_vcpu_events::default(),
            tsc_khz,
            enforce_pv_features: false,
            msrs: BTreeMap::new(),
        }
    }

    pub(crate) fn has_local_apic(&self) -> bool {
        self.local_apic
    }
}

impl Vcpu {
    /// KVM_GET_LAPIC.
    ///
    /// # Errors
    /// EINVAL: KVM has no local APIC for this vCPU.
    pub fn lapic(&self) -> Result<kvm_lapic_state, Errno> {
        let (tsc, long_ids) = self.apic_context();
        let apic = self.inner.apic.as_ref().ok_or(Errno::EINVAL)?;
        Ok(lock(apic).state(tsc, long_ids))
    }

    /// KVM_SET_LAPIC.
    ///
    /// # Errors
    /// As [`Vcpu::lapic`], and for another x2APIC ID than the vCPU's.
    pub fn set_lapic(&self, state: &kvm_lapic_state) -> Result<(), Errno> {
        let (tsc, long_ids) = self.apic_context();
        let apic = self.inner.apic.as_ref().ok_or(Errno::EINVAL)?;
        if lock(apic).set_state(state, tsc, long_ids) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The vCPU's time, and whether APIC IDs have 32 bits for user space: KVM_X2APIC_API_USE_32BIT_IDS.
    fn apic_context(&self) -> (u64, bool) {
        const TSC: u32 = 0x10;
        let long_ids = self.vm.lock().devices.long_apic_ids;
        (self.devices(|devices| devices.msrs.get(&TSC).copied().unwrap_or(0)), long_ids)
    }

    /// Whether KVM has a local APIC for this vCPU: what KVM_SET_VAPIC_ADDR asks for.
    ///
    /// # Errors
    /// EINVAL: it has not.
    pub fn want_local_apic(&self) -> Result<(), Errno> {
        self.lapic().map(drop)
    }

    /// KVM_GET_VCPU_EVENTS.
    pub fn events(&self) -> kvm_vcpu_events {
        let optional = self.optional_events();
        self.devices(|devices| kvm_vcpu_events {
            flags: NMI_PENDING | SHADOW | SMM | optional,
            sipi_vector: 0,
            ..devices.events
        })
    }

    /// The parts of KVM_SET_VCPU_EVENTS that capabilities of the VM bring.
    fn optional_events(&self) -> u32 {
        let state = self.vm.lock();
        let payload = if state.devices.exception_payload { PAYLOAD } else { 0 };
        let triple_fault = if state.devices.triple_fault_event { TRIPLE_FAULT } else { 0 };
        payload | triple_fault
    }

    /// KVM_SET_VCPU_EVENTS.
    ///
    /// # Errors
    /// EINVAL: unknown flags, a payload or triple fault whose capability is not enabled, or an exception that is none.
    pub fn set_events(&self, events: &kvm_vcpu_events) -> Result<(), Errno> {
        if events.flags & !(NMI_PENDING | SIPI_VECTOR | SHADOW | SMM | self.optional_events()) != 0 {
            return Err(Errno::EINVAL);
        }
        let mut new = *events;
        match (events.flags & PAYLOAD != 0, events.exception_pending != 0) {
            (true, true) => new.exception_injected = 0,
            (true, false) => new.exception_has_payload = 0,
            (false, _) => (new.exception_pending, new.exception_has_payload) = (0, 0),
        }
        if (new.exception_injected | new.exception_pending) != 0
            && (events.exception_nr > 31 || events.exception_nr == NMI_VECTOR)
        {
            return Err(Errno::EINVAL);
        }
        self.devices(|devices| {
            if events.flags & SHADOW == 0 {
                new.interrupt_shadow = devices.events.interrupt_shadow;
            }
            if events.flags & NMI_PENDING == 0 {
                new.nmi_pending = devices.events.nmi_pending;
            }
            devices.events = new;
            Ok(())
        })
    }

    /// KVM_NMI.
    pub fn nmi(&self) {
        self.devices(|devices| devices.events.nmi_pending = 1);
        self.inner.bell.ring();
    }

    /// KVM_INTERRUPT.
    ///
    /// # Errors
    /// EINVAL: not a vector. ENXIO: KVM has the interrupt controllers. EEXIST: one waits already.
    pub fn interrupt(&self, vector: u32) -> Result<(), Errno> {
        let vector = u8::try_from(vector).map_err(|_| Errno::EINVAL)?;
        let full = self.vm.lock().devices.has_full_irqchip();
        self.devices(|devices| {
            if full {
                return Err(Errno::ENXIO);
            }
            if devices.events.interrupt_injected != 0 {
                return Err(Errno::EEXIST);
            }
            devices.events.interrupt_injected = 1;
            devices.events.interrupt_nr = vector;
            Ok(())
        })?;
        self.inner.bell.ring();
        Ok(())
    }

    /// KVM_ENABLE_CAP of KVM_CAP_ENFORCE_PV_FEATURE_CPUID: the guest has those paravirtual features alone that its CPUID offers.
    pub fn enforce_pv_features(&self, enforce: bool) {
        self.devices(|devices| devices.enforce_pv_features = enforce);
    }

    /// KVM_GET_TSC_KHZ.
    pub fn tsc_khz(&self) -> u32 {
        self.devices(|devices| devices.tsc_khz)
    }

    /// KVM_SET_TSC_KHZ; 0 is the host's rate.
    pub fn set_tsc_khz(&self, khz: u32) {
        self.devices(|devices| devices.tsc_khz = if khz == 0 { TSC_KHZ } else { khz });
    }

    /// KVM_X86_SETUP_MCE: the value of MCG_CAP.
    ///
    /// # Errors
    /// EINVAL: no banks, more than KVM has, or bits that it does not support.
    pub fn setup_mce(&self, mcg_cap: u64) -> Result<(), Errno> {
        const MCG_CAP: u32 = 0x179;
        const MCG_CTL: u32 = 0x17b;
        const FIRST_BANK: u32 = 0x400;
        let banks = (mcg_cap & 0xff) as u32;
        if banks == 0 || banks > MCE_BANKS || mcg_cap & !(MCE_SUPPORTED | 0xff | 0xff_0000) != 0 {
            return Err(Errno::EINVAL);
        }
        self.devices(|devices| {
            devices.msrs.insert(MCG_CAP, mcg_cap);
            if mcg_cap & MCG_CTL_P != 0 {
                devices.msrs.insert(MCG_CTL, u64::MAX);
            }
            for bank in 0..banks {
                devices.msrs.insert(FIRST_BANK + 4 * bank, u64::MAX);
            }
            Ok(())
        })
    }

    pub(crate) fn devices<T>(&self, with: impl FnOnce(&mut VcpuDevices) -> T) -> T {
        with(&mut self.inner.lock().devices)
    }
}

/// MCG_CTL_P: there is an MCG_CTL.
const MCG_CTL_P: u64 = 1 << 8;
/// KVM_X86_GET_MCE_CAP_SUPPORTED: MCG_CTL_P and MCG_SER_P.
pub(crate) const MCE_SUPPORTED: u64 = MCG_CTL_P | 1 << 24;
