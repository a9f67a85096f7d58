//! A processor that starts in 64-bit mode: page tables, descriptor table and VMSA.

use snp_abi::{Gpa, PAGE_SIZE, Segment, SevFeatures, Vmpl, Vmsa};

/// Position of the C-bit in a page-table entry. All EPYC processors with SEV-SNP have it here (CPUID Fn8000_001F EBX).
const C_BIT: u64 = 1 << 51;

/// Present and writable.
const PRESENT: u64 = 0b11;

/// Where the guest's fixed structures lie, all in the first 2 MiB.
pub(crate) struct Tables {
    /// Four consecutive pages: PML4, PDPT, PD, PT.
    pub(crate) page_tables: Gpa,
    /// The descriptor table.
    pub(crate) gdt: Gpa,
    /// A page that is mapped without the C-bit.
    pub(crate) shared: Gpa,
}

impl Tables {
    /// The four page-table pages: the first 2 MiB mapped one to one in 4 KiB pages, encrypted but for the shared page.
    pub(crate) fn page_table_pages(&self) -> [Vec<u8>; 4] {
        let next = |level: u64| (self.page_tables.0 + level * PAGE_SIZE as u64) | C_BIT | PRESENT;
        let leaf = |page: u64| {
            let gpa = page * PAGE_SIZE as u64;
            let encrypted = if gpa == self.shared.0 { 0 } else { C_BIT };
            gpa | encrypted | PRESENT
        };
        [table([next(1)]), table([next(2)]), table([next(3)]), table((0..512).map(leaf))]
    }

    /// The descriptor table's page.
    pub(crate) fn gdt_page(&self) -> Vec<u8> {
        gdt_page()
    }

    /// The VMSA of a processor that starts at `rip` with its stack at `rsp`, in 64-bit mode at privilege level 0, with
    /// interrupts off.
    pub(crate) fn vmsa(&self, rip: Gpa, rsp: u64, features: SevFeatures) -> Vmsa {
        let data = Segment { selector: 0x10, attrib: 0xc93, limit: 0xffff_ffff, base: 0 };
        Vmsa {
            cs: Segment { selector: 8, attrib: 0xa9b, limit: 0xffff_ffff, base: 0 },
            ss: data,
            ds: data,
            es: data,
            fs: data,
            gs: data,
            gdtr: Segment { selector: 0, attrib: 0, limit: 23, base: self.gdt.0 },
            idtr: Segment { selector: 0, attrib: 0, limit: 0, base: 0 },
            ldtr: Segment { selector: 0, attrib: 0x82, limit: 0xffff, base: 0 },
            tr: Segment { selector: 0, attrib: 0x8b, limit: 0xffff, base: 0 },
            vmpl: Vmpl(0),
            // SVME, which VMRUN demands of every guest; LMA and LME: 64-bit mode is on.
            efer: 0x1000 | 0x400 | 0x100,
            // PG, NE, ET, PE.
            cr0: 0x8000_0031,
            cr3: self.page_tables.0 | C_BIT,
            // MCE, PAE.
            cr4: 0x60,
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            rflags: 2,
            rip: rip.0,
            rsp,
            g_pat: 0x0007_0406_0007_0406,
            sev_features: features,
            xcr0: 1,
            mxcsr: 0x1f80,
            x87_fcw: 0x37f,
            ..Vmsa::default()
        }
    }
}

/// Address space and descriptors of the guests that need more than [`Tables`]: the first GiB mapped twice, in 2 MiB pages.
pub(crate) struct Aliased {
    /// Four consecutive pages: PML4, PDPT, a PD with the C-bit, a PD without.
    pub(crate) page_tables: Gpa,
    /// Where the mapping without the C-bit begins: a whole number of GiB, below 512.
    pub(crate) alias: u64,
}

impl Aliased {
    /// The four page-table pages.
    pub(crate) fn page_table_pages(&self) -> [Vec<u8>; 4] {
        /// PS: the entry maps 2 MiB.
        const LARGE: u64 = 1 << 7;
        let table_at = |index: u64| (self.page_tables.0 + index * PAGE_SIZE as u64) | C_BIT | PRESENT;
        let mapped = |bits: u64| move |index: u64| index << 21 | LARGE | PRESENT | bits;
        let mut directory_pointers = vec![0; 512];
        directory_pointers[0] = table_at(2);
        directory_pointers[(self.alias >> 30) as usize] = table_at(3);
        [
            table([table_at(1)]),
            table(directory_pointers),
            table((0..512).map(mapped(C_BIT))),
            table((0..512).map(mapped(0))),
        ]
    }

    /// The descriptor table, as [`Tables`] has it.
    pub(crate) fn gdt_page(&self) -> Vec<u8> {
        gdt_page()
    }

    /// The interrupt descriptor table: 64-bit interrupt gates to the handlers, from vector 0 on. Without a TSS and at one
    /// privilege level, handlers run on the stack that was interrupted.
    pub(crate) fn idt_page(&self, handlers: &[u64]) -> Vec<u8> {
        /// Present, DPL 0, 64-bit interrupt gate; the 64-bit code segment.
        const GATE: u64 = 0x8e << 40 | CODE_SELECTOR << 16;
        table(handlers.iter().flat_map(|handler| {
            let low = handler & 0xffff | GATE | (handler >> 16 & 0xffff) << 48;
            [low, handler >> 32]
        }))
    }

    /// The VMSA of a processor, as [`Tables::vmsa`]; `descriptors` are GDT and IDT.
    pub(crate) fn vmsa(&self, rip: Gpa, rsp: u64, descriptors: (Gpa, Gpa), features: SevFeatures) -> Vmsa {
        let (gdt, idt) = descriptors;
        let tables = Tables { page_tables: self.page_tables, gdt, shared: gdt };
        let idtr = Segment { selector: 0, attrib: 0, limit: PAGE_SIZE as u32 - 1, base: idt.0 };
        Vmsa { idtr, ..tables.vmsa(rip, rsp, features) }
    }
}

/// Selector of the 64-bit code segment.
const CODE_SELECTOR: u64 = 8;

/// Null, 64-bit code at selector 8, data at selector 0x10. The processor starts with the same segments in its hidden
/// registers, so that it never has to load them.
fn gdt_page() -> Vec<u8> {
    table([0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff])
}

/// A page of 64-bit entries, zero after the last.
fn table(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut page: Vec<u8> = entries.into_iter().flat_map(u64::to_le_bytes).collect();
    page.resize(PAGE_SIZE, 0);
    page
}
