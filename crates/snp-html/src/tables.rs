//! The digest chain, VMSAs and other tables.

use std::fmt::{self, Write as _};

use crate::escape::{Count, Many, Range, Size, Text};
use crate::kind::Tag;
use crate::{Field, Link, MOST_ROWS, MOST_VMSAS, Table, VmsaView};

/// A value that may be a hexadecimal number.
pub(crate) struct Value<'a> {
    pub(crate) value: &'a str,
    /// The name under which to offer to copy it, if it is a long one.
    pub(crate) copy: Option<&'a str>,
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.value.strip_prefix("0x").unwrap_or(self.value);
        let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hexadecimal || (digits.len() == self.value.len() && digits.len() < 16) {
            return write!(f, "{}", Text(self.value));
        }
        f.write_str("<code>")?;
        // A long number may break, and breaks where the eye can count.
        for (at, digit) in self.value.char_indices() {
            if at > 0 && at % 16 == 0 && digits.len() > 32 {
                f.write_str("<wbr>")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str("</code>")?;
        if let Some(name) = self.copy.filter(|_| digits.len() >= 32) {
            let name = Text(name);
            write!(
                f,
                " <button type=\"button\" class=\"copy js\" hidden>Copy<span class=\"sr\"> {name}</span></button>"
            )?;
        }
        Ok(())
    }
}

/// Which rows of the chain the page shows: all, or the first, the last and those in between that differ.
pub(crate) struct ChainRows {
    runs: Vec<std::ops::Range<usize>>,
    total: usize,
}

impl ChainRows {
    pub(crate) fn choose(chain: &[Link]) -> Self {
        let total = chain.len();
        if total <= MOST_ROWS {
            return Self { runs: std::iter::once(0..total).collect(), total };
        }
        let (first, last) = (MOST_ROWS / 2, total - MOST_ROWS / 4);
        let differ = (first..last).filter(|&at| chain[at].differs).take(MOST_ROWS / 4);
        let mut runs: Vec<std::ops::Range<usize>> = std::iter::once(0..first).collect();
        for run in differ.map(|at| at..at + 1).chain(std::iter::once(last..total)) {
            match runs.last_mut() {
                Some(before) if before.end == run.start => before.end = run.end,
                _ => runs.push(run),
            }
        }
        Self { runs, total }
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().cloned().flatten()
    }
}

pub(crate) fn chain(out: &mut String, chain: &[Link], shown: &ChainRows) -> fmt::Result {
    if chain.is_empty() {
        return Ok(());
    }
    out.push_str("<section class=\"chain\" aria-labelledby=\"chain\">\n<h2 id=\"chain\">Digest chain</h2>\n");
    let differ = chain.iter().filter(|link| link.differs).count();
    write!(
        out,
        "<p class=\"lead\">{} in launch order, each with the launch digest after it",
        Many(chain.len(), "row")
    )?;
    match differ {
        0 => out.push_str(".</p>\n"),
        1 => out.push_str("; one differs.</p>\n"),
        many => writeln!(out, "; {} differ.</p>", Count(many))?,
    }
    let count = shown.indices().count();
    if count < shown.total {
        let hidden = differ - shown.indices().filter(|&at| chain[at].differs).count();
        write!(
            out,
            "<p class=\"left-out\" role=\"note\">{} of {} are not shown",
            Count(shown.total - count),
            Many(shown.total, "row")
        )?;
        match hidden {
            0 if differ > 0 => out.push_str("; every row that differs is.</p>\n"),
            0 => out.push_str(".</p>\n"),
            many => writeln!(out, ", {} of them among those that differ.</p>", Count(many))?,
        }
    }
    out.push_str(
        "<p><label class=\"check\"><input type=\"checkbox\" class=\"full\"> Digests in full</label></p>\n\
         <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"chain\">\n<table>\n\
         <caption class=\"sr\">Digest chain</caption>\n<thead><tr><th scope=\"col\" class=\"num\">No.</th>\
         <th scope=\"col\">Range</th><th scope=\"col\" class=\"num\">Length</th><th scope=\"col\">Type</th>\
         <th scope=\"col\">Contents</th><th scope=\"col\">Digest after it</th></tr></thead>\n<tbody>\n",
    );
    let mut next = 0;
    for at in shown.indices() {
        if at > next {
            writeln!(out, "<tr class=\"gap\"><td colspan=\"6\">{} left out here</td></tr>", Many(at - next, "row"))?;
        }
        next = at + 1;
        let Link { gpa, len, page_type, contents, digest, differs } = &chain[at];
        writeln!(
            out,
            "<tr id=\"row-{at}\" tabindex=\"-1\"{}><td class=\"num\">{}</td><th scope=\"row\"><code>{}</code></th>\
             <td class=\"num\">{}</td><td class=\"type\">{}</td><td class=\"contents\">{}{}</td>\
             <td class=\"digest\"><code>{}</code></td></tr>",
            if *differs { " class=\"differs\"" } else { "" },
            at + 1,
            Range(*gpa, *len),
            Size(*len),
            Tag(page_type),
            Differs(*differs),
            Value { value: contents, copy: None },
            Text(digest),
        )?;
    }
    out.push_str("</tbody>\n</table>\n</div>\n</section>\n");
    Ok(())
}

