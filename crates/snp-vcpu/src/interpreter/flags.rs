//! RFLAGS: the bits, and what arithmetic leaves in them.

pub(crate) const CF: u64 = 1 << 0;
pub(crate) const PF: u64 = 1 << 2;
pub(crate) const AF: u64 = 1 << 4;
pub(crate) const ZF: u64 = 1 << 6;
pub(crate) const SF: u64 = 1 << 7;
pub(crate) const TF: u64 = 1 << 8;
pub(crate) const IF: u64 = 1 << 9;
pub(crate) const DF: u64 = 1 << 10;
pub(crate) const OF: u64 = 1 << 11;
pub(crate) const IOPL: u64 = 3 << 12;
pub(crate) const NT: u64 = 1 << 14;
pub(crate) const RF: u64 = 1 << 16;
pub(crate) const VM: u64 = 1 << 17;
pub(crate) const AC: u64 = 1 << 18;
pub(crate) const VIF: u64 = 1 << 19;
pub(crate) const VIP: u64 = 1 << 20;
pub(crate) const ID: u64 = 1 << 21;
/// Bit 1 reads as one.
pub(crate) const FIXED: u64 = 2;
/// The six that arithmetic sets.
pub(crate) const STATUS: u64 = CF | PF | AF | ZF | SF | OF;

/// PF: an even number of ones in the low byte.
#[inline(always)]
pub(crate) fn parity(result: u64) -> u64 {
    let folded = (result ^ result >> 4) & 0xf;
    (0x9669 >> folded & 1) << 2
}

/// ZF, SF and PF of a result of `bits` bits, which has no bits beyond them.
#[inline(always)]
pub(crate) fn result_flags(result: u64, bits: u32) -> u64 {
    let zero = if result == 0 { ZF } else { 0 };
    zero | (result >> (bits - 1) & 1) << 7 | parity(result)
}

/// The flags of `a + b + carry`.
#[inline(always)]
pub(crate) fn add_flags(a: u64, b: u64, result: u64, bits: u32) -> u64 {
    // The carries out of each bit position.
    let carries = (a & b) | ((a | b) & !result);
    let carry = carries >> (bits - 1) & 1;
    let overflow = ((a ^ result) & (b ^ result)) >> (bits - 1) & 1;
    result_flags(result, bits) | carry | overflow << 11 | ((a ^ b ^ result) & 0x10)
}

/// The flags of `a - b - borrow`.
#[inline(always)]
pub(crate) fn sub_flags(a: u64, b: u64, result: u64, bits: u32) -> u64 {
    let borrows = (!a & b) | ((!a | b) & result);
    let borrow = borrows >> (bits - 1) & 1;
    let overflow = ((a ^ b) & (a ^ result)) >> (bits - 1) & 1;
    result_flags(result, bits) | borrow | overflow << 11 | ((a ^ b ^ result) & 0x10)
}

/// Whether a condition code (0 to 15, as in Jcc) holds.
#[inline(always)]
pub(crate) fn condition(rflags: u64, code: u8) -> bool {
    let holds = match code >> 1 {
        0 => rflags & OF != 0,
        1 => rflags & CF != 0,
        2 => rflags & ZF != 0,
        3 => rflags & (CF | ZF) != 0,
        4 => rflags & SF != 0,
        5 => rflags & PF != 0,
        6 => (rflags >> 7 ^ rflags >> 11) & 1 != 0,
        _ => (rflags >> 7 ^ rflags >> 11) & 1 != 0 || rflags & ZF != 0,
    };
    holds != (code & 1 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the definition of each flag on 128-bit numbers.
        #[test]
        fn arithmetic_flags_are_as_defined(a: u64, b: u64, carry in 0u64..2, bits in prop::sample::select(vec![8u32, 16, 32, 64])) {
            let mask = u64::MAX >> (64 - bits);
            let (a, b) = (a & mask, b & mask);
            let signed = |x: u64| i128::from((x << (64 - bits)) as i64 >> (64 - bits));
            let range = -(1i128 << (bits - 1))..(1i128 << (bits - 1));
            let sum = a.wrapping_add(b).wrapping_add(carry) & mask;
            let flags = add_flags(a, b, sum, bits);
            prop_assert_eq!(flags & CF != 0, u128::from(a) + u128::from(b) + u128::from(carry) > u128::from(mask));
            prop_assert_eq!(flags & OF != 0, !range.contains(&(signed(a) + signed(b) + i128::from(carry))));
            prop_assert_eq!(flags & AF != 0, (a & 15) + (b & 15) + carry > 15);
            let difference = a.wrapping_sub(b).wrapping_sub(carry) & mask;
            let flags = sub_flags(a, b, difference, bits);
            prop_assert_eq!(flags & CF != 0, u128::from(a) < u128::from(b) + u128::from(carry));
            prop_assert_eq!(flags & OF != 0, !range.contains(&(signed(a) - signed(b) - i128::from(carry))));
            prop_assert_eq!(flags & AF != 0, (a & 15) < (b & 15) + carry);
            prop_assert_eq!(flags & PF != 0, (difference as u8).count_ones().is_multiple_of(2));
            prop_assert_eq!(flags & ZF != 0, difference == 0);
            prop_assert_eq!(flags & SF != 0, signed(difference) < 0);
        }
    }
}
