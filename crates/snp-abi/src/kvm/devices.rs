//! Interrupt controllers, timers, clocks and other devices of a VM.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_irqchip {
    /// 0, 1: the PICs; 2: the I/O APIC.
    pub chip_id: u32,
    /// Ignored.
    pub pad: u32,
    /// The state, by chip.
    pub chip: [u8; 512],
}

abi_layout!(kvm_irqchip, 520, {
    chip_id: 0,
    pad: 4,
    chip: 8,
});

impl Default for kvm_irqchip {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_CREATE_PIT2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_pit_config {
    /// Bit 0: the speaker port is a dummy.
    pub flags: u32,
    /// Ignored.
    pub pad: [u32; 15],
}

abi_layout!(kvm_pit_config, 64, {
    flags: 0,
    pad: 4,
});

impl Default for kvm_pit_config {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_PIT2 and KVM_SET_PIT2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_pit_state2 {
    /// The channels.
    pub channels: [[u8; 24]; 3],
    /// `KVM_PIT_FLAGS_…`.
    pub flags: u32,
    /// Ignored.
    pub reserved: [u32; 9],
}

abi_layout!(kvm_pit_state2, 112, {
    channels: 0,
    flags: 72,
    reserved: 76,
});

impl Default for kvm_pit_state2 {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_LAPIC and KVM_SET_LAPIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_lapic_state {
    /// The register page, as a guest sees it.
    pub regs: [u8; 1024],
}

abi_layout!(kvm_lapic_state, 1024, {
    regs: 0,
});

impl Default for kvm_lapic_state {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_GET_CLOCK and KVM_SET_CLOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_clock_data {
    /// Nanoseconds of kvmclock.
    pub clock: u64,
    /// `KVM_CLOCK_…`.
    pub flags: u32,
    /// Ignored.
    pub pad0: u32,
    /// Nanoseconds of real time.
    pub realtime: u64,
    /// The time-stamp counter.
    pub host_tsc: u64,
    /// Ignored.
    pub pad: [u32; 4],
}

abi_layout!(kvm_clock_data, 48, {
    clock: 0,
    flags: 8,
    pad0: 12,
    realtime: 16,
    host_tsc: 24,
    pad: 32,
});

impl Default for kvm_clock_data {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_irq_level {
    /// The GSI; out: whether it was delivered.
    pub irq: u32,
    /// Asserted or not.
    pub level: u32,
}

abi_layout!(kvm_irq_level, 8, {
    irq: 0,
    level: 4,
});

impl Default for kvm_irq_level {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_IRQFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_irqfd {
    /// The eventfd.
    pub fd: u32,
    /// The interrupt.
    pub gsi: u32,
    /// `KVM_IRQFD_FLAG_…`.
    pub flags: u32,
    /// The eventfd of the end of interrupt.
    pub resamplefd: u32,
    /// Ignored.
    pub pad: [u8; 16],
}

abi_layout!(kvm_irqfd, 32, {
    fd: 0,
    gsi: 4,
    flags: 8,
    resamplefd: 12,
    pad: 16,
});

impl Default for kvm_irqfd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_IOEVENTFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_ioeventfd {
    /// The value that must be written.
    pub datamatch: u64,
    /// Port or address.
    pub addr: u64,
    /// Bytes: 0, 1, 2, 4, 8.
    pub len: u32,
    /// The eventfd.
    pub fd: u32,
    /// `KVM_IOEVENTFD_FLAG_…`.
    pub flags: u32,
    /// Ignored.
    pub pad: [u8; 36],
}

abi_layout!(kvm_ioeventfd, 64, {
    datamatch: 0,
    addr: 8,
    len: 16,
    fd: 20,
    flags: 24,
    pad: 28,
});

impl Default for kvm_ioeventfd {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_SIGNAL_MSI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_msi {
    /// Address.
    pub address_lo: u32,
    /// Address, high half.
    pub address_hi: u32,
    /// Data.
    pub data: u32,
    /// Bit 0: `devid` is valid.
    pub flags: u32,
    /// The device.
    pub devid: u32,
    /// Ignored.
    pub pad: [u8; 12],
}

abi_layout!(kvm_msi, 32, {
    address_lo: 0,
    address_hi: 4,
    data: 8,
    flags: 12,
    devid: 16,
    pad: 20,
});

impl Default for kvm_msi {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One route of KVM_SET_GSI_ROUTING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_irq_routing_entry {
    /// The interrupt.
    pub gsi: u32,
    /// `KVM_IRQ_ROUTING_…`.
    pub r#type: u32,
    /// Flags of the type.
    pub flags: u32,
    /// Ignored.
    pub pad: u32,
    /// By type; for an irqchip: chip and pin.
    pub u: [u32; 8],
}

abi_layout!(kvm_irq_routing_entry, 48, {
    gsi: 0,
    r#type: 4,
    flags: 8,
    pad: 12,
    u: 16,
});

impl Default for kvm_irq_routing_entry {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_TPR_ACCESS_REPORTING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_tpr_access_ctl {
    /// On or off.
    pub enabled: u32,
    /// Must be zero.
    pub flags: u32,
    /// Ignored.
    pub reserved: [u32; 8],
}

abi_layout!(kvm_tpr_access_ctl, 40, {
    enabled: 0,
    flags: 4,
    reserved: 8,
});

impl Default for kvm_tpr_access_ctl {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_coalesced_mmio_zone {
    /// Address or port.
    pub addr: u64,
    /// Bytes.
    pub size: u32,
    /// Ports, not memory.
    pub pio: u32,
}

abi_layout!(kvm_coalesced_mmio_zone, 16, {
    addr: 0,
    size: 8,
    pio: 12,
});

impl Default for kvm_coalesced_mmio_zone {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// One range of [`kvm_msr_filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_msr_filter_range {
    /// 1: reads; 2: writes.
    pub flags: u32,
    /// MSRs in the range.
    pub nmsrs: u32,
    /// The first.
    pub base: u32,
    /// Padding of the compiler.
    pub pad: u32,
    /// User address of a bit per MSR.
    pub bitmap: u64,
}

abi_layout!(kvm_msr_filter_range, 24, {
    flags: 0,
    nmsrs: 4,
    base: 8,
    pad: 12,
    bitmap: 16,
});

impl Default for kvm_msr_filter_range {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_X86_SET_MSR_FILTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_msr_filter {
    /// Bit 0: deny by default.
    pub flags: u32,
    /// Padding of the compiler.
    pub pad: u32,
    /// The ranges.
    pub ranges: [kvm_msr_filter_range; 16],
}

abi_layout!(kvm_msr_filter, 392, {
    flags: 0,
    pad: 4,
    ranges: 8,
});

impl Default for kvm_msr_filter {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// KVM_CREATE_DEVICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct kvm_create_device {
    /// `KVM_DEV_TYPE_…`.
    pub r#type: u32,
    /// Out: the descriptor.
    pub fd: u32,
    /// Bit 0: only try.
    pub flags: u32,
}

abi_layout!(kvm_create_device, 12, {
    r#type: 0,
    fd: 4,
    flags: 8,
});

impl Default for kvm_create_device {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
