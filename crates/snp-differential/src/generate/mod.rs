//! Random sequences.
//!
//! A sequence is made from the catalogue of all instructions, by class, mnemonic, encoding and operands. What keeps it from
//! ending at its first instruction: some registers are pointers into the data, some small, and other instructions mostly leave
//! them alone. Every branch leads forward, so that a sequence ends.

mod catalogue;
mod operands;

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, InstructionInfoFactory, MemoryOperand, OpAccess,
    Register,
};

pub use catalogue::{Catalogue, Class};

use crate::case::{Case, Item, Registers};
use crate::layout::*;
use crate::native::CODE_MAX;
use crate::random::Random;
use crate::undefined::{self, AF, CF, OF, PF, SF, ZF};

/// Which registers are what in a sequence.
pub(crate) struct Plan {
    pointers: Vec<Register>,
    indices: Vec<Register>,
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        let mut free: Vec<Register> = (0..16)
            .map(|number| Register::RAX + number)
            .filter(|register| !matches!(register, Register::RSP | Register::RAX))
            .collect();
        // String instructions want RSI and RDI, XLAT wants RBX.
        let mut pointers = vec![Register::RSI, Register::RDI, Register::RBX];
        free.retain(|register| !pointers.contains(register));
        let mut take = |random: &mut Random| free.swap_remove(random.below(free.len() as u64) as usize);
        pointers.push(take(random));
        pointers.push(take(random));
        let indices = vec![take(random), take(random)];
        Self { pointers, indices }
    }

    /// Any general register.
    fn general(&self, random: &mut Random) -> Register {
        Register::RAX + random.below(16) as u32
    }

    fn pointer(&self, random: &mut Random) -> Register {
        if random.chance(4) { Register::RSP } else { *random.pick(&self.pointers) }
    }

    fn index(&self, random: &mut Random) -> Register {
        *random.pick(&self.indices)
    }

    fn keeps(&self, register: Register) -> bool {
        self.pointers.contains(&register) || self.indices.contains(&register) || register == Register::RSP
    }
}

/// Makes sequences.
pub struct Generator<'a> {
    catalogue: &'a Catalogue,
    information: InstructionInfoFactory,
    encoder: Encoder,
}

impl std::fmt::Debug for Generator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("catalogue", self.catalogue).finish_non_exhaustive()
    }
}

/// A sequence as it grows.
struct Draft {
    items: Vec<Item>,
    /// Flags that are undefined now.
    undefined: u64,
    anywhere: u64,
    /// Flags that become undefined when an item is reached, because a branch leads there.
    joins: Vec<(usize, u64)>,
}

impl<'a> Generator<'a> {
    /// One that draws on a catalogue.
    pub fn new(catalogue: &'a Catalogue) -> Self {
        Self { catalogue, information: InstructionInfoFactory::new(), encoder: Encoder::new(64) }
    }

    /// The case of a seed.
    pub fn case(&mut self, seed: u64) -> Case {
        let mut random = Random::new(seed);
        loop {
            if let Some(case) = self.attempt(&mut random, seed) {
                return case;
            }
        }
    }

    /// These instructions, with the registers and memory of a seed.
    ///
    /// # Panics
    /// They cannot be encoded, or need a target.
    pub fn given(&mut self, seed: u64, instructions: &[Instruction]) -> Case {
        let mut case = self.case(seed);
        let item = |instruction: &Instruction| Item {
            instruction: *instruction,
            bytes: None,
            target: None,
            undefined_before: 0,
        };
        case.items = instructions.iter().map(item).collect();
        settle_flags(&mut case);
        assert!(lay_out(&mut self.encoder, &mut case), "instructions that can be encoded");
        case
    }

    fn attempt(&mut self, random: &mut Random, seed: u64) -> Option<Case> {
        let plan = Plan::new(random);
        let weights = weights(random);
        let length = 1 + random.below(10) as usize;
        let mut draft = Draft { items: Vec::new(), undefined: 0, anywhere: 0, joins: Vec::new() };
        for _ in 0..length * 8 {
            if draft.items.len() >= length {
                break;
            }
            self.extend(random, &plan, &weights, length, &mut draft);
        }
        let registers = registers(random, &plan);
        let entry = if random.chance(80) { 64 * random.below(32) } else { PAGE as u64 - random.below(64) } as usize;
        let undefined_after = draft.undefined_after();
        let mut case = Case {
            seed,
            items: draft.items,
            entry,
            registers,
            image: random.below(Images::COUNT as u64) as usize,
            undefined_after,
            undefined_anywhere: draft.anywhere,
            code: Vec::new(),
            offsets: Vec::new(),
        };
        lay_out(&mut self.encoder, &mut case).then_some(case)
    }

