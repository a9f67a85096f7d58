//! AES, carry-less multiplication, GF(2^8) and SHA.
//!
//! # Source
//! FIPS 197; FIPS 180-4; AMD 26568 (APM volume 4), "AESENC" and its kin, "PCLMULQDQ"; AMD 24594 (APM volume 3), "SHA1RNDS4"
//! and its kin.

use super::vector::{Vector, ZERO, blocks, get, set, zip};

type Block = [u8; 16];

/// Multiplication by x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn double(a: u8) -> u8 {
    a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 }
}

const fn product(a: u8, b: u8) -> u8 {
    let (mut sum, mut a, mut bits) = (0, a, b);
    while bits != 0 {
        if bits & 1 != 0 {
            sum ^= a;
        }
        a = double(a);
        bits >>= 1;
    }
    sum
}

/// Products by what MIXCOLUMNS() and INVMIXCOLUMNS() multiply with, all below 16.
static PRODUCTS: [[u8; 256]; 16] = {
    let mut table = [[0; 256]; 16];
    let mut index = 0;
    while index < 16 * 256 {
        table[index / 256][index % 256] = product((index / 256) as u8, (index % 256) as u8);
        index += 1;
    }
    table
};

/// Inverses in GF(2^8); that of 0 is 0.
const INVERSE: [u8; 256] = {
    let mut table = [0; 256];
    // Powers of 3 run through all of the field but 0, powers of its inverse likewise.
    let (mut power, mut inverse) = (1_u8, 1_u8);
    loop {
        power = product(power, 3);
        inverse = product(inverse, 0xf6);
        table[power as usize] = inverse;
        if power == 1 {
            break table;
        }
    }
};

/// SBOX(): the inverse, then an affine map.
const SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let a = INVERSE[index];
        table[index] = a ^ a.rotate_left(1) ^ a.rotate_left(2) ^ a.rotate_left(3) ^ a.rotate_left(4) ^ 0x63;
        index += 1;
    }
    table
};

/// INVSBOX().
const INVERSE_SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[SBOX[index] as usize] = index as u8;
        index += 1;
    }
    table
};

/// SHIFTROWS(): row `r` of the state is bytes `r`, `r + 4`, `r + 8`, `r + 12`.
fn shift_rows(state: &Block) -> Block {
    std::array::from_fn(|index| state[(index + 4 * (index & 3)) & 15])
}

fn inverse_shift_rows(state: &Block) -> Block {
    std::array::from_fn(|index| state[index.wrapping_sub(4 * (index & 3)) & 15])
}

fn mix(state: &Block, coefficients: [usize; 4]) -> Block {
    std::array::from_fn(|index| {
        let (column, row) = (index & !3, index & 3);
        (0..4).fold(0, |sum, other| {
            sum ^ PRODUCTS[coefficients[(other + 4 - row) & 3]][usize::from(state[column + other])]
        })
    })
}

fn xor(a: &Block, b: &Block) -> Block {
    std::array::from_fn(|index| a[index] ^ b[index])
}

/// AESENC.
pub(super) fn encrypt(a: &Vector, b: &Vector) -> Vector {
    blocks(a, b, |a, key| xor(&mix(&shift_rows(a).map(|byte| SBOX[usize::from(byte)]), [2, 3, 1, 1]), key))
}

/// AESENCLAST.
pub(super) fn encrypt_last(a: &Vector, b: &Vector) -> Vector {
    blocks(a, b, |a, key| xor(&shift_rows(a).map(|byte| SBOX[usize::from(byte)]), key))
}

/// AESDEC.
pub(super) fn decrypt(a: &Vector, b: &Vector) -> Vector {
    blocks(a, b, |a, key| {
        let state = inverse_shift_rows(a).map(|byte| INVERSE_SBOX[usize::from(byte)]);
        xor(&mix(&state, [14, 11, 13, 9]), key)
    })
}

/// AESDECLAST.
pub(super) fn decrypt_last(a: &Vector, b: &Vector) -> Vector {
    blocks(a, b, |a, key| xor(&inverse_shift_rows(a).map(|byte| INVERSE_SBOX[usize::from(byte)]), key))
}

/// AESIMC.
pub(super) fn inverse_mix_columns(a: &Vector) -> Vector {
    blocks(a, a, |a, _| mix(a, [14, 11, 13, 9]))
}

/// AESKEYGENASSIST.
pub(super) fn key_assist(a: &Vector, constant: u8) -> Vector {
    let substituted = |index: usize| get::<u32>(&a.map(|byte| SBOX[usize::from(byte)]), index);
    let mut result = ZERO;
    for (half, index) in [1, 3].into_iter().enumerate() {
        let word = substituted(index);
        set(&mut result, 2 * half, word);
        set(&mut result, 2 * half + 1, word.rotate_right(8) ^ u32::from(constant));
    }
    result
}

/// PCLMULQDQ.
pub(super) fn multiply_carryless(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    blocks::<16>(a, b, |a, b| {
        let a = u128::from(get::<u64>(a, usize::from(immediate & 1)));
        let b = get::<u64>(b, usize::from(immediate >> 4 & 1));
        (0..64).filter(|bit| b >> bit & 1 != 0).fold(0, |sum, bit| sum ^ a << bit).to_le_bytes()
    })
}

/// GF2P8MULB.
pub(super) fn multiply_bytes(a: &Vector, b: &Vector) -> Vector {
    zip(a, b, product)
}

/// GF2P8AFFINEQB: bytes by the matrices of 8 rows in `b`, the row of the highest bit first.
pub(super) fn affine(a: &Vector, b: &Vector, constant: u8) -> Vector {
    std::array::from_fn(|index| {
        let rows = &b[index & !7..][..8];
        let bit = |number: u8| ((rows[7 - usize::from(number)] & a[index]).count_ones() as u8 & 1) << number;
        (0..8).fold(constant, |byte, number| byte ^ bit(number))
    })
}

