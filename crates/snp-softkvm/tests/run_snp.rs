//! KVM_RUN of SNP guests from a VMSA that user space supplied.

mod common;

use common::long_mode::*;
use common::*;
use iced_x86::code_asm::*;
use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, PageState, PageType, Segment, Vmsa};
use snp_softkvm::{Bounds, RunExit, Stop, profiles};
use zerocopy::FromBytes;

/// Frames: code, page tables, data, stack, IDT, VMSA.
const CODE: u64 = 16;
const TABLES: u64 = 17;
const DATA: u64 = 21;
const STACK: u64 = 22;
const IDT: u64 = 23;
const VMSA: u64 = 25;
/// Frames that are private and that nobody launched.
const FRESH: u64 = 40;

/// A frame that is shared by its attribute alone, and one that is by page tables, too.
const FOREIGN: u64 = SHARED_GFN;
const GHCB: u64 = 61;
/// Where the GDT is in the IDT's page.
const GDT: usize = 0x800;
/// The frame that page tables map as shared.
const SHARED: u64 = 50;

fn vmsa() -> Vmsa {
    Vmsa {
        idtr: Segment { selector: 0, attrib: 0, limit: 0x1ff, base: IDT * PAGE },
        gdtr: Segment { selector: 0, attrib: 0, limit: 0x17, base: IDT * PAGE + GDT as u64 },
        rsp: (STACK + 1) * PAGE,
        ..long_mode_vmsa(CODE, TABLES)
    }
}

/// A launched guest whose handler of #VC leaves the error code in RBX and spins.
struct Guest(Vmm);

impl Guest {
    fn new(assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        Self::with(vmsa(), 1, assemble)
    }

    fn with(vmsa: Vmsa, vcpus: u64, assemble: impl FnOnce(&mut CodeAssembler)) -> Self {
        const HANDLER: u64 = CODE * PAGE + 0x800;
        let vmm = Vmm::launching_to_run(&profiles::DIRECT_VMSA, vcpus);
        let mut code = CodeAssembler::new(64).unwrap();
        assemble(&mut code);
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.jmp(again).unwrap();
        let mut page = code.assemble(CODE * PAGE).unwrap();
        assert!(page.len() < 0x800);
        page.resize(PAGE as usize, 0xcc);
        // pop rbx; jmp to itself
        page[0x800..0x803].copy_from_slice(&[0x5b, 0xeb, 0xfe]);
        let mut idt = vec![0; PAGE as usize];
        let gate = HANDLER & 0xffff | 8 << 16 | 0x8e00 << 32 | HANDLER >> 16 << 48;
        idt[29 * 16..29 * 16 + 8].copy_from_slice(&gate.to_le_bytes());
        idt[GDT + 8..GDT + 16].copy_from_slice(&0x00af_9b00_0000_ffff_u64.to_le_bytes());
        idt[GDT + 16..GDT + 24].copy_from_slice(&0x00cf_9300_0000_ffff_u64.to_le_bytes());
        assert_eq!(vmm.launch_pages(PageType::NORMAL, CODE, &page), OK);
        assert_eq!(
            vmm.launch_pages(PageType::NORMAL, TABLES, &page_tables(TABLES, |frame| frame == SHARED || frame == GHCB)),
            OK
        );
        assert_eq!(vmm.launch_pages(PageType::NORMAL, DATA, &vec![0; 2 * PAGE as usize]), OK);
        assert_eq!(vmm.launch_pages(PageType::NORMAL, IDT, &idt), OK);
        vmm.set_private(GHCB, 1, false);
        assert_eq!(vmm.launch_vmsa(VMSA, &vmsa), OK);
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        Self(vmm)
    }

    /// Runs until the guest spins.
    fn spins(&self) {
        assert_eq!(self.0.vcpus[0].run_within(&self.0.process, &bounds()), Ok(Stop::Limit));
    }

    fn register(&self, number: usize) -> u64 {
        self.0.vcpus[0].with_state(&self.0.process, |state| state.gpr[number]).unwrap().unwrap()
    }

    fn rax(&self) -> u64 {
        self.register(0)
    }

    fn rbx(&self) -> u64 {
        self.register(3)
    }

