//! Packed integers and the order of elements.

use super::vector::{Lane, Vector, ZERO, blocks, build, get, set};

/// Element `index` of a 4-way shuffle within blocks of four: chosen by the immediate byte's pair of bits.
pub(super) fn selected(index: usize, immediate: u8) -> usize {
    index & !3 | usize::from(immediate >> (2 * (index & 3)) & 3)
}

/// PINSRx.
pub(super) fn insert<T: Lane>(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    let mut result = *a;
    set(&mut result, usize::from(immediate) & (16 / T::SIZE - 1), get::<T>(b, 0));
    result
}

/// INSERTPS: the single `source`, and zeros by mask.
pub(super) fn insert_single(a: &Vector, source: u32, immediate: u8) -> Vector {
    let mut result = *a;
    set(&mut result, usize::from(immediate >> 4 & 3), source);
    for index in (0..4).filter(|index| immediate >> index & 1 != 0) {
        set(&mut result, index, 0_u32);
    }
    result
}

/// PTEST, of the bits in `mask` of every quadword: ZF and CF.
pub(super) fn test(a: &Vector, b: &Vector, mask: u64) -> (bool, bool) {
    let all = |f: fn(u64, u64) -> u64| (0..4).all(|i| f(get(a, i), get(b, i)) & mask == 0);
    (all(|a, b| a & b), all(|a, b| !a & b))
}

/// PHADD and PHSUB: `f` of neighbours, those of the first source below those of the second.
pub(super) fn horizontal<const N: usize, T: Lane>(a: &Vector, b: &Vector, f: impl Fn(T, T) -> T) -> Vector {
    blocks::<N>(a, b, |a, b| {
        let mut result = [0; N];
        let half = N / T::SIZE / 2;
        for index in 0..half {
            set(&mut result, index, f(get(a, 2 * index), get(a, 2 * index + 1)));
            set(&mut result, index + half, f(get(b, 2 * index), get(b, 2 * index + 1)));
        }
        result
    })
}

/// PACKxx: narrower elements, those of the first source below those of the second.
pub(super) fn pack<const N: usize, T: Lane, U: Lane>(a: &Vector, b: &Vector, f: impl Fn(T) -> U) -> Vector {
    blocks::<N>(a, b, |a, b| {
        let mut result = [0; N];
        let half = N / T::SIZE;
        for index in 0..half {
            set(&mut result, index, f(get(a, index)));
            set(&mut result, index + half, f(get(b, index)));
        }
        result
    })
}

/// A signed word as a signed byte.
pub(super) fn saturate_i8(value: i16) -> i8 {
    value.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

/// A signed doubleword as a signed word.
pub(super) fn saturate_i16(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// A signed word as an unsigned byte.
pub(super) fn saturate_u8(value: i16) -> u8 {
    value.clamp(0, u8::MAX.into()) as u8
}

/// A signed doubleword as an unsigned word.
pub(super) fn saturate_u16(value: i32) -> u16 {
    value.clamp(0, u16::MAX.into()) as u16
}

/// PUNPCKxx: the low or high halves, alternating.
pub(super) fn unpack<T: Lane, const N: usize, const HIGH: bool>(a: &Vector, b: &Vector) -> Vector {
    blocks::<N>(a, b, |a, b| {
        let mut result = [0; N];
        let half = N / T::SIZE / 2;
        let from = if HIGH { half } else { 0 };
        for index in 0..half {
            set(&mut result, 2 * index, get::<T>(a, from + index));
            set(&mut result, 2 * index + 1, get::<T>(b, from + index));
        }
        result
    })
}

/// PSHUFB.
pub(super) fn shuffle_bytes<const N: usize>(a: &Vector, b: &Vector) -> Vector {
    blocks::<N>(a, b, |a, b| b.map(|control| if control & 0x80 != 0 { 0 } else { a[usize::from(control) & (N - 1)] }))
}

/// PALIGNR: both sources, the second below the first, shifted right by bytes.
pub(super) fn align_right<const N: usize>(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    let shift = usize::from(immediate);
    blocks::<N>(a, b, |a, b| {
        let byte = |index: usize| match index {
            _ if index < N => b[index],
            _ if index < 2 * N => a[index - N],
            _ => 0,
        };
        std::array::from_fn(|index| byte(index + shift))
    })
}

/// Elements of the second source where the immediate byte has a bit; it is used again for elements beyond the eighth.
pub(super) fn blend<T: Lane>(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    build(|index| get::<T>(if immediate >> (index & 7) & 1 != 0 { b } else { a }, index))
}

/// Elements of the second source where the mask's element is negative.
pub(super) fn blend_by_sign<T: Lane>(a: &Vector, b: &Vector, mask: &Vector) -> Vector {
    build(|index| get::<T>(if mask[(index + 1) * T::SIZE - 1] & 0x80 != 0 { b } else { a }, index))
}

/// VPERM2F128.
pub(super) fn permute_halves(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    let half = |control: u8| match control & 0xb {
        0 => get(a, 0),
        1 => get(a, 1),
        2 => get(b, 0),
        3 => get::<u128>(b, 1),
        _ => 0,
    };
    build(|index| half(immediate >> (4 * index)))
}

/// PMADDWD, of one doubleword.
pub(super) fn multiply_add_words(a: u32, b: u32) -> u32 {
    let product = |shift: u32| i32::from((a >> shift) as i16) * i32::from((b >> shift) as i16);
    product(0).wrapping_add(product(16)) as u32
}

/// PMADDUBSW, of one word: unsigned bytes by signed ones.
pub(super) fn multiply_add_bytes(a: u16, b: u16) -> u16 {
    let product = |shift: u32| i32::from((a >> shift) as u8) * i32::from((b >> shift) as i8);
    saturate_i16(product(0) + product(8)) as u16
}

/// PSADBW, of one quadword.
pub(super) fn sum_of_differences(a: u64, b: u64) -> u64 {
    let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
    pairs.map(|(a, b)| u64::from(a.abs_diff(b))).sum()
}

/// MPSADBW.
pub(super) fn sums_of_differences(a: &Vector, b: &Vector, immediate: u8) -> Vector {
    let mut result = ZERO;
    for half in 0..2 {
        let control = usize::from(immediate >> (3 * half));
        let (a, b) = (&a[16 * half..], &b[16 * half + (control & 3) * 4..]);
        for index in 0..8 {
            let from = (control >> 2 & 1) * 4 + index;
            let sum: u16 = (0..4).map(|byte| u16::from(a[from + byte].abs_diff(b[byte]))).sum();
            set(&mut result, 8 * half + index, sum);
        }
    }
    result
}

/// PHMINPOSUW.
pub(super) fn minimum_and_position(a: &Vector) -> Vector {
    let (minimum, position) = (0..8).map(|index| (get::<u16>(a, index), index as u16)).min().unwrap_or_default();
    let mut result = ZERO;
    set(&mut result, 0, minimum);
    set(&mut result, 1, position);
    result
}