/// GF2P8AFFINEINVQB.
pub(super) fn affine_of_inverse(a: &Vector, b: &Vector, constant: u8) -> Vector {
    affine(&a.map(|byte| INVERSE[usize::from(byte)]), b, constant)
}

/// Four words, the most significant first.
fn words(a: &Vector) -> [u32; 4] {
    std::array::from_fn(|index| get(a, 3 - index))
}

fn from_words(words: [u32; 4]) -> Vector {
    let mut result = ZERO;
    for (index, word) in words.into_iter().enumerate() {
        set(&mut result, 3 - index, word);
    }
    result
}

/// SHA1RNDS4.
pub(super) fn sha1_rounds(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    let [mut a, mut b_, mut c, mut d] = words(a);
    let mut e = 0_u32;
    for word in words(b) {
        let (f, k) = match immediate & 3 {
            0 => (b_ & c ^ !b_ & d, 0x5a82_7999),
            1 => (b_ ^ c ^ d, 0x6ed9_eba1),
            2 => (b_ & c ^ b_ & d ^ c & d, 0x8f1b_bcdc),
            _ => (b_ ^ c ^ d, 0xca62_c1d6),
        };
        let next = f.wrapping_add(a.rotate_left(5)).wrapping_add(word).wrapping_add(e).wrapping_add(k);
        (a, b_, c, d, e) = (next, a, b_.rotate_left(30), c, d);
    }
    from_words([a, b_, c, d])
}

/// SHA1NEXTE.
pub(super) fn sha1_next_e(a: &Vector, b: &Vector) -> Vector {
    let e = get::<u32>(a, 3).rotate_left(30);
    let mut result = *b;
    set(&mut result, 3, get::<u32>(b, 3).wrapping_add(e));
    result
}

/// SHA1MSG1.
pub(super) fn sha1_message_1(a: &Vector, b: &Vector) -> Vector {
    let ([w0, w1, w2, w3], [w4, w5, ..]) = (words(a), words(b));
    from_words([w2 ^ w0, w3 ^ w1, w4 ^ w2, w5 ^ w3])
}

/// SHA1MSG2.
pub(super) fn sha1_message_2(a: &Vector, b: &Vector) -> Vector {
    let ([a0, a1, a2, a3], [_, w13, w14, w15]) = (words(a), words(b));
    let w16 = (a0 ^ w13).rotate_left(1);
    let w17 = (a1 ^ w14).rotate_left(1);
    let w18 = (a2 ^ w15).rotate_left(1);
    from_words([w16, w17, w18, (a3 ^ w16).rotate_left(1)])
}

/// SHA256RNDS2: the third is the implicit XMM0.
pub(super) fn sha256_rounds(a: &Vector, b: &Vector, messages: &Vector) -> Vector {
    let ([mut c, mut d, mut g, mut h], [mut a, mut b, mut e, mut f]) = (words(a), words(b));
    for index in 0..2 {
        let choose = e & f ^ !e & g;
        let majority = a & b ^ a & c ^ b & c;
        let sigma_0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let sigma_1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let t1 = h.wrapping_add(sigma_1).wrapping_add(choose).wrapping_add(get::<u32>(messages, index));
        let t2 = sigma_0.wrapping_add(majority);
        (a, b, c, d, e, f, g, h) = (t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g);
    }
    from_words([a, b, e, f])
}

fn small_sigma_0(a: u32) -> u32 {
    a.rotate_right(7) ^ a.rotate_right(18) ^ a >> 3
}

fn small_sigma_1(a: u32) -> u32 {
    a.rotate_right(17) ^ a.rotate_right(19) ^ a >> 10
}

/// SHA256MSG1.
pub(super) fn sha256_message_1(a: &Vector, b: &Vector) -> Vector {
    let ([w3, w2, w1, w0], [.., w4]) = (words(a), words(b));
    let next = |w: u32, after: u32| w.wrapping_add(small_sigma_0(after));
    from_words([next(w3, w4), next(w2, w3), next(w1, w2), next(w0, w1)])
}

/// SHA256MSG2.
pub(super) fn sha256_message_2(a: &Vector, b: &Vector) -> Vector {
    let ([a3, a2, a1, a0], [w15, w14, ..]) = (words(a), words(b));
    let w16 = a0.wrapping_add(small_sigma_1(w14));
    let w17 = a1.wrapping_add(small_sigma_1(w15));
    let w18 = a2.wrapping_add(small_sigma_1(w16));
    let w19 = a3.wrapping_add(small_sigma_1(w17));
    from_words([w19, w18, w17, w16])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix and the constant that make AES's S-box of the inverse, as FIPS 197 gives them.
    #[test]
    fn the_affine_map_of_aes() {
        let matrix: Vector = std::array::from_fn(|index| 0xf1e3_c78f_1f3e_7cf8_u64.to_le_bytes()[index & 7]);
        for byte in 0..=255 {
            assert_eq!(affine_of_inverse(&[byte; 32], &matrix, 0x63), [SBOX[usize::from(byte)]; 32]);
        }
        assert_eq!((SBOX[0], SBOX[1], SBOX[0x53], INVERSE_SBOX[0x63]), (0x63, 0x7c, 0xed, 0));
    }

    /// The example of FIPS 197, "Multiplication".
    #[test]
    fn products() {
        assert_eq!(multiply_bytes(&[0x57; 32], &[0x83; 32]), [0xc1; 32]);
        assert_eq!(multiply_bytes(&[0x57; 32], &[0x13; 32]), [0xfe; 32]);
    }
}
