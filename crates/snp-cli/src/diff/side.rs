//! One side of a comparison: a VMSA, a transcript, or an image with a launch.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use serde_json::Value;
use snp_abi::{Gpa, LaunchDigest, PAGE_SIZE, PageType, VmplPermissions, Vmsa};
use snp_explain::{Image, Question};
use snp_image::{Igvm, Ovmf};
use snp_launch::{BootState, DigestEngine, LaunchPage, LaunchPlan};
use zerocopy::FromBytes;

use crate::launch::transcript;
use crate::{explain, input};

/// What is compared.
pub(super) enum Side {
    Vmsa(Box<Vmsa>),
    Chain(Chain),
}

/// Everything that a launch measures, in order.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) steps: Vec<Step>,
    /// Options that are no pages: policy, features.
    pub(super) facts: Vec<(String, String)>,
}

/// One measured page.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) page_type: PageType,
    pub(super) gpa: Gpa,
    pub(super) contents: [u8; 48],
    pub(super) digest: LaunchDigest,
    /// The page itself, where it is known.
    pub(super) data: Option<Bytes>,
}

/// The file of a side.
pub(super) fn path(text: &str) -> &Path {
    split(text).0
}

fn split(text: &str) -> (&Path, Option<&str>) {
    // A file may have an @ in its name.
    match text.rsplit_once('@') {
        Some((path, launch)) if launch.contains('=') && !Path::new(text).exists() => (Path::new(path), Some(launch)),
        _ => (Path::new(text), None),
    }
}

/// Reads `FILE` or `FILE@KEY=VALUE,…`.
pub(super) fn read(text: &str) -> Result<Side> {
    let (path, launch) = split(text);
    let file = input::read(path, "file", input::IMAGE_LIMIT)?;
    let context = || format!("file {}", path.display());
    let side = if file.len() == PAGE_SIZE {
        Side::Vmsa(Box::new(Vmsa::read_from_bytes(&file).expect("a page")))
    } else if file.starts_with(b"{") {
        Side::Chain(transcript(&file).with_context(context)?)
    } else {
        let image = image(file).with_context(context)?;
        return Ok(Side::Chain(plan(image, launch.unwrap_or_default()).with_context(context)?));
    };
    ensure!(launch.is_none(), "{text}: only an image takes a launch after @");
    Ok(side)
}

fn image(file: Bytes) -> Result<Image> {
    if file.starts_with(b"IGVM") {
        return Ok(Image::Igvm { file: Box::new(Igvm::parse(file)?), append: String::new() });
    }
    let firmware = Ovmf::parse(file).context(
        "it is no VMSA (4096 bytes), no transcript (JSON lines) and no IGVM file, so it was read as firmware",
    )?;
    Ok(Image::Firmware { firmware: Box::new(firmware), kernels: Vec::new() })
}

/// The launch of an image: as `snp measure` has it by default, and as `options` say.
fn plan(image: Image, options: &str) -> Result<Chain> {
    let question = Question::new(LaunchDigest::ZERO, image);
    let launch = explain::expected(options, &question)?;
    let plan = launch.prepare(&question.image)?.plan;
    let facts = vec![
        ("policy".to_owned(), plan.policy.to_string()),
        ("guest features".to_owned(), format!("{:?}", plan.features)),
    ];
    Ok(Chain { steps: steps(&plan), facts })
}

fn steps(plan: &LaunchPlan) -> Vec<Step> {
    let mut engine = DigestEngine::new();
    let mut all = Vec::new();
    for page in &plan.pages {
        append(&mut all, &mut engine, page);
    }
    if let BootState::Registers { boot, others } = &plan.boot {
        for index in 0..plan.vcpus {
            let vmsa = if index == 0 { boot } else { others };
            let page = LaunchPage::Vmsa { gpa: snp_abi::LEGACY_VMSA_GPA, vmsa: vmsa.clone() };
            append(&mut all, &mut engine, &page);
        }
    }
    all
}

fn append(all: &mut Vec<Step>, engine: &mut DigestEngine, page: &LaunchPage) {
    let first = all.len();
    engine.page_steps(page, &mut |step| {
        let at = (all.len() - first) * PAGE_SIZE;
        let data = match page {
            LaunchPage::Normal { data, .. } => Some(data.bytes().slice(at..at + PAGE_SIZE)),
            LaunchPage::Vmsa { vmsa, .. } => Some(page_of(vmsa)),
            _ => None,
        };
        all.push(Step { page_type: step.page_type, gpa: step.gpa, contents: step.contents, digest: step.digest, data });
    });
}

fn page_of(vmsa: &Vmsa) -> Bytes {
    Bytes::copy_from_slice(zerocopy::IntoBytes::as_bytes(vmsa))
}

/// The pages of a transcript; its digests are computed again.
fn transcript(file: &[u8]) -> Result<Chain> {
    let mut chain = Chain::default();
    let mut engine = DigestEngine::new();
    for (number, line) in file.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let at = || format!("line {}", number + 1);
        let line: Value = serde_json::from_slice(line).with_context(at)?;
        if let Some(policy) = line["args"]["policy"].as_str() {
            chain.facts.push(("policy".to_owned(), policy.to_owned()));
        }
        for page in line["pages"].as_array().into_iter().flatten() {
            let step = page_of_transcript(page, &mut engine).with_context(at)?;
            chain.steps.push(step);
        }
        if let Some(told) = line["digest"].as_str().filter(|_| line["pages"].is_array()) {
            ensure!(told == engine.digest().to_string(), "{}: `digest` is not that of the pages before it", at());
        }
    }
    if chain.steps.is_empty() {
        bail!("no measured page: not a transcript of `snp launch --transcript`");
    }
    Ok(chain)
}

fn page_of_transcript(page: &Value, engine: &mut DigestEngine) -> Result<Step> {
    let text = |name: &str| page[name].as_str().with_context(|| format!("a page without `{name}`"));
    let gpa = Gpa(input::number(text("gpa")?).map_err(anyhow::Error::msg)?);
    let name = text("type")?;
    let page_type = (1..=6).map(PageType).find(|page_type| page_type.name() == Some(name));
    let page_type = page_type.with_context(|| format!("`type` {name:?}: not a page type"))?;
    let contents = input::hex_bytes::<48>(text("contents")?).map_err(anyhow::Error::msg)?;
    let digest = engine.extend(page_type, gpa, contents, false, [VmplPermissions::default(); 3]);
    let data = page["data"].as_str().map(|digits| data_of_transcript(digits, page_type, contents)).transpose()?;
    Ok(Step { page_type, gpa, contents, digest, data })
}

/// The page itself. Of a VMSA it is held against what was measured: its fields are shown in the place of its hash.
fn data_of_transcript(digits: &str, page_type: PageType, contents: [u8; 48]) -> Result<Bytes> {
    let page = input::hex_bytes::<PAGE_SIZE>(digits);
    let page = page.map_err(|_| anyhow!("`data`: want the 8192 hexadecimal digits of a page"))?;
    if page_type == PageType::VMSA {
        let vmsa = Vmsa::read_from_bytes(&page).expect("a page");
        ensure!(transcript::vmsa_contents(&vmsa) == contents, "`data` is not the VMSA whose hash is in `contents`");
    }
    Ok(Bytes::copy_from_slice(&page))
}
