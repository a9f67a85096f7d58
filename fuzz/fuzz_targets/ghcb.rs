//! GHCB MSRs and pages of any contents, by a guest that runs: what its hypervisor, and whoever answers for it, makes of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_abi::kvm::*;
use snp_abi::{PageType, Segment, SevFeatures, Vmsa};
use snp_asp::PlatformConfig;
use snp_softkvm::{Bounds, Interpreters, Process, RunExit, SoftKvm, Stop, UserSpace, Vcpu, Vm, profiles};
use zerocopy::IntoBytes;

const PAGE: u64 = 4096;
const PAGES: u64 = 16;
const CODE: u64 = PAGE;
const VMSA: u64 = 3 * PAGE;
/// Shared, as all from here on.
const GHCB: u64 = 8 * PAGE;
/// Exits to user space, and instructions, that one request may take.
const EXITS: usize = 64;
const INSTRUCTIONS: u64 = 3;
/// Requests of one input.
const REQUESTS: usize = 32;

struct Guest {
    process: Process,
    vm: Vm,
    vcpus: Vec<Vcpu>,
    /// Where its memory is in user space.
    memory: u64,
}

/// A guest in 32-bit mode without paging, whose memory is therefore private, that executes VMGEXIT for ever.
fn guest(choice: u8) -> Guest {
    let profile = profiles::ALL[usize::from(choice & 1)..].first().filter(|profile| profile.vcpu_state.is_none());
    let profile = profile.copied().unwrap_or(&profiles::DIRECT_VMSA);
    let kvm = SoftKvm::with_engine(PlatformConfig::genoa(), profile, std::sync::Arc::new(Interpreters));
    let process = Process::new();
    let vm = kvm.create_vm(KVM_X86_SNP_VM).expect("a known type");
    let command = |id: u32, data: &[u8]| {
        let data = process.buffer(data);
        let command = kvm_sev_cmd { id, data, sev_fd: process.sev_fd(), ..Default::default() };
        let _ = vm.memory_encrypt_op(&process, process.buffer(command.as_bytes()));
    };
    command(KVM_SEV_INIT2, kvm_sev_init::default().as_bytes());
    if choice & 2 != 0 {
        command(KVM_SEV_SNP_ENABLE_REQ_CERTS, &[]);
    }
    if choice & 4 != 0 {
        vm.create_irqchip().expect("no vCPUs yet");
    }
    let exits = u64::from(choice & 8 == 0) << KVM_HC_MAP_GPA_RANGE;
    let cap = kvm_enable_cap { cap: KVM_CAP_EXIT_HYPERCALL, args: [exits, 0, 0, 0], ..Default::default() };
    vm.enable_cap(&cap).expect("a known capability");
    let start = kvm_sev_snp_launch_start { policy: 0x30000, ..Default::default() };
    command(KVM_SEV_SNP_LAUNCH_START, start.as_bytes());
    let size = PAGES * PAGE;
    let memfd = vm.create_guest_memfd(&kvm_create_guest_memfd { size, ..Default::default() }).expect("whole pages");
    let memory = process.buffer(&vec![0; size as usize]);
    let region = kvm_userspace_memory_region2 {
        flags: KVM_MEM_GUEST_MEMFD,
        memory_size: size,
        userspace_addr: memory,
        guest_memfd: process.install(memfd),
        ..Default::default()
    };
    vm.set_user_memory_region2(&process, &region).expect("a good slot");
    set_private(&vm, 0, GHCB / PAGE, true);
    let vcpus: Vec<Vcpu> = (0..2).map(|id| vm.create_vcpu(id).expect("few vCPUs")).collect();
    // vmgexit; jmp back
    let mut code = [0; PAGE as usize];
    code[..6].copy_from_slice(&[0xf3, 0x0f, 0x01, 0xd9, 0xeb, 0xfa]);
    let data = Segment { selector: 0x10, attrib: 0xc93, limit: u32::MAX, base: 0 };
    let vmsa = Vmsa {
        es: data,
        cs: Segment { selector: 8, attrib: 0xc9b, ..data },
        ss: data,
        ds: data,
        tr: Segment { selector: 0, attrib: 0x8b, limit: 0x67, base: 0 },
        efer: 0x1000,
        cr0: 0x11,
        cr4: 0x40,
        rflags: 2,
        rip: CODE,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        g_pat: 0x0007_0406_0007_0406,
        xcr0: 1,
        mxcsr: 0x1f80,
        sev_features: SevFeatures(SevFeatures::SNP_ACTIVE),
        ..Vmsa::default()
    };
    for (r#type, gpa, page) in [(PageType::NORMAL.0, CODE, &code[..]), (PageType::VMSA.0, VMSA, vmsa.as_bytes())] {
        let update = kvm_sev_snp_launch_update {
            gfn_start: gpa / PAGE,
            uaddr: process.buffer(page),
            len: PAGE,
            r#type,
            ..Default::default()
        };
        command(KVM_SEV_SNP_LAUNCH_UPDATE, update.as_bytes());
    }
    command(KVM_SEV_SNP_LAUNCH_FINISH, kvm_sev_snp_launch_finish::default().as_bytes());
    Guest { process, vm, vcpus, memory }
}