    fn state_of(&self, gfn: u64) -> PageState {
        self.0.vm.rmp_entry(gfn).unwrap().state
    }

    fn fault(&self, private: bool, gfn: u64) {
        assert_eq!(self.0.vcpus[0].run(&self.0.process), Err(Errno::EFAULT));
        let fault = RunExit::MemoryFault { flags: if private { 8 } else { 0 }, gpa: gfn * PAGE, size: PAGE };
        assert_eq!(self.0.vcpus[0].run_area().exit(), fault);
    }
}

fn bounds() -> Bounds<'static> {
    Bounds { instructions: 1000, wait: false, ..Bounds::default() }
}

/// PVALIDATE of a frame.
fn pvalidate(code: &mut CodeAssembler, address: u64, large: u32, validate: u32) {
    code.mov(rax, address).unwrap();
    code.mov(ecx, large).unwrap();
    code.mov(edx, validate).unwrap();
    code.pvalidate().unwrap();
}

fn rmpadjust(code: &mut CodeAssembler, address: u64, large: u64, attributes: u64) {
    code.mov(rax, address).unwrap();
    code.mov(rcx, large).unwrap();
    code.mov(rdx, attributes).unwrap();
    code.rmpadjust().unwrap();
}

#[test]
fn the_state_comes_from_the_vmsa_and_goes_back_there() {
    let guest = Guest::new(|code| {
        code.mov(rax, qword_ptr(DATA * PAGE)).unwrap();
        code.add(rax, 5).unwrap();
        code.mov(qword_ptr(DATA * PAGE), rax).unwrap();
    });
    guest.spins();
    assert_eq!(guest.rax(), 5);
    let memfd = snp_softkvm::UserSpace::guest_memfd(&guest.0.process, guest.0.memfds[0]).unwrap();
    let vmsa = memfd.with_page(VMSA, |page| Vmsa::read_from_bytes(page.as_bytes()).unwrap()).unwrap();
    assert_eq!(vmsa.rax, 5);
    assert_eq!(memfd.with_page(DATA, |page| page.as_bytes()[0]), Some(5));
    // What user space might see of it is nothing.
    assert_eq!(guest.0.vcpus[0].regs(), Err(Errno::EINVAL));
}

#[test]
fn a_processor_without_vmsa_waits_and_the_first_does_not() {
    let guest = Guest::with(vmsa(), 2, |_| {});
    assert_eq!(guest.0.vcpus[1].run_within(&guest.0.process, &bounds()), Ok(Stop::Waiting));
    assert_eq!(guest.0.vcpus[1].with_state(&guest.0.process, |_| ()), Ok(None));
    guest.spins();
}

#[test]
fn a_vmsa_that_vmrun_refuses_is_a_failed_entry() {
    for bad in [Vmsa { efer: 0xd00, ..vmsa() }, Vmsa { cr0: 0x2001_0033, ..vmsa() }] {
        let guest = Guest::with(bad, 1, |_| {});
        for _ in 0..2 {
            assert_eq!(guest.0.vcpus[0].run(&guest.0.process), Ok(()));
            let exit = RunExit::FailEntry { hardware_entry_failure_reason: u64::MAX, cpu: 0 };
            assert_eq!(guest.0.vcpus[0].run_area().exit(), exit);
        }
    }
}

#[test]
fn a_guest_that_is_not_launched_cannot_be_entered() {
    let vmm = Vmm::launching(&profiles::VCPU_STATE, 1);
    assert_eq!(vmm.vcpus[0].run(&vmm.process), Ok(()));
    assert!(matches!(vmm.vcpus[0].run_area().exit(), RunExit::FailEntry { .. }));
    let state = kvm_sev_snp_vcpu_state {
        valid_fields: KVM_SEV_SNP_VCPU_STATE_VMSA_VALID,
        vmsa_gpa: 3 * PAGE,
        ..kvm_sev_snp_vcpu_state::default()
    };
    // A page that is no VMSA by its RMP entry.
    assert_eq!(vmm.set_vcpu_state(0, &state), OK);
    assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
    assert_eq!(vmm.vcpus[0].run(&vmm.process), Ok(()));
    assert!(matches!(vmm.vcpus[0].run_area().exit(), RunExit::FailEntry { .. }));
}

