//! `hello`: maps a GHCB, prints one line through it, and asks to end.

use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, IcedError};
use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, PageType, SevFeatures};

use crate::ghcb::{self, Termination};
use crate::long_mode::Tables;
use crate::{Guest, GuestPage};

const TEXT: &[u8] = b"hello from a boot VMSA that user space supplied\n";

/// The serial port.
const COM1: u16 = 0x3f8;

/// The end that the guest asks for when all went well: reason code set 0, "general termination request".
const DONE: Termination = Termination { set: 0, code: 0 };

/// The end that it asks for when the hypervisor refused the GHCB: our own set, code 1.
const NO_GHCB: Termination = Termination { set: 1, code: 1 };

/// The end that it asks for when the hypervisor refused to write to the port: our own set, code 2.
const NO_OUTPUT: Termination = Termination { set: 1, code: 2 };

const MEMORY: Gpa = Gpa(0x10_0000);
const PAGE_TABLES: Gpa = Gpa(0x10_0000);
const GDT: Gpa = Gpa(0x10_4000);
const CODE: Gpa = Gpa(0x10_5000);
const DATA: Gpa = Gpa(0x10_6000);
const SECRETS: Gpa = Gpa(0x10_7000);
const CPUID: Gpa = Gpa(0x10_8000);
const VMSA: Gpa = Gpa(0x10_9000);
/// Not launched: the guest shares it with the hypervisor.
const GHCB: Gpa = Gpa(0x10_a000);
const END: Gpa = Gpa(0x10_b000);

pub(crate) fn guest() -> Guest {
    let features = SevFeatures(SevFeatures::SNP_ACTIVE);
    let tables = Tables { page_tables: PAGE_TABLES, gdt: GDT, shared: GHCB };
    let normal = |gpa, data| GuestPage { gpa, page_type: PageType::NORMAL, data };
    let mut pages: Vec<_> = (PAGE_TABLES.0..)
        .step_by(PAGE_SIZE)
        .zip(tables.page_table_pages())
        .map(|(gpa, data)| normal(Gpa(gpa), data))
        .collect();
    pages.push(normal(GDT, tables.gdt_page()));
    pages.push(normal(CODE, padded(&code().expect("the guest's own source assembles"))));
    pages.push(normal(DATA, padded(TEXT)));
    pages.push(GuestPage { gpa: SECRETS, page_type: PageType::SECRETS, data: Vec::new() });
    pages.push(GuestPage { gpa: CPUID, page_type: PageType::CPUID, data: Vec::new() });
    Guest {
        name: "hello".into(),
        summary: "maps a GHCB, prints one line through it, and asks to end",
        policy: GuestPolicy::DEFAULT,
        features,
        memory: (MEMORY, END.0 - MEMORY.0),
        pages,
        vmsa: Box::new(tables.vmsa(CODE, 0, features)),
        vmsa_gpa: VMSA,
    }
}

/// The program. It needs no stack.
fn code() -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut next, done) = (a.create_label(), a.create_label());
    let (no_ghcb, no_output) = (a.create_label(), a.create_label());

    ghcb::set_up(&mut a, GHCB, no_ghcb)?;
    a.mov(rbx, GHCB.0)?;
    a.mov(rsi, DATA.0)?;
    a.set_label(&mut next)?;
    a.movzx(eax, byte_ptr(rsi))?;
    a.test(eax, eax)?;
    a.je(done)?;
    ghcb::port_output(&mut a, COM1, no_output)?;
    a.inc(rsi)?;
    a.jmp(next)?;

    ghcb::terminate(&mut a, done, DONE)?;
    ghcb::terminate(&mut a, no_ghcb, NO_GHCB)?;
    ghcb::terminate(&mut a, no_output, NO_OUTPUT)?;

    let block = a.assemble_options(CODE.0, BlockEncoderOptions::NONE)?;
    Ok(block.inner.code_buffer)
}

fn padded(data: &[u8]) -> Vec<u8> {
    assert!(data.len() < PAGE_SIZE, "one page, and a zero to end the text");
    let mut page = data.to_vec();
    page.resize(PAGE_SIZE, 0);
    page
}