    /// Adds an instruction, and what it needs before it.
    fn extend(
        &mut self,
        random: &mut Random,
        plan: &Plan,
        weights: &[(Class, u64)],
        length: usize,
        draft: &mut Draft,
    ) -> Option<()> {
        let class = choose(random, weights);
        let (_, codes) = random.pick(Some(self.catalogue.class(class)).filter(|class| !class.is_empty())?);
        let code = *random.pick(codes);
        let (instruction, needs) = operands::instruction(random, plan, code)?;
        // Where branches lead: an item that is still to come, or the end.
        let target = draft.items.len() + 1;
        let target = needs.target.then(|| target + random.below(1 + length.saturating_sub(target) as u64) as usize);
        let bytes = self.encode(random, &instruction)?;
        let (instruction, bytes) = bytes;
        if !self.catalogue.contains(instruction.code()) && !instruction.is_invalid() {
            return None;
        }
        self.suits(random, plan, &instruction)?;
        for item in preparation(random, &instruction, needs.indices) {
            draft.push(item, None, None)?;
        }
        if matches!(instruction.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
            && instruction.op0_kind() == iced_x86::OpKind::Register
            && random.chance(90)
        {
            let register = instruction.op0_register().full_register();
            let place = MemoryOperand::with_base_displ(Register::RIP, CODE as i64);
            let lea = Instruction::with2(Code::Lea_r64_m, register, place).ok()?;
            let landing = draft.items.len() + 2;
            draft.push(lea, None, Some(landing + random.below(2) as usize))?;
        }
        draft.push(instruction, bytes, target)
    }

    /// The instruction as it is decoded, and its bytes if they are not those of the encoder.
    fn encode(&mut self, random: &mut Random, instruction: &Instruction) -> Option<(Instruction, Option<Vec<u8>>)> {
        self.encoder.encode(instruction, CODE).ok()?;
        let mut bytes = self.encoder.take_buffer();
        let relative = instruction.is_ip_rel_memory_operand() || instruction.flow_control() != FlowControl::Next;
        let noise = !relative && random.chance(4);
        if noise {
            let prefixes = [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x48, 0x40, 0x41, 0x44, 0x4f];
            for _ in 0..1 + random.below(2) {
                bytes.insert(0, *random.pick(&prefixes));
            }
        }
        let mut decoder = Decoder::with_ip(64, &bytes, CODE, DecoderOptions::AMD);
        let decoded = decoder.decode();
        if decoded.len() != bytes.len() && !decoded.is_invalid() {
            return None;
        }
        if decoded.is_invalid() {
            // LOCK where it may not be: the one illegal instruction that all processors agree on.
            return (!noise && instruction.has_lock_prefix()).then_some((decoded, Some(bytes)));
        }
        Some((decoded, noise.then_some(bytes)))
    }

    /// Refuses an instruction that spoils the sequence.
    fn suits(&mut self, random: &mut Random, plan: &Plan, instruction: &Instruction) -> Option<()> {
        if instruction.is_invalid() {
            return Some(());
        }
        let tolerant = random.chance(6);
        let info = self.information.info(instruction);
        let spoils = |access| {
            matches!(access, OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite)
        };
        let spoilt = info
            .used_registers()
            .iter()
            .any(|used| spoils(used.access()) && plan.keeps(used.register().full_register()));
        let stack = instruction.is_stack_instruction() || instruction.is_string_instruction();
        // The 16-bit forms of SHLD and SHRD have no defined result for counts beyond 16.
        if matches!(instruction.code(), Code::Shld_rm16_r16_imm8 | Code::Shrd_rm16_r16_imm8)
            && instruction.immediate8() & 31 > 16
        {
            return None;
        }
        (!spoilt || stack || tolerant).then_some(())
    }
}

impl Draft {
    /// CL was just made small, on every way to here: results of the next instruction are undefined otherwise.
    fn has_small_count(&self) -> bool {
        let here = self.items.len();
        let last = self.items.last().map(|item| item.instruction);
        let small = last.is_some_and(|last| {
            last.code() == Code::Mov_r32_imm32 && last.op0_register() == Register::ECX && last.immediate32() <= 16
        });
        small && self.joins.iter().all(|(at, _)| *at != here)
    }

    fn undefined_after(&self) -> u64 {
        self.joins.iter().fold(self.undefined, |all, (_, flags)| all | flags)
    }