#[test]
fn a_touched_page_is_the_guests_and_not_validated() {
    let guest = Guest::new(|code| code.mov(al, byte_ptr(FRESH * PAGE)).unwrap());
    assert_eq!(guest.state_of(FRESH), PageState::Hypervisor);
    guest.spins();
    assert_eq!((guest.rbx(), guest.state_of(FRESH)), (0x404, PageState::GuestInvalid));
}

#[test]
fn pvalidate_answers() {
    // Address, size, validate → EAX, CF, and the page's state.
    let valid = PageState::GuestValid;
    for (address, large, validate, twice, expected, carry, state) in [
        (FRESH * PAGE, 0, 1, false, 0, 0, valid),
        (FRESH * PAGE, 0, 1, true, 0, 1, valid),
        (FRESH * PAGE, 0, 0, false, 0, 1, PageState::GuestInvalid),
        (DATA * PAGE, 0, 0, false, 0, 0, PageState::GuestInvalid),
        (FRESH * PAGE, 1, 1, false, 1, 0, PageState::GuestInvalid),
        (0, 1, 1, false, 6, 0, PageState::GuestInvalid),
    ] {
        let guest = Guest::new(|code| {
            if twice {
                pvalidate(code, address, large, validate);
            }
            pvalidate(code, address, large, validate);
            code.setc(bl).unwrap();
        });
        guest.spins();
        assert_eq!((guest.rax(), guest.rbx()), (expected, carry), "{address:#x} {large} {validate}");
        assert_eq!(guest.state_of(address / PAGE), state, "{address:#x} {large} {validate}");
    }
}

#[test]
fn rmpadjust_answers() {
    const VMSA_BIT: u64 = 1 << 16;
    for (address, large, attributes, expected) in [
        (DATA * PAGE, 0, 1 | 0x300, 0),
        (DATA * PAGE, 0, 1 | VMSA_BIT, 0),
        (DATA * PAGE, 0, 0x300, 2),
        (DATA * PAGE, 0, 4, 1),
        (DATA * PAGE, 1, 1, 1),
        (0, 1, 1, 6),
    ] {
        let guest = Guest::new(|code| rmpadjust(code, address, large, attributes));
        guest.spins();
        assert_eq!(guest.rax(), expected, "{address:#x} {large} {attributes:#x}");
        let entry = guest.0.vm.rmp_entry(DATA).unwrap();
        let done = expected == 0;
        assert_eq!(entry.vmsa, done && attributes & VMSA_BIT != 0);
        assert_eq!(entry.permissions[1].0, if done { (attributes >> 8) as u8 } else { 0 });
    }
    // Not validated: #VC.
    let guest = Guest::new(|code| rmpadjust(code, FRESH * PAGE, 0, 1));
    guest.spins();
    assert_eq!(guest.rbx(), 0x404);
}

#[test]
fn private_and_shared_must_be_as_the_guest_says() {
    // A private access to a frame that is shared by its attribute.
    let guest = Guest::new(|code| code.mov(al, byte_ptr(FOREIGN * PAGE)).unwrap());
    guest.fault(true, FOREIGN);
    guest.fault(true, FOREIGN);
    guest.0.set_private(FOREIGN, 1, true);
    guest.spins();
    assert_eq!(guest.rbx(), 0x404);
    // A shared one to a private frame.
    let guest = Guest::new(|code| code.mov(al, byte_ptr(SHARED * PAGE)).unwrap());
    guest.fault(false, SHARED);
    // PVALIDATE of a shared frame.
    let guest = Guest::new(|code| pvalidate(code, FOREIGN * PAGE, 0, 1));
    guest.fault(true, FOREIGN);
    // Without a guest_memfd: frames 96 to 99.
    let guest = Guest::new(|code| code.mov(al, byte_ptr(97 * PAGE)).unwrap());
    guest.fault(true, 97);
}

