//! Certificates in directories: the TEST endorsement's are written, anybody's are read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use snp_asp::{Endorsement, Firmware, PlatformConfig};
use snp_attest::authority::TestAuthority;
use snp_attest::certificate::{Certificate, Crl};
use snp_attest::certificate_table;
use snp_attest::chain::Certificates;
use snp_attest::error::Role;

use crate::deferred::Deferred;
use crate::input;
use crate::launch::PlatformName;

/// Certificates of the software platform's TEST endorsement.
#[derive(Subcommand, Debug)]
pub(crate) enum CertsCommand {
    /// Write the TEST certificates of a platform into a directory, by the names that snpguest and go-sev-guest look for.
    Export(Deferred<ExportArgs>),
}

/// Write the TEST certificates of a platform into a directory, by the names that snpguest and go-sev-guest look for.
///
/// The roots' private keys are published: what they certify proves nothing about hardware.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Directory; it is made if it does not exist.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The modelled machine.
    #[arg(long, value_enum, default_value_t = PlatformName::Genoa, value_name = "PLATFORM")]
    platform: PlatformName,

    /// The key that signs reports: the chip's VCEK (ark, ask, vcek), or a cloud provider's VLEK (ark, asvk, vlek).
    #[arg(long, value_enum, default_value_t = KeyName::Vcek, value_name = "KEY")]
    key: KeyName,

    /// How the files are written.
    #[arg(long, value_enum, default_value_t = Format::Pem, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyName {
    /// The chip's own.
    Vcek,
    /// The cloud provider's.
    Vlek,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Pem,
    Der,
}

pub(crate) fn run(command: &CertsCommand) -> Result<ExitCode> {
    let CertsCommand::Export(args) = command;
    let endorsement = endorsement(args.platform.config(), args.key);
    export(&args.directory, &chain(&endorsement)?, args.format)?;
    let crl = TestAuthority::new(endorsement.product).crl(Role::Ark, &[]);
    match args.format {
        Format::Pem => write(&args.directory, "crl.pem", crl.to_pem().as_bytes())?,
        Format::Der => write(&args.directory, "crl.der", crl.der())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is certified of a platform whose reports are signed with that key.
pub(crate) fn endorsement(config: PlatformConfig, key: KeyName) -> Endorsement {
    Firmware::new(PlatformConfig { vlek: key == KeyName::Vlek, ..config }).endorsement()
}

/// The TEST chain of the key that signs a platform's reports: its VLEK if it has one, else its VCEK.
pub(crate) fn chain(endorsement: &Endorsement) -> Result<Certificates> {
    let Endorsement { product, chip_id, reported_tcb, vcek, vlek } = endorsement;
    let authority = TestAuthority::new(*product);
    Ok(match vlek {
        Some(vlek) => authority.vlek_chain(vlek, *reported_tcb)?,
        None => authority.vcek_chain(vcek, chip_id, *reported_tcb)?,
    })
}

/// Writes a chain into a directory, one PEM file for each certificate.
pub(crate) fn write_chain(directory: &Path, certificates: &Certificates) -> Result<()> {
    export(directory, certificates, Format::Pem)
}

/// Every certificate by the name of its file, without the extension.
fn named(certificates: &Certificates) -> [(&'static str, &Option<Certificate>); 5] {
    let Certificates { ark, ask, asvk, vcek, vlek } = certificates;
    [("ark", ark), ("ask", ask), ("asvk", asvk), ("vcek", vcek), ("vlek", vlek)]
}

fn export(directory: &Path, certificates: &Certificates, format: Format) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("directory {}", directory.display()))?;
    for (name, certificate) in named(certificates) {
        let Some(certificate) = certificate else { continue };
        match format {
            Format::Pem => write(directory, &format!("{name}.pem"), certificate.to_pem().as_bytes())?,
            Format::Der => write(directory, &format!("{name}.der"), certificate.der())?,
        }
    }
    Ok(())
}

fn write(directory: &Path, name: &str, data: &[u8]) -> Result<()> {
    input::write(&directory.join(name), "certificate", data)
}

/// Certificates and revocation lists that are kept together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) certificates: Certificates,
    pub(crate) crls: Vec<Crl>,
}

/// The longest file that is read of a chain.
const LIMIT: u64 = 8 << 20;

/// Reads a chain: a directory (ark, ask, asvk, vcek, vlek, `cert_chain`, crl; .pem, .der, .crt or no extension), or one file:
/// certificates in PEM or DER, or the certificate table of an extended guest request.
pub(crate) fn read(path: &Path) -> Result<Found> {
    let mut found = Found::default();
    if !path.is_dir() {
        let data = input::read(path, "certificates", LIMIT)?;
        take_file(&mut found, &data, None).with_context(|| format!("certificates {}", path.display()))?;
        return Ok(found);
    }
    let mut known = false;
    for name in ["cert_chain", "ark", "ask", "asvk", "vcek", "vlek", "crl"] {
        for extension in ["pem", "der", "crt", ""] {
            let file = path.join(name).with_extension(extension);
            // A link that leads nowhere is an error of the next line: what was meant to be there counts.
            if file.is_dir() || file.symlink_metadata().is_err() {
                continue;
            }
            known = true;
            let data = input::read(&file, "certificate", LIMIT)?;
            take_file(&mut found, &data, Some(name)).with_context(|| format!("certificate {}", file.display()))?;
        }
    }
    if !known {
        bail!("directory {}: none of ark, ask, asvk, vcek, vlek, cert_chain as .pem, .der or .crt", path.display());
    }
    Ok(found)
}

/// Puts what a file holds where it belongs: by the file's name, or else by its subject.
fn take_file(found: &mut Found, data: &[u8], name: Option<&str>) -> Result<()> {
    if name == Some("crl") {
        found.crls.push(Crl::from_file(data)?);
        return Ok(());
    }
    let looks_like_table = name.is_none() && data.first() != Some(&0x30) && !data.starts_with(b"-----");
    if looks_like_table {
        found.certificates = certificate_table::parse(data)?;
        found.crls = certificate_table::revocation_lists(data)?;
        return Ok(());
    }
    let role = match name {
        Some("ark") => Some(Role::Ark),
        Some("ask") => Some(Role::Ask),
        Some("asvk") => Some(Role::Asvk),
        Some("vcek") => Some(Role::Vcek),
        Some("vlek") => Some(Role::Vlek),
        _ => None,
    };
    for certificate in Certificate::from_file(data)? {
        let role = role.or_else(|| certificate.role());
        let role = role.with_context(|| format!("{}: not a name in a chain of AMD's", certificate.subject()))?;
        let slot = found.certificates.slot(role);
        if slot.as_ref().is_some_and(|other| *other != certificate) {
            bail!("a second {role}, another than was read before: leave one of them");
        }
        *slot = Some(certificate);
    }
    Ok(())
}
