//! `snp example`: our own guests as IGVM files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use snp_abi::PageType;
use snp_guests::Guest;
use snp_image::{IgvmWriter, PageKind};

use crate::{input, output};

/// Write one of snpkit's own example guests as an IGVM file, with its own boot VMSA.
#[derive(Args, Debug)]
pub(crate) struct ExampleArgs {
    /// The guest: hello, smp (smp:N starts at most N processors beside the first), report, probe:MODE; --list tells all.
    #[arg(required_unless_present = "list", value_name = "NAME")]
    name: Option<String>,

    /// List the guests and what they do.
    #[arg(long, conflicts_with_all = ["name", "output"])]
    list: bool,

    /// Write the file here; `-` is standard output.
    #[arg(short, long, required_unless_present = "list", value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the file, or lists.
pub(crate) fn run(args: &ExampleArgs) -> Result<ExitCode> {
    match (&args.name, &args.output) {
        (Some(name), Some(output)) => input::write(output, "IGVM file", &igvm(&find(name)?)?)?,
        _ => output::print(list())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The guests, one a line.
fn list() -> String {
    let guests = snp_guests::NAMES.iter().filter_map(|name| snp_guests::find(name));
    guests.map(|guest| format!("{:<24}{}\n", guest.name, guest.summary)).collect()
}

/// The example guest of that name.
pub(crate) fn find(name: &str) -> Result<Guest> {
    snp_guests::find(name)
        .with_context(|| format!("no example guest {name:?}: want one of {}", snp_guests::NAMES.join(", ")))
}

/// The guest as an IGVM file: portable, so the VMSA comes last and every measured page has its data.
pub(crate) fn igvm(guest: &Guest) -> Result<Vec<u8>> {
    let mut writer = IgvmWriter::new(guest.policy);
    let (start, len) = guest.memory;
    writer.required_memory(start, len.try_into().context("the guest's memory is too large for the format")?)?;
    for page in &guest.pages {
        let kind = match page.page_type {
            PageType::NORMAL => PageKind::Normal,
            PageType::SECRETS => PageKind::Secrets,
            PageType::CPUID => PageKind::Cpuid,
            other => bail!("guest {}: a page of {other} at {} cannot be written", guest.name, page.gpa),
        };
        writer.pages(page.gpa, kind, &page.data)?;
    }
    writer.vmsa(guest.vmsa_gpa, &guest.vmsa)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use snp_abi::Vmsa;
    use snp_image::{Directive, Igvm};
    use snp_vmsa::check::{LaunchRules, launch_findings, vmrun_findings};
    use zerocopy::FromBytes;

    use super::*;

    #[test]
    fn every_example_survives_the_round_trip() {
        for name in snp_guests::NAMES {
            let guest = find(name).unwrap();
            let igvm = Igvm::parse(igvm(&guest).unwrap().into()).unwrap();
            assert_eq!(igvm.policy(), Some(guest.policy));
            let Some(Directive::VpContext { gpa, vp_index: 0, page }) = igvm.directives().last() else {
                panic!("{name}: the VMSA is not last");
            };
            let vmsa = Vmsa::read_from_bytes(page).unwrap();
            assert_eq!((*gpa, vmsa), (guest.vmsa_gpa, *guest.vmsa));
            assert_eq!(vmrun_findings(&vmsa), []);
            assert_eq!(launch_findings(&vmsa, Some(*gpa), guest.features, LaunchRules::VcpuState), []);
        }
    }

    /// Not our reader: the `igvm` crate's.
    #[test]
    fn the_igvm_crate_reads_every_example() {
        for name in snp_guests::NAMES {
            let guest = find(name).unwrap();
            let file = igvm::IgvmFile::new_from_binary(&super::igvm(&guest).unwrap(), None).unwrap();
            // Required memory, the pages, the VMSA.
            assert_eq!(file.directives().len(), guest.pages.len() + 2);
        }
    }

    #[test]
    fn unknown_guests_are_refused_by_name() {
        assert_eq!(
            find("goodbye").unwrap_err().to_string(),
            format!("no example guest \"goodbye\": want one of {}", snp_guests::NAMES.join(", "))
        );
    }
}