fn set_private(vm: &Vm, gfn: u64, pages: u64, private: bool) {
    let attributes = kvm_memory_attributes {
        address: gfn * PAGE,
        size: pages * PAGE,
        attributes: if private { KVM_MEMORY_ATTRIBUTE_PRIVATE } else { 0 },
        flags: 0,
    };
    let _ = vm.set_memory_attributes(&attributes);
}

impl Guest {
    /// Writes eight bytes of the GHCB, or of the pages behind it.
    fn write(&self, offset: u64, value: u64) {
        let offset = offset % ((PAGES * PAGE - GHCB) - 7);
        self.process.write(self.memory + GHCB + offset, &value.to_le_bytes()).expect("mapped");
    }

    /// Asks with that GHCB MSR, and answers exits until there is nothing more to answer.
    fn ask(&self, msr: u64, answer: u64) {
        let vcpu = &self.vcpus[0];
        if !matches!(vcpu.with_state(&self.process, |state| state.ghcb = msr), Ok(Some(()))) {
            return;
        }
        let bounds = Bounds { instructions: INSTRUCTIONS, wait: false, ..Bounds::default() };
        for _ in 0..EXITS {
            let stops: Vec<_> = self.vcpus.iter().map(|vcpu| vcpu.run_within(&self.process, &bounds)).collect();
            for (vcpu, stop) in self.vcpus.iter().zip(&stops) {
                if *stop == Ok(Stop::Exit) {
                    self.answer(vcpu, answer);
                }
            }
            if stops[0] != Ok(Stop::Exit) {
                return;
            }
        }
    }

    fn answer(&self, vcpu: &Vcpu, answer: u64) {
        let area = vcpu.run_area();
        match area.exit() {
            RunExit::Io { input: true, .. } => area.set_port_data(&answer.to_le_bytes()),
            RunExit::Mmio { write: false, .. } => area.set_mmio_data(&answer.to_le_bytes()),
            RunExit::Hypercall { args: [gpa, pages, flags, ..], .. } => {
                set_private(&self.vm, gpa / PAGE, pages.min(PAGES), flags & 0x10 != 0);
                area.set_hypercall_return(answer & 1);
            }
            RunExit::RequestCertificates { .. } => area.set_certificates_answer(answer & 0x1f, answer >> 8),
            RunExit::Msr { .. } => area.set_msr_answer(answer & 1 != 0, answer),
            _ => {}
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data.iter().copied();
    let Some(choice) = data.next() else { return };
    let guest = guest(choice);
    guest.ask(GHCB | 0x012, 0);
    for _ in 0..REQUESTS {
        let Some(kind) = data.next() else { return };
        let mut word = || data.next_chunk_or_zeros();
        let answer = word();
        if kind & 1 == 0 {
            guest.ask(word(), answer);
            continue;
        }
        // All fields are valid unless the input says otherwise.
        guest.write(0x3f0, u64::MAX);
        guest.write(0x3f8, u64::MAX);
        for _ in 0..kind >> 4 {
            let place = word();
            guest.write(place & 0x1fff, word());
        }
        guest.ask(GHCB, answer);
    }
});

/// Eight bytes of the input; zeros behind its end.
trait Words {
    fn next_chunk_or_zeros(&mut self) -> u64;
}

impl<I: Iterator<Item = u8>> Words for I {
    fn next_chunk_or_zeros(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.next().unwrap_or(0)))
    }
}
