//! Devices of a vCPU.

use std::collections::BTreeMap;

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::TSC_KHZ;
use crate::Vcpu;
use crate::capabilities::MCE_BANKS;

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
    /// The register page of the local APIC, if KVM has one.
    lapic: Option<Box<kvm_lapic_state>>,
    pub(crate) events: kvm_vcpu_events,
    tsc_khz: u32,
    /// MSRs that were set, beside those in [`crate::registers`].
    pub(crate) msrs: BTreeMap<u32, u64>,
}

impl VcpuDevices {
    pub(crate) fn new(apic_id: u32, boot: bool, local_apic: bool, tsc_khz: u32) -> Self {
        Self {
            lapic: local_apic.then(|| Box::new(reset_apic(apic_id, boot))),
            events: kvm_vcpu_events::default(),
            tsc_khz,
            msrs: BTreeMap::new(),
        }
    }

    pub(crate) fn has_local_apic(&self) -> bool {
        self.lapic.is_some()
    }
}

/// The register page after a reset.
fn reset_apic(apic_id: u32, boot: bool) -> kvm_lapic_state {
    const ID: usize = 0x20;
    const VERSION: usize = 0x30;
    const DESTINATION_FORMAT: usize = 0xe0;
    const SPURIOUS: usize = 0xf0;
    const FIRST_LVT: usize = 0x320;
    const LAST_LVT: usize = 0x370;
    const LINT0: usize = 0x350;
    const MASKED: u32 = 1 << 16;
    const EXTERNAL: u32 = 7 << 8;
    let mut state = kvm_lapic_state::default();
    let mut put = |at: usize, value: u32| state.regs[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(ID, apic_id << 24);
    put(VERSION, 0x0005_0014);
    put(DESTINATION_FORMAT, u32::MAX);
    put(SPURIOUS, 0xff);
    (FIRST_LVT..=LAST_LVT).step_by(0x10).for_each(|at| put(at, MASKED));
    if boot {
        // KVM_X86_QUIRK_LINT0_REENABLED.
        put(LINT0, EXTERNAL);
    }
    state
}

impl Vcpu {
    /// KVM_GET_LAPIC.
    ///
    /// # Errors
    /// EINVAL: KVM has no local APIC for this vCPU.
    pub fn lapic(&self) -> Result<kvm_lapic_state, Errno> {
        self.devices(|devices| devices.lapic.as_deref().copied().ok_or(Errno::EINVAL))
    }

    /// KVM_SET_LAPIC.
    ///
    /// # Errors
    /// As [`Vcpu::lapic`].
    pub fn set_lapic(&self, state: &kvm_lapic_state) -> Result<(), Errno> {
        self.devices(|devices| {
            **devices.lapic.as_mut().ok_or(Errno::EINVAL)? = *state;
            Ok(())
        })
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
        })
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
