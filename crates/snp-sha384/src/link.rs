//! SHA-384 of the 112-byte messages that a digest chain is made of.
//!
//! A chain is serial: each message holds the hash of the one before. What can be saved is in the padding. 112 bytes are
//! one byte too long for a single block, so every message is followed by a block that is padding and nothing else: the
//! same for all of them, and its message schedule is computed once, at compile time.
//!
//! On x86-64 the rounds are those of everywhere, compiled for BMI2, whose rotations need no second register; the schedule of the
//! first block is computed two words at a time in vector registers, which have nothing else to do meanwhile.
//!
//! # Unsafety
//! As in `lanes`: calling a function compiled for AVX and BMI2 after the processor was asked for them, and one unaligned store.

#![allow(unsafe_code)]

use crate::Hash;
use crate::constants::{INITIAL, K};

/// The length of a link in bytes.
pub const LINK_SIZE: usize = 112;

/// The second block of every link: 112 bytes of zeros after the `1` bit in the first, then the length in bits.
const PADDING: [u64; 16] = {
    let mut words = [0; 16];
    words[15] = 8 * LINK_SIZE as u64;
    words
};

/// The schedule of [`PADDING`] with the round constants added.
static PADDING_SCHEDULE: [u64; 80] = scheduled(PADDING);

const fn scheduled(block: [u64; 16]) -> [u64; 80] {
    let mut w = [0_u64; 80];
    let mut t = 0;
    while t < 80 {
        w[t] = if t < 16 { block[t] } else { grown(w[t - 2], w[t - 7], w[t - 15], w[t - 16]) };
        t += 1;
    }
    t = 0;
    while t < 80 {
        w[t] = w[t].wrapping_add(K[t]);
        t += 1;
    }
    w
}

/// A word of the message schedule (FIPS 180-4, "SHA-512 Hash Computation").
#[inline(always)]
const fn grown(w2: u64, w7: u64, w15: u64, w16: u64) -> u64 {
    let small_sigma0 = w15.rotate_right(1) ^ w15.rotate_right(8) ^ (w15 >> 7);
    let small_sigma1 = w2.rotate_right(19) ^ w2.rotate_right(61) ^ (w2 >> 6);
    small_sigma1.wrapping_add(w7).wrapping_add(small_sigma0).wrapping_add(w16)
}

/// One round, on registers that the caller renames instead of moving them.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr) => {{
        let big_sigma1 = $e.rotate_right(14) ^ $e.rotate_right(18) ^ $e.rotate_right(41);
        let choose = ($e & $f) ^ (!$e & $g);
        let t1 = $h.wrapping_add($kw).wrapping_add(choose).wrapping_add(big_sigma1);
        let big_sigma0 = $a.rotate_right(28) ^ $a.rotate_right(34) ^ $a.rotate_right(39);
        let majority = $b ^ (($a ^ $b) & ($b ^ $c));
        $d = $d.wrapping_add(t1);
        $h = t1.wrapping_add(big_sigma0).wrapping_add(majority);
    }};
}

/// Sixteen rounds with K + W of each.
macro_rules! sixteen {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr) => {{
        sixteen!(@eight $a $b $c $d $e $f $g $h, $kw, 0);
        sixteen!(@eight $a $b $c $d $e $f $g $h, $kw, 8);
    }};
    (@eight $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr, $i:literal) => {{
        round!($a $b $c $d $e $f $g $h, $kw($i));
        round!($h $a $b $c $d $e $f $g, $kw($i + 1));
        round!($g $h $a $b $c $d $e $f, $kw($i + 2));
        round!($f $g $h $a $b $c $d $e, $kw($i + 3));
        round!($e $f $g $h $a $b $c $d, $kw($i + 4));
        round!($d $e $f $g $h $a $b $c, $kw($i + 5));
        round!($c $d $e $f $g $h $a $b, $kw($i + 6));
        round!($b $c $d $e $f $g $h $a, $kw($i + 7));
    }};
}

