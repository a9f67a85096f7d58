//! VMGEXIT, as KVM answers it: the GHCB MSR protocol and the GHCB page.
//!
//! A [`Ghcb`] is what KVM keeps of one vCPU's GHCB. It is a state machine without I/O: guest memory, devices and the rest of
//! the VM are behind [`Machine`]. [`Ghcb::vmgexit`] handles one exit and says how KVM_RUN goes on ([`Outcome`]); where it goes
//! by user space, [`Ghcb::complete`] takes the answer at the next KVM_RUN. [`Ghcb::before_entry`] is called before the guest
//! runs again, and only then the guest sees the answers in its page: KVM unmaps the page there.
//!
//! # What KVM answers to malformed requests
//!
//! In this order. "2/n" is SW_EXITINFO1 = 2 (malformed input) with SW_EXITINFO2 = n; the guest goes on.
//!
//! | request | answer |
//! |---|---|
//! | GHCB MSR: unknown GHCBInfo, run VMPL among them | the guest goes on, the MSR as it wrote it |
//! | GHCB MSR: preferred GPA, register GPA, page-state change without SNP | KVM_SYSTEM_EVENT_SEV_TERM |
//! | GHCB MSR: page-state change of an unknown operation, or without KVM_CAP_EXIT_HYPERCALL | response with bit 63 set |
//! | GHCB MSR: address 0, or one without writable memory | the guest goes on, nothing is read or written |
//! | SNP: the GHCB's address is not the registered one | KVM_RUN: EINVAL |
//! | usage not 0 | 2/2 |
//! | SW_EXITCODE, SW_EXITINFO1 or SW_EXITINFO2 not valid | 2/4 |
//! | an event that KVM does not know, run VMPL among them | 2/6 |
//! | RAX, RCX, RDX, CPL, XCR0 or SW_SCRATCH not valid where the event needs it | 2/4 |
//! | page-state change, guest requests, AP creation without SNP | 2/4 |
//! | guest request: an address not page-aligned, or both the same | 2/4 |
//! | MMIO of length 0, IOIO without a size, string IOIO of 0 items | the guest goes on, as if it were done |
//! | MMIO of more than 8 bytes with GHCB version 2 | 2/5 |
//! | string IOIO of more than 2³¹ − 1 items or bytes | KVM_RUN: EINVAL |
//! | SW_SCRATCH 0, a wrapping scratch area, one across the shared buffer's bounds, one outside of the GHCB with version 2, or one longer than 16 pages with version 1 | 2/3 |
//! | version 1: a scratch area without memory | KVM_RUN: EFAULT |
//! | RDTSC | KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON |
//! | RDTSCP | #UD is injected |
//! | RDPMC of a counter that is not there | #GP is injected |
//! | MSR that KVM refuses | SW_EXITINFO1 = 1, SW_EXITINFO2 = #GP as EVENTINJ |
//! | VMMCALL from CPL 1 to 3, an unknown one, a bad one | RAX = −1, −1000, −22 |
//! | AP jump table: not set (0) nor get (1) | 2/5 |
//! | unsupported event | KVM_RUN: EINVAL |
//! | page-state change without KVM_CAP_EXIT_HYPERCALL, or refused by user space | SW_EXITINFO2 = 0x100 << 32 |
//! | page-state change: last entry past the scratch area | SW_EXITINFO2 = 1 << 32 \| 1 |
//! | page-state change: misaligned 2 MiB page, more pages done than there are | SW_EXITINFO2 = 1 << 32 \| 2; the entries before are done |
//! | page-state change: operation neither private nor shared | the entry counts as done |
//! | extended guest request for a report: RAX or RBX not valid, RAX not page-aligned | 2/5 |
//! | guest requests: a page without memory | KVM_RUN: EIO |
//! | AP creation: no such APIC ID, other SEV features, an address that is not page-aligned, above the guest's physical addresses or 2 MiB-aligned, an unknown request or VMPL | 2/5 |
//! | APIC IDs (not in Linux 7.3): RAX not valid; too few pages; a bad address | 2/4; success, RAX = pages needed; 2/5 |
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/svm/sev.c: `sev_handle_vmgexit`, `sev_handle_vmgexit_msr_protocol`, `sev_es_validate_vmgexit`,
//! `setup_vmgexit_scratch`, `snp_begin_psc`, `sev_snp_ap_creation`, `snp_handle_guest_req`, `snp_handle_ext_guest_req`,
//! `sev_es_string_io`; arch/x86/kvm/x86.c: `kvm_sev_es_mmio`, `kvm_emulate_hypercall`. The APIC ID list is from "KVM: SVM:
//! Implement GET_AP_APIC_IDS NAE event" (proposed with direct VMSAs). AMD 56421 (GHCB) for the numbers.

