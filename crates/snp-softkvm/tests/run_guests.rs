//! The example guests, from their VMSA to their end: the GHCB protocol as guests meet it.

mod common;

use std::sync::{Arc, Mutex};

use common::{OK, PAGE, Vmm, start};
use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, PageType};
use snp_guests::Guest;
use snp_softkvm::{Bounds, Observer, RunExit, Stop, UapiProfile, profiles};
use zerocopy::IntoBytes;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It asked for its end, with this GHCB MSR.
    Terminated(u64),
    /// KVM_RUN failed.
    Failed(Errno),
    /// It never gets further.
    Stuck,
    /// No vCPU has anything to do.
    Idle,
}

const WELL: End = End::Terminated(0x100);

/// A VMM that runs all vCPUs in turn.
struct Machine {
    vmm: Vmm,
    /// What the guest printed.
    text: String,
    /// Frames that user space made private or shared for the guest.
    changes: u64,
}

impl Machine {
    fn new(profile: &'static UapiProfile, guest: &Guest, vcpus: u64, irqchip: bool) -> Self {
        let vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        let init = kvm_sev_init { vmsa_features: guest.features.0 & !1, ..kvm_sev_init::default() };
        assert_eq!(vmm.init2(&init), OK);
        let exits =
            kvm_enable_cap { cap: KVM_CAP_EXIT_HYPERCALL, args: [1 << 12, 0, 0, 0], ..kvm_enable_cap::default() };
        assert_eq!(vmm.vm.enable_cap(&exits), Ok(()));
        if let Some(capability) = profile.vcpu_state.and_then(|command| command.enabled_by) {
            let cap = kvm_enable_cap { cap: capability, ..kvm_enable_cap::default() };
            assert_eq!(vmm.vm.enable_cap(&cap), Ok(()));
        }
        if irqchip {
            assert_eq!(vmm.vm.create_irqchip(), Ok(()));
        }
        assert_eq!(vmm.start(&start()), OK);
        let mut machine = Self { vmm, text: String::new(), changes: 0 };
        machine.add_memory(guest);
        machine.add_vcpus(vcpus);
        machine.launch(profile, guest);
        machine
    }

    fn add_memory(&mut self, guest: &Guest) {
        let (gpa, size) = guest.memory;
        let vmm = &mut self.vmm;
        let memfd = vmm.vm.create_guest_memfd(&kvm_create_guest_memfd { size, ..Default::default() }).unwrap();
        let fd = vmm.process.install(memfd);
        vmm.memfds.push(fd);
        let region = kvm_userspace_memory_region2 {
            flags: KVM_MEM_GUEST_MEMFD,
            guest_phys_addr: gpa.0,
            memory_size: size,
            userspace_addr: vmm.process.buffer(&vec![0; size as usize]),
            guest_memfd: fd,
            ..Default::default()
        };
        assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &region), Ok(()));
        vmm.set_private(gpa.0 / PAGE, size / PAGE, true);
    }

    fn add_vcpus(&mut self, vcpus: u64) {
        let table = self.vmm.kvm.supported_cpuid();
        for id in 0..vcpus {
            let vcpu = self.vmm.vm.create_vcpu(id).unwrap();
            let mut own = table.clone();
            for leaf in own.iter_mut().filter(|leaf| leaf.function == 0xb) {
                leaf.edx = id as u32;
            }
            assert_eq!(vcpu.set_cpuid2(&own), Ok(()));
            self.vmm.vcpus.push(vcpu);
        }
    }

    fn launch(&mut self, profile: &UapiProfile, guest: &Guest) {
        let vmm = &self.vmm;
        for page in &guest.pages {
            let gfn = page.gpa.0 / PAGE;
            let data = if page.data.is_empty() { vec![0; PAGE as usize] } else { page.data.clone() };
            assert_eq!(vmm.launch_pages(page.page_type, gfn, &data), OK, "{:?}", page.gpa);
        }
        assert_eq!(vmm.launch_pages(PageType::VMSA, guest.vmsa_gpa.0 / PAGE, guest.vmsa.as_bytes()), OK);
        if profile.vcpu_state.is_some() {
            let state = kvm_sev_snp_vcpu_state {
                valid_fields: KVM_SEV_SNP_VCPU_STATE_VMSA_VALID,
                vmsa_gpa: guest.vmsa_gpa.0,
                ..Default::default()
            };
            assert_eq!(vmm.set_vcpu_state(0, &state), OK);
        }
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
    }

    /// Runs every vCPU in turn until the guest ends.
    fn run(&mut self) -> End {
        let bounds = Bounds { instructions: 5000, wait: false, ..Bounds::default() };
        for _ in 0..100_000 {
            let mut idle = true;
            for index in 0..self.vmm.vcpus.len() {
                match self.vmm.vcpus[index].run_within(&self.vmm.process, &bounds) {
                    Ok(Stop::Exit) => {
                        idle = false;
                        if let Some(end) = self.exit(index) {
                            return end;
                        }
                    }
                    Ok(Stop::Limit) => idle = false,
                    Ok(Stop::Waiting) => {}
                    Ok(Stop::Stuck | Stop::Breakpoint) => return End::Stuck,
                    Err(Errno::EAGAIN) => {}
                    Err(Errno::EFAULT) => {
                        idle = false;
                        let exit = self.vmm.vcpus[index].run_area().exit();
                        let RunExit::MemoryFault { flags, gpa, size } = exit else { return End::Failed(Errno::EFAULT) };
                        self.vmm.set_private(gpa / PAGE, size / PAGE, flags & 8 != 0);
                        self.changes += 1;
                    }
                    Err(errno) => return End::Failed(errno),
                }
            }
            if idle {
                return End::Idle;
            }
        }
        panic!("the guest does not end; it printed: {}", self.text);
    }

    /// Answers an exit; `Some` if it is the end.
    fn exit(&mut self, index: usize) -> Option<End> {
        let area = self.vmm.vcpus[index].run_area();
        match area.exit() {
            RunExit::Io { input: false, size, port: 0x3f8, count } => {
                let mut data = vec![0; usize::from(size) * count as usize];
                area.port_data(&mut data);
                self.text.push_str(&String::from_utf8_lossy(&data));
            }
            RunExit::Io { input: true, .. } => area.set_port_data(&[0x60; 8]),
            RunExit::Io { .. } => {}
            RunExit::Hypercall { nr: 12, args: [gpa, pages, flags, ..], .. } => {
                self.vmm.set_private(gpa / PAGE, pages, flags & 0x10 != 0);
                self.changes += pages;
                area.set_hypercall_return(0);
            }
            RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data } => return Some(End::Terminated(data[0])),
            other => panic!("{other:x?} after: {}", self.text),
        }
        None
    }
}

