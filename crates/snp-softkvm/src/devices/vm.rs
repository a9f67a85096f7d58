//! Devices of a VM.

use std::collections::BTreeMap;

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::TSC_KHZ;
use super::eventfd::IoEvents;
use super::msr_filter::MsrFilter;
use crate::Vm;
use crate::apic::IoApic;
use crate::capabilities::{CLOCK_FLAGS, IRQ_ROUTES};
use crate::cpuid::Rules;
use crate::vm::{MAX_VCPU_IDS, VmState};

/// The last three pages below 4 GiB, where a TSS of three pages would no longer fit.
const TSS_ADDRESS_LIMIT: u64 = 0xffff_d000;
/// What the clock advances by every time that it is read: the model has no clock, and time must not stand still.
const CLOCK_STEP: u64 = 1000;

/// Devices of a VM.
#[derive(Debug)]
pub(crate) struct VmDevices {
    irqchip: Irqchip,
    pit: Option<kvm_pit_state2>,
    /// kvmclock in nanoseconds.
    clock: u64,
    pub(crate) tsc_khz: u32,
    /// The APIC ID of the boot processor.
    pub(crate) boot_cpu: u32,
    pub(crate) io_events: IoEvents,
    /// What the guest wrote to ports of PICs and PIT.
    pub(crate) legacy_ports: BTreeMap<u16, u8>,
    /// The I/O APIC, if KVM has one.
    pub(super) io_apic: Option<IoApic>,
    /// KVM_SET_GSI_ROUTING: MSIs by interrupt number; without it, or for those that it does not name, pins.
    pub(super) routes: Option<Vec<kvm_irq_routing_entry>>,
    /// KVM_CAP_EXCEPTION_PAYLOAD and KVM_CAP_X86_TRIPLE_FAULT_EVENT are enabled.
    pub(crate) exception_payload: bool,
    pub(crate) triple_fault_event: bool,
    /// KVM_X2APIC_API_USE_32BIT_IDS.
    pub(crate) long_apic_ids: bool,
    /// KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_… for which user space is asked.
    pub(crate) user_space_msr: u64,
    pub(crate) msr_filter: MsrFilter,
    /// KVM_X86_QUIRK_… that are off.
    pub(crate) disabled_quirks: u64,
    /// KVM_X86_DISABLE_EXITS_….
    pub(crate) disabled_exits: u64,
    /// KVM_CAP_EXIT_ON_EMULATION_FAILURE.
    pub(crate) exit_on_emulation_failure: bool,
    /// KVM_CAP_MSR_PLATFORM_INFO.
    pub(crate) reads_platform_info: bool,
}

/// Where interrupt controllers are emulated.
#[derive(Debug, Default)]
enum Irqchip {
    /// In user space.
    #[default]
    None,
    /// All in the kernel: the PICs and the I/O APIC.
    Kernel(Box<[kvm_irqchip; 3]>),
    /// Local APICs in the kernel, the others in user space.
    Split,
}

impl Default for VmDevices {
    fn default() -> Self {
        Self {
            irqchip: Irqchip::None,
            pit: None,
            clock: 0,
            tsc_khz: TSC_KHZ,
            boot_cpu: 0,
            io_events: IoEvents::default(),
            legacy_ports: BTreeMap::new(),
            io_apic: None,
            routes: None,
            exception_payload: false,
            triple_fault_event: false,
            long_apic_ids: false,
            user_space_msr: 0,
            msr_filter: MsrFilter::default(),
            disabled_quirks: 0,
            disabled_exits: 0,
            exit_on_emulation_failure: false,
            reads_platform_info: true,
        }
    }
}

impl VmDevices {
    /// Whether new vCPUs get a local APIC.
    pub(crate) fn has_local_apics(&self) -> bool {
        !matches!(self.irqchip, Irqchip::None)
    }

    /// Whether KVM has PICs and an I/O APIC of its own.
    pub(crate) fn has_full_irqchip(&self) -> bool {
        matches!(self.irqchip, Irqchip::Kernel(_))
    }

    /// KVM_ENABLE_CAP of KVM_CAP_SPLIT_IRQCHIP.
    pub(crate) fn split_irqchip(&mut self, routes: u64, vcpus: usize) -> Result<(), Errno> {
        if routes > u64::from(IRQ_ROUTES) {
            return Err(Errno::EINVAL);
        }
        if self.has_local_apics() || vcpus != 0 {
            return Err(Errno::EEXIST);
        }
        self.irqchip = Irqchip::Split;
        Ok(())
    }

    /// What CPUID depends on, beside the vCPU.
    pub(crate) fn cpuid_rules(&self) -> Rules {
        const DISABLE_EXITS_HLT: u64 = 1 << 1;
        const MISC_ENABLE_NO_MWAIT: u64 = 1 << 4;
        Rules {
            halts_in_guest: self.disabled_exits & DISABLE_EXITS_HLT != 0,
            mwait_by_msr: self.disabled_quirks & MISC_ENABLE_NO_MWAIT != 0,
        }
    }

    /// The I/O APIC.
    pub(crate) fn io_apic(&mut self) -> Option<&mut IoApic> {
        self.io_apic.as_mut()
    }

    /// Whether KVM has a PIT.
    pub(crate) fn has_pit(&self) -> bool {
        self.pit.is_some()
    }

