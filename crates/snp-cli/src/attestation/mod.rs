//! Playing a launched guest: its messages to the firmware, by the path that a guest's VMGEXIT takes.

mod hypervisor;

use std::path::Path;

use anyhow::{Context, Result};
use snp_asp::Endorsement;
use snp_attest::authority::{TEST_CSP_ID, TestAuthority};
use snp_attest::certificate_table;
use snp_attest::chain::Certificates;
use snp_sev_guest::{Channel, SevGuest};
use snp_softkvm::Vm;

use crate::input;

pub(crate) use hypervisor::SoftHypervisor;

/// CSP_ID of the VLEK.
const TEST_PROVIDER: &str = "snpkit TEST";

/// The driver of a launched guest that was not asked for anything yet, at VMPL 0.
///
/// # Errors
/// The launch had no secrets page, so that the guest has no keys.
pub(crate) fn driver(vm: &Vm) -> Result<SevGuest<SoftHypervisor>> {
    const VMPCK: u8 = 0;
    let certificates = certificate_table::build(&chain(&vm.endorsement())?);
    let secrets =
        vm.secrets_page().context("the launch has no secrets page: its guest cannot speak to the firmware")?;
    let channel = Channel::new(&secrets, VMPCK).context("the secrets page has no VMPCK0")?;
    Ok(SevGuest::new(channel, SoftHypervisor::new(vm.clone(), certificates)))
}

/// The TEST certificates of the key that signs a platform's reports: its VLEK if it has one, else its VCEK.
pub(crate) fn chain(endorsement: &Endorsement) -> Result<Certificates> {
    let authority = TestAuthority::new(endorsement.product);
    let Certificates { ark, ask, asvk, .. } = authority.certificates();
    let tcb = endorsement.reported_tcb;
    Ok(match &endorsement.vlek {
        Some(key) => {
            let vlek = Some(authority.issue_vlek(key, TEST_PROVIDER, tcb)?);
            Certificates { ark, asvk, vlek, ..Certificates::default() }
        }
        None => {
            let vcek = Some(authority.issue_vcek(&endorsement.vcek, &endorsement.chip_id, tcb)?);
            Certificates { ark, ask, vcek, ..Certificates::default() }
        }
    })
}

/// Writes a chain into a directory, which is made if it is not there: one PEM file for each certificate, by the names that
/// snpguest and `snp verify` look for.
pub(crate) fn write_chain(directory: &Path, certificates: &Certificates) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("directory {}", directory.display()))?;
    let Certificates { ark, ask, asvk, vcek, vlek } = certificates;
    let named = [("ark.pem", ark), ("ask.pem", ask), ("asvk.pem", asvk), ("vcek.pem", vcek), ("vlek.pem", vlek)];
    for (name, certificate) in named {
        if let Some(certificate) = certificate {
            input::write(&directory.join(name), "certificate", certificate.to_pem().as_bytes())?;
        }
    }
    Ok(())
}