fn guest(name: &str) -> Guest {
    snp_guests::find(name).expect("a guest of that name")
}

const PROFILES: [&UapiProfile; 2] = [&profiles::DIRECT_VMSA, &profiles::VCPU_STATE];

#[test]
fn hello_prints_and_ends() {
    for profile in PROFILES {
        let mut machine = Machine::new(profile, &guest("hello"), 1, true);
        assert_eq!(machine.run(), WELL, "{}", machine.text);
        assert!(machine.text.to_lowercase().contains("hello"), "{}", machine.text);
    }
}

/// Every processor is started from a VMSA of the guest's making, one is destroyed and created again; with KVM's interrupt
/// controllers and without, where processors wait in different ways.
#[test]
fn smp_starts_every_processor() {
    for profile in PROFILES {
        for (vcpus, irqchip) in [(1, false), (2, false), (2, true), (8, true)] {
            let mut machine = Machine::new(profile, &guest("smp"), vcpus, irqchip);
            assert_eq!(machine.run(), WELL, "{}", machine.text);
            assert!(machine.text.contains(&format!("all {vcpus} processors run")), "{}", machine.text);
            assert_eq!(machine.text.contains("created again"), vcpus > 1, "{}", machine.text);
        }
    }
}

/// The modes of `probe` that end well when they are answered as specification and KVM say.
#[test]
fn deliberate_mistakes_are_answered() {
    for mode in
        ["unvalidated", "validated-twice", "private-access", "rmpadjust", "vmsa-2mib", "foreign-apic-id", "page-state"]
    {
        let mut machine = Machine::new(&profiles::DIRECT_VMSA, &guest(&format!("probe:{mode}")), 1, true);
        assert_eq!(machine.run(), WELL, "{mode}: {}", machine.text);
    }
}

/// Those that end the guest. Linux 7.3, `sev_handle_vmgexit`: a GHCB that is not registered is EINVAL of KVM_RUN. A write to a
/// VMSA in use faults again and again (AMD 24593, "RMP and VMPL Access Checks").
#[test]
fn deliberate_mistakes_end_the_guest() {
    for (mode, end) in [("unregistered-ghcb", End::Failed(Errno::EINVAL)), ("vmsa-write", End::Stuck)] {
        let mut machine = Machine::new(&profiles::DIRECT_VMSA, &guest(&format!("probe:{mode}")), 1, true);
        assert_eq!(machine.run(), end, "{mode}: {}", machine.text);
    }
}

/// Keeps what the guest asked and was answered.
#[derive(Debug, Default)]
struct Listener(Mutex<Vec<String>>);

impl Observer for Listener {
    fn ghcb(&self, vcpu: u32, request: &str, answer: &str) {
        self.0.lock().unwrap().push(format!("{vcpu}: {request} → {answer}"));
    }
}

/// Requests with their answers, of the MSR protocol and of the page, and the end, which has none.
#[test]
fn who_watches_is_told_of_every_request() {
    let mut machine = Machine::new(&profiles::DIRECT_VMSA, &guest("probe:foreign-apic-id"), 1, true);
    let listener = Arc::new(Listener::default());
    machine.vmm.vm.observe(listener.clone());
    assert_eq!(machine.run(), WELL);
    let lines = listener.0.lock().unwrap();
    let has = |line: &str| assert!(lines.iter().any(|told| told == line), "{line} in {lines:#?}");
    // GHCB at 0x112000: it becomes shared, is registered, prints, asks for a processor that is not there.
    has("0: MSR 0x20000000112014 → MSR 0x15");
    has("0: MSR 0x112012 → MSR 0x112013");
    has("0: GHCB 0x112000: IOIO (0x7b) 0x3f80210 0x0 → SW_EXITINFO1 0x0 SW_EXITINFO2 0x0");
    has("0: GHCB 0x112000: SNP AP creation (0x80000013) 0xfedcba00000001 0x201000 → SW_EXITINFO1 0x2 SW_EXITINFO2 0x5");
    has("0: MSR 0x100 → SystemEvent { kind: 6, data: [100] }");
}
