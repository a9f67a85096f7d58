//! Events that wait for delivery: KVM's structure, and EVENTINJ of a VMCB.
//!
//! # Source
//! AMD 24593 (APM volume 2), "Event Injection"; Linux 7.3, arch/x86/kvm/x86.c (`kvm_check_and_inject_events`): what was being
//! delivered comes first, an exception before an NMI before an interrupt.

use snp_abi::kvm::kvm_vcpu_events;

const VALID: u64 = 1 << 31;
const ERROR_VALID: u64 = 1 << 11;
const INTERRUPT: u64 = 0 << 8;
const NMI: u64 = 2 << 8;
const EXCEPTION: u64 = 3 << 8;
const SOFTWARE: u64 = 4 << 8;
const TYPE: u64 = 7 << 8;
const NMI_VECTOR: u64 = 2;

/// An exception.
pub(super) fn exception(vector: u8, error: Option<u32>) -> u64 {
    let error = error.map_or(0, |error| u64::from(error) << 32 | ERROR_VALID);
    u64::from(vector) | EXCEPTION | VALID | error
}

/// An external interrupt.
pub(super) fn interrupt(vector: u8) -> u64 {
    u64::from(vector) | INTERRUPT | VALID
}

/// A non-maskable interrupt.
pub(super) fn nmi() -> u64 {
    NMI_VECTOR | NMI | VALID
}

/// The event that KVM_SET_VCPU_EVENTS or KVM_INTERRUPT left to be delivered at once.
pub(super) fn injected(events: &kvm_vcpu_events) -> u64 {
    if events.exception_injected | events.exception_pending != 0 {
        let error = (events.exception_has_error_code != 0).then_some(events.exception_error_code);
        return exception(events.exception_nr, error);
    }
    if events.nmi_injected != 0 {
        return nmi();
    }
    if events.interrupt_injected != 0 {
        let kind = if events.interrupt_soft != 0 { SOFTWARE } else { INTERRUPT };
        return u64::from(events.interrupt_nr) | kind | VALID;
    }
    0
}

/// Keeps an event that has not been delivered, and forgets those that have.
pub(super) fn keep(event_inj: u64, events: &mut kvm_vcpu_events) {
    events.exception_injected = 0;
    events.exception_pending = 0;
    events.nmi_injected = 0;
    events.interrupt_injected = 0;
    if event_inj & VALID == 0 {
        return;
    }
    match event_inj & TYPE {
        EXCEPTION => {
            events.exception_injected = 1;
            events.exception_nr = event_inj as u8;
            events.exception_has_error_code = (event_inj & ERROR_VALID != 0).into();
            events.exception_error_code = (event_inj >> 32) as u32;
        }
        NMI => events.nmi_injected = 1,
        kind => {
            events.interrupt_injected = 1;
            events.interrupt_nr = event_inj as u8;
            events.interrupt_soft = (kind == SOFTWARE).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undelivered_event_is_kept() {
        for event in [exception(13, Some(0x18)), exception(6, None), nmi(), interrupt(0x30), 0x80 | SOFTWARE | VALID] {
            let mut events = kvm_vcpu_events::default();
            keep(event, &mut events);
            assert_eq!(injected(&events), event);
            keep(0, &mut events);
            assert_eq!(injected(&events), 0);
        }
    }
}
