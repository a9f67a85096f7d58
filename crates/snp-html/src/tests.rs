use crate::*;

const HOSTILE: &str =
    "</style></script><script>alert(1)</script><img src=x onerror=\"alert('2')\">&\u{202e}\0\u{1b}[1m`${x}`";

fn block(gpa: u64, len: u64, page_type: &str) -> Block {
    Block { gpa, len, page_type: page_type.into(), label: format!("label {gpa:#x}") }
}

fn link(gpa: u64) -> Link {
    Link { gpa, len: 4096, page_type: "normal".into(), digest: "ab".repeat(48), ..Link::default() }
}

/// A document with this text wherever text can be.
fn filled(text: &str) -> Document {
    let text = || text.to_string();
    Document {
        title: text(),
        subtitle: text(),
        facts: vec![(text(), text())],
        warnings: vec![text()],
        memory: vec![
            Block { gpa: 0, len: 4096, page_type: text(), label: text() },
            Block { gpa: 4096, len: 4096, page_type: "memory".into(), label: text() },
        ],
        chain: vec![Link { page_type: text(), contents: text(), digest: text(), len: 1, differs: true, gpa: 0 }],
        vmsas: vec![VmsaView {
            title: text(),
            fields: vec![Field { offset: 1, name: text(), value: text(), note: text(), differs: true }],
        }],
        tables: vec![Table { title: text(), columns: vec![text()], rows: vec![vec![text(), text()]] }],
    }
}

fn count(page: &str, what: &str) -> usize {
    page.matches(what).count()
}

/// The tags of the page's body, each checked to be closed before the next one opens.
fn tags(page: &str) -> Vec<&str> {
    let body = &page[page.find("<body>").expect("a body")..page.rfind("<script>").expect("the script")];
    body.split('<').skip(1).map(|rest| rest.split_once('>').expect("tags are closed").0).collect()
}

#[test]
fn hostile_text_stays_text() {
    let page = render(&filled(HOSTILE));
    assert_eq!(count(&page, "<script"), 1, "our own");
    assert_eq!(count(&page, "</script>"), 1);
    assert_eq!(count(&page, "</style>"), 1);
    assert_eq!(count(&page, "<img"), 0);
    assert_eq!(count(&page, "onerror=\""), 0);
    assert!(!page.contains(['\0', '\u{1b}', '\u{202e}']));
    let plain = render(&filled("plain"));
    assert_eq!(tags(&page).len(), tags(&plain).len(), "text adds no tags");
    for tag in tags(&page) {
        assert_eq!(count(tag, "\"") % 2, 0, "quotes are closed in <{tag}>");
    }
}

#[test]
fn every_element_is_closed() {
    for document in [filled(HOSTILE), Document::default()] {
        let page = render(&document);
        let mut open = Vec::new();
        for tag in tags(&page) {
            let name = tag.trim_start_matches('/').split([' ', '\n']).next().expect("a name");
            match tag.strip_prefix('/') {
                Some(_) => assert_eq!(open.pop(), Some(name), "</{name}>"),
                None if tag.ends_with('/') || ["input", "wbr"].contains(&name.trim_end_matches('/')) => {}
                None => open.push(name),
            }
        }
        assert_eq!(open, ["body"], "which the script stands before the end of");
    }
}

#[test]
fn every_text_of_the_model_is_shown() {
    let marked = |n: u32| format!("text{n}text");
    let document = Document {
        title: marked(1),
        subtitle: marked(2),
        facts: vec![(marked(3), marked(4))],
        warnings: vec![marked(5)],
        memory: vec![Block { gpa: 0, len: 1, page_type: marked(6), label: marked(7) }],
        chain: vec![Link { page_type: marked(8), contents: marked(9), digest: marked(10), ..Link::default() }],
        vmsas: vec![VmsaView {
            title: marked(11),
            fields: vec![Field { offset: 0x123, name: marked(12), value: marked(13), note: marked(14), differs: true }],
        }],
        tables: vec![Table { title: marked(15), columns: vec![marked(16)], rows: vec![vec![marked(17), marked(18)]] }],
    };
    let page = render(&document);
    for n in 1..=18 {
        assert!(page.contains(&marked(n)), "text {n}");
    }
    assert!(page.contains("0x123"));
    assert!(page.contains("differs</em>"));
}

#[test]
fn an_empty_document_is_a_page() {
    let page = render(&Document::default());
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.ends_with("</html>\n"));
    assert!(page.contains("There is nothing to show."));
    assert!(!page.contains("<section"));
}

#[test]
fn the_same_document_gives_the_same_page() {
    assert_eq!(render(&filled(HOSTILE)), render(&filled(HOSTILE)));
}

