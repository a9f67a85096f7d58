//! Decoded code, by the page that it was decoded from, given up when the page is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic};
use snp_memory::{HostPage, PAGE_SIZE};

use super::cpu::*;
use super::decoded::Decoded;
use super::tlb::Rights;
use crate::{AccessKind, Exception, Segments};

/// Places of the table by address. A power of two.
const JUMPS: usize = 4096;
/// The most instructions of a block.
const LONGEST_BLOCK: usize = 64;
/// Blocks that are kept; beyond it everything is decoded anew.
const MOST_BLOCKS: usize = 1 << 16;
/// The longest instruction.
const LONGEST: usize = 15;

/// Instructions that follow one another in one page.
#[derive(Debug)]
struct Block {
    instructions: Box<[Decoded]>,
    /// Counted up by whoever writes the page.
    counter: Arc<AtomicU32>,
    /// Of the counter, when the block was decoded.
    version: u32,
}

impl Block {
    #[inline(always)]
    fn is_current(&self) -> bool {
        self.counter.load(Ordering::Acquire) == self.version
    }
}

/// Where a block was found last, by its linear address.
#[derive(Clone, Copy, Debug)]
struct Jump {
    rip: u64,
    flushes: u64,
    /// Mode and privilege; 0 for none.
    key: u32,
    block: u32,
}

/// The blocks of one page.
#[derive(Debug)]
struct Page {
    /// Kept, so that its address names no other page.
    _page: HostPage,
    counter: Arc<AtomicU32>,
    version: u32,
    /// By RIP, which is part of what is decoded, offset in the page and mode.
    blocks: HashMap<(u64, u16, u8), u32>,
}

/// What is at RIP.
#[derive(Debug)]
pub(crate) enum Found {
    /// A block, by number.
    Block(u32),
    /// One instruction that begins in a page and ends in the next.
    Crossing(Box<Decoded>),
}

/// All blocks.
#[derive(Debug)]
pub(crate) struct CodeCache {
    blocks: Vec<Block>,
    pages: HashMap<usize, Page>,
    jumps: Vec<Jump>,
}

impl CodeCache {
    pub(crate) fn new() -> Self {
        let nowhere = Jump { rip: 0, flushes: 0, key: 0, block: 0 };
        Self { blocks: Vec::new(), pages: HashMap::new(), jumps: vec![nowhere; JUMPS] }
    }

    #[inline(always)]
    pub(crate) fn block(&self, id: u32) -> &[Decoded] {
        &self.blocks[id as usize].instructions
    }

    /// The block at RIP.
    #[inline(always)]
    pub(crate) fn find(&mut self, cpu: &mut Cpu<'_>) -> Done<Found> {
        let rip = cpu.state.rip;
        let key = 1 << 16 | u32::from(cpu.state.cpl) << 8 | u32::from(cpu.mode.code_key());
        let jump = &self.jumps[rip as usize % JUMPS];
        // CS.base is 0 in 64-bit mode only: elsewhere RIP alone does not say where the code is.
        if jump.rip == rip && jump.key == key && jump.flushes == cpu.tlb.flushes() && cpu.mode.bits == 64 {
            let block = jump.block;
            if self.blocks[block as usize].is_current() {
                return Ok(Found::Block(block));
            }
        }
        let found = self.look_up(cpu)?;
        if let Found::Block(block) = found {
            let flushes = cpu.tlb.flushes();
            self.jumps[rip as usize % JUMPS] = Jump { rip, flushes, key, block };
        }
        Ok(found)
    }

    #[inline(never)]
    fn look_up(&mut self, cpu: &mut Cpu<'_>) -> Done<Found> {
        let rip = cpu.state.rip;
        if cpu.mode.bits == 64 {
            if !cpu.is_canonical(rip) {
                return Err(gp());
            }
        } else if rip > u64::from(cpu.state.segments[Segments::CS].limit) {
            return Err(gp());
        }
        let address = cpu.fetch_address();
        let offset = (address as usize) % PAGE_SIZE;
        let page = cpu.fetch_page(address)?;
        let key = (rip, offset as u16, cpu.mode.code_key());
        if let Some(known) = self.pages.get_mut(&page.address()) {
            let version = known.counter.load(Ordering::Acquire);
            if known.version != version {
                known.version = version;
                known.blocks.clear();
            } else if let Some(&id) = known.blocks.get(&key) {
                return Ok(Found::Block(id));
            }
        }
        self.decode(cpu, page, offset)
    }

