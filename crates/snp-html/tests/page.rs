//! What the page says, whatever it is given.

mod sample;

use snp_html::{Block, Document, Field, Link, Table, VmsaView, render};

#[test]
fn hostile_text_stays_text() {
    let evil = "</script><img src=x onerror=alert(1)>\"'&\u{0}\u{1b}".to_owned();
    let page = render(&Document {
        title: evil.clone(),
        subtitle: evil.clone(),
        facts: vec![(evil.clone(), evil.clone())],
        warnings: vec![evil.clone()],
        memory: vec![Block { gpa: u64::MAX, len: u64::MAX, page_type: evil.clone(), label: evil.clone() }],
        chain: vec![Link { page_type: evil.clone(), contents: evil.clone(), digest: evil.clone(), ..Link::default() }],
        vmsas: vec![VmsaView {
            title: evil.clone(),
            fields: vec![Field { name: evil.clone(), value: evil.clone(), note: evil.clone(), ..Field::default() }],
        }],
        tables: vec![Table { title: evil.clone(), columns: vec![evil.clone()], rows: vec![vec![evil]] }],
    });
    assert!(!page.contains("<img") && !page.contains("\u{0}") && !page.contains("\u{1b}"));
    // The only script is the page's own.
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
}

#[test]
fn nothing_is_fetched() {
    let page = render(&sample::document());
    for outside in ["http:", "https:", "url(", "@import", "src=", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_same_document_gives_the_same_page() {
    assert_eq!(render(&sample::document()), render(&sample::document()));
}

#[test]
fn every_block_is_there_and_named() {
    let document = sample::document();
    let page = render(&document);
    assert_eq!(page.matches("class=\"block ").count(), document.memory.len());
    assert!(page.contains("aria-label=\"secrets 0x80d000 to 0x80dfff, 4 KiB\""));
    assert!(page.contains("Outlined blocks are drawn wider than they are."));
}

#[test]
fn what_is_left_out_is_said() {
    let chain = vec![Link::default(); 100_000];
    let page = render(&Document { chain, ..Document::default() });
    assert!(page.contains("98000 more rows are left out here"));
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

#[test]
fn an_empty_document_is_a_page() {
    let page = render(&Document::default());
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(!page.contains("<section"));
}
