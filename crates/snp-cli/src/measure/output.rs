//! What `snp measure` prints.

use std::io::IsTerminal;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use snp_html::Document;
use snp_reference::{ReferenceValue, ReferenceValues, corim, rvps};

use super::Measured;
use super::args::{Format, MeasureArgs, Mode};
use crate::html;
use crate::output::{self, tell};

pub(super) fn print(args: &MeasureArgs, measured: &Measured) -> Result<()> {
    let format = if args.json { Format::Json } else { args.output_format };
    let text = match format {
        Format::Hex => lines(args, measured, hex),
        Format::Base64 => lines(args, measured, |digest| STANDARD.encode(digest)),
        Format::Json => serde_json::to_string_pretty(&document(args, measured))? + "\n",
        Format::Rvps => serde_json::to_string_pretty(&rvps(&reference(args, measured)?)?)? + "\n",
        Format::Corim => {
            ensure!(!std::io::stdout().is_terminal(), "CoRIM is binary: send it to a file");
            return output::print(corim(&reference(args, measured)?)?);
        }
    };
    if format != Format::Json {
        for warning in &measured.warnings {
            tell!("warning: {warning}");
        }
    }
    output::print(text)
}

/// What verifiers take: every digest, and the policy where the image has one of its own.
fn reference(args: &MeasureArgs, measured: &Measured) -> Result<ReferenceValues> {
    ensure!(
        matches!(args.mode, Mode::Snp | Mode::SnpSvsm),
        "reference values are for launches with SEV-SNP: want mode snp or snp:svsm, not {}",
        args.mode.name()
    );
    let image = args.image.ovmf.as_ref().or(args.image.igvm.as_ref()).context("no image")?;
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let vmsa = measured.vmsa_profile.unwrap_or("supplied VMSA");
    let label = |count: &Option<u32>| match count {
        Some(count) => format!("{vmsa}, {count} vCPUs"),
        None => format!("{vmsa}, any number of vCPUs"),
    };
    let value = |(count, digest): &(Option<u32>, Vec<u8>)| -> Result<ReferenceValue> {
        let digest = digest.as_slice().try_into().ok().context("reference values are for SEV-SNP: want mode snp")?;
        Ok(ReferenceValue { digest, label: label(count), vmpl: None })
    };
    let policy = args.image.igvm.as_ref().and(measured.plan.as_ref()).map(|plan| plan.policy.0);
    let values = measured.digests.iter().map(value).collect::<Result<_>>()?;
    Ok(ReferenceValues { name, values, policy, ..ReferenceValues::default() })
}

/// One line per digest; the count is told where there is more than one.
fn lines(args: &MeasureArgs, measured: &Measured, encode: fn(&[u8]) -> String) -> String {
    let several = measured.digests.len() > 1;
    let line = |(count, digest): &(Option<u32>, Vec<u8>)| {
        let digest = encode(digest);
        match count {
            Some(count) if several && args.verbose => {
                format!("Calculated {} guest measurement, {count} vCPUs: {digest}\n", args.mode.title())
            }
            Some(count) if several => format!("{count} {digest}\n"),
            _ if args.verbose => format!("Calculated {} guest measurement: {digest}\n", args.mode.title()),
            _ => format!("{digest}\n"),
        }
    };
    measured.digests.iter().map(line).collect()
}

fn document(args: &MeasureArgs, measured: &Measured) -> Value {
    let image = args.image.ovmf.as_ref().or(args.image.igvm.as_ref());
    let digests: Vec<_> = measured
        .digests
        .iter()
        .map(|(count, digest)| json!({ "vcpus": count, "launch_digest": hex(digest) }))
        .collect();
    let mut document = json!({
        "mode": args.mode.name(),
        "image": image.map(|path| path.display().to_string()),
        "vmsa_profile": measured.vmsa_profile,
        "profile": measured.profile,
        "loader": measured.loader,
        "measurements": digests,
        "warnings": measured.warnings,
    });
    if let [(_, digest)] = measured.digests.as_slice() {
        document["launch_digest"] = hex(digest).into();
    }
    document
}

/// As a page.
pub(super) fn page(args: &MeasureArgs, measured: &Measured) -> Result<Document> {
    let plan = measured.plan.as_deref().context("--html: this mode measures no pages")?;
    let image = args.image.ovmf.as_ref().or(args.image.igvm.as_ref());
    let image = image.map(|path| path.display().to_string()).unwrap_or_default();
    let mut page = html::of_plan(plan, format!("Measurement of {image}"));
    let vmsa = measured.vmsa_profile.map_or_else(|| "VMSA supplied".to_owned(), |name| format!("VMSA profile {name}"));
    page.subtitle = format!("{vmsa}, uAPI profile {}", measured.profile.unwrap_or("any"));
    page.warnings = measured.warnings.clone();
    let row = |(count, digest): &(Option<u32>, Vec<u8>)| {
        vec![count.map_or_else(|| "any".to_owned(), |count| count.to_string()), hex(digest)]
    };
    if measured.digests.len() > 1 {
        let rows = measured.digests.iter().map(row).collect();
        page.tables.push(html::table("Launch digests", &["vCPUs", "launch digest"], rows));
    }
    Ok(page)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Mode {
    /// As the command line has it.
    fn name(self) -> &'static str {
        match self {
            Self::Sev => "sev",
            Self::Seves => "seves",
            Self::Snp => "snp",
            Self::SnpOvmfHash => "snp:ovmf-hash",
            Self::SnpSvsm => "snp:svsm",
        }
    }

    /// As sev-snp-measure's messages have it.
    fn title(self) -> &'static str {
        match self {
            Self::Sev => "SEV",
            Self::Seves => "SEV_ES",
            Self::Snp | Self::SnpOvmfHash => "SEV_SNP",
            Self::SnpSvsm => "SEV_SNP_SVSM",
        }
    }
}
