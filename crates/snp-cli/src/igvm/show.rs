//! `snp igvm show`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use snp_abi::{Gpa, Vmsa};
use snp_html::Document;
use snp_image::{Directive, Igvm, IgvmLoader, PageKind};
use snp_vmsa::fields::fields;
use zerocopy::FromBytes;

use crate::files::Files;
use crate::{html, output};

/// Show what an IGVM file holds: platforms, directives, memory map, VP context, ID block.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The file.
    file: PathBuf,

    /// Write one self-contained HTML page here: memory map, digest chain, VMSA by field.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

/// Directives that follow each other and are alike, as one line.
struct Row {
    what: String,
    gpa: Option<Gpa>,
    len: u64,
    note: String,
}

pub(super) fn run(args: &ShowArgs) -> Result<ExitCode> {
    Files::default().reads("the IGVM file", Some(&args.file)).writes("--html", args.html.as_deref()).distinct()?;
    let file = super::read(&args.file)?;
    if let Some(path) = &args.html {
        html::write(path, &page(&file, args))?;
    }
    if args.json {
        output::print(serde_json::to_string_pretty(&document(&file))? + "\n")?;
    } else {
        output::print(text(&file))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(file: &Igvm) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for directive in file.directives() {
        let row = row(directive);
        match rows.last_mut() {
            Some(last) if row.gpa.is_some() && joins(last, &row) => last.len += row.len,
            _ => rows.push(row),
        }
    }
    rows
}

fn joins(last: &Row, next: &Row) -> bool {
    last.what == next.what && last.note == next.note && last.gpa.and_then(|gpa| gpa.checked_add(last.len)) == next.gpa
}

fn row(directive: &Directive) -> Row {
    let at = |what: &str, gpa: Gpa, len: u64, note: String| Row { what: what.into(), gpa: Some(gpa), len, note };
    match directive {
        Directive::Page { gpa, len, kind, data } => {
            let note = match (kind, data) {
                (PageKind::Normal | PageKind::Unmeasured | PageKind::Shared, None) => "no data",
                _ => "",
            };
            at(kind_name(*kind), *gpa, *len, note.to_owned())
        }
        Directive::ParameterArea { area, len, initial } => Row {
            what: "parameter-area".into(),
            gpa: None,
            len: *len,
            note: format!("area {area}{}", if initial.is_some() { ", with initial data" } else { "" }),
        },
        Directive::Parameter { kind, area, at, .. } => {
            Row { what: "parameter".into(), gpa: None, len: 0, note: format!("{kind} at {at:#x} of area {area}") }
        }
        Directive::ParameterInsert { gpa, area } => at("parameter-insert", *gpa, 0, format!("area {area}")),
        Directive::RequiredMemory { gpa, len } => at("required-memory", *gpa, *len, String::new()),
        Directive::VpContext { gpa, vp_index, .. } => at("vp-context", *gpa, 4096, format!("processor {vp_index}")),
    }
}

fn kind_name(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Normal => "normal",
        PageKind::Unmeasured => "unmeasured",
        PageKind::Shared => "shared",
        PageKind::Secrets => "secrets",
        PageKind::Cpuid => "cpuid",
    }
}

fn text(file: &Igvm) -> String {
    let mut out = format!("{} bytes\n", file.file_len());
    for (platform, mask) in file.platforms() {
        out += &format!("platform {} (compatibility mask {mask:#x})\n", platform_name(*platform));
    }
    out += &match file.policy() {
        Some(policy) => format!("guest policy {policy}\n"),
        None => "no guest policy\n".to_owned(),
    };
    if file.shared_gpa_boundary() != 0 {
        out += &format!("shared GPA boundary {:#x}, highest VTL {}\n", file.shared_gpa_boundary(), file.highest_vtl());
    }
    out += &match file.id_block() {
        Some(pair) => format!("ID block for digest {}, guest SVN {}\n", pair.block.ld, pair.block.guest_svn),
        None => "no ID block\n".to_owned(),
    };
    out += "\ndirectives for SEV-SNP, in file order:\n";
    for row in rows(file) {
        let place = match row.gpa {
            Some(gpa) if row.len > 0 => format!("{:012x}-{:012x} {:>7}", gpa.0, gpa.0 + (row.len - 1), row.len / 4096),
            Some(gpa) => format!("{:012x}{:21}", gpa.0, ""),
            None => format!("{:25} {:>7}", "", row.len / 4096),
        };
        out += format!("  {place}  {:<16} {}", row.what, row.note).trim_end();
        out.push('\n');
    }
    for (vp_index, gpa, vmsa) in contexts(file) {
        out += &format!("\nVP context of processor {vp_index} at {gpa}, fields that are not zero:\n");
        for field in fields().filter(|field| !field.get(&vmsa).is_zero()) {
            out += &format!("  {:#05x} {:<24} {}\n", field.offset(), field.name(), field.get(&vmsa));
        }
    }
    out
}

