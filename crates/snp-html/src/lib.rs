//! One self-contained HTML page about a launch: the guest's memory drawn to scale, the digest chain, VMSAs field by field.
//!
//! The page is for people who were not there: it is attached to a bug report, kept beside a build, or printed. So it loads
//! nothing (its content security policy forbids it), it is the same bytes for the same [`Document`], it works without
//! JavaScript, and what it leaves out it says it left out. This crate knows nothing of SEV-SNP beyond the names of the page
//! types: whoever calls [`render`] decides what is worth showing.

mod escape;
mod kind;
mod layout;
mod map;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use escape::Text;

/// The most rows that the page shows of the digest chain, and of each generic table. Browsers get slow beyond a few thousand
/// rows, and nobody reads them; the page says how many are not shown.
pub const MOST_ROWS: usize = 2000;

/// The most VMSAs that the page shows, for the same reason as [`MOST_ROWS`].
pub const MOST_VMSAS: usize = 32;

/// All that the page shows. Empty parts leave no trace on the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The page's heading.
    pub title: String,
    /// One line below the heading.
    pub subtitle: String,
    /// Key facts, name and value: launch digest, policy, profile. A value that is a long hexadecimal number is shown in
    /// monospace and can be copied with one click.
    pub facts: Vec<(String, String)>,
    /// What the reader must know before reading on.
    pub warnings: Vec<String>,
    /// The guest's memory, in any order.
    pub memory: Vec<Block>,
    /// The digest chain, in launch order.
    pub chain: Vec<Link>,
    /// VMSAs, field by field.
    pub vmsas: Vec<VmsaView>,
    /// Anything else.
    pub tables: Vec<Table>,
}

/// A range of guest-physical memory in the memory map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Where it starts.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
    /// `normal`, `zero`, `vmsa`, `secrets`, `cpuid`, `unmeasured`, or `memory` for guest memory that nothing was loaded into,
    /// which is drawn as an outline and may overlap the others. Any other word is shown as it is, in a colour of its own.
    pub page_type: String,
    /// What is in it, in a few words.
    pub label: String,
}

/// A row of the digest chain: a run of pages and the launch digest after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Where the run starts.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
    /// As in [`Block::page_type`].
    pub page_type: String,
    /// What is in it, in a few words or as a hash.
    pub contents: String,
    /// The launch digest after this run, in hexadecimal.
    pub digest: String,
    /// Whether it differs from what it was compared with.
    pub differs: bool,
}

/// A VMSA, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmsaView {
    /// Which one.
    pub title: String,
    /// Its fields, in the order to show them in.
    pub fields: Vec<Field>,
}

/// A field of a VMSA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its offset in the page.
    pub offset: u32,
    /// Its name.
    pub name: String,
    /// Its value, as it is to be shown.
    pub value: String,
    /// What the value means, or what it should be.
    pub note: String,
    /// Whether it differs from what it was compared with.
    pub differs: bool,
}

/// A table of any content: candidates that were tried, findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its caption.
    pub title: String,
    /// Its column heads.
    pub columns: Vec<String>,
    /// Its rows. A row that is shorter than [`Table::columns`] is filled up with empty cells, a longer one is shown in full.
    pub rows: Vec<Vec<String>>,
}

/// What the page may do: its own style and its own script, and nothing from anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The whole page, from `<!DOCTYPE html>` to `</html>`. The same document gives the same bytes.
pub fn render(document: &Document) -> String {
    let title = if document.title.is_empty() { "Launch report" } else { &document.title };
    let mut out = String::new();
    // Writing to a String cannot fail; the modules pass the result up because that reads better than a discard per line.
    page(&mut out, document, title).expect("a String takes everything");
    out
}

fn page(out: &mut String, document: &Document, title: &str) -> std::fmt::Result {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{CONTENT_SECURITY_POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n",
        Text(title),
        include_str!("page.css"),
    )?;
    header(out, document, title)?;
    out.push_str("<main id=\"main\" tabindex=\"-1\">\n");
    warnings(out, &document.warnings)?;
    let Document { title: own_title, subtitle, .. } = document;
    if *document == (Document { title: own_title.clone(), subtitle: subtitle.clone(), ..Document::default() }) {
        out.push_str("<p class=\"nothing\">There is nothing to show.</p>\n");
    }
    let shown = tables::ChainRows::choose(&document.chain);
    map::write(out, &document.memory, &document.chain, &shown)?;
    tables::chain(out, &document.chain, &shown)?;
    tables::vmsas(out, &document.vmsas)?;
    tables::generic(out, &document.tables)?;
    write!(
        out,
        "</main>\n<footer><p>Written by snpkit. This page is complete in itself: it loads nothing and sends nothing.</p></footer>\n\
         <script>\n{}</script>\n</body>\n</html>\n",
        include_str!("page.js")
    )
}

fn header(out: &mut String, document: &Document, title: &str) -> std::fmt::Result {
    writeln!(out, "<header>\n<h1>{}</h1>", Text(title))?;
    if !document.subtitle.is_empty() {
        writeln!(out, "<p class=\"subtitle\">{}</p>", Text(&document.subtitle))?;
    }
    if !document.facts.is_empty() {
        out.push_str("<dl class=\"facts\">\n");
        for (name, value) in &document.facts {
            writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", Text(name), tables::Value { value, copy: Some(name) })?;
        }
        out.push_str("</dl>\n");
    }
    let sections = [
        ("map", "Memory map", document.memory.len()),
        ("chain", "Digest chain", document.chain.len()),
        ("vmsas", "VMSAs", document.vmsas.len()),
        ("tables", "Tables", document.tables.len()),
    ];
    let sections: Vec<_> = sections.iter().filter(|(_, _, count)| *count > 0).collect();
    if sections.len() > 1 {
        out.push_str("<nav aria-label=\"On this page\"><ul>\n");
        for (id, name, _) in sections {
            writeln!(out, "<li><a href=\"#{id}\">{name}</a></li>")?;
        }
        out.push_str("</ul></nav>\n");
    }
    out.push_str("</header>\n");
    Ok(())
}

fn warnings(out: &mut String, warnings: &[String]) -> std::fmt::Result {
    if warnings.is_empty() {
        return Ok(());
    }
    let heading = if warnings.len() == 1 { "Warning" } else { "Warnings" };
    writeln!(
        out,
        "<section class=\"warnings\" aria-labelledby=\"warnings\">\n<h2 id=\"warnings\">{heading}</h2>\n<ul>"
    )?;
    for warning in warnings {
        writeln!(out, "<li>{}</li>", Text(warning))?;
    }
    out.push_str("</ul>\n</section>\n");
    Ok(())
}
