//! From a program to a guest: one memory map for all guests that are more than `hello`.
//!
//! The first GiB of guest memory is mapped twice: at its own addresses with the C-bit, and [`ALIAS`] above without it, so that
//! a program reaches every page both ways. Only what a program needs is launched; everything else is for it to accept or to
//! share.

use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, PageType, SevFeatures, Vmsa};

use crate::long_mode::Aliased;
use crate::program::Assembled;
use crate::{Guest, GuestPage};

const PAGE: u64 = PAGE_SIZE as u64;

const MEMORY: Gpa = Gpa(0x10_0000);
const PAGE_TABLES: Gpa = Gpa(0x10_0000);
const GDT: Gpa = Gpa(0x10_4000);
const IDT: Gpa = Gpa(0x10_5000);
/// The program, four pages at most.
pub(crate) const CODE: Gpa = Gpa(0x10_6000);
const CODE_PAGES: usize = 4;
/// The program's texts.
pub(crate) const TEXTS: Gpa = Gpa(0x10_a000);
/// Variables; see [`crate::program::state`].
pub(crate) const STATE: Gpa = Gpa(0x10_b000);
/// The boot processor's stack, which grows down from its end.
const STACK: Gpa = Gpa(0x10_c000);
/// What the guest is told, as 32-bit numbers.
pub(crate) const PARAMETERS: Gpa = Gpa(0x10_d000);
/// The VMSA from which those of other processors are made.
pub(crate) const TEMPLATE: Gpa = Gpa(0x10_e000);
/// The secrets page.
pub(crate) const SECRETS: Gpa = Gpa(0x10_f000);
const CPUID: Gpa = Gpa(0x11_0000);
/// The boot processor's VMSA.
pub(crate) const VMSA: Gpa = Gpa(0x11_1000);
/// The boot processor's GHCB. Not launched, as all that follows.
pub(crate) const GHCB: Gpa = Gpa(0x11_2000);
/// Where the hypervisor puts the list of APIC IDs.
pub(crate) const LIST: Gpa = Gpa(0x11_3000);
/// Pages for the list.
pub(crate) const LIST_PAGES: u64 = 2;
/// Memory that is nobody's.
pub(crate) const FREE: Gpa = Gpa(0x20_0000);

/// How far above a page's own address it is mapped without the C-bit.
pub(crate) const ALIAS: u64 = 1 << 30;

/// What all our guests have turned on.
pub(crate) const FEATURES: SevFeatures = SevFeatures(SevFeatures::SNP_ACTIVE);

/// A guest in the making.
pub(crate) struct Image {
    /// The name by which it is found.
    pub(crate) name: String,
    /// What it does.
    pub(crate) summary: &'static str,
    /// The program.
    pub(crate) program: Assembled,
    /// What the program is told.
    pub(crate) parameters: Vec<u32>,
    /// Where other processors start, if it has any.
    pub(crate) other_processors: Option<u64>,
    /// Where its memory ends.
    pub(crate) end: Gpa,
}

impl Image {
    /// The guest.
    pub(crate) fn guest(self) -> Guest {
        let tables = Aliased { page_tables: PAGE_TABLES, alias: ALIAS };
        let vmsa = |rip| tables.vmsa(Gpa(rip), STACK.0 + PAGE, (GDT, IDT), FEATURES);
        let mut pages = Vec::new();
        let mut launch = |gpa: Gpa, data: Vec<u8>| {
            pages.push(GuestPage { gpa, page_type: PageType::NORMAL, data });
        };
        for (gpa, table) in (PAGE_TABLES.0..).step_by(PAGE_SIZE).zip(tables.page_table_pages()) {
            launch(Gpa(gpa), table);
        }
        launch(GDT, tables.gdt_page());
        launch(IDT, tables.idt_page(&self.program.handlers));
        assert!(self.program.code.len() <= CODE_PAGES * PAGE_SIZE, "{}: {} bytes", self.name, self.program.code.len());
        for (gpa, code) in (CODE.0..).step_by(PAGE_SIZE).zip(self.program.code.chunks(PAGE_SIZE)) {
            launch(Gpa(gpa), padded(code));
        }
        launch(TEXTS, padded(&self.program.texts));
        launch(STATE, padded(&[]));
        launch(STACK, padded(&[]));
        let parameters: Vec<u8> = self.parameters.iter().flat_map(|value| value.to_le_bytes()).collect();
        launch(PARAMETERS, padded(&parameters));
        if let Some(rip) = self.other_processors {
            launch(TEMPLATE, zerocopy::IntoBytes::as_bytes(&vmsa(rip)).to_vec());
        }
        pages.push(GuestPage { gpa: SECRETS, page_type: PageType::SECRETS, data: Vec::new() });
        pages.push(GuestPage { gpa: CPUID, page_type: PageType::CPUID, data: Vec::new() });
        let boot: Vmsa = vmsa(CODE.0);
        Guest {
            name: self.name,
            summary: self.summary,
            policy: GuestPolicy::DEFAULT,
            features: FEATURES,
            memory: (MEMORY, self.end.0 - MEMORY.0),
            pages,
            vmsa: Box::new(boot),
            vmsa_gpa: VMSA,
        }
    }
}

/// A page that begins with `data`.
fn padded(data: &[u8]) -> Vec<u8> {
    assert!(data.len() <= PAGE_SIZE, "{} bytes do not fit a page", data.len());
    let mut page = data.to_vec();
    page.resize(PAGE_SIZE, 0);
    page
}
