//! A guest that runs asks the firmware through its GHCB: guest requests, and extended ones with certificates of user space's.
//!
//! The guest's program only exits; what its GHCB and its message hold is prepared by the test, with the keys that the
//! firmware put into the guest's secrets page.

mod common;

use common::long_mode::*;
use common::*;
use iced_x86::code_asm::*;
use snp_abi::ghcb::{Ghcb, GhcbExit};
use snp_abi::kvm::*;
use snp_abi::{
    AttestationReport, Errno, FwStatus, MessageType, PAGE_SIZE, PageType, ReportRequest, ReportResponseHeader,
};
use snp_sev_guest::{Channel, MessagePage};
use snp_softkvm::{Bounds, RunExit, Stop, UserSpace, profiles};
use zerocopy::{FromBytes, IntoBytes};

/// Frames of the guest: code, four of page tables, secrets, VMSA.
const CODE: u64 = 16;
const TABLES: u64 = 17;
const SECRETS: u64 = 30;
const VMSA: u64 = 25;
/// Shared frames, in a slot of their own: GHCB, request, response, two for certificates.
const SHARED: u64 = 100;
const GHCB: u64 = SHARED;
const REQUEST: u64 = SHARED + 1;
const RESPONSE: u64 = SHARED + 2;
const CERTIFICATES: u64 = SHARED + 3;
const SHARED_FRAMES: u64 = 5;

struct Guest {
    vmm: Vmm,
    /// Where the shared frames are in user memory.
    shared: u64,
    channel: Channel,
}

/// Registers the GHCB, exits with it, and spins.
fn program() -> Vec<u8> {
    let mut code = CodeAssembler::new(64).unwrap();
    for value in [(GHCB * PAGE) | 0x12, GHCB * PAGE] {
        code.mov(ecx, 0xc001_0130_u32 as i32).unwrap();
        code.mov(eax, value as i32).unwrap();
        code.mov(edx, 0).unwrap();
        code.wrmsr().unwrap();
        code.vmgexit().unwrap();
    }
    let mut again = code.create_label();
    code.set_label(&mut again).unwrap();
    code.jmp(again).unwrap();
    let mut page = code.assemble(CODE * PAGE).unwrap();
    page.resize(PAGE_SIZE, 0xcc);
    page
}

impl Guest {
    fn new(asks_for_certificates: bool) -> Self {
        let mut vmm = Vmm::new(&profiles::DIRECT_VMSA, KVM_X86_SNP_VM);
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        if asks_for_certificates {
            assert_eq!(vmm.command(KVM_SEV_SNP_ENABLE_REQ_CERTS, kvm_sev_init::default()).0, OK);
        }
        assert_eq!(vmm.start(&start()), OK);
        vmm.add_memory();
        let shared = vmm.process.buffer(&vec![0; (SHARED_FRAMES * PAGE) as usize]);
        let region = kvm_userspace_memory_region2 {
            slot: 3,
            guest_phys_addr: SHARED * PAGE,
            memory_size: SHARED_FRAMES * PAGE,
            userspace_addr: shared,
            ..kvm_userspace_memory_region2::default()
        };
        assert_eq!(vmm.vm.set_user_memory_region2(&vmm.process, &region), Ok(()));
        vmm.vcpus.push(vmm.vm.create_vcpu(0).unwrap());
        assert_eq!(vmm.launch_pages(PageType::NORMAL, CODE, &program()), OK);
        assert_eq!(
            vmm.launch_pages(
                PageType::NORMAL,
                TABLES,
                &page_tables(TABLES, |frame| (SHARED..SHARED + SHARED_FRAMES).contains(&frame))
            ),
            OK
        );
        assert_eq!(vmm.launch_pages(PageType::SECRETS, SECRETS, &[0; PAGE_SIZE]), OK);
        assert_eq!(vmm.launch_vmsa(VMSA, &long_mode_vmsa(CODE, TABLES)), OK);
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        let channel = Channel::new(&vmm.vm.secrets_page().unwrap(), 0).unwrap();
        Self { vmm, shared, channel }
    }

    fn at(&self, frame: u64) -> u64 {
        self.shared + (frame - SHARED) * PAGE
    }

    fn frame(&self, frame: u64) -> MessagePage {
        let mut page = [0; PAGE_SIZE];
        self.vmm.process.read(self.at(frame), &mut page).unwrap();
        page
    }

    /// Prepares GHCB and request.
    fn prepare(&self, exit: GhcbExit, message: &MessagePage, certificate_pages: u64) {
        let mut ghcb = Ghcb::read_from_bytes(&[0; PAGE_SIZE]).unwrap();
        ghcb.protocol_version = 2;
        ghcb.sw_exit_code = exit.0;
        ghcb.sw_exit_info_1 = REQUEST * PAGE;
        ghcb.sw_exit_info_2 = RESPONSE * PAGE;
        ghcb.rax = CERTIFICATES * PAGE;
        ghcb.rbx = certificate_pages;
        for offset in [0x390, 0x398, 0x3a0, 0x1f8, 0x318] {
            ghcb.valid_bitmap[offset / 64] |= 1 << (offset / 8 % 8);
        }
        self.vmm.process.write(self.at(GHCB), ghcb.as_bytes()).unwrap();
        self.vmm.process.write(self.at(REQUEST), message).unwrap();
    }