mod exits;
mod hypercall;
mod io;
mod machine;
mod msr_protocol;
mod page;
mod psc;
mod scratch;
mod snp;
#[cfg(test)]
mod tests;
mod validate;
mod words;

use snp_abi::Errno;
use snp_abi::ghcb::features;

pub(crate) use hypercall::{Hypercall, hypercall};
pub(crate) use machine::{Machine, MsrAnswer, VmsaChange};

use page::Page;
use psc::Batch;

/// What of the VM decides how its vCPUs' exits are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// An SNP VM; else SEV-ES.
    pub(crate) snp: bool,
    /// The protocol version of KVM_SEV_INIT2, 1 or 2.
    pub(crate) version: u16,
    /// The number of the C-bit.
    pub(crate) c_bit: u8,
    /// The VM's SEV features, which created processors must have.
    pub(crate) vmsa_features: u64,
    /// The uAPI profile has the APIC ID list.
    pub(crate) apic_id_list: bool,
    /// KVM_SEV_SNP_ENABLE_REQ_CERTS.
    pub(crate) request_certificates: bool,
}

impl Config {
    /// The hypervisor's features, as the guest may ask for them.
    fn features(&self) -> u64 {
        let list = if self.apic_id_list { features::APIC_ID_LIST } else { 0 };
        features::SNP | features::AP_CREATION | list
    }
}

/// How KVM_RUN goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// The guest goes on, unless the vCPU waits now.
    Resume,
    /// KVM_RUN returns to user space.
    Exit(UserExit),
    /// KVM_RUN fails.
    Fail(Errno),
}

/// An exit to user space, with what goes into `struct kvm_run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserExit {
    /// KVM_EXIT_IO.
    Io {
        /// The port.
        port: u16,
        /// Bytes of one item.
        size: u8,
        /// IN.
        input: bool,
        /// Items.
        count: u32,
        /// What is written; empty for IN.
        data: Vec<u8>,
    },
    /// KVM_EXIT_MMIO.
    Mmio {
        /// Guest-physical address.
        gpa: u64,
        /// 1 to 8 bytes.
        len: u8,
        /// What is written; `None` for a read.
        data: Option<[u8; 8]>,
    },
    /// KVM_EXIT_HYPERCALL; `ret` is 0.
    Hypercall {
        /// The number.
        nr: u64,
        /// Arguments.
        args: [u64; 6],
        /// `flags`, or `None` where KVM leaves them as they are.
        flags: Option<u64>,
    },
    /// KVM_EXIT_SYSTEM_EVENT, type KVM_SYSTEM_EVENT_SEV_TERM, one datum.
    SevTermination {
        /// The GHCB MSR.
        msr: u64,
    },
    /// KVM_EXIT_AP_RESET_HOLD.
    ApResetHold,
    /// KVM_EXIT_SNP_REQ_CERTS; `ret` is 0.
    RequestCertificates {
        /// Where the guest wants them.
        gpa: u64,
        /// How many pages it has for them.
        pages: u64,
    },
    /// KVM_EXIT_X86_RDMSR.
    ReadMsr {
        /// The MSR.
        index: u32,
        /// KVM_MSR_EXIT_REASON_….
        reason: u32,
    },
    /// KVM_EXIT_X86_WRMSR.
    WriteMsr {
        /// The MSR.
        index: u32,
        /// KVM_MSR_EXIT_REASON_….
        reason: u32,
        /// The value.
        data: u64,
    },
    /// KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: the data, of which the second is a processor.
    UnexpectedExit {
        /// The exit code.
        code: u64,
    },
}

/// What user space left in `struct kvm_run` for an exit that it has handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To KVM_EXIT_IO: the items that were read; nothing for OUT.
    Io(Vec<u8>),
    /// To KVM_EXIT_MMIO: `data`.
    Mmio([u8; 8]),
    /// To KVM_EXIT_HYPERCALL: `ret`.
    Hypercall(u64),
    /// To KVM_EXIT_SNP_REQ_CERTS.
    Certificates {
        /// `ret`.
        ret: u64,
        /// `npages`.
        pages: u64,
    },
    /// To KVM_EXIT_X86_RDMSR and WRMSR: `data`, or `None` where `error` is set.
    Msr(Option<u64>),
}

/// What is left to do when user space has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    /// IN to RAX, of so many bytes.
    In(u8),
    /// OUT.
    Out,
    /// INS or OUTS.
    String(io::StringIo),
    Mmio(io::Mmio),
    PscMsr,
    Psc(Batch),
    Hypercall,
    Certificates,
    ReadMsr,
    WriteMsr,
}

/// By which of its two protocols a processor waits for SIPI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    None,
    Page,
    Msr,
}