#[test]
fn the_vmsa_that_a_processor_runs_from_cannot_be_written() {
    let guest = Guest::new(|code| {
        code.mov(rax, qword_ptr(VMSA * PAGE)).unwrap();
        code.mov(byte_ptr(VMSA * PAGE), 1).unwrap();
    });
    // Linux would fault it in again and again.
    assert_eq!(guest.0.vcpus[0].run_within(&guest.0.process, &bounds()), Ok(Stop::Stuck));
    let adjusts = Guest::new(|code| rmpadjust(code, VMSA * PAGE, 0, 1));
    assert_eq!(adjusts.0.vcpus[0].run_within(&adjusts.0.process, &bounds()), Ok(Stop::Stuck));
    assert!(adjusts.0.vm.rmp_entry(VMSA).unwrap().vmsa);
}

fn ghcb_msr(code: &mut CodeAssembler, value: u64) {
    code.mov(ecx, 0xc001_0130_u32 as i32).unwrap();
    code.mov(eax, value as u32 as i32).unwrap();
    code.mov(edx, (value >> 32) as i32).unwrap();
    code.wrmsr().unwrap();
    code.vmgexit().unwrap();
    code.rdmsr().unwrap();
}

#[test]
fn a_guest_asks_to_be_ended() {
    let guest = Guest::new(|code| ghcb_msr(code, 0x23 << 16 | 1 << 12 | 0x100));
    assert_eq!(guest.0.vcpus[0].run(&guest.0.process), Ok(()));
    let exit = RunExit::SystemEvent { kind: KVM_SYSTEM_EVENT_SEV_TERM, data: vec![0x23 << 16 | 1 << 12 | 0x100] };
    assert_eq!(guest.0.vcpus[0].run_area().exit(), exit);
}

#[test]
fn a_page_state_change_goes_by_user_space() {
    // To shared: operation 2 in bits 55:52.
    let guest = Guest::new(|code| ghcb_msr(code, (2 << 52) | (DATA * PAGE) | 0x14));
    let cap = kvm_enable_cap { cap: KVM_CAP_EXIT_HYPERCALL, args: [1 << 12, 0, 0, 0], ..kvm_enable_cap::default() };
    guest.0.vm.enable_cap(&cap).unwrap();
    let vcpu = &guest.0.vcpus[0];
    assert_eq!(vcpu.run(&guest.0.process), Ok(()));
    let RunExit::Hypercall { nr: 12, args, .. } = vcpu.run_area().exit() else {
        panic!("{:?}", vcpu.run_area().exit())
    };
    assert_eq!(args[..3], [DATA * PAGE, 1, 0]);
    vcpu.run_area().set_hypercall_return(0);
    guest.spins();
    assert_eq!((guest.rax(), guest.register(2)), (0x15, 0));
}

/// One request by the GHCB page.
fn request(code: &mut CodeAssembler, exit: u32, info_1: u64, info_2: u64, rax_value: u64) {
    const AT: u64 = GHCB * PAGE;
    for (offset, value) in [
        (0x1f8, rax_value),
        (0x390, exit.into()),
        (0x398, info_1),
        (0x3a0, info_2),
        (0x3f0, 1 << 63),
        (0x3f8, 0b111 << 50),
        (0xff8, 2 << 16),
    ] {
        code.mov(rax, value).unwrap();
        code.mov(rbx, AT + offset).unwrap();
        code.mov(qword_ptr(rbx), rax).unwrap();
    }
    ghcb_msr(code, AT);
}

