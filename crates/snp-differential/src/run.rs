//! Many sequences, here and in the model.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use anyhow::Result;
use iced_x86::{Encoder, Formatter, NasmFormatter};

use crate::case::{Case, Item, Outcome};
use crate::compare::{differences, hex};
use crate::generate::{Catalogue, Generator, lay_out, settle_flags};
use crate::layout::{CODE, Images};
use crate::model::{Model, Stopped};
use crate::native::{BATCH_LEN, Native};

/// A sequence that the model gets wrong.
#[derive(Debug)]
pub struct Difference {
    /// It, shrunk.
    pub case: Case,
    /// How its outcomes differ.
    pub differences: Vec<String>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Sequences that were compared and are equal.
    pub equal: u64,
    /// Of these, the ones that came to their end.
    pub completed: u64,
    /// Instructions in all sequences.
    pub instructions: u64,
    /// Sequences that the child did not survive.
    pub lost: u64,
    /// Sequences that differ and overwrote an instruction of theirs while it was repeated.
    pub own_code: u64,
    /// What the model does not have, and how often.
    pub unmodelled: BTreeMap<String, u64>,
    /// Differences, the first ones shrunk.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub different: u64,
}

/// Both sides.
#[derive(Debug)]
pub struct Comparison<'a> {
    generator: Generator<'a>,
    images: Images,
    native: Native,
    model: Model,
    /// Differences beyond this number are only counted.
    pub most_shown: usize,
}

/// The seed of a sequence.
pub fn case_seed(seed: u64, index: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index
}

impl<'a> Comparison<'a> {
    /// Both sides, with memory images from a seed.
    ///
    /// # Errors
    /// Sequences cannot run on this machine.
    pub fn new(catalogue: &'a Catalogue, seed: u64) -> Result<Self> {
        let images = Images::new(seed);
        let model = Model::new(&images);
        Ok(Self { generator: Generator::new(catalogue), images, native: Native::new()?, model, most_shown: 8 })
    }

    /// Compares sequences of a seed.
    ///
    /// # Errors
    /// Sequences cannot run on this machine.
    pub fn run(&mut self, seed: u64, sequences: std::ops::Range<u64>, summary: &mut Summary) -> Result<()> {
        let mut next = sequences.start;
        while next < sequences.end {
            let batch = (sequences.end - next).min(BATCH_LEN as u64);
            let cases: Vec<Case> =
                (next..next + batch).map(|index| self.generator.case(case_seed(seed, index))).collect();
            self.batch(&cases, summary)?;
            next += batch;
        }
        Ok(())
    }

    fn batch(&mut self, mut cases: &[Case], summary: &mut Summary) -> Result<()> {
        while !cases.is_empty() {
            // The child runs on one processor, the model meanwhile on this one.
            let child = self.native.start(cases, &self.images)?;
            let models: Vec<_> = cases.iter().map(|case| self.model.run(case, &self.images)).collect();
            let natives = child.wait()?;
            let done = natives.len();
            for ((case, native), model) in cases.iter().zip(&natives).zip(&models) {
                self.judge(case, native, model, summary)?;
            }
            if done < cases.len() {
                summary.lost += 1;
            }
            cases = &cases[(done + 1).min(cases.len())..];
        }
        Ok(())
    }

    fn judge(
        &mut self,
        case: &Case,
        native: &Outcome,
        model: &Result<Outcome, Stopped>,
        summary: &mut Summary,
    ) -> Result<()> {
        summary.instructions += case.items.len() as u64;
        let found = match model {
            Ok(model) => differences(case, native, model),
            Err(Stopped::Unmodelled(what)) => {
                let what = what.split(", at 0x").next().unwrap_or_default();
                *summary.unmodelled.entry(what.to_owned()).or_default() += 1;
                return Ok(());
            }
            Err(Stopped::Wrongly(how)) => vec![how.clone()],
        };
        if !found.is_empty() && self.repeats_over_itself(case) {
            summary.own_code += 1;
            return Ok(());
        }
        if found.is_empty() {
            summary.equal += 1;
            summary.completed += u64::from(native.fault.is_none());
            return Ok(());
        }
        summary.different += 1;
        if summary.differences.len() < self.most_shown && summary.different <= 20 * self.most_shown as u64 {
            let case = self.shrink(case)?;
            let last = |case: &Case| case.items.last().map(|item| item.instruction.mnemonic());
            // One of a kind is enough.
            if summary.differences.iter().all(|shown| last(&shown.case) != last(&case)) {
                let differences = self.compare(&case)?;
                summary.differences.push(Difference { case, differences });
            }
        }
        Ok(())
    }