/// What KVM keeps of one vCPU's GHCB.
#[derive(Debug)]
pub(crate) struct Ghcb {
    config: Config,
    /// The GHCB's address as the guest registered it; 0 is none.
    registered: u64,
    /// The page of the exit that is being handled.
    page: Option<Box<Page>>,
    hold: Hold,
    /// The first SIPI starts a processor as user space set it up.
    had_sipi: bool,
    pending: Pending,
}

impl Ghcb {
    /// Of a vCPU that never ran.
    pub(crate) fn new(config: Config) -> Self {
        Self { config, registered: 0, page: None, hold: Hold::None, had_sipi: false, pending: Pending::Nothing }
    }

    /// Registers a GHCB on the guest's behalf (`vcpu-state` profile: `ghcb_gpa`).
    pub(crate) fn register(&mut self, gpa: u64) {
        self.registered = gpa;
    }

    /// The GHCB MSR of a processor after its reset.
    pub(crate) fn reset_msr(config: &Config) -> u64 {
        msr_protocol::sev_information(config)
    }

    /// Handles VMGEXIT. `msr`: the GHCB MSR.
    pub(crate) fn vmgexit(&mut self, msr: &mut u64, machine: &mut dyn Machine) -> Outcome {
        use snp_abi::ghcb::info;
        self.pending = Pending::Nothing;
        if *msr & info::MASK != 0 {
            return self.msr_protocol(msr, machine);
        }
        // Without a page there is nowhere to say what was wrong.
        let Some(page) = (*msr != 0).then(|| Page::map(*msr, machine)).flatten() else { return Outcome::Resume };
        if let Some(xcr0) = page.valid_xcr0() {
            machine.set_xcr0(xcr0);
        }
        let page = self.page.insert(page);
        if self.config.snp && self.registered != *msr {
            return Outcome::Fail(Errno::EINVAL);
        }
        if let Err(error) = validate::validate(page, &self.config) {
            page.malformed(error);
            return Outcome::Resume;
        }
        page.success(0);
        self.exit(*msr, machine)
    }

    /// Goes on after an exit to user space, when KVM_RUN is called again.
    pub(crate) fn complete(&mut self, msr: &mut u64, machine: &mut dyn Machine, answer: &Answer) -> Outcome {
        match (std::mem::take(&mut self.pending), answer) {
            (Pending::In(size), Answer::Io(data)) => self.finish_in(size, data),
            (Pending::Out, Answer::Io(_)) => Outcome::Resume,
            (Pending::String(io), Answer::Io(data)) => self.finish_string(io, data, machine),
            (Pending::Mmio(mmio), Answer::Mmio(data)) => self.finish_mmio(mmio, data),
            (Pending::PscMsr, Answer::Hypercall(ret)) => {
                *msr = msr_protocol::page_state_response(*ret == 0);
                Outcome::Resume
            }
            (Pending::Psc(batch), Answer::Hypercall(ret)) => self.finish_psc(batch, *ret, machine),
            (Pending::Hypercall, Answer::Hypercall(ret)) => self.answer_rax(*ret),
            (Pending::Certificates, Answer::Certificates { ret, pages }) => {
                self.finish_certificates(*ret, *pages, machine)
            }
            (Pending::ReadMsr, Answer::Msr(value)) => self.finish_read_msr(*value),
            (Pending::WriteMsr, Answer::Msr(value)) => self.finish_write_msr(value.is_some()),
            // User space that answers another exit than it was given has changed `exit_reason`, which KVM does not read.
            (Pending::Nothing, _) => Outcome::Resume,
            (pending, _) => unreachable!("the caller makes the answer from what is pending: {pending:?}"),
        }
    }

    /// A SIPI has come for a processor that was reset.
    pub(crate) fn sipi(&mut self, msr: &mut u64) {
        if !std::mem::replace(&mut self.had_sipi, true) {
            return;
        }
        match (self.hold, &mut self.page) {
            (Hold::Page, Some(page)) => page.success(1),
            (Hold::Msr, _) => *msr = msr_protocol::reset_hold_response(1),
            _ => {}
        }
    }

    /// The guest is about to run: it finds the answers in its page.
    pub(crate) fn before_entry(&mut self, machine: &mut dyn Machine) {
        self.hold = Hold::None;
        if let Some(page) = self.page.take() {
            page.unmap(machine);
        }
    }

    /// The page of the exit that is being handled.
    ///
    /// There is one from [`Page::map`] to [`Ghcb::before_entry`], and nothing else asks for it.
    fn mapped(&mut self) -> &mut Page {
        self.page.as_mut().expect("an exit by the GHCB page has mapped it")
    }

    fn malformed(&mut self, error: snp_abi::ghcb::GhcbError) -> Outcome {
        self.mapped().malformed(error);
        Outcome::Resume
    }

    fn answer_rax(&mut self, rax: u64) -> Outcome {
        self.mapped().registers.rax = rax;
        Outcome::Resume
    }
}
