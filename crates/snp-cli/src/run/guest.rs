//! One step of a vCPU, and what a VMM does about the exit that ends it.

use std::sync::{Arc, OnceLock};

use snp_abi::kvm::*;
use snp_abi::{Errno, PAGE_SIZE};
use snp_softkvm::{Bounds, Machine, RunExit, Stop, Vcpu};

use super::devices::Devices;
use super::end::End;
use super::trace::Tracer;
use crate::attestation;

/// KVM_MAP_GPA_RANGE_ENCRYPTED, of the attributes of KVM_HC_MAP_GPA_RANGE.
const ENCRYPTED: u64 = 1 << 4;

/// A guest that runs.
pub(super) struct Guest {
    pub(super) machine: Arc<Machine>,
    pub(super) devices: Devices,
    pub(super) tracer: Arc<Tracer>,
    /// The certificate table of extended guest requests, made for the first.
    pub(super) certificates: OnceLock<Option<Vec<u8>>>,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// An exit was answered.
    Answered,
    /// The bounds were reached.
    Limit,
    /// A breakpoint of the bounds was reached.
    Breakpoint,
    /// The vCPU has nothing to do.
    Waiting,
    /// The guest is over.
    End(End),
}

impl Guest {
    /// Runs a vCPU until something happens, and does what a VMM does then.
    pub(super) fn step(&self, vcpu: &Vcpu, bounds: &Bounds<'_>) -> Step {
        match vcpu.run_within(&self.machine.process, bounds) {
            Ok(Stop::Exit) => self.answer(vcpu),
            Ok(Stop::Limit) => Step::Limit,
            Ok(Stop::Breakpoint) => Step::Breakpoint,
            Ok(Stop::Waiting) => Step::Waiting,
            Ok(Stop::Stuck) => Step::End(End::Stuck { vcpu: vcpu.index(), rip: self.rip(vcpu) }),
            // A vCPU that waited was woken, or this thread was: the caller looks why.
            Err(Errno::EAGAIN | Errno::EINTR) => Step::Answered,
            Err(errno) => self.failed(vcpu, errno),
        }
    }

    fn answer(&self, vcpu: &Vcpu) -> Step {
        let area = vcpu.run_area();
        match area.exit() {
            RunExit::Io { input, size, port, count } => {
                let mut data = vec![0; usize::from(size) * count as usize];
                if input {
                    self.devices.read(port, size.into(), &mut data);
                    area.set_port_data(&data);
                } else {
                    area.port_data(&mut data);
                    if let Some(value) = self.devices.write(port, size.into(), &data) {
                        return Step::End(End::ExitPort { vcpu: vcpu.index(), value });
                    }
                }
                Step::Answered
            }
            // There is no device in memory.
            RunExit::Mmio { write, .. } => {
                if !write {
                    area.set_mmio_data(&[0xff; 8]);
                }
                Step::Answered
            }
            RunExit::Hypercall { nr: KVM_HC_MAP_GPA_RANGE, args: [gpa, pages, attributes, ..], .. } => {
                let private = attributes & ENCRYPTED != 0;
                let done = pages.checked_mul(4096).map(|len| self.machine.map_gpa_range(gpa, len, private));
                area.set_hypercall_return(if done == Some(Ok(())) { 0 } else { Errno::EINVAL.0 as u64 });
                Step::Answered
            }
            RunExit::RequestCertificates { gpa, pages } => {
                let (pages, errno) = self.give_certificates(gpa, pages);
                area.set_certificates_answer(pages, errno.0 as u64);
                Step::Answered
            }
            RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data } => {
                let msr = data.first().copied().unwrap_or_default();
                Step::End(End::Terminated { vcpu: vcpu.index(), set: (msr >> 12 & 0xf) as u8, code: (msr >> 16) as u8 })
            }
            RunExit::Shutdown => {
                Step::End(End::TripleFault { vcpu: vcpu.index(), rip: self.rip(vcpu), last_instructions: Vec::new() })
            }
            RunExit::FailEntry { .. } => {
                Step::End(End::EntryRefused { vcpu: vcpu.index(), findings: self.tracer.findings() })
            }
            RunExit::InternalError { .. } => {
                let what = self.tracer.unmodelled_so_far().unwrap_or_else(|| "an instruction that KVM emulates".into());
                Step::End(End::Unmodelled { vcpu: vcpu.index(), rip: self.rip(vcpu), what })
            }
            // A VMM answers by waiting for the processor to be started otherwise; KVM does that.
            RunExit::Halt | RunExit::ApResetHold => Step::Waiting,
            RunExit::Interrupted | RunExit::InterruptWindow | RunExit::SetTpr | RunExit::IoapicEoi { .. } => {
                Step::Answered
            }
            other => {
                let what = format!("KVM_EXIT {} ({other:?})", other.reason());
                Step::End(End::Unmodelled { vcpu: vcpu.index(), rip: self.rip(vcpu), what })
            }
        }
    }

    /// Writes the certificates of the key that signs the guest's reports where it wants them: how many pages there are, and
    /// what came of it.
    fn give_certificates(&self, gpa: u64, room: u64) -> (u64, Errno) {
        let table = self.certificates.get_or_init(|| attestation::certificates(&self.machine.vm).ok());
        let Some(table) = table else { return (0, Errno::EIO) };
        let pages = table.len().div_ceil(PAGE_SIZE) as u64;
        if pages > room {
            return (pages, Errno::ENOSPC);
        }
        (pages, self.machine.write_shared(gpa, table).err().unwrap_or(Errno(0)))
    }

    /// KVM_RUN failed. With KVM_EXIT_MEMORY_FAULT a VMM makes the page what the guest takes it for, as QEMU does.
    fn failed(&self, vcpu: &Vcpu, errno: Errno) -> Step {
        if let (Errno::EFAULT, RunExit::MemoryFault { flags, gpa, size }) = (errno, vcpu.run_area().exit()) {
            let private = flags & KVM_MEMORY_EXIT_FLAG_PRIVATE != 0;
            if self.machine.vm.rmp_entry(gpa >> 12).is_some() && self.machine.map_gpa_range(gpa, size, private).is_ok()
            {
                return Step::Answered;
            }
        }
        Step::End(End::RunFailed {
            vcpu: vcpu.index(),
            errno: errno.to_string(),
            rip: self.rip(vcpu),
            last_request: self.tracer.last_request(vcpu.index()),
        })
    }

    /// Where a vCPU stands.
    fn rip(&self, vcpu: &Vcpu) -> String {
        let rip = vcpu.with_state(&self.machine.process, |state| state.rip);
        rip.ok().flatten().map_or_else(|| "?".into(), |rip| format!("{rip:#x}"))
    }

    /// Instructions of every vCPU so far.
    pub(super) fn instructions(&self) -> Vec<u64> {
        self.machine.vcpus.iter().map(Vcpu::instructions).collect()
    }
}
