//! `snp profiles`: what is known about VMMs, eras and loaders.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use snp_image::loader::LOADERS;
use snp_vmsa::reset::{ResetRdx, profiles};

use crate::output;

/// List the VMSA profiles (VMM and era) and the IGVM loaders that measure and explain know.
#[derive(Args, Debug)]
pub(crate) struct ProfilesArgs {
    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ProfilesArgs) -> Result<ExitCode> {
    if args.json {
        output::print(serde_json::to_string_pretty(&document())? + "\n")?;
    } else {
        output::print(text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text() -> String {
    let mut out = String::from("VMSA profiles (--vmsa-profile; --vmm-type takes a family, --era picks by time):\n");
    for profile in profiles() {
        out += &format!("  {:<16} {:<16} {}; {}\n", profile.name, profile.family, profile.vmm, profile.era);
    }
    out += "\nIGVM loaders (--loader):\n";
    for loader in LOADERS {
        out += &format!("  {:<24} {}\n", loader.name, loader.summary);
    }
    out
}

fn document() -> serde_json::Value {
    let rdx = |rdx| match rdx {
        ResetRdx::Signature => json!("signature"),
        ResetRdx::Fixed(value) => json!(format!("{value:#x}")),
    };
    let vmsa_profiles: Vec<_> = profiles()
        .iter()
        .map(|profile| {
            json!({
                "name": profile.name,
                "family": profile.family,
                "vmm": profile.vmm,
                "era": profile.era,
                "since": profile.since.map(|date| date.to_string()),
                "until": profile.until.map(|date| date.to_string()),
                "rdx": rdx(profile.rdx),
                "mxcsr": format!("{:#x}", profile.mxcsr),
                "fcw": format!("{:#x}", profile.fcw),
                "g_pat": format!("{:#x}", profile.g_pat),
                "guest_features": format!("{:#x}", profile.features.0),
                "source": profile.source,
                "vector": profile.vector,
            })
        })
        .collect();
    let loaders: Vec<_> = LOADERS
        .iter()
        .map(|loader| json!({ "name": loader.name, "summary": loader.summary, "source": loader.source }))
        .collect();
    json!({ "vmsa_profiles": vmsa_profiles, "loaders": loaders })
}