/// The word beside the colour.
struct Differs(bool);

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "<em class=\"ne\">\u{2260} differs</em> " } else { "" })
    }
}

pub(crate) fn vmsas(out: &mut String, vmsas: &[VmsaView]) -> fmt::Result {
    if vmsas.is_empty() {
        return Ok(());
    }
    out.push_str("<section class=\"vmsas\" aria-labelledby=\"vmsas\">\n<h2 id=\"vmsas\">VMSAs</h2>\n");
    let left_out = vmsas.len().saturating_sub(MOST_VMSAS);
    if left_out > 0 {
        writeln!(
            out,
            "<p class=\"left-out\" role=\"note\">{} of {} are not shown.</p>",
            Count(left_out),
            Many(vmsas.len(), "VMSA")
        )?;
    }
    out.push_str(
        "<p class=\"filter js\" hidden><label>Filter <input type=\"search\" id=\"filter\" autocomplete=\"off\" \
         spellcheck=\"false\" placeholder=\"cr0, 0x148, differs \u{2026}\"></label> <output for=\"filter\"></output></p>\n",
    );
    for VmsaView { title, fields } in &vmsas[..vmsas.len() - left_out] {
        writeln!(
            out,
            "<details open><summary><h3>{}</h3></summary>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" \
             aria-label=\"{0}\">\n<table class=\"fields\">\n<caption class=\"sr\">{0}</caption>\n<thead><tr>\
             <th scope=\"col\" class=\"num\">Offset</th><th scope=\"col\">Field</th><th scope=\"col\">Value</th>\
             <th scope=\"col\">Note</th></tr></thead>\n<tbody>",
            Text(title)
        )?;
        for Field { offset, name, value, note, differs } in fields {
            writeln!(
                out,
                "<tr{}><td class=\"num\"><code>{offset:#05x}</code></td><th scope=\"row\">{}</th>\
                 <td class=\"value\"><code>{}</code></td><td>{}{}</td></tr>",
                if *differs { " class=\"differs\"" } else { "" },
                Text(name),
                Text(value),
                Differs(*differs),
                Text(note),
            )?;
        }
        out.push_str("</tbody>\n</table>\n</div>\n</details>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

pub(crate) fn generic(out: &mut String, tables: &[Table]) -> fmt::Result {
    if tables.is_empty() {
        return Ok(());
    }
    out.push_str("<section class=\"tables\" aria-labelledby=\"tables\">\n<h2 id=\"tables\">Tables</h2>\n");
    for Table { title, columns, rows } in tables {
        let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(columns.len());
        writeln!(
            out,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table>\n<caption>{0}</caption>",
            Text(title)
        )?;
        if !columns.is_empty() {
            out.push_str("<thead><tr>");
            for at in 0..width {
                write!(out, "<th scope=\"col\">{}</th>", Text(columns.get(at).map_or("", String::as_str)))?;
            }
            out.push_str("</tr></thead>\n");
        }
        out.push_str("<tbody>\n");
        for row in rows.iter().take(MOST_ROWS) {
            out.push_str("<tr>");
            for at in 0..width {
                let value = row.get(at).map_or("", String::as_str);
                match at {
                    0 => write!(out, "<th scope=\"row\">{}</th>", Value { value, copy: None })?,
                    _ => write!(out, "<td>{}</td>", Value { value, copy: None })?,
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n</div>\n");
        if rows.len() > MOST_ROWS {
            writeln!(
                out,
                "<p class=\"left-out\" role=\"note\">{} of {} are not shown.</p>",
                Count(rows.len() - MOST_ROWS),
                Many(rows.len(), "row")
            )?;
        }
    }
    out.push_str("</section>\n");
    Ok(())
}
