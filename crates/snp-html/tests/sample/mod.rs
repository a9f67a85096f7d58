//! A launch of firmware, as a page.

use snp_html::{Block, Document, Field, Link, Table, VmsaView};

pub(crate) fn document() -> Document {
    let pages = [
        (0x80_0000, 0xd000, "zero"),
        (0x80_d000, 0x1000, "secrets"),
        (0x80_e000, 0x1000, "cpuid"),
        (0x80_f000, 0x2000, "unmeasured"),
        (0xffbf_f000, 0x1000, "vmsa"),
        (0xffc0_0000, 0x40_0000, "normal"),
    ];
    let digest = |index: usize| format!("{index:02x}").repeat(48);
    let link = |(index, (gpa, len, page_type)): (usize, &(u64, u64, &str))| Link {
        gpa: *gpa,
        len: *len,
        page_type: (*page_type).to_owned(),
        contents: String::new(),
        digest: digest(index),
        differs: index == 2,
    };
    let field = |(index, name): (usize, &str)| Field {
        offset: index as u32 * 8,
        name: name.to_owned(),
        value: "0xfff0".to_owned(),
        note: "note".to_owned(),
        differs: false,
    };
    Document {
        title: "Launch of OVMF.fd".to_owned(),
        subtitle: "profile direct-vmsa".to_owned(),
        facts: vec![("launch digest".to_owned(), digest(5)), ("policy".to_owned(), "0x30000".to_owned())],
        warnings: vec!["a warning".to_owned()],
        memory: pages
            .iter()
            .map(|(gpa, len, page_type)| Block {
                gpa: *gpa,
                len: *len,
                page_type: (*page_type).to_owned(),
                label: String::new(),
            })
            .collect(),
        chain: pages.iter().enumerate().map(link).collect(),
        vmsas: vec![VmsaView {
            title: "VMSA of the boot processor".to_owned(),
            fields: ["cr0", "rip", "rsp"].into_iter().enumerate().map(field).collect(),
        }],
        tables: vec![Table {
            title: "vCPUs".to_owned(),
            columns: vec!["vCPU".to_owned(), "VMSA".to_owned()],
            rows: vec![vec!["0".to_owned(), "user".to_owned()]],
        }],
    }
}
