//! Tables: the digest chain, VMSAs, and any other.

use crate::{Link, Table, VmsaView, class, escape, length};

/// Rows of one table. A page of more would be slow to open, and nobody reads it: what is left out is said.
const MOST_ROWS: usize = 2000;

pub(crate) fn chain(out: &mut String, links: &[Link]) {
    if links.is_empty() {
        return;
    }
    *out += "<section aria-labelledby=\"chain-title\">\n<h2 id=\"chain-title\">Digest chain</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"chain-title\">\n<table>\n";
    *out += "<caption>What is measured, in order, and the digest after it</caption>\n<thead><tr><th scope=\"col\">#</th>\
             <th scope=\"col\">Address</th><th scope=\"col\">Length</th><th scope=\"col\">Type</th>\
             <th scope=\"col\">Contents</th><th scope=\"col\">Digest</th></tr></thead>\n<tbody>\n";
    for (index, link) in links.iter().take(MOST_ROWS).enumerate() {
        *out += &format!(
            "<tr{}><td>{}</td><th scope=\"row\"><code>{:#x}</code></th><td>{}</td><td><span class=\"tag {}\">{}</span></td>\
             <td class=\"hash\"><code>{}</code></td><td class=\"hash\"><code>{}</code></td></tr>\n",
            if link.differs { " class=\"differs\"" } else { "" },
            index + 1,
            link.gpa,
            length(link.len),
            class(&link.page_type),
            escape(&link.page_type),
            escape(&link.contents),
            escape(&link.digest)
        );
    }
    *out += "</tbody>\n</table>\n</div>\n";
    left_out(out, links.len());
    *out += "</section>\n";
}

pub(crate) fn vmsas(out: &mut String, vmsas: &[VmsaView]) {
    for (index, vmsa) in vmsas.iter().enumerate() {
        *out += &format!(
            "<section aria-labelledby=\"vmsa-{index}\">\n<h2 id=\"vmsa-{index}\">{}</h2>\n\
             <label class=\"filter\" hidden>Filter <input type=\"search\" data-filter=\"vmsa-table-{index}\"></label>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"vmsa-{index}\">\n<table id=\"vmsa-table-{index}\">\n\
             <caption>Fields by offset</caption>\n<thead><tr><th scope=\"col\">Offset</th><th scope=\"col\">Field</th>\
             <th scope=\"col\">Value</th><th scope=\"col\">Note</th></tr></thead>\n<tbody>\n",
            escape(&vmsa.title)
        );
        for field in vmsa.fields.iter().take(MOST_ROWS) {
            *out += &format!(
                "<tr{}><td><code>{:#05x}</code></td><th scope=\"row\">{}</th><td><code>{}</code></td><td>{}</td></tr>\n",
                if field.differs { " class=\"differs\"" } else { "" },
                field.offset,
                escape(&field.name),
                escape(&field.value),
                escape(&field.note)
            );
        }
        *out += "</tbody>\n</table>\n</div>\n";
        left_out(out, vmsa.fields.len());
        *out += "</section>\n";
    }
}

pub(crate) fn tables(out: &mut String, tables: &[Table]) {
    for table in tables {
        *out += &format!(
            "<section>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\">\n<table>\n<caption>{0}</caption>\n<thead><tr>",
            escape(&table.title)
        );
        for column in &table.columns {
            *out += &format!("<th scope=\"col\">{}</th>", escape(column));
        }
        *out += "</tr></thead>\n<tbody>\n";
        for row in table.rows.iter().take(MOST_ROWS) {
            *out += "<tr>";
            for cell in row {
                *out += &format!("<td>{}</td>", escape(cell));
            }
            *out += "</tr>\n";
        }
        *out += "</tbody>\n</table>\n</div>\n";
        left_out(out, table.rows.len());
        *out += "</section>\n";
    }
}

fn left_out(out: &mut String, rows: usize) {
    if rows > MOST_ROWS {
        *out += &format!(
            "<p class=\"note\">{} more rows are left out here; the JSON output has all.</p>\n",
            rows - MOST_ROWS
        );
    }
}
