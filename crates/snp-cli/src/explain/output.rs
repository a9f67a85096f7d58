//! What `snp explain` prints.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use snp_explain::{Answer, Difference, Launch, Question, Tried, Uapi, differences};
use snp_html::Document;
use snp_vmsa::reset::ResetRdx;

use crate::{html, output};

/// What would narrow a search that found nothing.
const NARROW: [&str; 5] = [
    "the VMSA that was measured: dump it on the host, and give it with --vmsa",
    "the host's kernel log and version: `dmesg | grep -i sev`, and whether kvm_amd.debug_swap is on",
    "a transcript of the launch (the VMM's trace of KVM_SEV_SNP_LAUNCH_UPDATE), to compare with `snp diff`",
    "where a boot VMSA lay that user space supplied: another place than the default one is not searched for, and `snp measure \
     --vmsa-gpa` predicts it",
    "the exact files: `sha256sum` of firmware, kernel and initrd on the host",
];

pub(super) fn print(
    json: bool,
    page_to: Option<&Path>,
    question: &Question,
    answer: &Answer,
    expected: Option<&Launch>,
) -> Result<()> {
    let expected = expected.map(|launch| Expected::new(launch, question)).transpose()?;
    if let Some(path) = page_to {
        html::write(path, &page(question, answer, expected.as_ref())?)?;
    }
    let text = if json {
        serde_json::to_string_pretty(&document(question, answer, expected.as_ref()))? + "\n"
    } else {
        text(question, answer, expected.as_ref())
    };
    output::print(text)
}

/// For another command to tell.
pub(super) fn explained(question: &Question, answer: &Answer, expected: Option<&Launch>) -> Result<super::Explained> {
    let expected = expected.map(|launch| Expected::new(launch, question)).transpose()?;
    Ok(super::Explained {
        text: text(question, answer, expected.as_ref()),
        document: document(question, answer, expected.as_ref()),
    })
}

/// The launch that was expected, and its digest.
struct Expected<'a> {
    launch: &'a Launch,
    digest: String,
}

impl<'a> Expected<'a> {
    fn new(launch: &'a Launch, question: &Question) -> Result<Self> {
        let digest = launch.measure(question).context("--expect: the expected launch is not possible")?;
        Ok(Self { launch, digest: digest.to_string() })
    }
}

fn text(question: &Question, answer: &Answer, expected: Option<&Expected<'_>>) -> String {
    let mut out = format!("observed {}\n", question.digest);
    if let Some(expected) = expected {
        out += &format!("expected {}\n", expected.digest);
    }
    out.push('\n');
    match answer {
        Answer::Match { launch, tried } => {
            out += "This launch gives the observed digest (measured again in full):\n";
            for (name, value) in facts(launch) {
                out += &format!("  {name:<16} {value}\n");
            }
            if let Some(expected) = expected {
                out += &differences_text(&differences(expected.launch, launch));
            }
            out += &format!("\n{} candidates compared\n", tried.candidates);
        }
        Answer::NoMatch(tried) => out += &nothing("No launch that was tried gives the observed digest.", tried),
        Answer::Cancelled(tried) => out += &nothing("Interrupted: nothing found until then.", tried),
    }
    out
}

fn nothing(verdict: &str, tried: &Tried) -> String {
    let mut out = format!("{verdict}\n\ntried, {} candidates in all:\n", tried.candidates);
    for stage in &tried.space {
        out += &format!("  - {stage}\n");
    }
    out += "\nwhat would narrow it:\n";
    for observation in NARROW {
        out += &format!("  - {observation}\n");
    }
    out
}

fn differences_text(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "\nThat is the launch that was expected.\n".to_owned();
    }
    let mut out = String::from("\nIt differs from the expected launch:\n");
    for difference in differences {
        out += &format!(
            "  {:<16} expected {}, happened {}\n{:19}{}\n",
            difference.option, difference.expected, difference.happened, "", difference.advice
        );
    }
    out
}

