//! Registers as KVM keeps them, as the state of a processor, and back.

use snp_abi::Segment;
use snp_abi::kvm::{kvm_dtable, kvm_segment, kvm_vcpu_events};
use snp_vcpu::{Segments, State};

use super::event;
use crate::registers::Registers;

/// KVM's general registers in the order of instructions: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
macro_rules! general {
    ($regs:expr) => {
        [
            $regs.rax, $regs.rcx, $regs.rdx, $regs.rbx, $regs.rsp, $regs.rbp, $regs.rsi, $regs.rdi, $regs.r8, $regs.r9,
            $regs.r10, $regs.r11, $regs.r12, $regs.r13, $regs.r14, $regs.r15,
        ]
    };
}

/// Loads what KVM keeps of a vCPU into a processor's state; what KVM does not keep stays.
pub(super) fn load(state: &mut State, registers: &Registers, events: &kvm_vcpu_events) {
    let (general, system) = (&registers.general, &registers.system);
    state.gpr = general!(general);
    state.rip = general.rip;
    state.rflags = general.rflags;
    let segments = [&system.es, &system.cs, &system.ss, &system.ds, &system.fs, &system.gs];
    state.segments = Segments { registers: segments.map(segment) };
    state.cpl = system.ss.dpl & 3;
    state.gdtr = table(&system.gdt);
    state.idtr = table(&system.idt);
    state.ldtr = segment(&system.ldt);
    state.tr = segment(&system.tr);
    state.cr0 = system.cr0;
    state.cr2 = system.cr2;
    state.cr3 = system.cr3;
    state.cr4 = system.cr4;
    state.cr8 = system.cr8;
    state.efer = system.efer;
    state.dr = registers.debug.db;
    state.dr6 = registers.debug.dr6;
    state.dr7 = registers.debug.dr7;
    registers.fpu.load(&mut state.extended);
    state.extended.xcr0 = registers.xcr0;
    state.g_pat = registers.pat;
    [
        state.star,
        state.lstar,
        state.cstar,
        state.sfmask,
        state.kernel_gs_base,
        state.sysenter_cs,
        state.sysenter_esp,
        state.sysenter_eip,
        state.xss,
    ] = registers.msrs;
    state.interrupt_shadow = events.interrupt_shadow != 0;
    state.nmi_blocked = events.nmi_masked != 0;
    state.event_inj = event::injected(events);
}

/// Stores a processor's state where KVM keeps it.
pub(super) fn store(state: &State, registers: &mut Registers, events: &mut kvm_vcpu_events) {
    let general = &mut registers.general;
    general!(*general) = state.gpr;
    general.rip = state.rip;
    general.rflags = state.rflags;
    let system = &mut registers.system;
    for (index, place) in [
        (Segments::ES, &mut system.es),
        (Segments::CS, &mut system.cs),
        (Segments::SS, &mut system.ss),
        (Segments::DS, &mut system.ds),
        (Segments::FS, &mut system.fs),
        (Segments::GS, &mut system.gs),
    ] {
        *place = kvm_segment_of(&state.segments[index]);
    }
    // KVM takes the privilege level for the DPL of SS.
    system.ss.dpl = state.cpl;
    system.ldt = kvm_segment_of(&state.ldtr);
    system.tr = kvm_segment_of(&state.tr);
    system.gdt = kvm_dtable { base: state.gdtr.base, limit: state.gdtr.limit as u16, ..kvm_dtable::default() };
    system.idt = kvm_dtable { base: state.idtr.base, limit: state.idtr.limit as u16, ..kvm_dtable::default() };
    system.cr0 = state.cr0;
    system.cr2 = state.cr2;
    system.cr3 = state.cr3;
    system.cr4 = state.cr4;
    system.cr8 = state.cr8;
    system.efer = state.efer;
    registers.debug.db = state.dr;
    registers.debug.dr6 = state.dr6;
    registers.debug.dr7 = state.dr7;
    registers.fpu.store(&state.extended);
    registers.xcr0 = state.extended.xcr0;
    registers.pat = state.g_pat;
    registers.msrs = [
        state.star,
        state.lstar,
        state.cstar,
        state.sfmask,
        state.kernel_gs_base,
        state.sysenter_cs,
        state.sysenter_esp,
        state.sysenter_eip,
        state.xss,
    ];
    events.interrupt_shadow = state.interrupt_shadow.into();
    events.nmi_masked = state.nmi_blocked.into();
    event::keep(state.event_inj, events);
}

/// A segment as KVM has it, in the compressed form of a VMCB.
pub(crate) fn segment(segment: &kvm_segment) -> Segment {
    let present = segment.present & 1 != 0 && segment.unusable == 0;
    let bit = |value: u8, at: u32| u16::from(value & 1) << at;
    let attrib = u16::from(segment.r#type & 0xf)
        | bit(segment.s, 4)
        | u16::from(segment.dpl & 3) << 5
        | u16::from(present) << 7
        | bit(segment.avl, 8)
        | bit(segment.l, 9)
        | bit(segment.db, 10)
        | bit(segment.g, 11);
    Segment { selector: segment.selector, attrib, limit: segment.limit, base: segment.base }
}

fn kvm_segment_of(segment: &Segment) -> kvm_segment {
    let bit = |at: u32| (segment.attrib >> at & 1) as u8;
    let present = bit(7);
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        r#type: (segment.attrib & 0xf) as u8,
        present,
        dpl: (segment.attrib >> 5 & 3) as u8,
        db: bit(10),
        s: bit(4),
        l: bit(9),
        g: bit(11),
        avl: bit(8),
        unusable: 1 - present,
        padding: 0,
    }
}

pub(crate) fn table(table: &kvm_dtable) -> Segment {
    Segment { selector: 0, attrib: 0, limit: table.limit.into(), base: table.base }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_what_was_loaded() {
        let mut registers = Registers::reset(true, 7);
        registers.general.rip = 0x1234;
        registers.general.r15 = 15;
        registers.general.rsp = 4;
        registers.system.cr3 = 0x5000;
        registers.msrs = std::array::from_fn(|index| index as u64 + 100);
        registers.system.ss.dpl = 3;
        registers.system.fs = kvm_segment { unusable: 1, selector: 8, ..kvm_segment::default() };
        let mut events = kvm_vcpu_events { interrupt_shadow: 1, nmi_masked: 1, ..kvm_vcpu_events::default() };
        let mut state = State::default();
        load(&mut state, &registers, &events);
        assert_eq!((state.gpr[15], state.gpr[State::RSP], state.cpl), (15, 4, 3));
        let before = (registers.clone(), events);
        store(&state, &mut registers, &mut events);
        assert_eq!(registers, before.0);
        assert_eq!(events, before.1);
    }
}
