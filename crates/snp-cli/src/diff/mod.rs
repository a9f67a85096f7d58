//! `snp diff`: where two launches part.

mod side;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use snp_abi::{Gpa, PageType, Vmsa};
use snp_html::{Block, Document, Field, Link, VmsaView};
use snp_vmsa::diff::differences;
use zerocopy::FromBytes;

use side::{Chain, Side, Step};

use crate::files::Files;
use crate::{html, output};

/// Compare two launches: the first page where their digests part, then every difference, VMSAs by field.
///
/// Each side is a transcript of `snp launch --transcript`, a VMSA (4096 bytes), or an image, whose launch may follow after
/// an @: `OVMF.fd@vcpus=4,vcpu-type=EPYC-Genoa`, `file.igvm@loader=qemu-replay` (keys as in `snp explain --expect`).
///
/// Exit codes: 0 the same, 1 different, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The first launch or VMSA.
    a: String,

    /// The second.
    b: String,

    /// Write one self-contained HTML page here: the digest chain of A, what differs, VMSAs by field.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

const DIFFERENT: u8 = 1;

/// Differences that the terminal shows; JSON has all.
const SHOWN: usize = 40;

/// One difference.
struct Row {
    what: String,
    a: String,
    b: String,
    fields: Vec<(String, String, String)>,
}

struct Comparison {
    digests: Option<[String; 2]>,
    parts_at: Option<String>,
    rows: Vec<Row>,
}

pub(crate) fn run(args: &DiffArgs) -> Result<ExitCode> {
    Files::default()
        .reads("A", Some(side::path(&args.a)))
        .reads("B", Some(side::path(&args.b)))
        .writes("--html", args.html.as_deref())
        .distinct()?;
    let (mut chain, comparison) = match (side::read(&args.a)?, side::read(&args.b)?) {
        (Side::Vmsa(a), Side::Vmsa(b)) => (Vec::new(), vmsas(&a, &b)),
        (Side::Chain(a), Side::Chain(b)) => (links(&a, &b), chains(&a, &b)),
        _ => bail!("a VMSA can only be compared with a VMSA: the other side is a launch"),
    };
    if let Some(path) = &args.html {
        html::write(path, &comparison.page(args, std::mem::take(&mut chain)))?;
    }
    let text = if args.json { serde_json::to_string_pretty(&comparison.document())? + "\n" } else { comparison.text() };
    output::print(text)?;
    Ok(if comparison.same() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn vmsas(a: &Vmsa, b: &Vmsa) -> Comparison {
    let fields = fields(a, b);
    let rows = if fields.is_empty() {
        Vec::new()
    } else {
        vec![Row { what: "VMSA".into(), a: String::new(), b: String::new(), fields }]
    };
    Comparison { digests: None, parts_at: None, rows }
}

fn fields(a: &Vmsa, b: &Vmsa) -> Vec<(String, String, String)> {
    let row = |difference: snp_vmsa::diff::Difference| {
        (difference.field.name().to_string(), difference.left.to_string(), difference.right.to_string())
    };
    differences(a, b).into_iter().map(row).collect()
}

fn chains(a: &Chain, b: &Chain) -> Comparison {
    let mut rows = Vec::new();
    for ((name, a), (_, b)) in a.facts.iter().zip(&b.facts).filter(|((_, a), (_, b))| a != b) {
        rows.push(Row { what: name.clone(), a: a.clone(), b: b.clone(), fields: Vec::new() });
    }
    let parting = a.steps.iter().zip(&b.steps).position(|(a, b)| a.digest != b.digest);
    let shorter = a.steps.len().min(b.steps.len());
    let parting = parting.or((a.steps.len() != b.steps.len()).then_some(shorter));
    rows.extend(pages(a, b));
    let last = |chain: &Chain| chain.steps.last().map_or_else(String::new, |step| step.digest.to_string());
    let parts_at = parting.map(|index| {
        let place = |chain: &Chain| chain.steps.get(index).map_or("nothing more".to_owned(), describe);
        format!("page {} of the launch: {} in A, {} in B", index + 1, place(a), place(b))
    });
    Comparison { digests: Some([last(a), last(b)]), parts_at, rows }
}

/// The chain of A by pages, marked where B's differs; runs of pages that do not are one link.
fn links(a: &Chain, b: &Chain) -> Vec<Link> {
    let of_b = by_place(b);
    let mut links: Vec<Link> = Vec::new();
    for (key, (_, step)) in in_order(by_place(a)) {
        let other = of_b.get(&key).map(|(_, other)| (other.page_type, other.contents));
        let differs = other != Some((step.page_type, step.contents));
        let (gpa, page_type, digest) = (step.gpa.0, step.page_type.to_string(), step.digest.to_string());
        match links.last_mut() {
            Some(last) if !differs && !last.differs && last.page_type == page_type && last.gpa + last.len == gpa => {
                last.len += 4096;
                last.digest = digest;
            }
            _ => {
                let contents = if differs {
                    step.contents.iter().map(|byte| format!("{byte:02x}")).collect()
                } else {
                    String::new()
                };
                links.push(Link { gpa, len: 4096, page_type, contents, digest, differs });
            }
        }
    }
    links
}

/// Pages by address and number there, with their place in the launch.
type Places<'a> = BTreeMap<(Gpa, usize), (usize, &'a Step)>;

type Placed<'a> = ((Gpa, usize), (usize, &'a Step));