    fn decode(&mut self, cpu: &mut Cpu<'_>, page: HostPage, offset: usize) -> Done<Found> {
        if self.blocks.len() >= MOST_BLOCKS {
            self.clear();
        }
        let known = self.pages.entry(page.address()).or_insert_with(|| {
            let counter = cpu.memory.watch_code(&page);
            let version = counter.load(Ordering::Acquire);
            Page { _page: page.clone(), counter, version, blocks: HashMap::new() }
        });
        // What is read after the counter is at least as new as it.
        let version = known.version;
        let contents = page.contents();
        let instructions = decode_block(cpu, &contents[offset..]);
        if instructions.is_empty() {
            return cpu.decode_crossing(&contents[offset..]).map(Found::Crossing);
        }
        let id = self.blocks.len() as u32;
        let counter = known.counter.clone();
        self.blocks.push(Block { instructions: instructions.into(), counter, version });
        known.blocks.insert((cpu.state.rip, offset as u16, cpu.mode.code_key()), id);
        Ok(Found::Block(id))
    }

    fn clear(&mut self) {
        self.blocks.clear();
        self.pages.clear();
        for jump in &mut self.jumps {
            jump.key = 0;
        }
    }
}

/// The instructions of one block, as far as they lie in these bytes; none if the first does not.
fn decode_block(cpu: &Cpu<'_>, bytes: &[u8]) -> Vec<Decoded> {
    let bits = cpu.mode.bits;
    let limit = if bits == 64 { u64::MAX } else { cpu.state.segments[Segments::CS].limit.into() };
    let inside = limit.saturating_sub(cpu.state.rip).saturating_add(1);
    let bytes = &bytes[..bytes.len().min(usize::try_from(inside).unwrap_or(usize::MAX))];
    let mut decoder = Decoder::with_ip(bits, bytes, cpu.state.rip, DecoderOptions::AMD);
    let mut block = Vec::new();
    while block.len() < LONGEST_BLOCK {
        let position = decoder.position();
        let instruction = exchange_or_pause(decoder.decode(), bits, &bytes[position..]);
        if decoder.last_error() == DecoderError::NoMoreBytes {
            break;
        }
        let ends = ends_block(&instruction);
        block.push(Decoded::new(instruction, bits));
        if ends {
            break;
        }
    }
    block
}

/// 90h with REX.B exchanges R8, whatever other prefix it has: only without it F3h makes a PAUSE of it, which the decoder does not
/// look at (AMD 24594, "XCHG", "PAUSE").
fn exchange_or_pause(instruction: Instruction, bits: u32, bytes: &[u8]) -> Instruction {
    if instruction.mnemonic() != Mnemonic::Pause {
        return instruction;
    }
    let options = DecoderOptions::AMD | DecoderOptions::NO_PAUSE;
    let other = Decoder::with_ip(bits, bytes, instruction.ip(), options).decode();
    if other.mnemonic() == Mnemonic::Nop { instruction } else { other }
}

/// Whether what follows may be elsewhere, or be decoded otherwise.
fn ends_block(instruction: &Instruction) -> bool {
    instruction.flow_control() != FlowControl::Next
        || matches!(instruction.mnemonic(), Mnemonic::Sti | Mnemonic::Popf | Mnemonic::Popfq | Mnemonic::Popfd)
}

impl Cpu<'_> {
    fn fetch_rights(&self) -> Rights {
        if self.state.cpl == 3 { Rights::User } else { Rights::Supervisor }
    }

    /// The page that instructions are fetched from.
    fn fetch_page(&mut self, address: u64) -> Done<HostPage> {
        let rights = self.fetch_rights();
        if let Some(page) = self.tlb.find(AccessKind::Execute, address, rights) {
            return Ok(page.clone());
        }
        match self.translate(address, AccessKind::Execute, rights)? {
            Ok(found) => Ok(found.page),
            Err(_) => unreachable!("a fetch from a device is a nested fault"),
        }
    }

    /// Decodes an instruction of which these bytes are the first, and the next page has the others.
    #[cold]
    fn decode_crossing(&mut self, first: &[u8]) -> Done<Box<Decoded>> {
        let mut bytes = [0; LONGEST];
        let near = first.len().min(LONGEST);
        bytes[..near].copy_from_slice(&first[..near]);
        let last = self.state.rip.wrapping_add(near as u64);
        let outside = self.mode.bits != 64 && last > u64::from(self.state.segments[Segments::CS].limit);
        if outside || near == LONGEST {
            return Err(gp());
        }
        let next = self.fetch_address().wrapping_add(near as u64);
        let next = if self.mode.bits == 64 { next } else { next & 0xffff_ffff };
        if self.mode.bits == 64 && !self.is_canonical(next) {
            return Err(gp());
        }
        let page = self.fetch_page(next)?;
        page.read(0, &mut bytes[near..]);
        let mut decoder = Decoder::with_ip(self.mode.bits, &bytes, self.state.rip, DecoderOptions::AMD);
        let instruction = exchange_or_pause(decoder.decode(), self.mode.bits, &bytes);
        if decoder.last_error() == DecoderError::NoMoreBytes {
            // Longer than an instruction may be.
            return Err(Exception::general_protection(0).into());
        }
        Ok(Box::new(Decoded::new(instruction, self.mode.bits)))
    }
}
