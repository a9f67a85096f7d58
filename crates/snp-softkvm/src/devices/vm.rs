//! Devices of a VM.

use snp_abi::Errno;
use snp_abi::kvm::*;

use super::TSC_KHZ;
use super::eventfd::IoEvents;
use crate::Vm;
use crate::capabilities::{CLOCK_FLAGS, IRQ_ROUTES};
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
    pub(super) io_events: IoEvents,
    /// KVM_CAP_EXCEPTION_PAYLOAD and KVM_CAP_X86_TRIPLE_FAULT_EVENT are enabled.
    pub(crate) exception_payload: bool,
    pub(crate) triple_fault_event: bool,
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
            exception_payload: false,
            triple_fault_event: false,
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

    fn chip(&mut self, id: u32) -> Result<&mut kvm_irqchip, Errno> {
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
            Ok(())
        })
    }

    /// KVM_GET_IRQCHIP of the chip that `chip_id` names.
    ///
    /// # Errors
    /// ENXIO: KVM has no irqchip. EINVAL: no such chip.
    pub fn irqchip(&self, chip_id: u32) -> Result<kvm_irqchip, Errno> {
        self.devices(|state| state.devices.chip(chip_id).copied())
    }

    /// KVM_SET_IRQCHIP.
    ///
    /// # Errors
    /// As [`Vm::irqchip`].
    pub fn set_irqchip(&self, chip: &kvm_irqchip) -> Result<(), Errno> {
        self.devices(|state| {
            *state.devices.chip(chip.chip_id)? = *chip;
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

    /// KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS: whether the interrupt was delivered. It is, as far as anyone can see.
    ///
    /// # Errors
    /// ENXIO: there is no irqchip.
    pub fn irq_line(&self, _line: &kvm_irq_level) -> Result<u32, Errno> {
        self.devices(|state| if state.devices.has_local_apics() { Ok(1) } else { Err(Errno::ENXIO) })
    }

    /// KVM_SIGNAL_MSI: how many processors take it.
    ///
    /// # Errors
    /// EINVAL: there is no irqchip, or flags.
    pub fn signal_msi(&self, msi: &kvm_msi) -> Result<i32, Errno> {
        const VALID_DEVID: u32 = 1;
        let good = self.devices(|state| state.devices.has_local_apics()) && msi.flags & !VALID_DEVID == 0;
        if good { Ok(1) } else { Err(Errno::EINVAL) }
    }

    /// What KVM_SET_GSI_ROUTING checks before it reads the routes: how many it may.
    ///
    /// # Errors
    /// EINVAL: there is no irqchip, too many routes, or flags.
    pub fn may_route(&self, routes: u32, flags: u32) -> Result<(), Errno> {
        let good = self.devices(|state| state.devices.has_local_apics()) && routes <= IRQ_ROUTES && flags == 0;
        if good { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// KVM_SET_GSI_ROUTING.
    ///
    /// # Errors
    /// EINVAL: an interrupt past the last, a route to a chip that KVM does not have, or an unknown type.
    pub fn set_gsi_routing(&self, routes: &[kvm_irq_routing_entry]) -> Result<(), Errno> {
        const IRQCHIP: u32 = 1;
        const MSI: u32 = 2;
        let full = self.devices(|state| state.devices.has_full_irqchip());
        let pins = |chip| match chip {
            0 | 1 => 8,
            2 => 24,
            _ => 0,
        };
        let good = routes.iter().all(|route| {
            let target = match route.r#type {
                IRQCHIP => full && route.flags == 0 && route.u[1] < pins(route.u[0]),
                MSI => true,
                _ => false,
            };
            target && route.gsi < IRQ_ROUTES
        });
        if good { Ok(()) } else { Err(Errno::EINVAL) }
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

    /// KVM_X86_SET_MSR_FILTER: what KVM checks; the filter matters to a running guest only.
    ///
    /// # Errors
    /// EINVAL: unknown flags, a filter that denies everything, a range without direction or too long.
    pub fn set_msr_filter(&self, filter: &kvm_msr_filter) -> Result<(), Errno> {
        const DEFAULT_DENY: u32 = 1;
        const READ_WRITE: u32 = 0b11;
        const LONGEST_BITMAP: u32 = 0x600;
        let bitmap = |range: &kvm_msr_filter_range| range.nmsrs.div_ceil(64) * 8;
        let good = |range: &kvm_msr_filter_range| {
            range.nmsrs == 0 || range.flags & !READ_WRITE == 0 && range.flags != 0 && bitmap(range) <= LONGEST_BITMAP
        };
        let empty = filter.ranges.iter().all(|range| range.nmsrs == 0);
        let good = filter.flags & !DEFAULT_DENY == 0
            && !(empty && filter.flags & DEFAULT_DENY != 0)
            && filter.ranges.iter().all(good);
        if good { Ok(()) } else { Err(Errno::EINVAL) }
    }

    pub(super) fn devices<T>(&self, with: impl FnOnce(&mut VmState) -> T) -> T {
        with(&mut self.inner.lock())
    }
}
