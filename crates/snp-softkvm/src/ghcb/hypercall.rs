//! KVM's hypercalls, by VMMCALL or through a GHCB.

use snp_abi::PAGE_SIZE;
use snp_abi::kvm::KVM_HC_MAP_GPA_RANGE;

use super::{Machine, UserExit};

/// Errors of KVM's hypercalls, as they are in RAX.
const KVM_EPERM: u64 = 1u64.wrapping_neg();
const KVM_EINVAL: u64 = 22u64.wrapping_neg();
const KVM_ENOSYS: u64 = 1000u64.wrapping_neg();

/// KVM_HC_….
const VAPIC_POLL_IRQ: u64 = 1;
const KICK_CPU: u64 = 5;
const CLOCK_PAIRING: u64 = 9;
const SEND_IPI: u64 = 10;
const SCHED_YIELD: u64 = 11;

/// KVM_EXIT_HYPERCALL_LONG_MODE.
const LONG_MODE: u64 = 1;

/// How a hypercall goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hypercall {
    /// Done: RAX.
    Done(u64),
    /// User space answers: its `ret` goes into RAX.
    Exit(UserExit),
}

/// Hypercall `nr` from a guest at `cpl`, whose registers count in full or by their lower halves.
///
/// # Source
/// Linux 7.3, arch/x86/kvm/x86.c, `kvm_emulate_hypercall`; Documentation/virt/kvm/x86/hypercalls.rst.
pub(crate) fn hypercall(nr: u64, args: [u64; 4], cpl: u8, long: bool, machine: &mut dyn Machine) -> Hypercall {
    let register = |value: u64| if long { value } else { value & u64::from(u32::MAX) };
    let (nr, args) = (register(nr), args.map(register));
    let answer = match nr {
        _ if cpl != 0 => KVM_EPERM,
        VAPIC_POLL_IRQ => 0,
        KICK_CPU | CLOCK_PAIRING | SEND_IPI | SCHED_YIELD => machine.paravirtual(nr, args).unwrap_or(KVM_ENOSYS),
        KVM_HC_MAP_GPA_RANGE if machine.map_gpa_range_exits() => match map_gpa_range(args) {
            Some(args) => {
                let flags = Some(if long { LONG_MODE } else { 0 });
                return Hypercall::Exit(UserExit::Hypercall { nr, args, flags });
            }
            None => KVM_EINVAL,
        },
        _ => KVM_ENOSYS,
    };
    Hypercall::Done(register(answer))
}

/// The arguments as user space gets them; `None` if the range is not whole pages, empty, or wraps.
fn map_gpa_range([gpa, pages, attributes, _]: [u64; 4]) -> Option<[u64; 6]> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let first = gpa / PAGE;
    let good = gpa.is_multiple_of(PAGE) && pages != 0 && first.wrapping_add(pages) > first;
    good.then_some([gpa, pages, attributes, 0, 0, 0])
}
