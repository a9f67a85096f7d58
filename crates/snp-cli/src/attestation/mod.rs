//! Playing a launched guest: its messages to the firmware, by the path that a guest's VMGEXIT takes.

mod hypervisor;

use anyhow::{Context, Result};
use snp_attest::certificate_table;
use snp_sev_guest::{Channel, SevGuest};
use snp_softkvm::Vm;

use crate::certs;

pub(crate) use hypervisor::SoftHypervisor;

/// The driver of a launched guest that was not asked for anything yet, at VMPL 0.
///
/// # Errors
/// The launch had no secrets page, so that the guest has no keys.
pub(crate) fn driver(vm: &Vm) -> Result<SevGuest<SoftHypervisor>> {
    const VMPCK: u8 = 0;
    let certificates = certificates(vm)?;
    let secrets =
        vm.secrets_page().context("the launch has no secrets page: its guest cannot speak to the firmware")?;
    let channel = Channel::new(&secrets, VMPCK).context("the secrets page has no VMPCK0")?;
    Ok(SevGuest::new(channel, SoftHypervisor::new(vm.clone(), certificates)))
}

/// The certificate table that a VMM gives to a guest: of the key that signs its reports.
pub(crate) fn certificates(vm: &Vm) -> Result<Vec<u8>> {
    Ok(certificate_table::build(&certs::chain(&vm.endorsement())?))
}