    /// Adds an item, unless it would read flags that are undefined.
    fn push(&mut self, instruction: Instruction, bytes: Option<Vec<u8>>, target: Option<usize>) -> Option<()> {
        let here = self.items.len();
        for (at, flags) in &mut self.joins {
            if *at <= here {
                self.undefined |= std::mem::take(flags);
            }
        }
        if matches!(instruction.code(), Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL) && !self.has_small_count() {
            return None;
        }
        let reads = iced_flags(instruction.rflags_read())
            | if matches!(instruction.code(), Code::Pushfq | Code::Pushfw) { ALL } else { 0 };
        let returns = matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::IndirectBranch | FlowControl::IndirectCall
        );
        if reads & self.undefined != 0 || returns && self.undefined != 0 {
            return None;
        }
        self.items.push(Item { instruction, bytes, target, undefined_before: self.undefined });
        let undefined = undefined::undefined(&instruction);
        if !undefined::may_leave_flags(&instruction) {
            self.undefined &= !iced_flags(instruction.rflags_modified());
        }
        self.undefined |= undefined;
        self.anywhere |= self.undefined;
        if let Some(target) = target {
            self.joins.push((target, self.undefined));
        }
        Some(())
    }
}

const ALL: u64 = CF | PF | AF | ZF | SF | OF;

