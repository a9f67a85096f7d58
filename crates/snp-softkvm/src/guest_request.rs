//! SNP_GUEST_REQUEST, as KVM forwards it for a guest.

use snp_abi::{Errno, FwStatus, PAGE_SIZE, SecretsPage};
use snp_asp::{Endorsement, RefusedRequest};

use crate::vm::VmInner;
use crate::{Vm, lock};

impl Vm {
    /// Forwards a guest's message to the firmware and returns its status; with SUCCESS the answer is in `response`, which is
    /// left as it is otherwise. The guest's VMGEXIT comes here, and so does whoever plays the guest in software.
    ///
    /// # Errors
    /// EINVAL: no SNP launch has begun. ENOSYS: a message that is not modelled; it is noted in
    /// [`crate::SoftKvm::unmodelled`].
    ///
    /// # Source
    /// Linux 7.3, arch/x86/kvm/svm/sev.c (`snp_handle_guest_req`).
    pub fn guest_request(&self, request: &[u8; PAGE_SIZE], response: &mut [u8; PAGE_SIZE]) -> Result<FwStatus, Errno> {
        self.inner.guest_request(request, response)
    }

    /// What the guest finds in its secrets page, `None` if none was launched: for whoever plays the guest.
    pub fn secrets_page(&self) -> Option<Box<SecretsPage>> {
        let gctx = self.inner.lock().gctx()?;
        lock(&self.inner.host.firmware).secrets_page(gctx)
    }

    /// What the certificates of the platform's endorsement keys are about.
    pub fn endorsement(&self) -> Endorsement {
        lock(&self.inner.host.firmware).endorsement()
    }
}

impl VmInner {
    /// As [`Vm::guest_request`].
    pub(crate) fn guest_request(
        &self,
        request: &[u8; PAGE_SIZE],
        response: &mut [u8; PAGE_SIZE],
    ) -> Result<FwStatus, Errno> {
        let gctx = self.lock().gctx().ok_or(Errno::EINVAL)?;
        let answer = lock(&self.host.firmware).guest_request(gctx, request);
        match answer {
            Ok(answer) => {
                *response = *answer;
                Ok(FwStatus::SUCCESS)
            }
            Err(RefusedRequest::Status(status)) => Ok(status),
            Err(unmodelled @ RefusedRequest::Unmodelled(_)) => Err(self.host.unmodelled(unmodelled.to_string())),
        }
    }
}