fn in_order(places: Places<'_>) -> Vec<Placed<'_>> {
    let mut list: Vec<_> = places.into_iter().collect();
    list.sort_unstable_by_key(|(_, (index, _))| *index);
    list
}

fn describe(step: &Step) -> String {
    format!("{} at {}", step.page_type, step.gpa)
}

/// Pages by address; several at one address (KVM's VMSAs) by their number there.
fn by_place(chain: &Chain) -> Places<'_> {
    let mut count: BTreeMap<Gpa, usize> = BTreeMap::new();
    let place = |(index, step): (usize, &'_ Step)| {
        let number = count.entry(step.gpa).or_default();
        *number += 1;
        ((step.gpa, *number), index)
    };
    let keys: Vec<_> = chain.steps.iter().enumerate().map(place).collect();
    keys.into_iter().map(|(key, index)| (key, (index, &chain.steps[index]))).collect()
}

fn pages(a: &Chain, b: &Chain) -> Vec<Row> {
    let (of_a, of_b) = (by_place(a), by_place(b));
    let mut rows = Vec::new();
    let mut order_told = false;
    let mut last_b = None;
    for (key, (_, step)) in &of_a {
        match of_b.get(key) {
            None => rows.push(absent(key, step, true)),
            Some((_, other)) => rows.extend(changed(key, step, other)),
        }
    }
    rows.extend(
        of_b.iter().filter(|(key, _)| !of_a.contains_key(key)).map(|(key, (_, step))| absent(key, step, false)),
    );
    // The order, once: of the pages that both have.
    let mut common: Vec<_> = of_a.iter().filter_map(|(key, (index, _))| Some((index, of_b.get(key)?.0, key))).collect();
    common.sort_unstable_by_key(|(index, ..)| **index);
    for (_, in_b, key) in common {
        if last_b.is_some_and(|last| in_b < last) && !order_told {
            order_told = true;
            rows.push(Row {
                what: "order".into(),
                a: format!("{} comes later", key.0),
                b: format!("{} comes earlier", key.0),
                fields: Vec::new(),
            });
        }
        last_b = Some(in_b);
    }
    rows
}

fn name(key: &(Gpa, usize)) -> String {
    if key.1 > 1 { format!("{}, number {}", key.0, key.1) } else { key.0.to_string() }
}

fn absent(key: &(Gpa, usize), step: &Step, in_a: bool) -> Row {
    let (there, not) = (step.page_type.to_string(), "not launched".to_owned());
    let (a, b) = if in_a { (there, not) } else { (not, there) };
    Row { what: format!("page at {}", name(key)), a, b, fields: Vec::new() }
}