/// iced's flags as bits of RFLAGS.
pub(crate) fn iced_flags(bits: u32) -> u64 {
    use iced_x86::RflagsBits;
    [
        (RflagsBits::CF, CF),
        (RflagsBits::PF, PF),
        (RflagsBits::AF, AF),
        (RflagsBits::ZF, ZF),
        (RflagsBits::SF, SF),
        (RflagsBits::OF, OF),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .fold(0, |all, (_, flag)| all | flag)
}

/// What a sequence is about.
fn weights(random: &mut Random) -> Vec<(Class, u64)> {
    use Class::*;
    match random.below(100) {
        0..40 => vec![(Integer, 76), (String, 8), (Control, 14), (Privileged, 2)],
        40..70 => vec![(Integer, 20), (Sse, 40), (Avx, 40)],
        70..84 => vec![(X87, 85), (Integer, 15)],
        84..89 => vec![(Mmx, 70), (X87, 10), (Sse, 10), (Integer, 10)],
        _ => vec![(Integer, 30), (String, 10), (Control, 10), (Mmx, 10), (Sse, 15), (Avx, 15), (X87, 10)],
    }
}

fn choose(random: &mut Random, weights: &[(Class, u64)]) -> Class {
    let mut number = random.below(weights.iter().map(|(_, weight)| weight).sum());
    for (class, weight) in weights {
        if number < *weight {
            return *class;
        }
        number -= weight;
    }
    weights[0].0
}

/// Instructions that make the next one worth while: small indices for a gather, a dividend that does not overflow, a count
/// for REP that ends.
fn preparation(random: &mut Random, next: &Instruction, indices: Option<(Register, usize)>) -> Vec<Instruction> {
    use iced_x86::Mnemonic;
    let absolute = |offset: u64| MemoryOperand::with_displ(DATA + offset, 8);
    let mut before = Vec::new();
    let small = |random: &mut Random, register, most| {
        Instruction::with2(Code::Mov_r32_imm32, register, random.below(most) as i32).expect("MOV has that form")
    };
    if let Some((register, size)) = indices
        && random.chance(95)
    {
        let mask = absolute(if size == 4 { SMALL_DWORDS } else { SMALL_QWORDS });
        let code = if register.is_ymm() { Code::VEX_Vpand_ymm_ymm_ymmm256 } else { Code::VEX_Vpand_xmm_xmm_xmmm128 };
        before.extend(Instruction::with3(code, register, register, mask));
    }
    match next.mnemonic() {
        Mnemonic::Div | Mnemonic::Idiv if random.chance(70) => before.push(small(random, Register::EDX, 64)),
        Mnemonic::Shld | Mnemonic::Shrd if matches!(next.code(), Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL) => {
            before.push(small(random, Register::ECX, 17));
        }
        _ if (next.has_rep_prefix() || next.has_repne_prefix()) && random.chance(90) => {
            before.push(small(random, Register::ECX, 40));
        }
        _ => {}
    }
    before
}

/// Registers before a sequence.
fn registers(random: &mut Random, plan: &Plan) -> Registers {
    let mut gpr: [u64; 16] = std::array::from_fn(|_| random.integer());
    let number = |register: &Register| (*register as u32 - Register::RAX as u32) as usize;
    for register in &plan.pointers {
        gpr[number(register)] = pointer(random);
    }
    for register in &plan.indices {
        gpr[number(register)] = if random.chance(80) { random.below(16) * 8 } else { random.below(16).wrapping_neg() };
    }
    gpr[4] = STACK + 0x800 + 8 * random.below(0x180);
    if random.chance(3) {
        gpr[4] += random.below(8);
    }
    gpr[5] = if plan.pointers.contains(&Register::RBP) { gpr[5] } else { STACK + 0x1000 + 8 * random.below(0x100) };
    Registers {
        gpr,
        rip: CODE,
        rflags: 0x202 | random.bits() & (ALL | 1 << 10 | 1 << 21) | u64::from(random.chance(4)) << 18,
        fs_base: pointer(random),
        gs_base: pointer(random),
        ymm: std::array::from_fn(|_| vector(random)),
        mxcsr: mxcsr(random),
        fcw: fcw(random),
        fsw: (random.bits() as u16) & 0x7f7f,
        ftw: if random.chance(60) { random.bits() as u8 | random.bits() as u8 } else { random.bits() as u8 },
        x87: std::array::from_fn(|_| float80(random)),
    }
    .settled()
}

impl Registers {
    /// ES and B of the x87 status word are what the exceptions and their masks make of them.
    fn settled(mut self) -> Self {
        if self.fsw & !self.fcw & 0x3f != 0 {
            self.fsw |= 0x8080;
        }
        self
    }
}

fn pointer(random: &mut Random) -> u64 {
    let base = if random.chance(50) { DATA } else { DATA_HIGH };
    let offset = match random.below(40) {
        0 => DATA_LEN as u64 - random.below(64),
        1 => random.below(64),
        2 => (DATA_LEN + READ_ONLY_LEN) as u64 - random.below(64),
        3 => 0x1000 + random.below(0x2000),
        4 => 0x1000 * (1 + random.below(3)) - random.below(32),
        _ => 0x1000 + 32 * random.below(0x100),
    };
    base + offset
}

/// Mostly with masked exceptions, as programs have it.
fn mxcsr(random: &mut Random) -> u32 {
    match random.below(8) {
        0 => random.bits() as u32 & 0xffff,
        1 => 0x1f80 | random.bits() as u32 & 0xe07f,
        2 | 3 => 0x1f80 | random.bits() as u32 & 0x6000,
        _ => 0x1f80,
    }
}

/// Likewise. The exceptions that the status word has, but the control word does not mask, are raised by the next instruction:
/// they shall be rare.
fn fcw(random: &mut Random) -> u16 {
    let bits = random.bits() as u16;
    match random.below(10) {
        0 => 0x340 | bits & 0xc3f,
        1 | 2 => 0x7f | bits & 0xf00,
        _ => 0x37f | bits & 0xc00,
    }
}

/// Computes anew which flags are undefined where, after items were left out. False if an instruction would read one.
pub(crate) fn settle_flags(case: &mut Case) -> bool {
    let items = std::mem::take(&mut case.items);
    let mut draft = Draft { items: Vec::new(), undefined: 0, anywhere: 0, joins: Vec::new() };
    let kept = items.into_iter().all(|item| draft.push(item.instruction, item.bytes, item.target).is_some());
    case.undefined_after = draft.undefined_after();
    (case.items, case.undefined_anywhere) = (draft.items, draft.anywhere);
    kept
}

/// Encodes the items of a case one after the other, and the jump to the exit behind them. False if that cannot be done.
pub(crate) fn lay_out(encoder: &mut Encoder, case: &mut Case) -> bool {
    let base = CODE + case.entry as u64;
    let mut offsets = Vec::with_capacity(case.items.len() + 1);
    let mut code = Vec::new();
    // Lengths do not depend on where branches lead: the first round finds the places, the second fills in.
    for round in 0..2 {
        code.clear();
        let places = std::mem::take(&mut offsets);
        for item in &case.items {
            offsets.push(code.len());
            let here = base + code.len() as u64;
            let place = item.target.map(|target| match round {
                0 => here,
                _ => base + places[target.min(case.items.len())] as u64,
            });
            let Some(bytes) = encoded(encoder, item, here, place) else { return false };
            code.extend(bytes);
        }
        offsets.push(code.len());
    }
    let jump = EXIT as i64 - (base as i64 + code.len() as i64 + 5);
    code.push(0xe9);
    code.extend((jump as i32).to_le_bytes());
    (case.code, case.offsets) = (code, offsets);
    case.code.len() <= CODE_MAX && case.entry + case.code.len() <= CODE_LEN
}

fn encoded(encoder: &mut Encoder, item: &Item, here: u64, place: Option<u64>) -> Option<Vec<u8>> {
    if let Some(bytes) = &item.bytes {
        return Some(bytes.clone());
    }
    let mut instruction = item.instruction;
    if let Some(place) = place {
        if instruction.is_ip_rel_memory_operand() {
            instruction.set_memory_displacement64(place);
        } else {
            instruction.set_near_branch64(place);
        }
    }
    encoder.encode(&instruction, here).ok()?;
    Some(encoder.take_buffer())
}