fn contexts(file: &Igvm) -> Vec<(u16, Gpa, Vmsa)> {
    let context = |directive: &Directive| match directive {
        Directive::VpContext { gpa, vp_index, page } => {
            Some((*vp_index, *gpa, Vmsa::read_from_bytes(page).expect("as long as a VMSA")))
        }
        _ => None,
    };
    file.directives().iter().filter_map(context).collect()
}

/// # Source
/// `igvm_defs` 0.5, `IgvmPlatformType`.
fn platform_name(platform: u8) -> String {
    match platform {
        0 => "native".to_owned(),
        1 => "VSM isolation".to_owned(),
        2 => "SEV-SNP".to_owned(),
        3 => "TDX".to_owned(),
        4 => "SEV".to_owned(),
        5 => "SEV-ES".to_owned(),
        other => format!("{other:#x}"),
    }
}

/// As a page: what the format's own loader makes of the file, and the directives.
fn page(file: &Igvm, args: &ShowArgs) -> Document {
    let title = format!("IGVM file {}", args.file.display());
    let mut page = match super::plan(file, IgvmLoader::qemu_direct()) {
        Ok(plan) => html::of_plan(&plan, title),
        Err(error) => Document { title, warnings: vec![format!("cannot be launched: {error}")], ..Document::default() },
    };
    page.subtitle = format!("{} bytes", file.file_len());
    let row = |row: &Row| {
        let gpa = row.gpa.map(|gpa| gpa.to_string()).unwrap_or_default();
        vec![row.what.clone(), gpa, row.len.to_string(), row.note.clone()]
    };
    let columns = ["directive", "address", "bytes", "note"];
    page.tables.push(html::table(
        "Directives for SEV-SNP, in file order",
        &columns,
        rows(file).iter().map(row).collect(),
    ));
    page
}

fn document(file: &Igvm) -> Value {
    let directives: Vec<_> = rows(file)
        .iter()
        .map(|row| json!({ "type": row.what, "gpa": row.gpa.map(|gpa| gpa.to_string()), "len": row.len, "note": row.note }))
        .collect();
    let contexts: Vec<_> = contexts(file)
        .iter()
        .map(|(vp_index, gpa, vmsa)| {
            let set = fields().filter(|field| !field.get(vmsa).is_zero());
            let fields: Vec<_> =
                set.map(|field| json!({ "name": field.name(), "value": field.get(vmsa).to_string() })).collect();
            json!({ "vp_index": vp_index, "gpa": gpa.to_string(), "fields": fields })
        })
        .collect();
    let platforms: Vec<_> = file
        .platforms()
        .iter()
        .map(|(platform, mask)| json!({ "type": platform_name(*platform), "compatibility_mask": format!("{mask:#x}") }))
        .collect();
    json!({
        "file_len": file.file_len(),
        "platforms": platforms,
        "policy": file.policy().map(|policy| policy.to_string()),
        "shared_gpa_boundary": format!("{:#x}", file.shared_gpa_boundary()),
        "highest_vtl": file.highest_vtl(),
        "relocatable": file.is_relocatable(),
        "id_block": file.id_block().map(|pair| json!({
            "launch_digest": pair.block.ld.to_string(),
            "guest_svn": pair.block.guest_svn,
            "policy": pair.block.policy.to_string(),
            "author_key": pair.author_key_enabled,
        })),
        "directives": directives,
        "vp_contexts": contexts,
    })
}