    /// Whether the case writes its own code by a repeated string instruction: how many items a processor still writes when it
    /// has overwritten the instruction is its own affair.
    fn repeats_over_itself(&mut self, case: &Case) -> bool {
        let repeated = |item: &Item| item.instruction.is_string_instruction() && item.instruction.has_rep_prefix();
        case.items.iter().any(repeated) && self.model.run(case, &self.images).is_ok() && self.model.wrote_code()
    }

    /// How a case differs.
    fn compare(&mut self, case: &Case) -> Result<Vec<String>> {
        let native = self.native.run(std::slice::from_ref(case), &self.images)?.pop().flatten();
        Ok(match (native, self.model.run(case, &self.images)) {
            (Some(native), Ok(model)) => differences(case, &native, &model),
            (Some(_), Err(Stopped::Wrongly(how))) => vec![how],
            _ => Vec::new(),
        })
    }

    /// Leaves out instructions as long as there is a difference.
    fn shrink(&mut self, case: &Case) -> Result<Case> {
        let mut encoder = Encoder::new(64);
        let mut best = case.clone();
        let mut index = best.items.len();
        while index > 0 {
            index -= 1;
            let mut shorter = best.clone();
            shorter.items.remove(index);
            for item in &mut shorter.items {
                item.target = item.target.map(|target| if target > index { target - 1 } else { target });
            }
            let fits = !shorter.items.is_empty() && settle_flags(&mut shorter) && lay_out(&mut encoder, &mut shorter);
            if fits && !self.compare(&shorter)?.is_empty() {
                best = shorter;
            }
        }
        Ok(best)
    }

    /// A difference in words: the sequence as assembly, what it started from, and what differs.
    pub fn describe(&self, difference: &Difference) -> String {
        let case = &difference.case;
        let mut text = format!("seed {:#x}, shrunk to {} instructions\n", case.seed, case.items.len());
        let mut formatter = NasmFormatter::new();
        for (item, offset) in case.items.iter().zip(&case.offsets) {
            let mut line = String::new();
            formatter.format(&item.instruction, &mut line);
            let end = case.offsets.iter().find(|end| *end > offset).copied().unwrap_or(*offset);
            let bytes: String = case.code[*offset..end].iter().map(|byte| format!("{byte:02x}")).collect();
            let address = CODE + (case.entry + offset) as u64;
            let target = item.target.map_or(String::new(), |target| format!("   ; to instruction {target}"));
            let _ = writeln!(text, "    {address:x}  {bytes:24} {line}{target}");
        }
        let before = &case.registers;
        let gpr: Vec<String> = before.gpr.iter().map(|value| format!("{value:x}")).collect();
        let _ = writeln!(text, "  before: rax to r15 {}", gpr.join(" "));
        let _ = writeln!(
            text,
            "          rflags {:x} mxcsr {:x} fcw {:x} fsw {:x} ftw {:x} fs {:x} gs {:x} image {}",
            before.rflags, before.mxcsr, before.fcw, before.fsw, before.ftw, before.fs_base, before.gs_base, case.image
        );
        self.vectors(case, &mut text);
        for line in &difference.differences {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// The vector and x87 registers that the sequence names.
    fn vectors(&self, case: &Case, text: &mut String) {
        let lines: String = case.items.iter().map(|item| item.instruction.to_string().to_lowercase()).collect();
        for (index, ymm) in case.registers.ymm.iter().enumerate() {
            if lines.contains(&format!("mm{index}")) {
                let _ = writeln!(text, "          ymm{index} {}", hex(ymm));
            }
        }
        if case
            .items
            .iter()
            .any(|item| item.instruction.to_string().starts_with('f') || item.instruction.to_string().contains("mm"))
        {
            let top = usize::from(case.registers.fsw >> 11) & 7;
            for index in 0..8 {
                let _ = writeln!(text, "          st{index} {}", hex(&case.registers.x87[(top + index) & 7]));
            }
        }
    }
}

impl Summary {
    /// Nothing differs.
    pub fn is_good(&self) -> bool {
        self.different == 0 && self.unmodelled.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sequences equal, {} of them to their end, {} different; {} instructions",
            self.equal, self.completed, self.different, self.instructions
        )?;
        if self.lost > 0 {
            write!(f, "; {} ended the child process", self.lost)?;
        }
        if self.own_code > 0 {
            write!(f, "; {} not compared: they overwrite an instruction while it is repeated", self.own_code)?;
        }
        for (what, count) in self.unmodelled.iter().take(20) {
            write!(f, "\nnot modelled, {count} times: {what}")?;
        }
        if self.unmodelled.len() > 20 {
            write!(f, "\nnot modelled: {} more", self.unmodelled.len() - 20)?;
        }
        Ok(())
    }
}
