//! Events of SNP guests: other processors, and messages to the firmware.

use snp_abi::ghcb::{GhcbError, ap_creation, guest_request};
use snp_abi::{Errno, PAGE_SIZE};

use super::{Ghcb, Machine, Outcome, Pending, UserExit, VmsaChange};

const PAGE: u64 = PAGE_SIZE as u64;
/// Where a VMSA may not begin: the RMP entry of a VMSA that begins a large page trips an erratum.
const LARGE_PAGE: u64 = 512 * PAGE;

impl Ghcb {
    pub(super) fn ap_creation(&mut self, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let (request, apic_id) = (page.exit_info_1() as u32, (page.exit_info_1() >> 32) as u32);
        let (gpa, features) = (page.exit_info_2(), page.registers.rax);
        match self.ap_change(request, apic_id, gpa, features, machine) {
            Some(change) => {
                machine.change_vmsa(apic_id, change);
                Outcome::Resume
            }
            None => self.malformed(GhcbError::INVALID_INPUT),
        }
    }

    /// What AP creation does to the vCPU; `None` if it is refused. The checks in KVM's order are one answer to the guest.
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_snp_ap_creation`; AMD 56421 (GHCB), "SNP AP Creation".
    fn ap_change(
        &self,
        request: u32,
        apic_id: u32,
        gpa: u64,
        features: u64,
        machine: &dyn Machine,
    ) -> Option<VmsaChange> {
        if !machine.has_vcpu(apic_id) {
            return None;
        }
        match request {
            // The request has the VMPL in bits 19:16: KVM knows VMPL 0 only, as any other is another request to it.
            ap_creation::CREATE | ap_creation::CREATE_ON_INIT => {
                let good = features == self.config.vmsa_features
                    && gpa.is_multiple_of(PAGE)
                    && machine.is_legal_gpa(gpa)
                    && !gpa.is_multiple_of(LARGE_PAGE);
                let on_init = request == ap_creation::CREATE_ON_INIT;
                good.then_some(VmsaChange { gpa: Some(gpa), on_init })
            }
            ap_creation::DESTROY => Some(VmsaChange { gpa: None, on_init: false }),
            _ => None,
        }
    }

    /// Writes the APIC IDs of all vCPUs: their number and then each, 32 bits.
    ///
    /// # Source
    /// AMD 56421 (GHCB), "Get APIC IDs"; "KVM: SVM: Implement GET_AP_APIC_IDS NAE event", `sev_get_apic_ids`.
    pub(super) fn apic_ids(&mut self, machine: &mut dyn Machine) -> Outcome {
        let ids = machine.apic_ids();
        let count = ids.len() as u32;
        let list: Vec<u8> = [count].into_iter().chain(ids).flat_map(u32::to_le_bytes).collect();
        let needed = list.len().div_ceil(PAGE_SIZE) as u64;
        let page = self.mapped();
        // Compared in pages: what the guest says it has may be any number.
        if page.registers.rax < needed {
            page.registers.rax = needed;
            return Outcome::Resume;
        }
        let gpa = page.exit_info_1();
        let good = gpa.is_multiple_of(PAGE) && machine.is_legal_gpa(gpa);
        if good && machine.write(gpa, &list).is_ok() {
            Outcome::Resume
        } else {
            self.malformed(GhcbError::INVALID_INPUT)
        }
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `snp_handle_guest_req`; AMD 56421 (GHCB), "SNP Guest Request".
    pub(super) fn guest_request(&mut self, machine: &mut dyn Machine) -> Outcome {
        let page = self.mapped();
        let (request_gpa, response_gpa) = (page.exit_info_1(), page.exit_info_2());
        let mut request = Box::new([0; PAGE_SIZE]);
        let mut response = Box::new([0; PAGE_SIZE]);
        if machine.read(request_gpa, &mut request[..]).is_err() {
            return Outcome::Fail(Errno::EIO);
        }
        let status = match machine.guest_request(&request, &mut response) {
            Ok(status) => status,
            Err(errno) => return Outcome::Fail(errno),
        };
        if machine.write(response_gpa, &response[..]).is_err() {
            return Outcome::Fail(Errno::EIO);
        }
        // The firmware's refusal is the guest's to see, not KVM's.
        self.mapped().success(u64::from(status));
        Outcome::Resume
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `snp_handle_ext_guest_req`; AMD 56421 (GHCB), "SNP Extended Guest Request".
    pub(super) fn extended_guest_request(&mut self, machine: &mut dyn Machine) -> Outcome {
        /// An entry of zeros ends the certificate table.
        const EMPTY_TABLE: [u8; 24] = [0; 24];
        let mut kind = [0];
        let request_gpa = self.mapped().exit_info_1();
        if machine.read(request_gpa + guest_request::MSG_TYPE_OFFSET as u64, &mut kind).is_err() {
            return Outcome::Fail(Errno::EIO);
        }
        // Only reports come with certificates.
        if kind == [guest_request::MSG_REPORT_REQ] {
            let Some((gpa, pages)) = self.certificate_pages() else { return self.malformed(GhcbError::INVALID_INPUT) };
            if self.config.request_certificates {
                self.pending = Pending::Certificates;
                return Outcome::Exit(UserExit::RequestCertificates { gpa, pages });
            }
            if pages != 0 && machine.write(gpa, &EMPTY_TABLE).is_err() {
                return Outcome::Fail(Errno::EIO);
            }
        }
        self.guest_request(machine)
    }

    /// Where the guest wants certificates and for how many pages it has room.
    fn certificate_pages(&mut self) -> Option<(u64, u64)> {
        use super::page::Field;
        let page = self.mapped();
        let (gpa, pages) = (page.registers.rax, page.registers.rbx);
        (page.has(Field::RAX) && page.has(Field::RBX) && gpa.is_multiple_of(PAGE)).then_some((gpa, pages))
    }

    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c, `snp_complete_req_certs`; Documentation/virt/kvm/api.rst, KVM_EXIT_SNP_REQ_CERTS.
    pub(super) fn finish_certificates(&mut self, ret: u64, pages: u64, machine: &mut dyn Machine) -> Outcome {
        const EIO: u64 = 5;
        const EAGAIN: u64 = 11;
        const ENOSPC: u64 = 28;
        let page = self.mapped();
        match ret {
            0 => return self.guest_request(machine),
            ENOSPC => {
                page.registers.rbx = pages;
                page.success(guest_request::INVALID_LENGTH);
            }
            EAGAIN => page.success(guest_request::BUSY),
            EIO => page.success(guest_request::GENERIC_ERROR),
            _ => return Outcome::Fail(Errno::EINVAL),
        }
        Outcome::Resume
    }
}
