//! One self-contained HTML page about a launch.
//!
//! [`Document`] is a plain model, [`render`] a pure function: no network, no fonts, no images; style and script are in the
//! page. The guest's memory is drawn to scale, the digest chain and VMSAs are tables. The page reads in light and dark, at
//! phone width and on paper, by keyboard and screen reader, and without script, which only adds keys, a filter and a copy
//! button. Every string is escaped. The same document gives the same bytes.
//!
//! ```
//! let page = snp_html::render(&snp_html::Document { title: "a < b".into(), ..Default::default() });
//! assert!(page.contains("<title>a &lt; b</title>"));
//! ```

mod map;
mod tables;

/// A page's contents; empty parts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The heading.
    pub title: String,
    /// A line below it.
    pub subtitle: String,
    /// Key facts: name and value. A value of 64 or more hexadecimal digits is shown as a digest.
    pub facts: Vec<(String, String)>,
    /// Sentences.
    pub warnings: Vec<String>,
    /// What lies where in guest memory, in any order.
    pub memory: Vec<Block>,
    /// The digest chain, in order.
    pub chain: Vec<Link>,
    /// VMSAs by field.
    pub vmsas: Vec<VmsaView>,
    /// Anything else.
    pub tables: Vec<Table>,
}

/// A range of guest memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// First byte.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// `normal`, `zero`, `vmsa`, `secrets`, `cpuid`, `unmeasured`, or `memory` for memory that nothing is loaded into.
    pub page_type: String,
    /// What it is, in words.
    pub label: String,
}

/// A run of pages in the digest chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// First byte.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
    /// As in [`Block`].
    pub page_type: String,
    /// CONTENTS of the run's only page, or what is known about it; may be empty.
    pub contents: String,
    /// The digest after the run.
    pub digest: String,
    /// It differs from what it is compared with.
    pub differs: bool,
}

/// A VMSA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmsaView {
    /// Whose it is.
    pub title: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field of a VMSA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Byte offset.
    pub offset: u32,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it means, or the other value if it differs.
    pub note: String,
    /// It differs from what it is compared with.
    pub differs: bool,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its caption.
    pub title: String,
    /// Its column heads.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

/// The page.
pub fn render(document: &Document) -> String {
    let mut out = String::with_capacity(64 << 10);
    let title = escape(&document.title);
    out += "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
    out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    out += "<meta name=\"color-scheme\" content=\"light dark\">\n";
    out += &format!("<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n", include_str!("style.css"));
    out += "<a class=\"skip\" href=\"#main\">Skip to the contents</a>\n";
    out += &format!("<header>\n<h1>{title}</h1>\n");
    if !document.subtitle.is_empty() {
        out += &format!("<p class=\"subtitle\">{}</p>\n", escape(&document.subtitle));
    }
    out += "</header>\n<main id=\"main\">\n";
    facts(&mut out, &document.facts);
    warnings(&mut out, &document.warnings);
    map::section(&mut out, &document.memory);
    tables::chain(&mut out, &document.chain);
    tables::vmsas(&mut out, &document.vmsas);
    tables::tables(&mut out, &document.tables);
    out += &format!("</main>\n<script>\n{}</script>\n</body>\n</html>\n", include_str!("script.js"));
    out
}

fn facts(out: &mut String, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    *out += "<dl class=\"facts\">\n";
    for (name, value) in facts {
        let digest = value.len() >= 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        let class = if digest { " class=\"digest\"" } else { "" };
        *out += &format!("<div><dt>{}</dt><dd{class}>{}</dd></div>\n", escape(name), escape(value));
    }
    *out += "</dl>\n";
}

fn warnings(out: &mut String, warnings: &[String]) {
    if warnings.is_empty() {
        return;
    }
    *out += "<section class=\"warnings\" aria-label=\"Warnings\">\n<ul>\n";
    for warning in warnings {
        *out += &format!("<li>{}</li>\n", escape(warning));
    }
    *out += "</ul>\n</section>\n";
}

/// Text as HTML, for elements and quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Control characters have no place in HTML.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The class of a page type: a name of our own, whatever the type is called.
fn class(page_type: &str) -> &'static str {
    TYPES.iter().find(|(name, ..)| *name == page_type).map_or("other", |(name, ..)| name)
}

/// Page types: name, letter, what it is.
const TYPES: [(&str, &str, &str); 7] = [
    ("normal", "N", "normal: contents measured"),
    ("zero", "Z", "zero: zeros, address measured"),
    ("vmsa", "V", "VMSA: processor state measured"),
    ("secrets", "S", "secrets: filled by the firmware"),
    ("cpuid", "C", "CPUID: checked by the firmware"),
    ("unmeasured", "U", "unmeasured: address measured only"),
    ("memory", "", "memory that nothing is loaded into"),
];

/// A length for people.
fn length(len: u64) -> String {
    match len {
        len if len >= 1 << 30 && len.is_multiple_of(1 << 28) => format!("{} GiB", len as f64 / f64::from(1 << 30)),
        len if len >= 1 << 20 => format!("{:.4} MiB", len as f64 / f64::from(1 << 20)).replace(".0000", ""),
        len => format!("{} KiB", len as f64 / 1024.0),
    }
}