fn changed(key: &(Gpa, usize), a: &Step, b: &Step) -> Option<Row> {
    if (a.page_type, a.contents) == (b.page_type, b.contents) {
        return None;
    }
    let what = format!("page at {}", name(key));
    if a.page_type != b.page_type {
        return Some(Row { what, a: a.page_type.to_string(), b: b.page_type.to_string(), fields: Vec::new() });
    }
    let hash = |step: &Step| step.contents[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "…";
    let mut row = Row {
        what,
        a: format!("{} {}", a.page_type, hash(a)),
        b: format!("{} {}", b.page_type, hash(b)),
        fields: Vec::new(),
    };
    if let (Some(a), Some(b)) = (&a.data, &b.data) {
        let vmsa = |page: &[u8]| Vmsa::read_from_bytes(page).expect("a page");
        if key_is_vmsa(&row.a) {
            row.fields = fields(&vmsa(a), &vmsa(b));
        } else if let Some(at) = a.iter().zip(b.iter()).position(|(a, b)| a != b) {
            let count = a.iter().zip(b.iter()).filter(|(a, b)| a != b).count();
            row.what += &format!(": {count} bytes, the first at offset {at:#x}");
        }
    } else if key_is_vmsa(&row.a) {
        row.what += " (its fields are not known: a transcript has only its hash)";
    }
    Some(row)
}

fn key_is_vmsa(text: &str) -> bool {
    PageType::VMSA.name().is_some_and(|name| text.starts_with(name))
}

impl Comparison {
    fn same(&self) -> bool {
        self.rows.is_empty() && self.parts_at.is_none()
    }

    fn text(&self) -> String {
        if self.same() {
            return "the same\n".to_owned();
        }
        let mut out = String::new();
        if let Some([a, b]) = &self.digests {
            out += &format!("A {a}\nB {b}\n\n");
        }
        if let Some(parts_at) = &self.parts_at {
            out += &format!("the digests part at {parts_at}\n\n");
        }
        for row in self.rows.iter().take(SHOWN) {
            out += &match (row.a.as_str(), row.b.as_str()) {
                ("", "") => format!("{}\n", row.what),
                (a, b) => format!("{}: {a} in A, {b} in B\n", row.what),
            };
            for (field, a, b) in &row.fields {
                out += &format!("  {field:<24} {a:<20} {b}\n");
            }
        }
        if self.rows.len() > SHOWN {
            out += &format!("and {} more; --json has all\n", self.rows.len() - SHOWN);
        }
        out
    }

    /// As a page.
    fn page(&self, args: &DiffArgs, chain: Vec<Link>) -> Document {
        let block = |link: &Link| Block {
            gpa: link.gpa,
            len: link.len,
            page_type: link.page_type.clone(),
            label: if link.differs { "differs".into() } else { String::new() },
        };
        let outside = snp_abi::LEGACY_VMSA_GPA.0;
        let field = |(name, a, b): &(String, String, String)| Field {
            offset: snp_vmsa::fields::find(name).map_or(0, |field| field.offset() as u32),
            name: name.clone(),
            value: a.clone(),
            note: format!("{b} in B"),
            differs: true,
        };
        let with_fields = self.rows.iter().filter(|row| !row.fields.is_empty());
        let rows = self.rows.iter().map(|row| vec![row.what.clone(), row.a.clone(), row.b.clone()]).collect();
        let facts = self.digests.iter().flat_map(|[a, b]| [("A", a), ("B", b)]);
        Document {
            title: format!("{} and {}", args.a, args.b),
            subtitle: self.parts_at.as_ref().map_or("the same".to_owned(), |at| format!("The digests part at {at}.")),
            facts: facts.map(|(name, digest)| (name.to_owned(), digest.clone())).collect(),
            memory: chain.iter().filter(|link| link.gpa != outside).map(block).collect(),
            vmsas: with_fields
                .map(|row| VmsaView {
                    title: format!("{}: value in A", row.what),
                    fields: row.fields.iter().map(field).collect(),
                })
                .collect(),
            tables: vec![html::table("Differences", &["what", "A", "B"], rows)],
            chain,
            ..Document::default()
        }
    }

    fn document(&self) -> Value {
        let row = |row: &Row| {
            let fields: Vec<_> =
                row.fields.iter().map(|(name, a, b)| json!({ "name": name, "a": a, "b": b })).collect();
            json!({ "what": row.what, "a": row.a, "b": row.b, "fields": fields })
        };
        json!({
            "same": self.same(),
            "launch_digests": self.digests,
            "parts_at": self.parts_at,
            "differences": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
