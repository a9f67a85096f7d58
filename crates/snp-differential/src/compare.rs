//! Whether two outcomes are the same, and how they differ.

use std::fmt::Write as _;

use crate::case::{Case, Fault, Outcome, Registers};
use crate::layout::{CODE, address_of};
use crate::undefined::{AF, CF, OF, PF, SF, ZF};

/// How the model's outcome differs from this machine's: one line each, nothing if they are equal.
pub fn differences(case: &Case, native: &Outcome, model: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let masked = |fault: Option<Fault>| fault.map(comparable);
    let (end, expected) = (masked(model.fault), masked(native.fault));
    if end != expected {
        let words =
            |fault: Option<Fault>| fault.map_or("the end of the sequence".to_owned(), |fault| fault.to_string());
        found.push(format!("ended by: machine {}, model {}", words(native.fault), words(model.fault)));
    }
    let ignored = ignored_flags(case, native);
    registers(&mut found, &native.registers, &model.registers, ignored);
    if (native.hash, native.changed) != (model.hash, model.changed) {
        memory(&mut found, native, model);
    }
    found
}

/// A fault as far as it can be compared. For addresses that are not the program's Linux hides whether there is a page.
fn comparable(fault: Fault) -> Fault {
    /// TASK_SIZE_MAX with 4-level paging: the last page below the hole is not the program's either.
    const TASK_SIZE: u64 = (1 << 47) - 4096;
    let kernel = fault.vector == 14 && fault.address >= TASK_SIZE;
    Fault { error: if kernel { fault.error | 1 } else { fault.error }, ..fault }
}

/// The flags that are undefined where the sequence ended.
fn ignored_flags(case: &Case, native: &Outcome) -> u64 {
    if native.fault.is_none() {
        return case.undefined_after;
    }
    let offset = native.registers.rip.wrapping_sub(CODE + case.entry as u64);
    match case.offsets[..case.items.len()].iter().rposition(|start| *start as u64 <= offset) {
        Some(item) if offset < case.code.len() as u64 => {
            let next = case.offsets.get(item + 1).is_some_and(|start| *start as u64 == offset);
            let after = case.items.get(item + 1).map_or(case.undefined_after, |item| item.undefined_before);
            case.items[item].undefined_before | if next { after } else { 0 }
        }
        _ => case.undefined_anywhere,
    }
}

fn registers(found: &mut Vec<String>, native: &Registers, model: &Registers, ignored: u64) {
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    let mut number = |name: &str, native: u64, model: u64| {
        if native != model {
            found.push(format!("{name}: machine {native:#x}, model {model:#x}"));
        }
    };
    for (index, name) in NAMES.iter().enumerate() {
        number(name, native.gpr[index], model.gpr[index]);
    }
    number("rip", native.rip, model.rip);
    number("fs base", native.fs_base, model.fs_base);
    number("gs base", native.gs_base, model.gs_base);
    number("mxcsr", native.mxcsr.into(), model.mxcsr.into());
    number("fcw", native.fcw.into(), model.fcw.into());
    number("fsw", native.fsw.into(), model.fsw.into());
    number("ftw", native.ftw.into(), model.ftw.into());
    let changed = (native.rflags ^ model.rflags) & !ignored;
    if changed != 0 {
        let named = [(CF, "CF"), (PF, "PF"), (AF, "AF"), (ZF, "ZF"), (SF, "SF"), (OF, "OF")];
        let named: Vec<&str> = named.iter().filter(|(bit, _)| changed & bit != 0).map(|(_, name)| *name).collect();
        let (native, model) = (native.rflags, model.rflags);
        found
            .push(format!("rflags: machine {native:#x}, model {model:#x}, differ in {changed:#x} {}", named.join(" ")));
    }
    for index in 0..16 {
        bytes(found, &format!("ymm{index}"), &native.ymm[index], &model.ymm[index]);
    }
    for index in 0..8 {
        bytes(found, &format!("x87 register {index}"), &native.x87[index], &model.x87[index]);
    }
}

fn bytes(found: &mut Vec<String>, name: &str, native: &[u8], model: &[u8]) {
    if native != model {
        found.push(format!("{name}: machine {}, model {}", hex(native), hex(model)));
    }
}

/// As one number: the last byte first.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate().rev() {
        let _ = write!(text, "{byte:02x}");
        if index % 8 == 0 && index != 0 {
            text.push('_');
        }
    }
    text
}

fn memory(found: &mut Vec<String>, native: &Outcome, model: &Outcome) {
    let offsets = native.changes.iter().chain(&model.changes).map(|(offset, _)| *offset);
    let offsets: std::collections::BTreeSet<u32> = offsets.collect();
    let of = |outcome: &Outcome, offset: u32| {
        let value = outcome.changes.iter().find(|(at, _)| *at == offset);
        value.map_or("unchanged".to_owned(), |(_, value)| format!("{value:#018x}"))
    };
    let mut shown = 0;
    for offset in offsets {
        let (machine, model) = (of(native, offset), of(model, offset));
        if machine != model && shown < 8 {
            shown += 1;
            found.push(format!("memory at {:#x}: machine {machine}, model {model}", address_of(offset as usize)));
        }
    }
    if shown == 0 {
        found.push(format!("memory: machine {} changes, model {}", native.changed, model.changed));
    }
}
