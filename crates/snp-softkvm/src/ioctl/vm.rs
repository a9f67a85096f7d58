//! The requests of a VM's descriptor.

use snp_abi::Errno;
use snp_abi::kvm::*;
use zerocopy::FromZeros;

use super::wire::{self, List};
use super::{Answer, Object, unknown};
use crate::devices::msr_filter;
use crate::{UserSpace, Vm};

/// What KVM knows here and this model does not.
const UNMODELLED: &[u32] = &[
    KVM_CLEAR_DIRTY_LOG,
    KVM_GET_DIRTY_LOG,
    KVM_GET_PIT,
    KVM_GET_STATS_FD,
    KVM_HYPERV_EVENTFD,
    KVM_RESET_DIRTY_RINGS,
    KVM_SET_PIT,
    KVM_SET_PMU_EVENT_FILTER,
    KVM_XEN_HVM_CONFIG,
    KVM_XEN_HVM_EVTCHN_SEND,
    KVM_XEN_HVM_GET_ATTR,
    KVM_XEN_HVM_SET_ATTR,
];

pub(super) fn ioctl(vm: &Vm, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_CREATE_VCPU => return Ok(Answer::Descriptor(Object::Vcpu(vm.create_vcpu(argument)?))),
        KVM_CREATE_GUEST_MEMFD => {
            let memfd = vm.create_guest_memfd(&wire::read(user, argument)?)?;
            return Ok(Answer::Descriptor(Object::GuestMemfd(memfd)));
        }
        KVM_CHECK_EXTENSION => return Ok(Answer::Value(vm.check_extension(argument as u32))),
        KVM_GET_TSC_KHZ => return Ok(Answer::Value(vm.tsc_khz() as i32)),
        KVM_SIGNAL_MSI => return Ok(Answer::Value(vm.signal_msi(&wire::read(user, argument)?)?)),
        KVM_ENABLE_CAP => enable_cap(vm, user, &wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_REG_REGION => vm.register_region(user, &wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_UNREG_REGION => vm.unregister_region(&wire::read(user, argument)?)?,
        KVM_SET_NR_MMU_PAGES => {
            /// KVM_MIN_ALLOC_MMU_PAGES.
            const LEAST: u32 = 64;
            if (argument as u32) < LEAST {
                return Err(Errno::EINVAL);
            }
        }
        KVM_SET_USER_MEMORY_REGION => set_memory_region(vm, user, argument)?,
        KVM_SET_USER_MEMORY_REGION2 => vm.set_user_memory_region2(user, &wire::read(user, argument)?)?,
        KVM_SET_MEMORY_ATTRIBUTES => vm.set_memory_attributes(&wire::read(user, argument)?)?,
        KVM_MEMORY_ENCRYPT_OP => vm.memory_encrypt_op(user, argument)?,
        KVM_IRQFD => vm.irqfd(user, &wire::read(user, argument)?)?,
        KVM_IOEVENTFD => vm.ioeventfd(user, &wire::read(user, argument)?)?,
        KVM_SET_GSI_ROUTING => set_gsi_routing(vm, user, argument)?,
        // Of no effect on a guest that does not run.
        KVM_REGISTER_COALESCED_MMIO | KVM_UNREGISTER_COALESCED_MMIO => {
            let zone: kvm_coalesced_mmio_zone = wire::read(user, argument)?;
            if zone.pio > 1 {
                return Err(Errno::EINVAL);
            }
        }
        KVM_CREATE_DEVICE => {
            // Only VFIO's is there on x86, and nothing to pass through.
            wire::read::<kvm_create_device>(user, argument)?;
            return Err(Errno::ENODEV);
        }
        _ => return device_ioctl(vm, user, request, argument),
    }
    Ok(Answer::DONE)
}

/// KVM_ENABLE_CAP; two capabilities name another VM's descriptor.
fn enable_cap(vm: &Vm, user: &dyn UserSpace, cap: &kvm_enable_cap) -> Result<(), Errno> {
    match cap.cap {
        KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM if cap.flags == 0 => vm.move_enc_context_from(&user.vm(cap.args[0] as u32)?),
        KVM_CAP_VM_COPY_ENC_CONTEXT_FROM if cap.flags == 0 => vm.copy_enc_context_from(&user.vm(cap.args[0] as u32)?),
        _ => vm.enable_cap(cap),
    }
}

/// Those of x86's devices.
fn device_ioctl(vm: &Vm, user: &dyn UserSpace, request: u32, argument: u64) -> Result<Answer, Errno> {
    match request {
        KVM_SET_TSS_ADDR => vm.set_tss_addr(argument)?,
        KVM_SET_IDENTITY_MAP_ADDR => {
            vm.may_set_identity_map()?;
            wire::read::<u64>(user, argument)?;
        }
        KVM_SET_BOOT_CPU_ID => vm.set_boot_cpu_id(argument)?,
        KVM_SET_TSC_KHZ => vm.set_tsc_khz(argument as u32)?,
        KVM_CREATE_IRQCHIP => vm.create_irqchip()?,
        KVM_GET_IRQCHIP => {
            let chip: kvm_irqchip = wire::read(user, argument)?;
            wire::write(user, argument, &vm.irqchip(chip.chip_id)?)?;
        }
        KVM_SET_IRQCHIP => vm.set_irqchip(&wire::read(user, argument)?)?,
        KVM_CREATE_PIT => vm.create_pit()?,
        KVM_CREATE_PIT2 => {
            wire::read::<kvm_pit_config>(user, argument)?;
            vm.create_pit()?;
        }
        KVM_GET_PIT2 => wire::write(user, argument, &vm.pit()?)?,
        KVM_SET_PIT2 => vm.set_pit(&wire::read(user, argument)?)?,
        KVM_REINJECT_CONTROL => {
            wire::read::<[u8; 32]>(user, argument)?;
            vm.pit()?;
        }
        KVM_IRQ_LINE => drop(vm.irq_line(&wire::read(user, argument)?)?),
        KVM_IRQ_LINE_STATUS => {
            let line: kvm_irq_level = wire::read(user, argument)?;
            let irq = vm.irq_line(&line)?;
            wire::write(user, argument, &kvm_irq_level { irq, ..line })?;
        }
        KVM_GET_CLOCK => wire::write(user, argument, &vm.clock())?,
        KVM_SET_CLOCK => vm.set_clock(&wire::read(user, argument)?)?,
        KVM_X86_SET_MSR_FILTER => set_msr_filter(vm, user, argument)?,
        _ => return Err(unknown(&vm.inner.host, UNMODELLED, request, Errno::ENOTTY)),
    }
    Ok(Answer::DONE)
}

/// The older structure, which knows no guest_memfd.
fn set_memory_region(vm: &Vm, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let region: kvm_userspace_memory_region = wire::read(user, argument)?;
    if region.flags & !(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY) != 0 {
        return Err(Errno::EINVAL);
    }
    let region = kvm_userspace_memory_region2 {
        slot: region.slot,
        flags: region.flags,
        guest_phys_addr: region.guest_phys_addr,
        memory_size: region.memory_size,
        userspace_addr: region.userspace_addr,
        ..kvm_userspace_memory_region2::new_zeroed()
    };
    vm.set_user_memory_region2(user, &region)
}

fn set_gsi_routing(vm: &Vm, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    /// The count and the flags.
    const HEADER: u64 = 8;
    let [count, flags] = wire::read::<[u32; 2]>(user, argument)?;
    vm.may_route(count, flags)?;
    vm.set_gsi_routing(&List::at(user, argument, HEADER)?.bounded(count).read(user)?)
}

/// The filter with its bitmaps.
fn set_msr_filter(vm: &Vm, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let filter: kvm_msr_filter = wire::read(user, argument)?;
    msr_filter::check(&filter)?;
    let mut bitmaps = Vec::new();
    for range in filter.ranges.iter().filter(|range| range.nmsrs != 0) {
        let mut bitmap = vec![0; msr_filter::bitmap_len(range) as usize];
        user.read(range.bitmap, &mut bitmap)?;
        bitmaps.push(bitmap);
    }
    vm.set_msr_filter(&filter, &bitmaps)
}