#[test]
fn the_page_loads_nothing() {
    let page = render(&filled(HOSTILE));
    for outside in ["http:", "https:", "url(", "@import", " src=", "srcset", "fetch(", "XMLHttp", "import("] {
        assert!(!page.replace("&lt;img src=x", "").contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn left_out_rows_are_counted() {
    let mut chain: Vec<_> = (0..100_000).map(|page| link(page * 4096)).collect();
    let page = render(&Document { chain: chain.clone(), ..Document::default() });
    assert_eq!(count(&page, "<tr id=\"row-"), 1500);
    assert!(page.contains("98,500 of 100,000\u{a0}rows are not shown."));
    assert!(page.contains("98,500\u{a0}rows left out here"));
    assert!(page.contains("id=\"row-99999\""), "the last row has the launch digest");
    assert!(page.len() < 1 << 20, "{} bytes", page.len());

    chain[50_000].differs = true;
    let page = render(&Document { chain: chain.clone(), ..Document::default() });
    assert!(page.contains("id=\"row-50000\""), "a row that differs is never hidden while there is room");
    assert!(page.contains("98,499 of 100,000\u{a0}rows are not shown; every row that differs is."));

    chain.iter_mut().for_each(|link| link.differs = true);
    let page = render(&Document { chain, ..Document::default() });
    assert_eq!(count(&page, "<tr id=\"row-"), MOST_ROWS);
    assert!(page.contains("98,000 of 100,000\u{a0}rows are not shown, 98,000 of them among those that differ."));
}

#[test]
fn a_chain_that_fits_is_shown_in_full() {
    let chain: Vec<_> = (0..MOST_ROWS as u64).map(link).collect();
    let page = render(&Document { chain, ..Document::default() });
    assert_eq!(count(&page, "<tr id=\"row-"), MOST_ROWS);
    assert!(!page.contains("not shown"));
}

#[test]
fn left_out_table_rows_and_vmsas_are_counted() {
    let tables = vec![Table { rows: vec![vec!["x".into()]; MOST_ROWS + 7], ..Table::default() }];
    let vmsas = vec![VmsaView::default(); MOST_VMSAS + 3];
    let page = render(&Document { tables, vmsas, ..Document::default() });
    assert!(page.contains("7 of 2,007\u{a0}rows are not shown."));
    assert!(page.contains("3 of 35\u{a0}VMSAs are not shown."));
    assert_eq!(count(&page, "<details open>"), MOST_VMSAS);
}

/// All blocks are there once, however they lie: named, focusable, with a role.
fn check_blocks(memory: Vec<Block>) -> String {
    let blocks = memory.len();
    let page = render(&Document { memory: memory.clone(), ..Document::default() });
    let starts: std::collections::BTreeSet<_> =
        page.split(" id=\"block-").skip(1).filter_map(|tag| tag.get(..40)).collect();
    for number in 0..blocks {
        let start = format!("{number}\" role=\"img\" tabindex=\"0\"");
        assert!(starts.iter().any(|tag| tag.starts_with(&start)), "block {number}");
    }
    assert_eq!(count(&page, "id=\"block-"), blocks);
    let labels: std::collections::BTreeSet<_> =
        page.split("aria-label=\"").map(|rest| rest.split('"').next()).collect();
    for block in &memory {
        let found =
            labels.iter().flatten().any(|label| label.ends_with(&format!("{}: {}", block.page_type, block.label)));
        assert!(found, "{block:?}");
    }
    page
}

#[test]
fn every_block_appears() {
    check_blocks(vec![block(0x80_0000, 0x9000, "zero"), block(0xffc0_0000, 4 << 20, "normal")]);
    check_blocks(vec![block(0, u64::MAX, "memory"), block(u64::MAX - 4095, 4096, "vmsa"), block(0, 4096, "normal")]);
    check_blocks(vec![block(u64::MAX, u64::MAX, "normal"), block(0, 0, "zero"), block(5, 0, "memory")]);
    check_blocks(vec![block(0x1000, 0, "normal")]);
    check_blocks(vec![block(0, 1 << 30, "memory")]);
    check_blocks(vec![block(0x1000, 0x3000, "normal"), block(0x2000, 0x1000, "normal"), block(0x2000, 0x1000, "zero")]);
}

#[test]
fn thousands_of_blocks_appear() {
    let page = check_blocks((0..4000).map(|at| block(at << 30, 4096, "normal")).collect());
    assert_eq!(count(&page, "<figure class=\"cluster\""), layout::MOST_CLUSTERS);
    let page = check_blocks((0..4000).map(|at| block(at * 8192, 4096, "normal")).collect());
    assert!(page.contains("4,000 blocks are too small for this scale"));
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

#[test]
fn blocks_far_apart_are_drawn_apart_and_to_scale() {
    let memory =
        [block(0x80_0000, 0x9000, "zero"), block(0x80_9000, 0x3000, "cpuid"), block(0xffc0_0000, 4 << 20, "normal")];
    let layout = layout::Layout::new(&memory).expect("blocks");
    let [low, high] = &layout.clusters[..] else { panic!("{} clusters", layout.clusters.len()) };
    assert_eq!((low.span.start, low.span.end), (0x80_0000, 0x80_c000));
    assert_eq!((low.blocks[0].left, low.blocks[0].width), (0.0, 75.0));
    assert_eq!((low.blocks[1].left, low.blocks[1].width), (75.0, 25.0));
    assert_eq!((high.span.start, high.span.end), (0xffc0_0000, 1 << 32));
}

#[test]
fn memory_that_reaches_beyond_a_cluster_is_drawn_behind_it() {
    let memory = [block(0, 1 << 30, "memory"), block(0x80_0000, 0x2000, "zero"), block(0x80_4000, 0x4000, "normal")];
    let layout = layout::Layout::new(&memory).expect("blocks");
    assert_eq!(layout.clusters.len(), 1);
    assert_eq!(layout.clusters[0].behind, [(0.0, 100.0)]);
    assert_eq!(layout.overview.len(), 1);
}

#[test]
fn blocks_lead_to_the_rows_that_launched_them() {
    let mut chain: Vec<_> = (0..10).map(|page| link(page * 4096)).collect();
    chain.push(Link { page_type: "vmsa".into(), ..link(0x3000) });
    let memory =
        vec![block(0x2000, 0x1000, "normal"), block(0x3000, 0x1000, "vmsa"), block(0x10_0000, 0x1000, "normal")];
    let page = render(&Document { memory, chain, ..Document::default() });
    assert!(page.contains("id=\"block-0\" role=\"link\" tabindex=\"0\" href=\"#row-2\""));
    assert!(page.contains("id=\"block-1\" role=\"link\" tabindex=\"0\" href=\"#row-10\""), "the type decides");
    assert!(page.contains("id=\"block-2\" role=\"img\" tabindex=\"0\" style"), "was not launched");
}

#[test]
fn links_lead_somewhere() {
    let chain = (0..100_000).map(|page| link(page * 4096)).collect();
    let memory = (0..1000).map(|at| block(at * 409_600, 4096, "normal")).collect();
    let page = render(&Document { memory, chain, ..Document::default() });
    let ids: std::collections::BTreeSet<_> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(ids.contains(target), "#{target}");
    }
}

#[test]
fn flags_keep_their_distance() {
    assert_eq!(layout::spread(&[50.0, 50.0, 50.0], 10.0), [50.0, 60.0, 70.0]);
    assert_eq!(layout::spread(&[0.0, 99.0, 100.0], 10.0), [5.0, 85.0, 95.0]);
    assert!(layout::spread(&[], 10.0).is_empty());
}

#[test]
fn sizes_are_exact_or_say_two_decimals() {
    let size = |bytes| escape::Size(bytes).to_string().replace('\u{a0}', " ");
    assert_eq!(size(0), "0 bytes");
    assert_eq!(size(4096), "4 KiB");
    assert_eq!(size(0x8_0000), "512 KiB");
    assert_eq!(size((4 << 20) + 4096), "4,100 KiB");
    assert_eq!(size(5 << 29), "2,560 MiB");
    assert_eq!(size((1 << 32) - (8 << 20)), "4,088 MiB");
    assert_eq!(size(u64::MAX), "15.99 EiB");
}

/// The colours of `page.css`, `(light, dark)`.
fn colours(name: &str) -> [[u8; 3]; 2] {
    let (css, definition) = (include_str!("page.css"), format!("--{name}: #"));
    let mut found = css.match_indices(&definition).map(|(at, matched)| {
        let hex = &css[at + matched.len()..][..6];
        [0, 2, 4].map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a colour"))
    });
    [found.next().expect("light"), found.next().expect("dark")]
}

fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let luminance = |colour: [u8; 3]| {
        let [r, g, b] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// WCAG 2.2 AA: 4.5 for text, 3 for what is not text.
#[test]
fn contrast_is_sufficient_in_light_and_dark() {
    let text = [
        ("ink", "page"),
        ("quiet", "page"),
        ("accent", "page"),
        ("ink", "raised"),
        ("quiet", "raised"),
        ("accent", "raised"),
        ("warn", "page"),
        ("ink", "warn-page"),
        ("warn", "warn-page"),
        ("ink", "bad-page"),
        ("quiet", "bad-page"),
        ("bad", "bad-page"),
    ];
    let mut pairs: Vec<_> = text.iter().map(|&(front, back)| (front, back, 4.5)).collect();
    pairs.extend(kind::KINDS.iter().flat_map(|kind| [(kind.name, "page", 3.0), (kind.name, "raised", 3.0)]));
    pairs.push(("focus", "page", 3.0));
    for (front, back, least) in pairs {
        for (mode, (front_, back_)) in colours(front).into_iter().zip(colours(back)).enumerate() {
            let contrast = contrast(front_, back_);
            assert!(contrast >= least, "{front} on {back}, mode {mode}: {contrast:.2}");
        }
    }
}