#[test]
fn a_guest_starts_its_other_processor_destroys_it_and_starts_it_again() {
    const AP_VMSA: u64 = DATA + 1;
    const CREATION: u32 = 0x8000_0013;
    const CREATE: u64 = 1 << 32 | 1;
    const DESTROY: u64 = 1 << 32 | 2;
    let guest = Guest::with(vmsa(), 2, |code| {
        let mut other = code.create_label();
        let mut others_end = code.create_label();
        code.cmp(r15, 7).unwrap();
        code.je(other).unwrap();
        ghcb_msr(code, (GHCB * PAGE) | 0x12);
        // The other's VMSA is this one's, but for R15.
        code.mov(rsi, VMSA * PAGE).unwrap();
        code.mov(rdi, AP_VMSA * PAGE).unwrap();
        code.mov(ecx, 512).unwrap();
        code.rep().movsq().unwrap();
        code.mov(rbx, AP_VMSA * PAGE + 0x378).unwrap();
        code.mov(qword_ptr(rbx), 7).unwrap();
        rmpadjust(code, AP_VMSA * PAGE, 0, 1 | 1 << 16);
        code.mov(r12, rax).unwrap();
        request(code, CREATION, CREATE, AP_VMSA * PAGE, 1);
        code.hlt().unwrap();
        request(code, CREATION, DESTROY, 0, 0);
        code.hlt().unwrap();
        request(code, CREATION, CREATE, AP_VMSA * PAGE, 1);
        code.hlt().unwrap();
        code.set_label(&mut other).unwrap();
        code.inc(r14).unwrap();
        code.set_label(&mut others_end).unwrap();
        code.jmp(others_end).unwrap();
    });
    let (process, vcpus) = (&guest.0.process, &guest.0.vcpus);
    let other = || vcpus[1].with_state(process, |state| (state.gpr[14], state.gpr[15])).unwrap();
    let boot_halts = || {
        assert_eq!(vcpus[0].run(process), Ok(()));
        assert_eq!(vcpus[0].run_area().exit(), RunExit::Halt);
    };
    assert_eq!(vcpus[1].run_within(process, &bounds()), Ok(Stop::Waiting));
    boot_halts();
    assert_eq!(guest.register(12), 0, "RMPADJUST made the VMSA");
    assert_eq!(vcpus[1].run_within(process, &bounds()), Ok(Stop::Limit));
    assert_eq!(other(), Some((1, 7)));
    boot_halts();
    assert_eq!(vcpus[1].run_within(process, &bounds()), Ok(Stop::Waiting));
    assert_eq!(other(), None);
    boot_halts();
    assert_eq!(vcpus[1].run_within(process, &bounds()), Ok(Stop::Limit));
    // From where it was: its VMSA is its state.
    assert_eq!(other(), Some((1, 7)));
}

#[test]
fn a_hole_is_the_hypervisors_again_and_zero() {
    let guest = Guest::new(|code| {
        pvalidate(code, FRESH * PAGE, 0, 1);
        code.mov(byte_ptr(FRESH * PAGE), 5).unwrap();
        code.hlt().unwrap();
        code.mov(al, byte_ptr(FRESH * PAGE)).unwrap();
    });
    assert_eq!(guest.0.vcpus[0].run(&guest.0.process), Ok(()));
    let memfd = snp_softkvm::UserSpace::guest_memfd(&guest.0.process, guest.0.memfds[0]).unwrap();
    assert_eq!(memfd.with_page(FRESH, |page| page.as_bytes()[0]), Some(5));
    memfd.punch_hole(FRESH * PAGE, PAGE);
    assert_eq!((memfd.with_page(FRESH, |_| ()), guest.state_of(FRESH)), (None, PageState::Hypervisor));
    guest.spins();
    assert_eq!((guest.rbx(), guest.state_of(FRESH)), (0x404, PageState::GuestInvalid));
}

#[test]
fn frames_of_a_guest_that_is_gone_are_nobodys() {
    let guest = Guest::new(|code| code.mov(al, byte_ptr(FRESH * PAGE)).unwrap());
    guest.spins();
    let kvm = guest.0.kvm.clone();
    drop(guest);
    // The same frames are handed out again.
    let vm = kvm.create_vm(KVM_X86_SNP_VM).unwrap();
    let args = kvm_create_guest_memfd { size: FIRST_SLOT * PAGE, ..kvm_create_guest_memfd::default() };
    let process = snp_softkvm::Process::new();
    let region = kvm_userspace_memory_region2 {
        flags: KVM_MEM_GUEST_MEMFD,
        memory_size: FIRST_SLOT * PAGE,
        guest_memfd: process.install(vm.create_guest_memfd(&args).unwrap()),
        ..kvm_userspace_memory_region2::default()
    };
    vm.set_user_memory_region2(&process, &region).unwrap();
    let states = (0..FIRST_SLOT).map(|gfn| vm.rmp_entry(gfn).unwrap().state);
    assert!(states.clone().all(|state| state == PageState::Hypervisor), "{:?}", states.collect::<Vec<_>>());
}