    pub(super) fn chip(&mut self, id: u32) -> Result<&mut kvm_irqchip, Errno> {
        let Irqchip::Kernel(chips) = &mut self.irqchip else { return Err(Errno::ENXIO) };
        chips.get_mut(id as usize).ok_or(Errno::EINVAL)
    }
}

impl Vm {
    /// KVM_CREATE_IRQCHIP.
    ///
    /// # Errors
    /// EEXIST: there is one. EINVAL: there are vCPUs.
    pub fn create_irqchip(&self) -> Result<(), Errno> {
        self.devices(|state| {
            if state.devices.has_local_apics() {
                return Err(Errno::EEXIST);
            }
            if !state.vcpus.is_empty() {
                return Err(Errno::EINVAL);
            }
            let chip = |chip_id| kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            state.devices.irqchip = Irqchip::Kernel(Box::new([chip(0), chip(1), chip(2)]));
            state.devices.io_apic = Some(IoApic::default());
            Ok(())
        })
    }

    /// KVM_CREATE_PIT and KVM_CREATE_PIT2.
    ///
    /// # Errors
    /// EEXIST: there is one. ENOENT: KVM has no irqchip.
    pub fn create_pit(&self) -> Result<(), Errno> {
        self.devices(|state| {
            if state.devices.pit.is_some() {
                return Err(Errno::EEXIST);
            }
            if !state.devices.has_full_irqchip() {
                return Err(Errno::ENOENT);
            }
            state.devices.pit = Some(kvm_pit_state2::default());
            Ok(())
        })
    }

    /// KVM_GET_PIT2.
    ///
    /// # Errors
    /// ENXIO: there is no PIT.
    pub fn pit(&self) -> Result<kvm_pit_state2, Errno> {
        self.devices(|state| state.devices.pit.ok_or(Errno::ENXIO))
    }

    /// KVM_SET_PIT2.
    ///
    /// # Errors
    /// ENXIO: there is no PIT.
    pub fn set_pit(&self, pit: &kvm_pit_state2) -> Result<(), Errno> {
        self.devices(|state| {
            *state.devices.pit.as_mut().ok_or(Errno::ENXIO)? = *pit;
            Ok(())
        })
    }

    /// KVM_GET_CLOCK.
    pub fn clock(&self) -> kvm_clock_data {
        self.devices(|state| {
            state.devices.clock += CLOCK_STEP;
            let clock = state.devices.clock;
            let host_tsc = (u128::from(clock) * u128::from(TSC_KHZ) / 1_000_000) as u64;
            kvm_clock_data { clock, realtime: clock, host_tsc, flags: CLOCK_FLAGS, ..kvm_clock_data::default() }
        })
    }

    /// KVM_SET_CLOCK.
    ///
    /// # Errors
    /// EINVAL: unknown flags.
    pub fn set_clock(&self, clock: &kvm_clock_data) -> Result<(), Errno> {
        if clock.flags & !CLOCK_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        self.devices(|state| state.devices.clock = clock.clock);
        Ok(())
    }

    /// KVM_GET_TSC_KHZ on a VM: the rate that new vCPUs get.
    pub fn tsc_khz(&self) -> u32 {
        self.devices(|state| state.devices.tsc_khz)
    }

    /// KVM_SET_TSC_KHZ on a VM; 0 is the host's rate.
    ///
    /// # Errors
    /// EINVAL: there are vCPUs.
    pub fn set_tsc_khz(&self, khz: u32) -> Result<(), Errno> {
        self.devices(|state| {
            if !state.vcpus.is_empty() {
                return Err(Errno::EINVAL);
            }
            state.devices.tsc_khz = if khz == 0 { TSC_KHZ } else { khz };
            Ok(())
        })
    }

    /// KVM_SET_TSS_ADDR, which does nothing on AMD processors.
    ///
    /// # Errors
    /// EINVAL: three pages do not fit below 4 GiB there.
    pub fn set_tss_addr(&self, address: u64) -> Result<(), Errno> {
        if address > TSS_ADDRESS_LIMIT { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// What KVM_SET_IDENTITY_MAP_ADDR checks; the address does nothing on AMD processors.
    ///
    /// # Errors
    /// EINVAL: there are vCPUs.
    pub fn may_set_identity_map(&self) -> Result<(), Errno> {
        self.devices(|state| if state.vcpus.is_empty() { Ok(()) } else { Err(Errno::EINVAL) })
    }

    /// KVM_SET_BOOT_CPU_ID.
    ///
    /// # Errors
    /// EBUSY: there are vCPUs. EINVAL: no vCPU can have that number.
    pub fn set_boot_cpu_id(&self, id: u64) -> Result<(), Errno> {
        self.devices(|state| {
            if !state.vcpus.is_empty() {
                return Err(Errno::EBUSY);
            }
            let limit = state.max_vcpu_ids.unwrap_or(MAX_VCPU_IDS);
            let id = u32::try_from(id).ok().filter(|id| *id <= limit).ok_or(Errno::EINVAL)?;
            state.devices.boot_cpu = id;
            Ok(())
        })
    }

    pub(super) fn devices<T>(&self, with: impl FnOnce(&mut VmState) -> T) -> T {
        with(&mut self.inner.lock())
    }
}
