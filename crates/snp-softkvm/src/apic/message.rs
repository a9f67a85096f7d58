//! Interrupts on their way: IPIs, messages of devices, and who takes them.

use std::sync::{Arc, Mutex};

use super::LocalApic;
use super::registers::Register;
use crate::lock;

/// A local APIC that several vCPUs' threads reach.
pub(crate) type Shared = Arc<Mutex<LocalApic>>;

/// The destination that is everybody: of 8 bits, and of 32.
const BROADCAST: u32 = 0xff;
const X2APIC_BROADCAST: u32 = u32::MAX;

/// Delivery mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fixed,
    LowestPriority,
    Smi,
    Reserved,
    Nmi,
    Init,
    Startup,
    External,
}

impl Mode {
    /// From three bits.
    pub(super) fn from_bits(bits: u32) -> Self {
        [
            Self::Fixed,
            Self::LowestPriority,
            Self::Smi,
            Self::Reserved,
            Self::Nmi,
            Self::Init,
            Self::Startup,
            Self::External,
        ][(bits & 7) as usize]
    }
}

/// An interrupt on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) vector: u8,
    pub(crate) mode: Mode,
    /// The destination is a logical one.
    pub(crate) logical: bool,
    pub(crate) asserted: bool,
    pub(crate) level_triggered: bool,
    /// 0 none, 1 self, 2 all, 3 all but self.
    pub(crate) shorthand: u8,
    pub(crate) destination: u32,
    /// The vCPU that sent it, by its number; devices have none.
    pub(crate) source: Option<u32>,
}

/// Who took a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Positions of those that took it, and that must be woken.
    pub(crate) taken: Vec<usize>,
    /// How many it was for.
    pub(crate) matched: usize,
}

impl Message {
    /// An interrupt for its sender.
    pub(super) fn to_self(id: u32, vector: u8) -> Self {
        Self {
            vector,
            mode: Mode::Fixed,
            logical: false,
            asserted: true,
            level_triggered: false,
            shorthand: 1,
            destination: 0,
            source: Some(id),
        }
    }

    /// What KVM_HC_SEND_IPI sends to one processor: vector and mode of an interrupt command register.
    pub(crate) fn to(id: u32, icr: u32) -> Self {
        Self {
            vector: icr as u8,
            mode: Mode::from_bits(icr >> 8),
            logical: false,
            asserted: true,
            level_triggered: false,
            shorthand: 0,
            destination: id,
            source: Some(u32::MAX),
        }
    }

    /// A message-signalled interrupt, by address and data.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/irq.c, `kvm_msi_to_lapic_irq`; AMD 24593 (APM volume 2), "Interrupt Messages".
    pub(crate) fn msi(address_low: u32, address_high: u32, data: u32, long_ids: bool) -> Self {
        let high = if long_ids { address_high & 0xffff_ff00 } else { 0 };
        let redirect = address_low & 1 << 3 != 0;
        let mode = Mode::from_bits(data >> 8);
        Self {
            vector: data as u8,
            // A redirection hint is lowest priority by another name.
            mode: if redirect && mode == Mode::Fixed { Mode::LowestPriority } else { mode },
            logical: address_low & 1 << 2 != 0,
            asserted: true,
            level_triggered: data & 1 << 15 != 0,
            shorthand: 0,
            destination: address_low >> 12 & 0xff | high,
            source: None,
        }
    }

    /// Whether the message is for that APIC.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/lapic.c, `kvm_apic_match_dest`, `kvm_apic_mda`.
    fn is_for(&self, apic: &LocalApic) -> bool {
        let own = self.source == Some(apic.id);
        match self.shorthand {
            1 => own,
            2 => true,
            3 => !own,
            _ if self.logical => self.is_logically_for(apic),
            _ => self.is_physically_for(apic),
        }
    }

    /// The destination as that APIC reads it: a device's broadcast reaches all modes.
    fn destination_for(&self, apic: &LocalApic) -> u32 {
        let device = self.source.is_none();
        if device && self.destination == BROADCAST && apic.is_x2apic() { X2APIC_BROADCAST } else { self.destination }
    }

    fn is_broadcast_for(&self, apic: &LocalApic) -> bool {
        self.destination_for(apic) == if apic.is_x2apic() { X2APIC_BROADCAST } else { BROADCAST }
    }

    fn is_physically_for(&self, apic: &LocalApic) -> bool {
        let destination = self.destination_for(apic);
        // A processor whose number does not fit in 8 bits is reached by it in xAPIC mode too.
        self.is_broadcast_for(apic)
            || if apic.is_x2apic() || apic.id > 0xff && destination == apic.id {
                destination == apic.id
            } else {
                destination == apic.get(Register::ID) >> 24
            }
    }

    fn is_logically_for(&self, apic: &LocalApic) -> bool {
        const FLAT: u32 = 0xffff_ffff;
        const CLUSTER: u32 = 0x0fff_ffff;
        if self.is_broadcast_for(apic) {
            return true;
        }
        let destination = self.destination_for(apic);
        let logical = apic.get(Register::LOGICAL_DESTINATION);
        if apic.is_x2apic() {
            return logical >> 16 == destination >> 16 && logical & destination & 0xffff != 0;
        }
        let logical = logical >> 24;
        match apic.get(Register::DESTINATION_FORMAT) {
            FLAT => logical & destination != 0,
            CLUSTER => logical >> 4 == destination >> 4 && logical & destination & 0xf != 0,
            _ => false,
        }
    }
}

/// Hands a message to those that it is for. Locks one of them at a time.
///
/// One of lowest priority goes to one of them, which its vector chooses: KVM's vector hashing.
///
/// # Source
/// Linux 7.3, arch/x86/kvm/irq.c, `kvm_irq_delivery_to_apic`, `kvm_vector_to_index`.
pub(crate) fn deliver(message: &Message, apics: &[Shared]) -> Delivery {
    let is_for = |apic: &LocalApic| apic.is_enabled() && message.is_for(apic);
    let mut targets: Vec<usize> = (0..apics.len()).filter(|index| is_for(&lock(&apics[*index]))).collect();
    let matched = targets.len();
    if message.mode == Mode::LowestPriority {
        targets.retain(|index| lock(&apics[*index]).is_software_enabled());
        let chosen = (!targets.is_empty()).then(|| targets[usize::from(message.vector) % targets.len()]);
        targets = chosen.into_iter().collect();
    }
    targets.retain(|index| lock(&apics[*index]).accept(message));
    Delivery { taken: targets, matched }
}
