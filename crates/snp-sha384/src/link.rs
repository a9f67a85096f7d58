//! SHA-384 of the 112-byte messages that a digest chain is made of.
//!
//! A chain is serial: each message holds the hash of the one before. What can be saved is in the padding. 112 bytes are
//! one byte too long for a single block, so every message is followed by a block that is padding and nothing else: the
//! same for all of them, and its message schedule is computed once, at compile time.
//!
//! # Unsafety
//! As in `lanes`: calling a function compiled for BMI2 after the processor was asked for it. The function itself is safe
//! code; BMI2 only gives it rotations that need no second register.

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

#[inline(always)]
fn portable(message: &[u8; LINK_SIZE]) -> Hash {
    let mut w = [0_u64; 16];
    for (word, bytes) in w.iter_mut().zip(message.chunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    }
    // The `1` bit that every padding begins with.
    w[14] = 1 << 63;
    let mut state = INITIAL;
    compress(&mut state, w);
    compress_scheduled(&mut state, &PADDING_SCHEDULE);
    let mut hash = [0; 48];
    for (bytes, word) in hash.chunks_exact_mut(8).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
fn with_bmi2(message: &[u8; LINK_SIZE]) -> Hash {
    portable(message)
}

/// SHA-384 of one link of a chain.
pub fn link(message: &[u8; LINK_SIZE]) -> Hash {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
        // SAFETY: the processor has BMI1 and BMI2, which is all that the function demands.
        return unsafe { with_bmi2(message) };
    }
    portable(message)
}
