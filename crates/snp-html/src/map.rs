//! The memory map: an overview of guest-physical memory truly to scale, and below it what lies close together, enlarged.

use std::fmt::{self, Write as _};

use crate::escape::{Count, Many, Range, Size, Text};
use crate::kind::{KINDS, Kind, MEMORY, kind};
use crate::layout::{Cluster, Layout, Placed, spread, tick};
use crate::tables::ChainRows;
use crate::{Block, Link};

/// How far flags stand apart, in percent of the width: wide enough for a letter on a desktop screen.
const FLAG: f64 = 2.4;

/// The most flags above a cluster. More of them would lose their places; they are listed below the cluster instead.
const MOST_FLAGS: usize = 40;

/// How far the clusters' numbers stand apart, in percent of the width.
const NUMBER: f64 = 4.0;

pub(crate) fn write(out: &mut String, memory: &[Block], chain: &[Link], shown: &ChainRows) -> fmt::Result {
    let Some(layout) = Layout::new(memory) else { return Ok(()) };
    let rows = RowOf::new(chain, shown);
    out.push_str("<section class=\"map\" aria-labelledby=\"map\">\n<h2 id=\"map\">Memory map</h2>\n");
    summary(out, memory, &layout)?;
    legend(out, memory, &layout)?;
    out.push_str(
        "<p class=\"hint\">Point at a block, or go to it with Tab<span class=\"js\" hidden> and the arrow keys</span>: the line \
         at the bottom of the window says what it is. A block that has a row in the digest chain leads there.</p>\n",
    );
    // Without JavaScript every block is a stop for Tab.
    out.push_str("<a class=\"past\" href=\"#past-map\">Skip the blocks of the map</a>\n");
    overview(out, &layout, &rows)?;
    for (index, cluster) in layout.clusters.iter().enumerate() {
        draw(out, index + 1, cluster, &rows)?;
    }
    out.push_str("<span id=\"past-map\" tabindex=\"-1\"></span>\n</section>\n");
    Ok(())
}

fn summary(out: &mut String, memory: &[Block], layout: &Layout<'_>) -> fmt::Result {
    let loaded = memory.iter().filter(|block| kind(&block.page_type) != MEMORY);
    let (count, bytes) = loaded.fold((0, 0u64), |(count, bytes), block| (count + 1, bytes.saturating_add(block.len)));
    let [Some(first), Some(last)] = [layout.clusters.first(), layout.clusters.last()] else {
        out.push_str("<p class=\"lead\">Nothing was loaded.</p>\n");
        return Ok(());
    };
    writeln!(
        out,
        "<p class=\"lead\">{}, {} in all, in {}, between <code>{:#x}</code> and <code>{:#x}</code>.</p>",
        Many(count, "launched block"),
        Size(bytes),
        Many(layout.clusters.len(), "place"),
        first.span.start,
        last.span.end.saturating_sub(1),
    )
}

fn legend(out: &mut String, memory: &[Block], layout: &Layout<'_>) -> fmt::Result {
    out.push_str("<ul class=\"legend\" aria-label=\"Legend\">\n");
    for kind_ in &KINDS {
        let Kind { name, letter, meaning } = kind_;
        let of_kind = memory.iter().filter(|block| kind(&block.page_type) == kind_);
        let (count, bytes) =
            of_kind.fold((0, 0u64), |(count, bytes), block| (count + 1, bytes.saturating_add(block.len)));
        if count > 0 {
            writeln!(
                out,
                "<li><span class=\"k t-{name}\" aria-hidden=\"true\"><i>{letter}</i></span><span><b>{name}</b> \
                 <span class=\"n\">{}</span><small>{meaning}</small></span></li>",
                Size(bytes),
            )?;
        }
    }
    if layout.clusters.iter().flat_map(|cluster| &cluster.blocks).any(Placed::too_small) {
        out.push_str(
            "<li><span class=\"k flagged\" aria-hidden=\"true\"></span><span><b>flag</b><small>a block too small for the scale, \
             drawn wider than it is; the line leads to its true place</small></span></li>\n",
        );
    }
    out.push_str("</ul>\n");
    Ok(())
}

