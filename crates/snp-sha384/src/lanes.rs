//! SHA-384 of four equally long messages at once, one in each 64-bit lane of the AVX2 registers.
//!
//! Pages are independent messages of one length, so four of them can go through the same rounds side by side. The
//! schedule and the rounds are those of FIPS 180-4; only the word type is four words wide.
//!
//! # Unsafety
//! Opted into here, and nowhere else in the workspace, for three things: calling a function compiled for AVX2 after the
//! processor was asked for it, and one unaligned load and store. Everything else is safe code on vector values.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::constants::{INITIAL, K};

/// Bytes of a SHA-384 block.
const BLOCK: usize = 128;

/// Four words, one per message.
type W = __m256i;

macro_rules! ror {
    ($x:expr, $n:literal) => {
        _mm256_or_si256(_mm256_srli_epi64::<$n>($x), _mm256_slli_epi64::<{ 64 - $n }>($x))
    };
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: W, b: W, c: W) -> W {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: W, b: W) -> W {
    _mm256_add_epi64(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn ror8(x: W) -> W {
    let order = _mm256_setr_epi8(
        1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8, 1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 8,
    );
    _mm256_shuffle_epi8(x, order)
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma0(x: W) -> W {
    xor3(ror!(x, 28), ror!(x, 34), ror!(x, 39))
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma1(x: W) -> W {
    xor3(ror!(x, 14), ror!(x, 18), ror!(x, 41))
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma0(x: W) -> W {
    xor3(ror!(x, 1), ror8(x), _mm256_srli_epi64::<7>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma1(x: W) -> W {
    xor3(ror!(x, 19), ror!(x, 61), _mm256_srli_epi64::<6>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(e: W, f: W, g: W) -> W {
    _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
}

/// Four big-endian words at `offset` of each message, transposed so that result `i` holds word `i` of every message.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(messages: [&[u8]; 4], offset: usize) -> [W; 4] {
    let swap = _mm256_setr_epi8(
        7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
    );
    let row = |lane: usize| {
        let bytes: &[u8; 32] = messages[lane][offset..offset + 32].try_into().expect("32 bytes");
        // SAFETY: `bytes` is 32 readable bytes; the load has no alignment requirement.
        unsafe { _mm256_shuffle_epi8(_mm256_loadu_si256(bytes.as_ptr().cast()), swap) }
    };
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let (ab0, ab1) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd0, cd1) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab0, cd0),
        _mm256_permute2x128_si256::<0x20>(ab1, cd1),
        _mm256_permute2x128_si256::<0x31>(ab0, cd0),
        _mm256_permute2x128_si256::<0x31>(ab1, cd1),
    ]
}

/// One round, on registers that the caller renames instead of moving them. `$ab` is `a ^ b` of the round before, which is
/// this round's `b ^ c`.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $bc:ident, $kw:expr) => {{
        let t1 = add(add($h, $kw), add(choose($e, $f, $g), big_sigma1($e)));
        $d = add($d, t1);
        let ab = _mm256_xor_si256($a, $b);
        let majority = _mm256_xor_si256($b, _mm256_and_si256(ab, $bc));
        $bc = ab;
        $h = add(t1, add(majority, big_sigma0($a)));
    }};
}

/// Sixteen rounds; `$w` tells the word of round `i` of them.
macro_rules! sixteen {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $bc:ident, $kw:expr) => {{
        sixteen!(@eight $a $b $c $d $e $f $g $h, $bc, $kw, 0);
        sixteen!(@eight $a $b $c $d $e $f $g $h, $bc, $kw, 8);
    }};
    (@eight $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $bc:ident, $kw:expr, $i:literal) => {{
        round!($a $b $c $d $e $f $g $h, $bc, $kw($i));
        round!($h $a $b $c $d $e $f $g, $bc, $kw($i + 1));
        round!($g $h $a $b $c $d $e $f, $bc, $kw($i + 2));
        round!($f $g $h $a $b $c $d $e, $bc, $kw($i + 3));
        round!($e $f $g $h $a $b $c $d, $bc, $kw($i + 4));
        round!($d $e $f $g $h $a $b $c, $bc, $kw($i + 5));
        round!($c $d $e $f $g $h $a $b, $bc, $kw($i + 6));
        round!($b $c $d $e $f $g $h $a, $bc, $kw($i + 7));
    }};
}

#[inline]
#[target_feature(enable = "avx2")]
fn compress(state: &mut [W; 8], mut w: [W; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let mut bc = _mm256_xor_si256(b, c);
    sixteen!(a b c d e f g h, bc, |i: usize| add(w[i], _mm256_set1_epi64x(K[i] as i64)));
    for k in K[16..].as_chunks::<16>().0 {
        sixteen!(a b c d e f g h, bc, |i: usize| {
            let grown = add(add(w[i], w[(i + 9) % 16]), add(small_sigma0(w[(i + 1) % 16]), small_sigma1(w[(i + 14) % 16])));
            w[i] = grown;
            add(grown, _mm256_set1_epi64x(k[i] as i64))
        });
    }
    for (old, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *old = add(*old, new);
    }
}

/// SHA-384 of four messages of one length, a multiple of the block size; `None` if this processor has no AVX2.
///
/// # Panics
/// If the lengths differ or are not a multiple of 128.
pub(crate) fn sha384x4(messages: [&[u8]; 4]) -> Option<[[u8; 48]; 4]> {
    if !crate::features::has_avx2_and_bmi() {
        return None;
    }
    // SAFETY: the processor has AVX2, which is all that the function demands.
    Some(unsafe { sha384x4_avx2(messages) })
}

#[target_feature(enable = "avx2")]
fn sha384x4_avx2(messages: [&[u8]; 4]) -> [[u8; 48]; 4] {
    let len = messages[0].len();
    assert!(len.is_multiple_of(BLOCK) && messages.iter().all(|message| message.len() == len));
    let mut state = INITIAL.map(|word| _mm256_set1_epi64x(word as i64));
    for offset in (0..len).step_by(BLOCK) {
        let mut w = [_mm256_setzero_si256(); 16];
        for (i, four) in w.chunks_exact_mut(4).enumerate() {
            four.copy_from_slice(&load_words(messages, offset + 32 * i));
        }
        compress(&mut state, w);
    }
    let mut padding = [_mm256_setzero_si256(); 16];
    padding[0] = _mm256_set1_epi64x(i64::MIN);
    padding[15] = _mm256_set1_epi64x(8 * len as i64);
    compress(&mut state, padding);
    let mut digests = [[0; 48]; 4];
    for (i, word) in state[..6].iter().enumerate() {
        let mut lanes = [0u64; 4];
        // SAFETY: `lanes` is 32 writable bytes; the store has no alignment requirement.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *word) };
        for (digest, lane) in digests.iter_mut().zip(lanes) {
            digest[8 * i..8 * i + 8].copy_from_slice(&lane.to_be_bytes());
        }
    }
    digests
}