/// What the digest depends on, by the options that name it.
fn facts(launch: &Launch) -> Vec<(&'static str, String)> {
    let mut facts = vec![("profile", launch.uapi.to_string())];
    match launch.loader {
        Some(loader) => facts.push(("loader", format!("{} ({})", loader.name, loader.summary))),
        None => facts.push((
            "vmsa-profile",
            format!("{} ({}, {})", launch.profile.name, launch.profile.vmm, launch.profile.era),
        )),
    }
    if launch.uapi == Uapi::Mainline {
        facts.push(("vcpus", launch.vcpus.to_string()));
    }
    if launch.vmsa.is_some() {
        facts.push(("vmsa", "the one given".to_owned()));
    } else if launch.profile.rdx == ResetRdx::Signature && (launch.loader.is_none() || launch.uapi == Uapi::Mainline) {
        facts.push(("vcpu-sig", launch.processor()));
    }
    facts.push(("guest-features", format!("{:?}", launch.features)));
    if let Some(kernel) = &launch.kernel {
        let initrd = if kernel.initrd { "with" } else { "without" };
        facts.push(("kernel", format!("hashes measured, {initrd} initrd, command line {:?}", kernel.cmdline)));
    } else if launch.loader.is_none() {
        facts.push(("kernel", "no hashes measured".to_owned()));
    }
    if (launch.cpuid, launch.sec_mem) != (launch.profile.cpuid, launch.profile.sec_mem) {
        facts.push(("pages", format!("CPUID page {:?}, SEC_MEM {:?}", launch.cpuid, launch.sec_mem)));
    }
    facts
}

/// As a page: the launch that was found, and how it differs.
fn page(question: &Question, answer: &Answer, expected: Option<&Expected<'_>>) -> Result<Document> {
    let title = format!("Launch digest {}…", &question.digest.to_string()[..16]);
    let mut page = match answer {
        Answer::Match { launch, .. } => html::of_plan(&launch.prepare(&question.image)?.plan, title),
        Answer::NoMatch(_) | Answer::Cancelled(_) => Document { title, ..Document::default() },
    };
    let strings = |rows: Vec<(&str, String)>| rows.into_iter().map(|(a, b)| vec![a.to_owned(), b]).collect();
    let tried = match answer {
        Answer::Match { launch, tried } => {
            page.subtitle = "This launch gives the observed digest; it was measured again in full.".to_owned();
            page.tables.push(html::table("The launch", &["option", "value"], strings(facts(launch))));
            let rows = expected.map(|expected| differences(expected.launch, launch)).unwrap_or_default();
            let row = |row: Difference| vec![row.option.to_owned(), row.expected, row.happened, row.advice];
            if !rows.is_empty() {
                let columns = ["option", "expected", "happened", "what to change"];
                page.tables.push(html::table(
                    "Differences from the expected launch",
                    &columns,
                    rows.into_iter().map(row).collect(),
                ));
            }
            tried
        }
        Answer::NoMatch(tried) | Answer::Cancelled(tried) => {
            page.subtitle = "No launch that was tried gives this digest.".to_owned();
            page.facts.push(("observed digest".to_owned(), question.digest.to_string()));
            let rows = NARROW.map(|line| vec![line.to_owned()]).to_vec();
            page.tables.push(html::table("What would narrow it", &["observation"], rows));
            tried
        }
    };
    let rows = tried.space.iter().map(|stage| vec![stage.clone()]).collect();
    page.tables.push(html::table(&format!("Tried: {} candidates", tried.candidates), &["varied"], rows));
    Ok(page)
}

fn document(question: &Question, answer: &Answer, expected: Option<&Expected<'_>>) -> Value {
    let (verdict, launch, tried) = match answer {
        Answer::Match { launch, tried } => ("match", Some(launch), tried),
        Answer::NoMatch(tried) => ("no-match", None, tried),
        Answer::Cancelled(tried) => ("interrupted", None, tried),
    };
    let differences = launch.zip(expected).map(|(launch, expected)| differences(expected.launch, launch));
    let rows = differences.map(|differences| -> Vec<Value> {
        let row = |difference: &Difference| {
            json!({
                "option": difference.option,
                "expected": difference.expected,
                "happened": difference.happened,
                "advice": difference.advice,
            })
        };
        differences.iter().map(row).collect()
    });
    json!({
        "answer": verdict,
        "observed": question.digest.to_string(),
        "expected": expected.map(|expected| &expected.digest),
        "launch": launch.map(|launch| launch_document(launch)),
        "differences": rows,
        "tried": { "candidates": tried.candidates, "space": tried.space },
        "narrow": if launch.is_none() { NARROW.to_vec() } else { Vec::new() },
    })
}

fn launch_document(launch: &Launch) -> Value {
    json!({
        "profile": launch.uapi.to_string(),
        "vmsa_profile": launch.loader.is_none().then_some(&launch.profile.name),
        "loader": launch.loader.map(|loader| loader.name),
        "vcpus": (launch.uapi == Uapi::Mainline).then_some(launch.vcpus),
        "vcpu_sig": format!("{:#x}", launch.cpu_signature),
        "guest_features": format!("{:#x}", launch.features.0),
        "kernel_hashes": launch.kernel.is_some(),
        "initrd": launch.kernel.as_ref().map(|kernel| kernel.initrd),
        "append": launch.kernel.as_ref().map(|kernel| &kernel.cmdline),
        "vmsa_supplied": launch.vmsa.is_some(),
    })
}