/// Eighty rounds on a block whose schedule is computed on the way.
#[inline(always)]
fn compress(state: &mut [u64; 8], mut w: [u64; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    sixteen!(a b c d e f g h, |i: usize| w[i].wrapping_add(K[i]));
    for k in K[16..].chunks_exact(16) {
        sixteen!(a b c d e f g h, |i: usize| {
            w[i] = grown(w[(i + 14) % 16], w[(i + 9) % 16], w[(i + 1) % 16], w[i]);
            w[i].wrapping_add(k[i])
        });
    }
    add(state, [a, b, c, d, e, f, g, h]);
}

/// Eighty rounds on a block whose schedule is known.
#[inline(always)]
fn compress_scheduled(state: &mut [u64; 8], schedule: &[u64; 80]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for kw in schedule.chunks_exact(16) {
        sixteen!(a b c d e f g h, |i: usize| kw[i]);
    }
    add(state, [a, b, c, d, e, f, g, h]);
}

#[inline(always)]
fn add(state: &mut [u64; 8], rounds: [u64; 8]) {
    for (old, new) in state.iter_mut().zip(rounds) {
        *old = old.wrapping_add(new);
    }
}

/// The words of the first block.
#[inline(always)]
fn first_block(message: &[u8; LINK_SIZE]) -> [u64; 16] {
    let mut w = [0_u64; 16];
    for (word, bytes) in w.iter_mut().zip(message.chunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    }
    // The `1` bit that every padding begins with.
    w[14] = 1 << 63;
    w
}

/// The second block, and the hash.
#[inline(always)]
fn finish(mut state: [u64; 8]) -> Hash {
    compress_scheduled(&mut state, &PADDING_SCHEDULE);
    let mut hash = [0; 48];
    for (bytes, word) in hash.chunks_exact_mut(8).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

fn portable(message: &[u8; LINK_SIZE]) -> Hash {
    let mut state = INITIAL;
    compress(&mut state, first_block(message));
    finish(state)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LINK_SIZE, add, finish, first_block};
    use crate::Hash;
    use crate::constants::{INITIAL, K};

    /// Two words of the schedule, the earlier one in the lower half.
    type Pair = __m128i;

    macro_rules! ror {
        ($x:expr, $n:literal) => {
            _mm_or_si128(_mm_srli_epi64::<$n>($x), _mm_slli_epi64::<{ 64 - $n }>($x))
        };
    }

    #[inline]
    #[target_feature(enable = "avx,bmi1,bmi2")]
    fn pair(words: &[u64]) -> Pair {
        _mm_set_epi64x(words[1] as i64, words[0] as i64)
    }

    /// The pair that follows the last sixteen words, which are in `w` from pair `j` on, wrapping around.
    #[inline]
    #[target_feature(enable = "avx,bmi1,bmi2")]
    fn grown(w: &[Pair; 8], j: usize) -> Pair {
        let ror8 = _mm_setr_epi8(1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8);
        let w15 = _mm_alignr_epi8::<8>(w[(j + 1) % 8], w[j]);
        let w7 = _mm_alignr_epi8::<8>(w[(j + 5) % 8], w[(j + 4) % 8]);
        let w2 = w[(j + 7) % 8];
        let rotated = _mm_xor_si128(ror!(w15, 1), _mm_shuffle_epi8(w15, ror8));
        let small_sigma0 = _mm_xor_si128(rotated, _mm_srli_epi64::<7>(w15));
        let small_sigma1 = _mm_xor_si128(_mm_xor_si128(ror!(w2, 19), ror!(w2, 61)), _mm_srli_epi64::<6>(w2));
        _mm_add_epi64(_mm_add_epi64(w[j], w7), _mm_add_epi64(small_sigma0, small_sigma1))
    }

    /// A pair with its round constants added, for the rounds.
    #[inline]
    #[target_feature(enable = "avx,bmi1,bmi2")]
    fn with_constants(w: Pair, k: &[u64]) -> [u64; 2] {
        let mut kw = [0; 2];
        // SAFETY: `kw` is 16 writable bytes; the store has no alignment requirement.
        unsafe { _mm_storeu_si128(kw.as_mut_ptr().cast(), _mm_add_epi64(w, pair(k))) };
        kw
    }

    #[target_feature(enable = "avx,bmi1,bmi2")]
    pub(super) fn link(message: &[u8; LINK_SIZE]) -> Hash {
        let words = first_block(message);
        let mut w = [_mm_setzero_si128(); 8];
        let mut kw = [[0_u64; 2]; 8];
        for (j, two) in words.chunks_exact(2).enumerate() {
            w[j] = pair(two);
            kw[j] = [two[0].wrapping_add(K[2 * j]), two[1].wrapping_add(K[2 * j + 1])];
        }
        let mut state = INITIAL;
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        // Two rounds on words that are ready, then the pair that takes their place.
        macro_rules! two {
            ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $k:expr, $j:literal) => {{
                round!($a $b $c $d $e $f $g $h, kw[$j][0]);
                round!($h $a $b $c $d $e $f $g, kw[$j][1]);
                w[$j] = grown(&w, $j);
                kw[$j] = with_constants(w[$j], &$k[2 * $j..2 * $j + 2]);
            }};
        }
        for k in K[16..].chunks_exact(16) {
            two!(a b c d e f g h, k, 0);
            two!(g h a b c d e f, k, 1);
            two!(e f g h a b c d, k, 2);
            two!(c d e f g h a b, k, 3);
            two!(a b c d e f g h, k, 4);
            two!(g h a b c d e f, k, 5);
            two!(e f g h a b c d, k, 6);
            two!(c d e f g h a b, k, 7);
        }
        sixteen!(a b c d e f g h, |i: usize| kw[i / 2][i % 2]);
        add(&mut state, [a, b, c, d, e, f, g, h]);
        finish(state)
    }
}

/// SHA-384 of one link of a chain.
pub fn link(message: &[u8; LINK_SIZE]) -> Hash {
    #[cfg(target_arch = "x86_64")]
    if crate::features::has_avx2_and_bmi() {
        // SAFETY: the processor has AVX, BMI1 and BMI2, which is all that the function demands.
        return unsafe { x86::link(message) };
    }
    portable(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_and_fastest_agree() {
        let mut message: [u8; LINK_SIZE] = std::array::from_fn(|i| i as u8);
        for _ in 0..1000 {
            let hash = portable(&message);
            assert_eq!(hash, link(&message));
            assert_eq!(hash, crate::sha384(&message));
            message[..48].copy_from_slice(&hash);
            message[64..].copy_from_slice(&hash);
        }
    }
}
