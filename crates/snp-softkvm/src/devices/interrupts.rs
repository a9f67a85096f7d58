//! Interrupts from outside: lines of the I/O APIC, message-signalled interrupts, and their routing.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/irq.c, arch/x86/kvm/ioapic.c, virt/kvm/irqchip.c.

use snp_abi::Errno;
use snp_abi::kvm::*;

use crate::Vm;
use crate::apic::{IoApic, Message};
use crate::capabilities::IRQ_ROUTES;
use crate::vm::VmState;

/// KVM_IRQ_ROUTING_IRQCHIP and _MSI.
const IRQCHIP: u32 = 1;
const MSI: u32 = 2;
/// KVM_IRQCHIP_IOAPIC.
const IO_APIC: u32 = 2;

impl Vm {
    /// KVM_GET_IRQCHIP of the chip that `chip_id` names.
    ///
    /// # Errors
    /// ENXIO: KVM has no irqchip. EINVAL: no such chip.
    pub fn irqchip(&self, chip_id: u32) -> Result<kvm_irqchip, Errno> {
        self.devices(|state| {
            let mut chip = *state.devices.chip(chip_id)?;
            if let Some(io_apic) = state.devices.io_apic().filter(|_| chip_id == IO_APIC) {
                chip.chip = [0; 512];
                io_apic.store(&mut chip.chip);
            }
            Ok(chip)
        })
    }

    /// KVM_SET_IRQCHIP.
    ///
    /// # Errors
    /// As [`Vm::irqchip`].
    pub fn set_irqchip(&self, chip: &kvm_irqchip) -> Result<(), Errno> {
        self.devices(|state| {
            *state.devices.chip(chip.chip_id)? = *chip;
            if let Some(io_apic) = state.devices.io_apic().filter(|_| chip.chip_id == IO_APIC) {
                *io_apic = IoApic::load(&chip.chip);
            }
            Ok(())
        })
    }

    /// KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS: how many processors took the interrupt, 1 for a line of a PIC, which is not
    /// modelled.
    ///
    /// # Errors
    /// ENXIO: there is no irqchip.
    pub fn irq_line(&self, line: &kvm_irq_level) -> Result<u32, Errno> {
        let messages = self.devices(|state| {
            if state.devices.has_local_apics() {
                Ok(raise(state, line.irq, line.level != 0))
            } else {
                Err(Errno::ENXIO)
            }
        })?;
        let taken: usize = messages.iter().map(|message| self.inner.send(message).taken.len()).sum();
        Ok(taken.max(1) as u32)
    }

    /// KVM_SIGNAL_MSI: how many processors take it; -1 if it is for none.
    ///
    /// # Errors
    /// EINVAL: there is no irqchip, or flags.
    pub fn signal_msi(&self, msi: &kvm_msi) -> Result<i32, Errno> {
        const VALID_DEVID: u32 = 1;
        let good = self.devices(|state| state.devices.has_local_apics()) && msi.flags & !VALID_DEVID == 0;
        if !good {
            return Err(Errno::EINVAL);
        }
        let delivery = self.inner.send(&Message::msi(msi.address_lo, msi.address_hi, msi.data, false));
        Ok(if delivery.matched == 0 { -1 } else { delivery.taken.len() as i32 })
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
        let full = self.devices(|state| state.devices.has_full_irqchip());
        let pins = |chip| match chip {
            0 | 1 => 8,
            IO_APIC => 24,
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
        if !good {
            return Err(Errno::EINVAL);
        }
        self.devices(|state| state.devices.routes = Some(routes.to_vec()));
        Ok(())
    }
}

/// The interrupts that a line brings about.
fn raise(state: &mut VmState, gsi: u32, up: bool) -> Vec<Message> {
    let routes = match &state.devices.routes {
        Some(routes) => routes.iter().filter(|route| route.gsi == gsi).copied().collect(),
        None => vec![by_default(gsi)],
    };
    let mut messages = Vec::new();
    for route in routes {
        match route.r#type {
            IRQCHIP if route.u[0] == IO_APIC => {
                let pin = route.u[1] as u8;
                messages.extend(state.devices.io_apic().and_then(|io_apic| io_apic.set_line(pin, up)));
            }
            MSI if up => messages.push(Message::msi(route.u[0], route.u[1], route.u[2], false)),
            _ => {}
        }
    }
    messages
}

/// Where a line goes that nobody routed: to the pin of its number, but for the timer's, which is at pin 2.
fn by_default(gsi: u32) -> kvm_irq_routing_entry {
    let pin = if gsi == 0 { 2 } else { gsi };
    kvm_irq_routing_entry { gsi, r#type: IRQCHIP, flags: 0, pad: 0, u: [IO_APIC, pin, 0, 0, 0, 0, 0, 0] }
}
