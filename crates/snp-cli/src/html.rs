//! `--html`: what a command found, as one self-contained page.

use std::path::Path;

use anyhow::Result;
use snp_abi::{LEGACY_VMSA_GPA, PAGE_SIZE, Vmsa};
use snp_html::{Block, Document, Field, Link, Table, VmsaView};
use snp_launch::{BootState, DigestEngine, LaunchPage, LaunchPlan};
use snp_vmsa::fields::fields;

use crate::input;
use crate::vmsa::meaning;

/// Writes the page.
pub(crate) fn write(path: &Path, document: &Document) -> Result<()> {
    input::write(path, "HTML page", snp_html::render(document).as_bytes())
}

/// A page about a plan: its memory map, digest chain and VMSAs. The caller adds what it knows more.
pub(crate) fn of_plan(plan: &LaunchPlan, title: impl Into<String>) -> Document {
    let chain = chain(plan);
    let mut facts = vec![
        ("policy".to_owned(), plan.policy.to_string()),
        ("guest features".to_owned(), format!("{:?}", plan.features)),
        ("vCPUs".to_owned(), plan.vcpus.to_string()),
    ];
    if let Some(last) = chain.last() {
        facts.insert(0, ("launch digest".to_owned(), last.digest.clone()));
    }
    let block =
        |link: &Link| Block { gpa: link.gpa, len: link.len, page_type: link.page_type.clone(), label: String::new() };
    // KVM's own VMSAs lie outside of guest memory.
    let memory = chain.iter().filter(|link| link.gpa != LEGACY_VMSA_GPA.0).map(block).collect();
    Document { title: title.into(), facts, memory, chain, vmsas: vmsas(plan), ..Document::default() }
}

/// Runs of adjacent pages of one type, with the digest after each; a page with contents of its own stands alone.
fn chain(plan: &LaunchPlan) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut engine = DigestEngine::new();
    let page = PAGE_SIZE as u64;
    engine.plan(plan, &mut |step| {
        let (gpa, page_type, digest) = (step.gpa.0, step.page_type.to_string(), step.digest.to_string());
        match links.last_mut() {
            Some(last) if last.page_type == page_type && last.gpa + last.len == gpa => {
                last.len += page;
                last.digest = digest;
                last.contents = format!("{} pages", last.len / page);
            }
            _ => {
                let measured = step.contents.iter().any(|byte| *byte != 0);
                let contents = if measured {
                    step.contents.iter().map(|byte| format!("{byte:02x}")).collect()
                } else {
                    String::new()
                };
                links.push(Link { gpa, len: page, page_type, contents, digest, differs: false });
            }
        }
    });
    links
}

fn vmsas(plan: &LaunchPlan) -> Vec<VmsaView> {
    match &plan.boot {
        BootState::Registers { boot, others } => {
            let mut views = vec![vmsa("VMSA of the boot processor, made by KVM", boot)];
            if plan.vcpus > 1 {
                views.push(vmsa(&format!("VMSA of each of the {} others, made by KVM", plan.vcpus - 1), others));
            }
            views
        }
        BootState::Direct { .. } => {
            let pages = plan.pages.iter().filter_map(|page| match page {
                LaunchPage::Vmsa { gpa, vmsa: page } => {
                    Some(vmsa(&format!("VMSA at {gpa}, supplied by user space"), page))
                }
                _ => None,
            });
            pages.collect()
        }
    }
}

/// The fields that are not zero.
pub(crate) fn vmsa(title: &str, page: &Vmsa) -> VmsaView {
    let view = |field: snp_vmsa::fields::Field| {
        let value = field.get(page);
        Field {
            offset: field.offset() as u32,
            name: field.name().to_string(),
            note: meaning(&field.name().to_string(), &value),
            value: value.to_string(),
            differs: false,
        }
    };
    let fields = fields().filter(|field| !field.get(page).is_zero()).map(view).collect();
    VmsaView { title: title.to_owned(), fields }
}

/// A table of strings.
pub(crate) fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Table {
    Table { title: title.to_owned(), columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows }
}
