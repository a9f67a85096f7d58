//! `snp igvm lint`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use snp_abi::{LaunchDigest, Vmsa};
use snp_image::lint::{id_block, lint, notes};
use snp_image::loader::LOADERS;
use snp_image::{Directive, Igvm, IgvmLoader, ImageError};
use snp_vmsa::check::vmrun_findings;
use zerocopy::FromBytes;

use crate::output;

/// Name everything that makes an IGVM file measure differently from one loader to the next, with the digests it causes.
///
/// Exit codes: 0 portable, 1 there are hazards, 2 unusable input.
#[derive(Args, Debug)]
pub(crate) struct LintArgs {
    /// The file.
    file: PathBuf,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

/// The file has hazards.
const HAZARDS: u8 = 1;

struct Linted {
    hazards: Vec<String>,
    notes: Vec<String>,
    /// (loader, digest or why there is none)
    digests: Vec<(&'static str, Result<String, String>)>,
}

pub(super) fn run(args: &LintArgs) -> Result<ExitCode> {
    let file = super::read(&args.file)?;
    let linted = Linted::new(&file);
    if args.json {
        output::print(serde_json::to_string_pretty(&linted.document())? + "\n")?;
    } else {
        output::print(linted.text())?;
    }
    Ok(if linted.hazards.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(HAZARDS) })
}

impl Linted {
    fn new(file: &Igvm) -> Self {
        let mut hazards: Vec<String> = lint(file).iter().map(ToString::to_string).collect();
        hazards.extend(never_runs(file));
        let digests: Vec<_> = LOADERS.iter().map(|loader| (loader, super::digest(file, loader))).collect();
        let given: Vec<_> =
            digests.iter().filter_map(|(loader, digest)| Some((*loader, *digest.as_ref().ok()?))).collect();
        hazards.extend(id_block(file, &given).as_ref().map(ToString::to_string));
        let told = |digest: Result<LaunchDigest, ImageError>| {
            digest.map(|digest| digest.to_string()).map_err(|error| error.to_string())
        };
        Self {
            hazards,
            notes: notes(file).iter().map(ToString::to_string).collect(),
            digests: digests.into_iter().map(|(loader, digest)| (loader.name, told(digest))).collect(),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for hazard in &self.hazards {
            out += &format!("hazard: {hazard}\n");
        }
        for note in &self.notes {
            out += &format!("note: {note}\n");
        }
        if self.hazards.is_empty() {
            out += "portable: every loader that delivers the VMSA as a page measures the same";
            out += &match self.exceptions().join(", ") {
                none if none.is_empty() => "\n".to_owned(),
                loaders => format!(", but for {loaders} (see the notes)\n"),
            };
        }
        out += "\ndigests by loader (1 vCPU; EPYC-v4 where KVM makes the VMSA):\n";
        for (loader, digest) in &self.digests {
            out += &match digest {
                Ok(digest) => format!("  {loader:<24} {digest}\n"),
                Err(reason) => format!("  {loader:<24} none: {reason}\n"),
            };
        }
        out
    }

    /// The loaders that deliver the VMSA as a page and measure something else than QEMU all the same.
    fn exceptions(&self) -> Vec<&'static str> {
        let digest =
            |name| self.digests.iter().find(|(loader, _)| *loader == name).and_then(|(_, told)| told.as_ref().ok());
        let expected = digest(IgvmLoader::qemu_direct().name);
        let other = |loader: &&IgvmLoader| loader.is_direct() && digest(loader.name) != expected;
        LOADERS.iter().filter(other).map(|loader| loader.name).collect()
    }

    fn document(&self) -> Value {
        let digests: Vec<_> = self
            .digests
            .iter()
            .map(|(loader, digest)| {
                json!({ "loader": loader, "launch_digest": digest.as_ref().ok(), "refused": digest.as_ref().err() })
            })
            .collect();
        json!({ "portable": self.hazards.is_empty(), "hazards": self.hazards, "notes": self.notes, "digests": digests })
    }
}

/// Why no processor would run the file's VMSA.
fn never_runs(file: &Igvm) -> Vec<String> {
    let vmsa = file.directives().iter().find_map(|directive| match directive {
        Directive::VpContext { vp_index: 0, page, .. } => Vmsa::read_from_bytes(page).ok(),
        _ => None,
    });
    let findings = vmsa.map(|vmsa| vmrun_findings(&vmsa)).unwrap_or_default();
    let errors = findings.iter().filter(|finding| finding.severity == snp_vmsa::check::Severity::VmrunRefuses);
    errors.map(|finding| format!("VMRUN refuses the VMSA: {} ({})", finding.message, finding.source)).collect()
}
