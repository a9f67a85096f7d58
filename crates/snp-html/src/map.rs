//! The memory map: an overview truly to scale, and each cluster of blocks to a scale of its own.

use crate::{Block, TYPES, class, escape, length};

/// Units of a drawing's width.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 44.0;
/// Blocks are drawn at least this wide, so that they can be seen.
const NARROWEST: f64 = 6.0;
/// A letter fits into a block of this width.
const LETTER: f64 = 14.0;
/// A gap of less than this never parts two clusters.
const SMALL_GAP: u64 = 1 << 20;

pub(crate) fn section(out: &mut String, blocks: &[Block]) {
    let mut blocks: Vec<&Block> = blocks.iter().filter(|block| block.len > 0).collect();
    if blocks.is_empty() {
        return;
    }
    blocks.sort_by_key(|block| (block.gpa, block.len));
    *out += "<section aria-labelledby=\"map-title\" class=\"map\">\n<h2 id=\"map-title\">Guest memory</h2>\n";
    legend(out, &blocks);
    let clusters = clusters(&blocks);
    overview(out, &clusters);
    for cluster in &clusters {
        drawing(out, cluster);
    }
    *out += "<p id=\"block\" class=\"details\" aria-live=\"polite\">Select a block, or move with the arrow keys.</p>\n";
    *out += "</section>\n";
}

fn end(block: &Block) -> u64 {
    block.gpa.saturating_add(block.len)
}

/// Blocks near each other, judged by the extent of what is there already.
fn clusters<'a>(blocks: &[&'a Block]) -> Vec<Vec<&'a Block>> {
    let mut clusters: Vec<Vec<&Block>> = Vec::new();
    let mut reach = 0;
    for block in blocks {
        let near = clusters.last().is_some_and(|cluster| {
            let extent = reach - cluster[0].gpa;
            block.gpa.saturating_sub(reach) <= SMALL_GAP.max(extent.max(block.len).saturating_mul(2))
        });
        if near {
            clusters.last_mut().expect("there is one").push(block);
            reach = reach.max(end(block));
        } else {
            clusters.push(vec![block]);
            reach = end(block);
        }
    }
    clusters
}

fn extent(cluster: &[&Block]) -> (u64, u64) {
    let start = cluster.iter().map(|block| block.gpa).min().unwrap_or_default();
    (start, cluster.iter().map(|block| end(block)).max().unwrap_or_default())
}

fn legend(out: &mut String, blocks: &[&Block]) {
    *out += "<ul class=\"legend\" aria-label=\"Page types\">\n";
    for (name, letter, words) in TYPES {
        if blocks.iter().any(|block| block.page_type == name) {
            *out += &format!("<li><span class=\"swatch {name}\" aria-hidden=\"true\">{letter}</span>{words}</li>\n");
        }
    }
    *out += "</ul>\n";
}

/// The whole address space up to the last block, truly to scale.
fn overview(out: &mut String, clusters: &[Vec<&Block>]) {
    if clusters.len() < 2 {
        return;
    }
    let last = clusters.iter().map(|cluster| extent(cluster).1).max().unwrap_or(1);
    let scale = |at: u64| at as f64 / last as f64 * WIDTH;
    *out += &format!(
        "<figure>\n<figcaption>0x0 to {last:#x}, to scale: where the clusters below lie</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} 14\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Overview of guest memory\" class=\"overview\">\n\
         <rect class=\"space\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"14\"/>\n"
    );
    for cluster in clusters {
        let (start, end) = extent(cluster);
        let width = (scale(end) - scale(start)).max(NARROWEST);
        let x = scale(start).min(WIDTH - width);
        *out += &format!("<rect class=\"cluster\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"14\"/>\n");
    }
    *out += "</svg>\n</figure>\n";
}

fn drawing(out: &mut String, cluster: &[&Block]) {
    let (start, end_of_all) = extent(cluster);
    let whole = (end_of_all - start).max(1) as f64;
    *out += &format!(
        "<figure>\n<figcaption><code>{start:#x}</code> to <code>{:#x}</code>, {}</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"group\" aria-label=\"{start:#x} to {:#x}\">\n\
         <rect class=\"space\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
        end_of_all - 1,
        length(end_of_all - start),
        end_of_all - 1
    );
    // Memory first, so that what is loaded lies on it.
    let (memory, loaded): (Vec<&&Block>, Vec<&&Block>) = cluster.iter().partition(|block| block.page_type == "memory");
    for block in memory.into_iter().chain(loaded) {
        let true_width = block.len as f64 / whole * WIDTH;
        let width = true_width.max(NARROWEST);
        let x = ((block.gpa - start) as f64 / whole * WIDTH).min(WIDTH - width);
        let words = describe(block);
        let widened = if true_width < NARROWEST { " widened" } else { "" };
        *out += &format!(
            "<g tabindex=\"0\" role=\"img\" aria-label=\"{words}\" class=\"block {}{widened}\"><title>{words}</title>\
             <rect x=\"{x:.2}\" y=\"1\" width=\"{width:.2}\" height=\"{:.0}\"/>",
            class(&block.page_type),
            HEIGHT - 2.0
        );
        let letter = TYPES.iter().find(|(name, ..)| *name == block.page_type).map_or("", |(_, letter, _)| letter);
        if width >= LETTER && !letter.is_empty() {
            *out += &format!("<text x=\"{:.2}\" y=\"28\" aria-hidden=\"true\">{letter}</text>", x + width / 2.0);
        }
        *out += "</g>\n";
    }
    *out += "</svg>\n";
    if cluster.iter().any(|block| block.len as f64 / whole * WIDTH < NARROWEST) {
        *out += "<p class=\"note\">Outlined blocks are drawn wider than they are.</p>\n";
    }
    *out += "</figure>\n";
}

fn describe(block: &Block) -> String {
    let label = if block.label.is_empty() { String::new() } else { format!(", {}", block.label) };
    let last = block.gpa.saturating_add(block.len - 1);
    escape(&format!("{} {:#x} to {last:#x}, {}{label}", block.page_type, block.gpa, length(block.len)))
}
