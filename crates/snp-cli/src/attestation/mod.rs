//! Playing a launched guest: its messages to the firmware, by the path that a guest's VMGEXIT takes.

mod hypervisor;

use anyhow::{Context, Result};
use snp_asp::Endorsement;
use snp_attest::authority::{TEST_CSP_ID, TestAuthority};
use snp_attest::certificate_table;
use snp_attest::chain::Certificates;
use snp_sev_guest::{Channel, SevGuest};
use snp_softkvm::Vm;

pub(crate) use hypervisor::SoftHypervisor;

/// The driver of a launched guest that was not asked for anything yet, at VMPL 0.
///
/// # Errors
/// The launch had no secrets page, so that the guest has no keys.
pub(crate) fn driver(vm: &Vm) -> Result<SevGuest<SoftHypervisor>> {
    const VMPCK: u8 = 0;
    let certificates = certificate_table::build(&vcek_chain(&vm.endorsement())?);
    let secrets =
        vm.secrets_page().context("the launch has no secrets page: its guest cannot speak to the firmware")?;
    let channel = Channel::new(&secrets, VMPCK).context("the secrets page has no VMPCK0")?;
    Ok(SevGuest::new(channel, SoftHypervisor::new(vm.clone(), certificates)))
}

/// The TEST certificates of a platform's VCEK.
fn vcek_chain(endorsement: &Endorsement) -> Result<Certificates> {
    let authority = TestAuthority::new(endorsement.product);
    let vcek = authority.issue_vcek(&endorsement.vcek, &endorsement.chip_id, endorsement.reported_tcb)?;
    let Certificates { ark, ask, .. } = authority.certificates();
    Ok(Certificates { ark, ask, vcek: Some(vcek), ..Certificates::default() })
}
