//! KVM and a VMM that has certificates, seen from the guest.

use snp_abi::sev_guest::SNP_GUEST_VMM_ERR_INVALID_LEN;
use snp_abi::{MessageType, PAGE_SIZE};
use snp_sev_guest::{Hypervisor, MessagePage};
use snp_softkvm::Vm;

/// A VM of the software platform, and the certificate table that its VMM gives to guests.
#[derive(Debug)]
pub(crate) struct SoftHypervisor {
    vm: Vm,
    certificates: Vec<u8>,
}

/// SW_EXITINFO2 of a request that KVM cannot forward. Linux 7.3: SNP_GUEST_VMM_ERR_GENERIC.
const GENERIC: u64 = (u32::MAX as u64) << 32;

impl SoftHypervisor {
    pub(crate) fn new(vm: Vm, certificates: Vec<u8>) -> Self {
        Self { vm, certificates }
    }
}

impl Hypervisor for SoftHypervisor {
    fn guest_request(&mut self, request: &MessagePage, response: &mut MessagePage) -> u64 {
        self.vm.guest_request(request, response).map_or(GENERIC, |status| status.0.into())
    }

    /// As a VMM answers KVM_EXIT_SNP_REQ_CERTS: the table, or how many pages it takes.
    fn extended_guest_request(
        &mut self,
        request: &MessagePage,
        response: &mut MessagePage,
        certificates: &mut [u8],
    ) -> (u64, u64) {
        const MSG_TYPE: usize = 0x34;
        if request[MSG_TYPE] == MessageType::REPORT_REQ.0 && !self.certificates.is_empty() {
            let Some(room) = certificates.get_mut(..self.certificates.len()) else {
                let pages = self.certificates.len().div_ceil(PAGE_SIZE) as u64;
                return (u64::from(SNP_GUEST_VMM_ERR_INVALID_LEN) << 32, pages);
            };
            room.copy_from_slice(&self.certificates);
        }
        (self.guest_request(request, response), 0)
    }
}
