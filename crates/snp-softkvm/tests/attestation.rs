//! Guest messages through KVM: forwarded whole, the firmware's status told, unmodelled ones noted.

mod common;

use common::*;
use snp_abi::kvm::*;
use snp_abi::{
    AttestationReport, Errno, FwStatus, MessageType, PAGE_SIZE, PageType, ReportRequest, ReportResponseHeader,
};
use snp_sev_guest::Channel;
use snp_softkvm::profiles;
use zerocopy::{FromBytes, IntoBytes};

/// A launched guest with a secrets page.
fn launched() -> Vmm {
    let vmm = Vmm::launching(&profiles::MAINLINE, 1);
    assert_eq!(vmm.launch_pages(PageType::NORMAL, 3, &[7; PAGE_SIZE]), OK);
    assert_eq!(vmm.launch_pages(PageType::SECRETS, 4, &[0; PAGE_SIZE]), OK);
    let finish = kvm_sev_snp_launch_finish { host_data: [9; 32], ..kvm_sev_snp_launch_finish::default() };
    assert_eq!(vmm.finish(&finish), OK);
    vmm
}

#[test]
fn a_report_comes_through() {
    let vmm = launched();
    let mut channel = Channel::new(&vmm.vm.secrets_page().unwrap(), 0).unwrap();
    let wanted = ReportRequest { report_data: [1; 64], ..ReportRequest::default() };
    for _ in 0..3 {
        let request = channel.seal(MessageType::REPORT_REQ, 1, wanted.as_bytes());
        let mut response = [0; PAGE_SIZE];
        assert_eq!(vmm.vm.guest_request(&request, &mut response), Ok(FwStatus::SUCCESS));
        let answer = channel.open(&request, &response).unwrap();
        let (header, report) = ReportResponseHeader::read_from_prefix(&answer).unwrap();
        let report = AttestationReport::read_from_bytes(report).unwrap();
        assert_eq!((header.status, report.report_data, report.host_data), (0, [1; 64], [9; 32]));
        assert_eq!(Some(report.measurement), vmm.vm.launch_digest());
        assert_eq!((report.chip_id, report.reported_tcb), {
            let endorsement = vmm.vm.endorsement();
            (endorsement.chip_id, endorsement.reported_tcb)
        });
        channel.sent();
    }
}

#[test]
fn a_refusal_leaves_the_response_alone() {
    let vmm = launched();
    let channel = Channel::new(&vmm.vm.secrets_page().unwrap(), 0).unwrap();
    let mut response = [0x5a; PAGE_SIZE];
    let mut ask = |page: &[u8; PAGE_SIZE]| {
        let answer = vmm.vm.guest_request(page, &mut response);
        assert_eq!(response, [0x5a; PAGE_SIZE]);
        answer
    };
    assert_eq!(ask(&[0; PAGE_SIZE]), Ok(FwStatus::INVALID_PARAM));
    let wrong = Channel::resume(0, [1; 32], 0).seal(MessageType::REPORT_REQ, 1, &[0; 96]);
    assert_eq!(ask(&wrong), Ok(FwStatus::BAD_MEASUREMENT));
    let early = Channel::resume(0, [1; 32], 2).seal(MessageType::REPORT_REQ, 1, &[0; 96]);
    assert_eq!(ask(&early), Ok(FwStatus::AEAD_OFLOW));
    assert_eq!(vmm.kvm.unmodelled(), []);
    assert_eq!(ask(&channel.seal(MessageType::VMRK_REQ, 1, &[0; 64])), Err(Errno::ENOSYS));
    assert_eq!(vmm.kvm.unmodelled(), [("MSG_VMRK_REQ is not modelled".to_owned(), 1)]);
}

#[test]
fn before_the_launch_there_is_nobody_to_ask() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SNP_VM);
    let mut response = [0; PAGE_SIZE];
    assert_eq!(vmm.vm.guest_request(&[0; PAGE_SIZE], &mut response), Err(Errno::EINVAL));
    assert!(vmm.vm.secrets_page().is_none());
    let vmm = Vmm::launching(&profiles::MAINLINE, 1);
    assert_eq!(vmm.vm.guest_request(&[0; PAGE_SIZE], &mut response), Ok(FwStatus::INVALID_GUEST_STATE));
    assert!(vmm.vm.secrets_page().is_none());
}
