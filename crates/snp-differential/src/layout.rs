//! Where a sequence finds its code, data and stack: the same linear addresses on this machine and in the model.

use crate::random::Random;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Where sequences lie: two pages that may be read, written and executed.
pub const CODE: u64 = 0x1000_0000;
/// Bytes there.
pub const CODE_LEN: usize = 2 * PAGE;
/// What the code pages hold where there is no sequence: INT3.
pub const FILLER: u8 = 0xcc;
/// The data: four pages to read and write, one to read, and then nothing.
pub const DATA: u64 = 0x2000_0000;
/// The same memory again, where addresses need more than 32 bits.
pub const DATA_HIGH: u64 = 0x1_2000_0000;
/// Bytes that may be written.
pub const DATA_LEN: usize = 4 * PAGE;
/// Bytes of the page behind, which may only be read.
pub const READ_ONLY_LEN: usize = PAGE;
/// The stack: two pages.
pub const STACK: u64 = 0x3000_0000;
/// Bytes there.
pub const STACK_LEN: usize = 2 * PAGE;
/// Where a sequence jumps when it is done: no sum of pointers leads there.
pub const EXIT: u64 = 0x5a5a_0000;
/// Bytes of a memory image: data that may be written, then the stack.
pub const IMAGE_LEN: usize = DATA_LEN + STACK_LEN;
/// All memory that a sequence may change, as results number it: image, then code.
pub const WRITABLE_LEN: usize = IMAGE_LEN + CODE_LEN;

/// CS and SS of a 64-bit program under Linux; all other segment registers are null.
pub const USER_CS: u16 = 0x33;
/// See [`USER_CS`].
pub const USER_SS: u16 = 0x2b;

/// Offset in the data of 32 bytes of small doublewords, which make the indices of a gather valid by AND.
pub const SMALL_DWORDS: u64 = 0;
/// The same for quadwords.
pub const SMALL_QWORDS: u64 = 32;
const CONSTANTS: usize = 64;

/// The linear address of a byte by its number among [`WRITABLE_LEN`].
pub fn address_of(offset: usize) -> u64 {
    if offset < DATA_LEN {
        DATA + offset as u64
    } else if offset < IMAGE_LEN {
        STACK + (offset - DATA_LEN) as u64
    } else {
        CODE + (offset - IMAGE_LEN) as u64
    }
}

/// What data and stack hold before a sequence.
pub type Image = [u8; IMAGE_LEN];

/// Memory images to choose from, and the contents of the read-only page.
#[derive(Debug)]
pub struct Images {
    /// The images.
    pub images: Vec<Box<Image>>,
    /// The read-only page.
    pub read_only: Box<[u8; READ_ONLY_LEN]>,
}

impl Images {
    /// How many there are.
    pub const COUNT: usize = 64;

    /// Images from a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x696d_6167_6573);
        let images = (0..Self::COUNT).map(|_| {
            let mut image = Box::new([0; IMAGE_LEN]);
            fill(&mut random, &mut *image);
            image[..32].copy_from_slice(&0x0000_00ff_u32.to_le_bytes().repeat(8));
            image[32..CONSTANTS].copy_from_slice(&0x0000_01ff_u64.to_le_bytes().repeat(4));
            image
        });
        let images = images.collect();
        let mut read_only = Box::new([0; READ_ONLY_LEN]);
        fill(&mut random, &mut *read_only);
        Self { images, read_only }
    }
}

/// Fills memory with what instructions of all kinds find interesting, 32 bytes of a kind.
fn fill(random: &mut Random, memory: &mut [u8]) {
    for block in memory.chunks_exact_mut(32) {
        block.copy_from_slice(&vector(random));
    }
}