fn overview(out: &mut String, layout: &Layout<'_>, rows: &RowOf) -> fmt::Result {
    let span = layout.span;
    writeln!(
        out,
        "<figure class=\"overview\">\n<figcaption><b>Overview</b> <code>{}</code> <span class=\"n\">{}</span> <small>truly to \
         scale; marks are at least 3\u{a0}pixels wide</small></figcaption>",
        Range(span.start, span.len()),
        Size(span.len()),
    )?;
    out.push_str("<div class=\"plot\" role=\"group\" aria-label=\"Overview\"><div class=\"bar\">");
    for placed in &layout.overview {
        block(out, placed, Shape::InBar, rows)?;
    }
    for cluster in &layout.clusters {
        let left = span.percent(cluster.span.start.into());
        let width = span.percent(cluster.span.end) - left;
        write!(out, "<span class=\"mark\" style=\"left:min({left:.4}%,100% - 3px);width:{width:.4}%\"></span>")?;
    }
    out.push_str("</div>");
    let middles: Vec<_> = layout
        .clusters
        .iter()
        .map(|cluster| (span.percent(cluster.span.start.into()) + span.percent(cluster.span.end)) / 2.0)
        .collect();
    let labels = spread(&middles, NUMBER);
    leaders(out, middles.iter().zip(&labels).map(|(&from, &to)| (from, to)))?;
    out.push_str("<div class=\"numbers\">");
    for (index, label) in labels.iter().enumerate() {
        write!(
            out,
            "<a href=\"#cluster-{0}\" aria-label=\"Cluster {0}\" style=\"left:{label:.4}%\">{0}</a>",
            index + 1
        )?;
    }
    out.push_str("</div></div>\n</figure>\n");
    Ok(())
}

fn draw(out: &mut String, number: usize, cluster: &Cluster<'_>, rows: &RowOf) -> fmt::Result {
    let span = cluster.span;
    let small: Vec<_> = cluster.blocks.iter().filter(|placed| placed.too_small()).collect();
    let step = tick(span);
    writeln!(
        out,
        "<figure class=\"cluster\" id=\"cluster-{number}\">\n<figcaption><b class=\"no\">{number}</b> <code>{}</code> \
         <span class=\"n\">{}</span> <small>{}; a tick every {}</small></figcaption>",
        Range(span.start, span.len()),
        Size(span.len()),
        Many(cluster.blocks.len(), "block"),
        Size(step),
    )?;
    let flags = !small.is_empty() && small.len() <= MOST_FLAGS;
    let class = if flags { "plot flags" } else { "plot" };
    write!(out, "<div class=\"{class}\" role=\"group\" aria-label=\"Cluster {number}\">")?;
    let tops: Vec<_> = small.iter().map(|placed| placed.left + placed.width / 2.0).collect();
    let tops = if flags { spread(&tops, FLAG) } else { Vec::new() };
    leaders(out, small.iter().zip(&tops).map(|(placed, &top)| (top, placed.left + placed.width / 2.0)))?;
    out.push_str("<div class=\"track\">");
    for &(left, width) in &cluster.behind {
        write!(out, "<span class=\"behind\" style=\"{}\"></span>", Place(left, width))?;
    }
    let mut tops = tops.iter();
    for placed in &cluster.blocks {
        if placed.too_small() {
            // Its true place, and over it, in the same address order for the keyboard, what can be seen and pointed at.
            let Placed { kind: Kind { name, .. }, left, width, .. } = placed;
            write!(out, "<span class=\"sliver t-{name}\" style=\"{}\"></span>", Place(*left, *width))?;
            if let Some(&top) = tops.next() {
                block(out, placed, Shape::Flag(top), rows)?;
            }
        } else {
            block(out, placed, Shape::InBar, rows)?;
        }
    }
    out.push_str("</div><div class=\"ticks\" aria-hidden=\"true\">");
    let first = u128::from(span.start).next_multiple_of(step.into());
    for address in (first..=span.end).step_by(step as usize) {
        write!(out, "<i style=\"left:{:.4}%\"></i>", span.percent(address))?;
    }
    out.push_str("</div></div>\n");
    if !small.is_empty() && !flags {
        write!(
            out,
            "<p class=\"crowd-note\">{} blocks are too small for this scale and too many for flags. In address order:</p>\n\
             <div class=\"crowd\" role=\"group\" aria-label=\"Small blocks of cluster {number}\">",
            Count(small.len())
        )?;
        for placed in &small {
            block(out, placed, Shape::InList, rows)?;
        }
        out.push_str("</div>\n");
    }
    out.push_str("</figure>\n");
    Ok(())
}

