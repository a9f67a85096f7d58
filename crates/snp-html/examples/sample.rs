//! Writes a sample page to standard output: an OVMF-like launch, with every page type and a comparison that found something.
//! The digests are made up.

use snp_html::{Block, Document, Field, Link, Table, VmsaView, render};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn main() {
    print!("{}", render(&sample()));
}

/// What the page is about: a firmware volume below 4 GiB, its metadata pages at 8 MiB, two VMSAs.
pub(crate) fn sample() -> Document {
    let memory: Vec<_> = [
        (0, 8 * MIB, "memory", "guest memory below the firmware's pages"),
        (0x80_0000, 0x9000, "zero", "SEC page tables and temporary memory"),
        (0x80_9000, 0x1000, "unmeasured", "boot arguments"),
        (0x80_a000, 0x3000, "zero", "GHCB and work area"),
        (0x80_d000, 0x1000, "secrets", "secrets page"),
        (0x80_e000, 0x1000, "cpuid", "CPUID page"),
        (0x80_f000, 0x1000, "zero", "calling area"),
        (0x81_0000, 0x1000, "normal", "hashes of kernel, initrd and command line"),
        (0x81_1000, 0xf000, "zero", "SEC stack and heap"),
        (0x82_0000, 2 * GIB - 0x82_0000, "memory", "guest memory above the firmware's pages"),
        (0xffbf_f000, 0x1000, "vmsa", "VMSAs of vCPU 0 and 1"),
        (0xffc0_0000, 4 * MIB, "normal", "OVMF"),
    ]
    .map(|(gpa, len, page_type, label)| Block { gpa, len, page_type: page_type.into(), label: label.into() })
    .into();
    let mut numbers = Numbers(0x5eed);
    let mut link = |gpa, len, page_type: &str, contents: &str, differs| Link {
        gpa,
        len,
        page_type: page_type.into(),
        contents: contents.into(),
        digest: numbers.hex(48),
        differs,
    };
    let mut chain: Vec<_> =
        (0..8).map(|at| link(0xffc0_0000 + at * 512 * KIB, 512 * KIB, "normal", "OVMF", false)).collect();
    chain.extend([
        link(0x80_0000, 0x9000, "zero", "", false),
        link(0x80_9000, 0x1000, "unmeasured", "boot arguments", false),
        link(0x80_a000, 0x3000, "zero", "", false),
        link(0x80_d000, 0x1000, "secrets", "", false),
        link(0x80_e000, 0x1000, "cpuid", "", false),
        link(0x80_f000, 0x1000, "zero", "", false),
        link(0x81_0000, 0x1000, "normal", "hashes of kernel, initrd and command line", true),
        link(0x81_1000, 0xf000, "zero", "", true),
        link(0xffbf_f000, 0x1000, "vmsa", "vCPU 0", true),
        link(0xffbf_f000, 0x1000, "vmsa", "vCPU 1", true),
    ]);
    let digest = chain.last().map(|link| link.digest.clone()).unwrap_or_default();
    Document {
        title: "Launch of OVMF with a kernel, compared with what was expected".into(),
        subtitle: "2 vCPUs, EPYC-v4, 4 MiB of firmware, 2 GiB of memory".into(),
        facts: [
            ("Launch digest", digest.as_str()),
            ("Expected", &numbers.hex(48)),
            ("Policy", "0x30000"),
            ("Profile", "Linux 6.16"),
            ("First difference", "row 15: hashes of kernel, initrd and command line"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into(),
        warnings: vec![
            "The kernel's hashes differ from those expected: every digest after row 14 differs for that reason alone."
                .into(),
        ],
        memory,
        chain,
        vmsas: vec![vmsa("vCPU 0 (boot processor)", 0xfff0, 0xf000), vmsa("vCPU 1", 0xb000, 0x80_0000 >> 8)],
        tables: vec![
            Table {
                title: "Candidates tried".into(),
                columns: ["Kernel", "Initrd", "Command line", "Outcome"].map(Into::into).into(),
                rows: vec![
                    ["vmlinuz-6.16.3", "initrd-6.16.3", "console=ttyS0", "no match"].map(Into::into).into(),
                    ["vmlinuz-6.16.2", "initrd-6.16.2", "console=ttyS0 root=/dev/vda1", "match"].map(Into::into).into(),
                ],
            },
            Table {
                title: "Findings".into(),
                columns: ["Rule", "Where", "Finding"].map(Into::into).into(),
                rows: vec![
                    ["vmsa-last", "row 17", "the VMSAs are launched after all other pages, as they must be"]
                        .map(Into::into)
                        .into(),
                ],
            },
        ],
    }
}

fn vmsa(title: &str, rip: u64, cs_base: u64) -> VmsaView {
    let fields = [
        (0x000, "es", "selector 0, attributes 0x93, limit 0xffff, base 0x0", "data, writable", false),
        (0x010, "cs", &format!("selector 0xf000, attributes 0x9b, limit 0xffff, base {cs_base:#x}"), "code", false),
        (0x0cb, "cpl", "0x0", "", false),
        (0x0d0, "efer", "0x1000", "SVME", false),
        (0x148, "cr4", "0x40", "MCE", false),
        (0x158, "cr0", "0x10", "ET", false),
        (0x160, "dr7", "0x400", "", false),
        (0x168, "dr6", "0xffff0ff0", "", false),
        (0x170, "rflags", "0x2", "", false),
        (0x178, "rip", &format!("{rip:#x}"), "reset vector", false),
        (0x268, "g_pat", "0x7040600070406", "", false),
        (0x310, "rdx", "0xa00f11", "expected 0x800f12: another CPU model", true),
        (0x3b0, "sev_features", "0x1", "SNP_ACTIVE", false),
        (0x3e8, "xcr0", "0x1", "x87", false),
        (0x408, "mxcsr", "0x1f80", "", false),
        (0x410, "x87_fcw", "0x37f", "", false),
    ]
    .map(|(offset, name, value, note, differs): (u32, &str, &str, &str, bool)| Field {
        offset,
        name: name.into(),
        value: value.into(),
        note: note.into(),
        differs,
    });
    VmsaView { title: title.into(), fields: fields.into() }
}

/// Numbers that look like digests and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn hex(&mut self, bytes: usize) -> String {
        (0..bytes)
            .map(|_| {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                format!("{:02x}", self.0 >> 56)
            })
            .collect()
    }
}