    fn request(&self) -> Box<MessagePage> {
        let wanted = ReportRequest { report_data: [0x77; 64], ..ReportRequest::default() };
        self.channel.seal(MessageType::REPORT_REQ, 1, wanted.as_bytes())
    }

    /// Runs until the guest spins, and gives what the hypervisor left for it: SW_EXITINFO1, SW_EXITINFO2 and RBX.
    fn spins(&self) -> (u64, u64, u64) {
        let bounds = Bounds { instructions: 1000, wait: false, ..Bounds::default() };
        assert_eq!(self.vmm.vcpus[0].run_within(&self.vmm.process, &bounds), Ok(Stop::Limit));
        let ghcb = Ghcb::read_from_bytes(&self.frame(GHCB)).unwrap();
        (ghcb.sw_exit_info_1, ghcb.sw_exit_info_2, ghcb.rbx)
    }

    fn want_report(&self, request: &MessagePage) {
        let answer = self.channel.open(request, &self.frame(RESPONSE)).unwrap();
        let (header, report) = ReportResponseHeader::read_from_prefix(&answer).unwrap();
        let report = AttestationReport::read_from_bytes(report).unwrap();
        assert_eq!((header.status, report.report_data), (0, [0x77; 64]));
        assert_eq!(Some(report.measurement), self.vmm.vm.launch_digest());
    }

    /// Runs until user space is asked for certificates.
    fn asks(&self) {
        assert_eq!(self.vmm.vcpus[0].run(&self.vmm.process), Ok(()));
        let exit = RunExit::RequestCertificates { gpa: CERTIFICATES * PAGE, pages: 2 };
        assert_eq!(self.vmm.vcpus[0].run_area().exit(), exit);
    }
}

#[test]
fn a_running_guest_gets_its_report() {
    let guest = Guest::new(false);
    let request = guest.request();
    guest.prepare(GhcbExit::GUEST_REQUEST, &request, 0);
    assert_eq!(guest.spins(), (0, 0, 0));
    guest.want_report(&request);
}

#[test]
fn what_the_firmware_refuses_is_told_to_the_guest() {
    let guest = Guest::new(false);
    let wrong = Channel::resume(0, [1; 32], 0).seal(MessageType::REPORT_REQ, 1, &[0; 96]);
    guest.prepare(GhcbExit::GUEST_REQUEST, &wrong, 0);
    assert_eq!(guest.spins(), (0, FwStatus::BAD_MEASUREMENT.0.into(), 0));
}

/// A message that is not modelled stops the guest, and is named.
#[test]
fn an_unmodelled_message_stops_the_guest() {
    let guest = Guest::new(false);
    guest.prepare(GhcbExit::GUEST_REQUEST, &guest.channel.seal(MessageType::VMRK_REQ, 1, &[0; 64]), 0);
    assert_eq!(guest.vmm.vcpus[0].run(&guest.vmm.process), Err(Errno::ENOSYS));
    assert_eq!(guest.vmm.kvm.unmodelled(), [("MSG_VMRK_REQ is not modelled".to_owned(), 1)]);
}

/// Without KVM_SEV_SNP_ENABLE_REQ_CERTS there is an empty table.
#[test]
fn an_extended_request_without_certificates_has_an_empty_table() {
    let guest = Guest::new(false);
    let request = guest.request();
    guest.vmm.process.write(guest.at(CERTIFICATES), &[0xff; 64]).unwrap();
    guest.prepare(GhcbExit::EXT_GUEST_REQUEST, &request, 2);
    assert_eq!((guest.spins().0, guest.frame(CERTIFICATES)[..32].iter().filter(|byte| **byte == 0).count()), (0, 24));
    guest.want_report(&request);
}

/// KVM_EXIT_SNP_REQ_CERTS: user space writes them, or says that they do not fit, that it is busy, that it failed.
#[test]
fn user_space_gives_the_certificates() {
    const SUCCESS: u64 = 0;
    let ask = |pages: u64, errno: u64| {
        let guest = Guest::new(true);
        let request = guest.request();
        guest.prepare(GhcbExit::EXT_GUEST_REQUEST, &request, 2);
        guest.asks();
        guest.vmm.process.write(guest.at(CERTIFICATES), b"certificates").unwrap();
        guest.vmm.vcpus[0].run_area().set_certificates_answer(pages, errno);
        (guest, request)
    };
    let (guest, request) = ask(2, SUCCESS);
    assert_eq!((guest.spins().1, &guest.frame(CERTIFICATES)[..12]), (0, &b"certificates"[..]));
    guest.want_report(&request);
    for (errno, expected) in [(28, (0, 1 << 32, 9)), (11, (0, 2 << 32, 2)), (5, (0, 0xffff_ffff << 32, 2))] {
        let (guest, _) = ask(9, errno);
        let (info_1, info_2, pages_needed) = guest.spins();
        assert_eq!((info_1, info_2), (expected.0, expected.1), "errno {errno}");
        if errno == 28 {
            assert_eq!(pages_needed, expected.2);
        }
        assert_eq!(guest.frame(RESPONSE), [0; PAGE_SIZE]);
    }
    let (guest, _) = ask(2, 1);
    assert_eq!(guest.vmm.vcpus[0].run(&guest.vmm.process), Err(Errno::EINVAL));
}