/// Lines from one edge of a strip to the other.
fn leaders(out: &mut String, lines: impl Iterator<Item = (f64, f64)>) -> fmt::Result {
    let mut path = String::new();
    for (from, to) in lines {
        write!(path, "M{from:.4} 0L{to:.4} 10")?;
    }
    if !path.is_empty() {
        write!(
            out,
            "<svg class=\"leaders\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <path d=\"{path}\"/></svg>"
        )?;
    }
    Ok(())
}

/// Left edge and width.
struct Place(f64, f64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left:{:.4}%;width:{:.4}%", self.0, self.1)
    }
}

enum Shape {
    /// In its true place and width.
    InBar,
    /// Above the bar, around this point.
    Flag(f64),
    /// One of many, in the order of addresses and to no scale.
    InList,
}

/// A block that can be reached: by pointer, by keyboard, by screen reader.
fn block(out: &mut String, placed: &Placed<'_>, shape: Shape, rows: &RowOf) -> fmt::Result {
    let Placed { block, kind: Kind { name, letter, .. }, number, left, width } = placed;
    let row = if placed.kind == MEMORY { None } else { rows.find(block) };
    let (element, role, link) = match row {
        Some(row) => ("a", "link", format!(" href=\"#row-{row}\"")),
        None => ("span", "img", String::new()),
    };
    let (class, style) = match shape {
        Shape::InBar => ("b", format!(" style=\"{}\"", Place(*left, *width))),
        Shape::Flag(middle) => ("b flag", format!(" style=\"left:{:.4}%\"", middle)),
        Shape::InList => ("b", String::new()),
    };
    write!(
        out,
        "<{element} class=\"{class} t-{name}\" id=\"block-{number}\" role=\"{role}\" tabindex=\"0\"{link}{style} \
         aria-label=\"{}, {} ({}), {}",
        Range(block.gpa, block.len),
        Size(block.len),
        Many(usize::try_from(block.len.div_ceil(4096)).unwrap_or(usize::MAX), "page"),
        Text(&block.page_type),
    )?;
    if !block.label.is_empty() {
        write!(out, ": {}", Text(&block.label))?;
    }
    out.push_str("\">");
    // A letter that would be cut off says less than none; in narrow windows (class w) that begins earlier.
    match shape {
        Shape::InBar if *width < 3.0 => {}
        Shape::InBar if *width < 7.0 => write!(out, "<i class=\"w\">{letter}</i>")?,
        _ => write!(out, "<i>{letter}</i>")?,
    }
    write!(out, "</{element}>")
}

/// Finds the row of the chain that launched a block, among the rows that the page shows.
struct RowOf {
    /// Start, exclusive end, index; by start and index.
    rows: Vec<(u64, u128, usize)>,
    types: Vec<&'static Kind>,
}

impl RowOf {
    fn new(chain: &[Link], shown: &ChainRows) -> Self {
        let types = chain.iter().map(|link| kind(&link.page_type)).collect();
        let mut rows: Vec<_> = shown
            .indices()
            .map(|at| (chain[at].gpa, u128::from(chain[at].gpa) + u128::from(chain[at].len), at))
            .collect();
        rows.sort_unstable();
        Self { rows, types }
    }

    /// The row that launched the block's first page, else the first row that launched any of it. The same pages may be
    /// launched twice, so the page type decides between rows that fit.
    fn find(&self, block: &Block) -> Option<usize> {
        /// How many rows that start before the block are looked at: rows rarely overlap, and a link is a convenience.
        const BACK: usize = 16;
        let own = kind(&block.page_type);
        let end = u128::from(block.gpa) + u128::from(block.len);
        let after = self.rows.partition_point(|row| row.0 <= block.gpa);
        let before = self.rows[after.saturating_sub(BACK)..after].iter().rev().filter(|row| row.1 > block.gpa.into());
        let within = self.rows[after..].iter().take_while(|row| u128::from(row.0) < end).take(BACK);
        let fits: Vec<_> = before.chain(within).map(|row| row.2).collect();
        fits.iter().find(|&&row| self.types[row] == own).or(fits.first()).copied()
    }
}
