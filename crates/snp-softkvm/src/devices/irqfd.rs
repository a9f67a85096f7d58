//! KVM_IRQFD: which eventfd raises which interrupt. That one is raised is not modelled.
//!
//! # Source
//! Linux 7.3, virt/kvm/eventfd.c (`kvm_irqfd_assign`, `kvm_irqfd_deassign`), arch/x86/kvm/irq.c (`kvm_arch_irqfd_allowed`).

use std::collections::BTreeMap;

use snp_abi::Errno;
use snp_abi::kvm::kvm_irqfd;

use crate::vm::VmInner;
use crate::{Eventfd, UserSpace, Vm, lock};

/// KVM_IRQFD_FLAG_DEASSIGN, _RESAMPLE.
const DEASSIGN: u32 = 1;
const RESAMPLE: u32 = 2;

/// The eventfds that raise interrupts, in all VMs of the host: each raises one.
#[derive(Debug, Default)]
pub(crate) struct Irqfds(BTreeMap<u64, Irqfd>);

/// What an eventfd raises.
#[derive(Debug)]
struct Irqfd {
    /// So that no other gets its identity.
    eventfd: Eventfd,
    /// Which VM's.
    vm: usize,
    gsi: u32,
    /// The descriptor by which it was named.
    fd: u32,
}

impl Irqfds {
    /// Forgets the eventfds that were closed.
    fn forget_closed(&mut self, user: &dyn UserSpace) {
        let open = |irqfd: &Irqfd| user.eventfd(irqfd.fd).is_ok_and(|now| now.identity() == irqfd.eventfd.identity());
        self.0.retain(|_, irqfd| open(irqfd));
    }

    /// The VM ends.
    pub(crate) fn release(&mut self, vm: &VmInner) {
        self.0.retain(|_, irqfd| irqfd.vm != identity(vm));
    }
}

/// A VM that lives is where no other is.
fn identity(vm: &VmInner) -> usize {
    std::ptr::from_ref(vm) as usize
}

impl Vm {
    /// KVM_IRQFD.
    ///
    /// # Errors
    /// EINVAL: unknown flags, no irqchip, a resampling one without PICs and I/O APIC in KVM, or a descriptor of something else.
    /// EBADF: a descriptor that is not open. EBUSY: the eventfd raises an interrupt already, of this VM or of another.
    pub fn irqfd(&self, user: &dyn UserSpace, irqfd: &kvm_irqfd) -> Result<(), Errno> {
        if irqfd.flags & !(DEASSIGN | RESAMPLE) != 0 {
            return Err(Errno::EINVAL);
        }
        if irqfd.flags & DEASSIGN != 0 {
            let eventfd = user.eventfd(irqfd.fd)?;
            let mut irqfds = lock(&self.inner.host.irqfds);
            let assigned = irqfds.0.get(&eventfd.identity());
            if assigned.is_some_and(|known| known.vm == identity(&self.inner) && known.gsi == irqfd.gsi) {
                irqfds.0.remove(&eventfd.identity());
            }
            // Also where nothing was assigned.
            return Ok(());
        }
        let resample = irqfd.flags & RESAMPLE != 0;
        self.devices(|state| {
            let good = state.devices.has_local_apics() && (!resample || state.devices.has_full_irqchip());
            if good { Ok(()) } else { Err(Errno::EINVAL) }
        })?;
        let eventfd = user.eventfd(irqfd.fd)?;
        if resample {
            user.eventfd(irqfd.resamplefd)?;
        }
        let mut irqfds = lock(&self.inner.host.irqfds);
        irqfds.forget_closed(user);
        let identity = eventfd.identity();
        if irqfds.0.contains_key(&identity) {
            return Err(Errno::EBUSY);
        }
        irqfds.0.insert(identity, Irqfd { eventfd, vm: self::identity(&self.inner), gsi: irqfd.gsi, fd: irqfd.fd });
        Ok(())
    }
}