/// A vector register's contents.
pub fn vector(random: &mut Random) -> [u8; 32] {
    let mut bytes = [0; 32];
    match random.below(10) {
        0 => {}
        1 => bytes = [0xff; 32],
        2 | 3 => each(&mut bytes, 4, || u64::from(float32(random))),
        4 | 5 => each(&mut bytes, 8, || float64(random)),
        6 => {
            let value = float80(random);
            bytes[..10].copy_from_slice(&value);
            let value = float80(random);
            bytes[10..20].copy_from_slice(&value);
        }
        7 => each(&mut bytes, 8, || random.integer()),
        8 => each(&mut bytes, 2, || random.integer()),
        _ => each(&mut bytes, 8, || random.bits()),
    }
    bytes
}

fn each(bytes: &mut [u8], size: usize, mut value: impl FnMut() -> u64) {
    for item in bytes.chunks_exact_mut(size) {
        item.copy_from_slice(&value().to_le_bytes()[..size]);
    }
}

/// A single-precision number: ordinary ones near 1, and all special ones.
fn float32(random: &mut Random) -> u32 {
    let sign = (random.below(2) as u32) << 31;
    let fraction = random.bits() as u32 & 0x7f_ffff;
    sign | match random.below(12) {
        0 => 0,
        1 => 0x7f80_0000,
        2 => 0x7f80_0000 | fraction,
        3 => 0x7fc0_0000 | fraction,
        4 => fraction,
        5 => 1 << random.below(23),
        6 => (random.below(256) as u32) << 23 | fraction,
        7 => 0x7f7f_ffff - random.below(3) as u32,
        8 => 0x0080_0000 + random.below(3) as u32,
        9 => (random.below(1 << 20) as f32).to_bits(),
        10 => (random.below(64) as f32 + 0.5).to_bits(),
        _ => (117 + random.below(20) as u32) << 23 | fraction,
    }
}

/// The same in double precision.
fn float64(random: &mut Random) -> u64 {
    let sign = random.below(2) << 63;
    let fraction = random.bits() & 0xf_ffff_ffff_ffff;
    sign | match random.below(12) {
        0 => 0,
        1 => 0x7ff0_0000_0000_0000,
        2 => 0x7ff0_0000_0000_0000 | fraction,
        3 => 0x7ff8_0000_0000_0000 | fraction,
        4 => fraction,
        5 => 1 << random.below(52),
        6 => random.below(2048) << 52 | fraction,
        7 => 0x7fef_ffff_ffff_ffff - random.below(3),
        8 => 0x0010_0000_0000_0000 + random.below(3),
        9 => ((random.bits() >> random.below(64)) as f64).to_bits(),
        10 => (random.below(64) as f64 + 0.5).to_bits(),
        _ => (1013 + random.below(20)) << 52 | fraction,
    }
}

/// The same in extended precision, with the encodings that only it has: pseudo-denormals, unnormals, pseudo-infinities.
pub fn float80(random: &mut Random) -> [u8; 10] {
    const INTEGER: u64 = 1 << 63;
    let fraction = random.bits() & !INTEGER;
    let (exponent, significand) = match random.below(16) {
        0 => (0, 0),
        1 => (0x7fff, INTEGER),
        2 => (0x7fff, INTEGER | fraction),
        3 => (0x7fff, 0xc000_0000_0000_0000 | fraction),
        4 => (0, fraction),
        5 => (0, INTEGER | fraction),
        6 => (random.below(0x8000), fraction),
        7 => (random.below(0x8000), INTEGER | fraction),
        8 => (0x7ffe - random.below(2), u64::MAX - random.below(3)),
        9 => (1 + random.below(2), INTEGER + random.below(3)),
        10 => (0x3fff + random.below(64), INTEGER | (fraction & (u64::MAX << random.below(64)))),
        11 => (0x3fff, INTEGER),
        12 => (0x3ffe + random.below(66), u64::MAX - random.below(3)),
        _ => (0x3ff5 + random.below(20), INTEGER | fraction),
    };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&((random.below(2) << 15 | exponent) as u16).to_le_bytes());
    bytes
}
