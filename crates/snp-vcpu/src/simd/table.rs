//! What each instruction does: one row for a mnemonic, with its VEX form.

use iced_x86::Mnemonic;

use super::approximate::{reciprocal, reciprocal_root};
use super::convert::Conversion;
use super::crypto;
use super::float::{Double, Env, Single};
use super::fused::{Addend, Order};
use super::lanes::{self, horizontal, pack, unpack};
use super::moves::Movement;
use super::vector::{Vector, build, get, map, zip};

/// What an instruction does. Functions are of the first source (which is the destination in legacy forms), the second, and
/// the immediate byte.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    /// Two sources.
    Binary(fn(&Vector, &Vector) -> Vector),
    /// Two sources and an immediate byte.
    BinaryImmediate(fn(&Vector, &Vector, u8) -> Vector),
    /// One source.
    Unary(fn(&Vector) -> Vector),
    /// One source and an immediate byte.
    UnaryImmediate(fn(&Vector, u8) -> Vector),
    /// Shifted by one of: an immediate byte, the low 64 bits of a vector.
    Shift(fn(&Vector, u64) -> Vector),
    /// Two sources and a third: XMM0 in legacy forms, the fourth operand with VEX.
    Ternary(fn(&Vector, &Vector, &Vector) -> Vector),
    /// VPERMILPS and VPERMILPD: by a vector or by an immediate byte.
    Permute(fn(&Vector, &Vector) -> Vector, fn(&Vector, u8) -> Vector),
    /// ZF and CF of two sources.
    TestBits(fn(&Vector, &Vector) -> (bool, bool)),
    /// Moves from and to memory and general registers.
    Move(Movement),
    /// The most significant bits of elements of so many bytes.
    SignMask(usize),
    /// Element of so many bytes, selected by the immediate byte, to a general register or to memory.
    Extract(usize),
    /// INSERTPS.
    InsertSingle,
    /// Half of a YMM register to a register or memory.
    ExtractHalf,
    /// Element by element: `f` of two numbers.
    Float(Shape, fn(&mut Env, u64, u64) -> u64),
    /// Neighbours within each source.
    FloatHorizontal(Shape, fn(&mut Env, u64, u64) -> u64),
    /// The first function for even elements, the second for odd ones.
    FloatAlternate(Shape, fn(&mut Env, u64, u64) -> u64, fn(&mut Env, u64, u64) -> u64),
    /// CMPPS and its kin.
    Compare(Shape),
    /// COMISS and its kin; `true`: only signalling NaNs are invalid.
    CompareFlags(Shape, bool),
    /// ROUNDPS and its kin.
    Round(Shape),
    /// DPPS and DPPD.
    Dot(Shape),
    /// Fused multiply-add; `true`: the product is negated.
    Fused(Shape, Order, bool, Addend),
    /// Between formats, element by element.
    Convert(Conversion),
    /// CVTSD2SS.
    Narrow,
    /// An integer in a general register or memory to the low element.
    FromGeneral(Shape),
    /// The low element to a general register; `true`: truncated.
    ToGeneral(Shape, bool),
    /// PCMPxSTRx: explicit lengths, index (not mask).
    String { explicit: bool, index: bool },
    /// Element and index, in bytes.
    Gather(usize, usize),
    /// VMASKMOV and VPMASKMOV of elements of so many bytes.
    MaskedMove(usize),
    /// MASKMOVDQU and MASKMOVQ.
    MaskedBytes,
    /// LDMXCSR.
    LoadControl,
    /// STMXCSR.
    StoreControl,
    /// VZEROUPPER, or (`true`) VZEROALL.
    Zero(bool),
    /// EMMS and FEMMS.
    EmptyMmx,
    /// EXTRQ.
    ExtractField,
    /// INSERTQ.
    InsertField,
}

/// Which elements a floating-point instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All, of 32 bits.
    PackedSingle,
    /// All, of 64 bits.
    PackedDouble,
    /// The lowest, of 32 bits.
    ScalarSingle,
    /// The lowest, of 64 bits.
    ScalarDouble,
}

impl Shape {
    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::PackedSingle | Self::ScalarSingle => 4,
            Self::PackedDouble | Self::ScalarDouble => 8,
        }
    }

    /// Only the lowest element.
    pub(super) fn scalar(self) -> bool {
        matches!(self, Self::ScalarSingle | Self::ScalarDouble)
    }
}

/// The row of a mnemonic.
pub(super) fn operation(mnemonic: Mnemonic) -> Option<Operation> {
    floating(mnemonic).or_else(|| integer(mnemonic))
}

/// Moves, shuffles, packed integers.
#[rustfmt::skip]
fn integer(mnemonic: Mnemonic) -> Option<Operation> {
    use Mnemonic::*;
    use Operation::*;
    Some(match mnemonic {
        // Moves.
        Movaps | Vmovaps | Movapd | Vmovapd | Movdqa | Vmovdqa | Movntps | Vmovntps | Movntpd | Vmovntpd | Movntdq
        | Vmovntdq | Movntdqa | Vmovntdqa => Move(Movement::Whole { aligned: true }),
        Movups | Vmovups | Movupd | Vmovupd | Movdqu | Vmovdqu | Lddqu | Vlddqu | Movntq => {
            Move(Movement::Whole { aligned: false })
        }
        Movd | Vmovd => Move(Movement::Low { size: 4 }),
        Movq | Vmovq | Movdq2q | Movq2dq => Move(Movement::Low { size: 8 }),
        Movss | Vmovss | Movntss => Move(Movement::Scalar { size: 4 }),
        Movsd | Vmovsd | Movntsd => Move(Movement::Scalar { size: 8 }),
        Movlps | Vmovlps | Movlpd | Vmovlpd => Move(Movement::Half { high: false }),
        Movhps | Vmovhps | Movhpd | Vmovhpd => Move(Movement::Half { high: true }),
        Movhlps | Vmovhlps => Binary(|a, b| build(|i| get::<u64>(if i == 0 { b } else { a }, 1))),
        Movlhps | Vmovlhps => Binary(|a, b| build(|i| get::<u64>(if i == 0 { a } else { b }, 0))),
        Movddup | Vmovddup => Unary(|a| build(|i| get::<u64>(a, i & !1))),
        Movsldup | Vmovsldup => Unary(|a| build(|i| get::<u32>(a, i & !1))),
        Movshdup | Vmovshdup => Unary(|a| build(|i| get::<u32>(a, i | 1))),
        Vbroadcastss | Vpbroadcastd => Unary(|a| build(|_| get::<u32>(a, 0))),
        Vbroadcastsd | Vpbroadcastq => Unary(|a| build(|_| get::<u64>(a, 0))),
        Vpbroadcastb => Unary(|a| [a[0]; 32]),
        Vpbroadcastw => Unary(|a| build(|_| get::<u16>(a, 0))),
        Vbroadcastf128 | Vbroadcasti128 => Unary(|a| build(|_| get::<u128>(a, 0))),
        Vextractf128 | Vextracti128 => ExtractHalf,
        Vinsertf128 | Vinserti128 => BinaryImmediate(|a, b, n| {
            build(|i| if i == usize::from(n & 1) { get::<u128>(b, 0) } else { get(a, i) })
        }),
        Movmskps | Vmovmskps => SignMask(4),
        Movmskpd | Vmovmskpd => SignMask(8),
        Pmovmskb | Vpmovmskb => SignMask(1),
        Pextrb | Vpextrb => Extract(1),
        Pextrw | Vpextrw => Extract(2),
        Pextrd | Vpextrd | Extractps | Vextractps => Extract(4),
        Pextrq | Vpextrq => Extract(8),
        Pinsrb | Vpinsrb => BinaryImmediate(lanes::insert::<u8>),
        Pinsrw | Vpinsrw => BinaryImmediate(lanes::insert::<u16>),
        Pinsrd | Vpinsrd => BinaryImmediate(lanes::insert::<u32>),
        Pinsrq | Vpinsrq => BinaryImmediate(lanes::insert::<u64>),
        Insertps | Vinsertps => InsertSingle,
        Vmaskmovps | Vpmaskmovd => MaskedMove(4),
        Vmaskmovpd | Vpmaskmovq => MaskedMove(8),
        Maskmovdqu | Vmaskmovdqu | Maskmovq => MaskedBytes,
        Vgatherdps | Vpgatherdd => Gather(4, 4),
        Vgatherqps | Vpgatherqd => Gather(4, 8),
        Vgatherdpd | Vpgatherdq => Gather(8, 4),
        Vgatherqpd | Vpgatherqq => Gather(8, 8),
        Extrq => ExtractField,
        Insertq => InsertField,
        Ldmxcsr | Vldmxcsr => LoadControl,
        Stmxcsr | Vstmxcsr => StoreControl,
        Vzeroupper => Zero(false),
        Vzeroall => Zero(true),
        Emms => EmptyMmx,

        // Logic.
        Andps | Vandps | Andpd | Vandpd | Pand | Vpand => Binary(|a, b| zip(a, b, |x: u128, y| x & y)),
        Andnps | Vandnps | Andnpd | Vandnpd | Pandn | Vpandn => Binary(|a, b| zip(a, b, |x: u128, y| !x & y)),
        Orps | Vorps | Orpd | Vorpd | Por | Vpor => Binary(|a, b| zip(a, b, |x: u128, y| x | y)),
        Xorps | Vxorps | Xorpd | Vxorpd | Pxor | Vpxor => Binary(|a, b| zip(a, b, |x: u128, y| x ^ y)),
        Ptest | Vptest => TestBits(|a, b| lanes::test(a, b, !0)),
        Vtestps => TestBits(|a, b| lanes::test(a, b, 0x8000_0000_8000_0000)),
        Vtestpd => TestBits(|a, b| lanes::test(a, b, 1 << 63)),

        // Sums, differences, products.
        Paddb | Vpaddb => Binary(|a, b| zip(a, b, u8::wrapping_add)),
        Paddw | Vpaddw => Binary(|a, b| zip(a, b, u16::wrapping_add)),
        Paddd | Vpaddd => Binary(|a, b| zip(a, b, u32::wrapping_add)),
        Paddq | Vpaddq => Binary(|a, b| zip(a, b, u64::wrapping_add)),
        Paddsb | Vpaddsb => Binary(|a, b| zip(a, b, i8::saturating_add)),
        Paddsw | Vpaddsw => Binary(|a, b| zip(a, b, i16::saturating_add)),
        Paddusb | Vpaddusb => Binary(|a, b| zip(a, b, u8::saturating_add)),
        Paddusw | Vpaddusw => Binary(|a, b| zip(a, b, u16::saturating_add)),
        Psubb | Vpsubb => Binary(|a, b| zip(a, b, u8::wrapping_sub)),
        Psubw | Vpsubw => Binary(|a, b| zip(a, b, u16::wrapping_sub)),
        Psubd | Vpsubd => Binary(|a, b| zip(a, b, u32::wrapping_sub)),
        Psubq | Vpsubq => Binary(|a, b| zip(a, b, u64::wrapping_sub)),
        Psubsb | Vpsubsb => Binary(|a, b| zip(a, b, i8::saturating_sub)),
        Psubsw | Vpsubsw => Binary(|a, b| zip(a, b, i16::saturating_sub)),
        Psubusb | Vpsubusb => Binary(|a, b| zip(a, b, u8::saturating_sub)),
        Psubusw | Vpsubusw => Binary(|a, b| zip(a, b, u16::saturating_sub)),
        Phaddw | Vphaddw => Binary(|a, b| horizontal::<16, _>(a, b, i16::wrapping_add)),
        Phaddd | Vphaddd => Binary(|a, b| horizontal::<16, _>(a, b, i32::wrapping_add)),
        Phaddsw | Vphaddsw => Binary(|a, b| horizontal::<16, _>(a, b, i16::saturating_add)),
        Phsubw | Vphsubw => Binary(|a, b| horizontal::<16, _>(a, b, i16::wrapping_sub)),
        Phsubd | Vphsubd => Binary(|a, b| horizontal::<16, _>(a, b, i32::wrapping_sub)),
        Phsubsw | Vphsubsw => Binary(|a, b| horizontal::<16, _>(a, b, i16::saturating_sub)),
        Pmullw | Vpmullw => Binary(|a, b| zip(a, b, i16::wrapping_mul)),
        Pmulld | Vpmulld => Binary(|a, b| zip(a, b, i32::wrapping_mul)),
        Pmulhw | Vpmulhw => Binary(|a, b| zip(a, b, |x: i16, y| ((i32::from(x) * i32::from(y)) >> 16) as i16)),
        Pmulhuw | Vpmulhuw => Binary(|a, b| zip(a, b, |x: u16, y| ((u32::from(x) * u32::from(y)) >> 16) as u16)),
        Pmulhrsw | Vpmulhrsw => Binary(|a, b| {
            zip(a, b, |x: i16, y| ((((i32::from(x) * i32::from(y)) >> 14) + 1) >> 1) as i16)
        }),
        Pmuludq | Vpmuludq => Binary(|a, b| zip(a, b, |x: u64, y| u64::from(x as u32) * u64::from(y as u32))),
        Pmuldq | Vpmuldq => Binary(|a, b| zip(a, b, |x: i64, y| i64::from(x as i32) * i64::from(y as i32))),
        Pmaddwd | Vpmaddwd => Binary(|a, b| zip(a, b, lanes::multiply_add_words)),
        Pmaddubsw | Vpmaddubsw => Binary(|a, b| zip(a, b, lanes::multiply_add_bytes)),
        Psadbw | Vpsadbw => Binary(|a, b| zip(a, b, lanes::sum_of_differences)),
        Mpsadbw | Vmpsadbw => BinaryImmediate(lanes::sums_of_differences),
        Pavgb | Vpavgb => Binary(|a, b| zip(a, b, |x: u8, y| ((u16::from(x) + u16::from(y) + 1) >> 1) as u8)),
        Pavgw | Vpavgw => Binary(|a, b| zip(a, b, |x: u16, y| ((u32::from(x) + u32::from(y) + 1) >> 1) as u16)),
        Pabsb | Vpabsb => Unary(|a| map(a, i8::wrapping_abs)),
        Pabsw | Vpabsw => Unary(|a| map(a, i16::wrapping_abs)),
        Pabsd | Vpabsd => Unary(|a| map(a, i32::wrapping_abs)),
        Psignb | Vpsignb => Binary(|a, b| zip(a, b, |x: i8, y: i8| x.wrapping_mul(y.signum()))),
        Psignw | Vpsignw => Binary(|a, b| zip(a, b, |x: i16, y: i16| x.wrapping_mul(y.signum()))),
        Psignd | Vpsignd => Binary(|a, b| zip(a, b, |x: i32, y: i32| x.wrapping_mul(y.signum()))),

        // Comparisons.
        Pminub | Vpminub => Binary(|a, b| zip(a, b, <u8 as Ord>::min)),
        Pminuw | Vpminuw => Binary(|a, b| zip(a, b, <u16 as Ord>::min)),
        Pminud | Vpminud => Binary(|a, b| zip(a, b, <u32 as Ord>::min)),
        Pminsb | Vpminsb => Binary(|a, b| zip(a, b, <i8 as Ord>::min)),
        Pminsw | Vpminsw => Binary(|a, b| zip(a, b, <i16 as Ord>::min)),
        Pminsd | Vpminsd => Binary(|a, b| zip(a, b, <i32 as Ord>::min)),
        Pmaxub | Vpmaxub => Binary(|a, b| zip(a, b, <u8 as Ord>::max)),
        Pmaxuw | Vpmaxuw => Binary(|a, b| zip(a, b, <u16 as Ord>::max)),
        Pmaxud | Vpmaxud => Binary(|a, b| zip(a, b, <u32 as Ord>::max)),
        Pmaxsb | Vpmaxsb => Binary(|a, b| zip(a, b, <i8 as Ord>::max)),
        Pmaxsw | Vpmaxsw => Binary(|a, b| zip(a, b, <i16 as Ord>::max)),
        Pmaxsd | Vpmaxsd => Binary(|a, b| zip(a, b, <i32 as Ord>::max)),
        Pcmpeqb | Vpcmpeqb => Binary(|a, b| zip(a, b, |x: i8, y| -i8::from(x == y))),
        Pcmpeqw | Vpcmpeqw => Binary(|a, b| zip(a, b, |x: i16, y| -i16::from(x == y))),
        Pcmpeqd | Vpcmpeqd => Binary(|a, b| zip(a, b, |x: i32, y| -i32::from(x == y))),
        Pcmpeqq | Vpcmpeqq => Binary(|a, b| zip(a, b, |x: i64, y| -i64::from(x == y))),
        Pcmpgtb | Vpcmpgtb => Binary(|a, b| zip(a, b, |x: i8, y| -i8::from(x > y))),
        Pcmpgtw | Vpcmpgtw => Binary(|a, b| zip(a, b, |x: i16, y| -i16::from(x > y))),
        Pcmpgtd | Vpcmpgtd => Binary(|a, b| zip(a, b, |x: i32, y| -i32::from(x > y))),
        Pcmpgtq | Vpcmpgtq => Binary(|a, b| zip(a, b, |x: i64, y| -i64::from(x > y))),
        Phminposuw | Vphminposuw => Unary(lanes::minimum_and_position),
        Pcmpestri | Pcmpestri64 | Vpcmpestri | Vpcmpestri64 => String { explicit: true, index: true },
        Pcmpestrm | Pcmpestrm64 | Vpcmpestrm | Vpcmpestrm64 => String { explicit: true, index: false },
        Pcmpistri | Vpcmpistri => String { explicit: false, index: true },
        Pcmpistrm | Vpcmpistrm => String { explicit: false, index: false },

        // Shifts.
        Psllw | Vpsllw => Shift(|a, n| map(a, |x: u16| if n < 16 { x << n } else { 0 })),
        Pslld | Vpslld => Shift(|a, n| map(a, |x: u32| if n < 32 { x << n } else { 0 })),
        Psllq | Vpsllq => Shift(|a, n| map(a, |x: u64| if n < 64 { x << n } else { 0 })),
        Psrlw | Vpsrlw => Shift(|a, n| map(a, |x: u16| if n < 16 { x >> n } else { 0 })),
        Psrld | Vpsrld => Shift(|a, n| map(a, |x: u32| if n < 32 { x >> n } else { 0 })),
        Psrlq | Vpsrlq => Shift(|a, n| map(a, |x: u64| if n < 64 { x >> n } else { 0 })),
        Psraw | Vpsraw => Shift(|a, n| map(a, |x: i16| x >> n.min(15))),
        Psrad | Vpsrad => Shift(|a, n| map(a, |x: i32| x >> n.min(31))),
        Pslldq | Vpslldq => Shift(|a, n| map(a, |x: u128| if n < 16 { x << (8 * n) } else { 0 })),
        Psrldq | Vpsrldq => Shift(|a, n| map(a, |x: u128| if n < 16 { x >> (8 * n) } else { 0 })),
        Vpsllvd => Binary(|a, b| zip(a, b, |x: u32, n| x.checked_shl(n).unwrap_or(0))),
        Vpsllvq => Binary(|a, b| zip(a, b, |x: u64, n| if n < 64 { x << n } else { 0 })),
        Vpsrlvd => Binary(|a, b| zip(a, b, |x: u32, n| x.checked_shr(n).unwrap_or(0))),
        Vpsrlvq => Binary(|a, b| zip(a, b, |x: u64, n| if n < 64 { x >> n } else { 0 })),
        Vpsravd => Binary(|a, b| zip(a, b, |x: i32, n: i32| x >> (n as u32).min(31))),

        // Order of elements.
        Packsswb | Vpacksswb => Binary(|a, b| pack::<16, _, _>(a, b, lanes::saturate_i8)),
        Packssdw | Vpackssdw => Binary(|a, b| pack::<16, _, _>(a, b, lanes::saturate_i16)),
        Packuswb | Vpackuswb => Binary(|a, b| pack::<16, _, _>(a, b, lanes::saturate_u8)),
        Packusdw | Vpackusdw => Binary(|a, b| pack::<16, _, _>(a, b, lanes::saturate_u16)),
        Punpcklbw | Vpunpcklbw => Binary(unpack::<u8, 16, false>),
        Punpcklwd | Vpunpcklwd => Binary(unpack::<u16, 16, false>),
        Punpckldq | Vpunpckldq | Unpcklps | Vunpcklps => Binary(unpack::<u32, 16, false>),
        Punpcklqdq | Vpunpcklqdq | Unpcklpd | Vunpcklpd => Binary(unpack::<u64, 16, false>),
        Punpckhbw | Vpunpckhbw => Binary(unpack::<u8, 16, true>),
        Punpckhwd | Vpunpckhwd => Binary(unpack::<u16, 16, true>),
        Punpckhdq | Vpunpckhdq | Unpckhps | Vunpckhps => Binary(unpack::<u32, 16, true>),
        Punpckhqdq | Vpunpckhqdq | Unpckhpd | Vunpckhpd => Binary(unpack::<u64, 16, true>),
        Pshufb | Vpshufb => Binary(lanes::shuffle_bytes::<16>),
        Pshufd | Vpshufd => UnaryImmediate(|a, n| build(|i| get::<u32>(a, lanes::selected(i, n)))),
        Pshuflw | Vpshuflw => UnaryImmediate(|a, n| {
            build(|i| get::<u16>(a, if i & 4 == 0 { lanes::selected(i, n) } else { i }))
        }),
        Pshufhw | Vpshufhw => UnaryImmediate(|a, n| {
            build(|i| get::<u16>(a, if i & 4 != 0 { lanes::selected(i, n) } else { i }))
        }),
        Pshufw => UnaryImmediate(|a, n| build(|i| get::<u16>(a, lanes::selected(i, n)))),
        Shufps | Vshufps => BinaryImmediate(|a, b, n| {
            build(|i| get::<u32>(if i & 2 == 0 { a } else { b }, lanes::selected(i, n)))
        }),
        Shufpd | Vshufpd => BinaryImmediate(|a, b, n| {
            build(|i| get::<u64>(if i & 1 == 0 { a } else { b }, i & !1 | usize::from(n >> i & 1)))
        }),
        Palignr | Vpalignr => BinaryImmediate(lanes::align_right::<16>),
        Blendps | Vblendps | Vpblendd => BinaryImmediate(lanes::blend::<u32>),
        Blendpd | Vblendpd => BinaryImmediate(lanes::blend::<u64>),
        Pblendw | Vpblendw => BinaryImmediate(lanes::blend::<u16>),
        Blendvps | Vblendvps => Ternary(lanes::blend_by_sign::<u32>),
        Blendvpd | Vblendvpd => Ternary(lanes::blend_by_sign::<u64>),
        Pblendvb | Vpblendvb => Ternary(lanes::blend_by_sign::<u8>),
        Vpermilps => Permute(
            |a, b| build(|i| get::<u32>(a, i & !3 | (get::<u32>(b, i) & 3) as usize)),
            |a, n| build(|i| get::<u32>(a, lanes::selected(i, n))),
        ),
        Vpermilpd => Permute(
            |a, b| build(|i| get::<u64>(a, i & !1 | (get::<u64>(b, i) >> 1 & 1) as usize)),
            |a, n| build(|i| get::<u64>(a, i & !1 | usize::from(n >> i & 1))),
        ),
        Vpermd | Vpermps => Binary(|a, b| build(|i| get::<u32>(b, (get::<u32>(a, i) & 7) as usize))),
        Vpermq | Vpermpd => UnaryImmediate(|a, n| build(|i| get::<u64>(a, lanes::selected(i, n)))),
        Vperm2f128 | Vperm2i128 => BinaryImmediate(lanes::permute_halves),
        Pmovsxbw | Vpmovsxbw => Unary(|a| build(|i| i16::from(get::<i8>(a, i)))),
        Pmovsxbd | Vpmovsxbd => Unary(|a| build(|i| i32::from(get::<i8>(a, i)))),
        Pmovsxbq | Vpmovsxbq => Unary(|a| build(|i| i64::from(get::<i8>(a, i)))),
        Pmovsxwd | Vpmovsxwd => Unary(|a| build(|i| i32::from(get::<i16>(a, i)))),
        Pmovsxwq | Vpmovsxwq => Unary(|a| build(|i| i64::from(get::<i16>(a, i)))),
        Pmovsxdq | Vpmovsxdq => Unary(|a| build(|i| i64::from(get::<i32>(a, i)))),
        Pmovzxbw | Vpmovzxbw => Unary(|a| build(|i| u16::from(get::<u8>(a, i)))),
        Pmovzxbd | Vpmovzxbd => Unary(|a| build(|i| u32::from(get::<u8>(a, i)))),
        Pmovzxbq | Vpmovzxbq => Unary(|a| build(|i| u64::from(get::<u8>(a, i)))),
        Pmovzxwd | Vpmovzxwd => Unary(|a| build(|i| u32::from(get::<u16>(a, i)))),
        Pmovzxwq | Vpmovzxwq => Unary(|a| build(|i| u64::from(get::<u16>(a, i)))),
        Pmovzxdq | Vpmovzxdq => Unary(|a| build(|i| u64::from(get::<u32>(a, i)))),

        // Ciphers and digests.
        Aesenc | Vaesenc => Binary(crypto::encrypt),
        Aesenclast | Vaesenclast => Binary(crypto::encrypt_last),
        Aesdec | Vaesdec => Binary(crypto::decrypt),
        Aesdeclast | Vaesdeclast => Binary(crypto::decrypt_last),
        Aesimc | Vaesimc => Unary(crypto::inverse_mix_columns),
        Aeskeygenassist | Vaeskeygenassist => UnaryImmediate(crypto::key_assist),
        Pclmulqdq | Vpclmulqdq => BinaryImmediate(crypto::multiply_carryless),
        Gf2p8mulb | Vgf2p8mulb => Binary(crypto::multiply_bytes),
        Gf2p8affineqb | Vgf2p8affineqb => BinaryImmediate(crypto::affine),
        Gf2p8affineinvqb | Vgf2p8affineinvqb => BinaryImmediate(crypto::affine_of_inverse),
        Sha1rnds4 => BinaryImmediate(crypto::sha1_rounds),
        Sha1nexte => Binary(crypto::sha1_next_e),
        Sha1msg1 => Binary(crypto::sha1_message_1),
        Sha1msg2 => Binary(crypto::sha1_message_2),
        Sha256rnds2 => Ternary(crypto::sha256_rounds),
        Sha256msg1 => Binary(crypto::sha256_message_1),
        Sha256msg2 => Binary(crypto::sha256_message_2),
        _ => return None,
    })
}

/// MMX forms that are not just the low half of the SSE form: what goes by blocks has blocks of 8 bytes.
#[rustfmt::skip]
pub(super) fn mmx(mnemonic: Mnemonic) -> Option<Operation> {
    use Mnemonic::*;
    use Operation::*;
    Some(match mnemonic {
        Phaddw => Binary(|a, b| horizontal::<8, _>(a, b, i16::wrapping_add)),
        Phaddd => Binary(|a, b| horizontal::<8, _>(a, b, i32::wrapping_add)),
        Phaddsw => Binary(|a, b| horizontal::<8, _>(a, b, i16::saturating_add)),
        Phsubw => Binary(|a, b| horizontal::<8, _>(a, b, i16::wrapping_sub)),
        Phsubd => Binary(|a, b| horizontal::<8, _>(a, b, i32::wrapping_sub)),
        Phsubsw => Binary(|a, b| horizontal::<8, _>(a, b, i16::saturating_sub)),
        Packsswb => Binary(|a, b| pack::<8, _, _>(a, b, lanes::saturate_i8)),
        Packssdw => Binary(|a, b| pack::<8, _, _>(a, b, lanes::saturate_i16)),
        Packuswb => Binary(|a, b| pack::<8, _, _>(a, b, lanes::saturate_u8)),
        Punpcklbw => Binary(unpack::<u8, 8, false>),
        Punpcklwd => Binary(unpack::<u16, 8, false>),
        Punpckldq => Binary(unpack::<u32, 8, false>),
        Punpckhbw => Binary(unpack::<u8, 8, true>),
        Punpckhwd => Binary(unpack::<u16, 8, true>),
        Punpckhdq => Binary(unpack::<u32, 8, true>),
        Pshufb => Binary(lanes::shuffle_bytes::<8>),
        Palignr => BinaryImmediate(lanes::align_right::<8>),
        Pinsrw => BinaryImmediate(|a, b, n| lanes::insert::<u16>(a, b, n & 3)),
        _ => return None,
    })
}

/// Floating point.
#[rustfmt::skip]
fn floating(mnemonic: Mnemonic) -> Option<Operation> {
    use Mnemonic::*;
    use Operation::*;
    use Shape::*;
    Some(match mnemonic {
        Addps | Vaddps => Float(PackedSingle, Env::add::<Single>),
        Addpd | Vaddpd => Float(PackedDouble, Env::add::<Double>),
        Addss | Vaddss => Float(ScalarSingle, Env::add::<Single>),
        Addsd | Vaddsd => Float(ScalarDouble, Env::add::<Double>),
        Subps | Vsubps => Float(PackedSingle, Env::subtract::<Single>),
        Subpd | Vsubpd => Float(PackedDouble, Env::subtract::<Double>),
        Subss | Vsubss => Float(ScalarSingle, Env::subtract::<Single>),
        Subsd | Vsubsd => Float(ScalarDouble, Env::subtract::<Double>),
        Mulps | Vmulps => Float(PackedSingle, Env::multiply::<Single>),
        Mulpd | Vmulpd => Float(PackedDouble, Env::multiply::<Double>),
        Mulss | Vmulss => Float(ScalarSingle, Env::multiply::<Single>),
        Mulsd | Vmulsd => Float(ScalarDouble, Env::multiply::<Double>),
        Divps | Vdivps => Float(PackedSingle, Env::divide::<Single>),
        Divpd | Vdivpd => Float(PackedDouble, Env::divide::<Double>),
        Divss | Vdivss => Float(ScalarSingle, Env::divide::<Single>),
        Divsd | Vdivsd => Float(ScalarDouble, Env::divide::<Double>),
        Minps | Vminps => Float(PackedSingle, Env::minimum::<Single>),
        Minpd | Vminpd => Float(PackedDouble, Env::minimum::<Double>),
        Minss | Vminss => Float(ScalarSingle, Env::minimum::<Single>),
        Minsd | Vminsd => Float(ScalarDouble, Env::minimum::<Double>),
        Maxps | Vmaxps => Float(PackedSingle, Env::maximum::<Single>),
        Maxpd | Vmaxpd => Float(PackedDouble, Env::maximum::<Double>),
        Maxss | Vmaxss => Float(ScalarSingle, Env::maximum::<Single>),
        Maxsd | Vmaxsd => Float(ScalarDouble, Env::maximum::<Double>),
        Sqrtps | Vsqrtps => Float(PackedSingle, |e, _, b| e.square_root::<Single>(b)),
        Sqrtpd | Vsqrtpd => Float(PackedDouble, |e, _, b| e.square_root::<Double>(b)),
        Sqrtss | Vsqrtss => Float(ScalarSingle, |e, _, b| e.square_root::<Single>(b)),
        Sqrtsd | Vsqrtsd => Float(ScalarDouble, |e, _, b| e.square_root::<Double>(b)),
        Rcpps | Vrcpps => Float(PackedSingle, |_, _, b| reciprocal(b)),
        Rcpss | Vrcpss => Float(ScalarSingle, |_, _, b| reciprocal(b)),
        Rsqrtps | Vrsqrtps => Float(PackedSingle, |_, _, b| reciprocal_root(b)),
        Rsqrtss | Vrsqrtss => Float(ScalarSingle, |_, _, b| reciprocal_root(b)),
        Haddps | Vhaddps => FloatHorizontal(PackedSingle, Env::add::<Single>),
        Haddpd | Vhaddpd => FloatHorizontal(PackedDouble, Env::add::<Double>),
        Hsubps | Vhsubps => FloatHorizontal(PackedSingle, Env::subtract::<Single>),
        Hsubpd | Vhsubpd => FloatHorizontal(PackedDouble, Env::subtract::<Double>),
        Addsubps | Vaddsubps => FloatAlternate(PackedSingle, Env::subtract::<Single>, Env::add::<Single>),
        Addsubpd | Vaddsubpd => FloatAlternate(PackedDouble, Env::subtract::<Double>, Env::add::<Double>),
        Cmpps | Vcmpps => Compare(PackedSingle),
        Cmppd | Vcmppd => Compare(PackedDouble),
        Cmpss | Vcmpss => Compare(ScalarSingle),
        Cmpsd | Vcmpsd => Compare(ScalarDouble),
        Comiss | Vcomiss => CompareFlags(ScalarSingle, false),
        Comisd | Vcomisd => CompareFlags(ScalarDouble, false),
        Ucomiss | Vucomiss => CompareFlags(ScalarSingle, true),
        Ucomisd | Vucomisd => CompareFlags(ScalarDouble, true),
        Roundps | Vroundps => Round(PackedSingle),
        Roundpd | Vroundpd => Round(PackedDouble),
        Roundss | Vroundss => Round(ScalarSingle),
        Roundsd | Vroundsd => Round(ScalarDouble),
        Dpps | Vdpps => Dot(PackedSingle),
        Dppd | Vdppd => Dot(PackedDouble),

        Cvtss2sd | Vcvtss2sd => Float(ScalarDouble, |e, _, b| e.convert::<Single, Double>(b & 0xffff_ffff)),
        Cvtsd2ss | Vcvtsd2ss => Narrow,
        Cvtps2pd | Vcvtps2pd => Convert(Conversion::new(4, 8, Env::convert::<Single, Double>)),
        Cvtpd2ps | Vcvtpd2ps => Convert(Conversion::new(8, 4, Env::convert::<Double, Single>)),
        Vcvtph2ps => Convert(Conversion::new(2, 4, Env::convert_from_half)),
        Vcvtps2ph => Convert(Conversion::new(4, 2, Env::convert_to_half)),
        Cvtdq2ps | Vcvtdq2ps => Convert(Conversion::new(4, 4, |e, a| e.integer_to_float::<Single>((a as i32).into()))),
        Cvtdq2pd | Vcvtdq2pd => Convert(Conversion::new(4, 8, |e, a| e.integer_to_float::<Double>((a as i32).into()))),
        Cvtpi2ps => Convert(Conversion::new(4, 4, |e, a| e.integer_to_float::<Single>((a as i32).into())).merging()),
        Cvtpi2pd => Convert(Conversion::new(4, 8, |e, a| e.integer_to_float::<Double>((a as i32).into()))),
        Cvtps2dq | Vcvtps2dq | Cvtps2pi => Convert(Conversion::new(4, 4, |e, a| e.float_to_integer::<Single>(a, 32) as u64)),
        Cvttps2dq | Vcvttps2dq | Cvttps2pi => {
            Convert(Conversion::new(4, 4, |e, a| e.float_to_integer::<Single>(a, 32) as u64).truncating())
        }
        Cvtpd2dq | Vcvtpd2dq | Cvtpd2pi => Convert(Conversion::new(8, 4, |e, a| e.float_to_integer::<Double>(a, 32) as u64)),
        Cvttpd2dq | Vcvttpd2dq | Cvttpd2pi => {
            Convert(Conversion::new(8, 4, |e, a| e.float_to_integer::<Double>(a, 32) as u64).truncating())
        }
        Cvtsi2ss | Vcvtsi2ss => FromGeneral(ScalarSingle),
        Cvtsi2sd | Vcvtsi2sd => FromGeneral(ScalarDouble),
        Cvtss2si | Vcvtss2si => ToGeneral(ScalarSingle, false),
        Cvtsd2si | Vcvtsd2si => ToGeneral(ScalarDouble, false),
        Cvttss2si | Vcvttss2si => ToGeneral(ScalarSingle, true),
        Cvttsd2si | Vcvttsd2si => ToGeneral(ScalarDouble, true),
        Vfmadd132ps => Fused(PackedSingle, Order::O132, false, Addend::Plus),
        Vfmadd213ps => Fused(PackedSingle, Order::O213, false, Addend::Plus),
        Vfmadd231ps => Fused(PackedSingle, Order::O231, false, Addend::Plus),
        Vfmsub132ps => Fused(PackedSingle, Order::O132, false, Addend::Minus),
        Vfmsub213ps => Fused(PackedSingle, Order::O213, false, Addend::Minus),
        Vfmsub231ps => Fused(PackedSingle, Order::O231, false, Addend::Minus),
        Vfnmadd132ps => Fused(PackedSingle, Order::O132, true, Addend::Plus),
        Vfnmadd213ps => Fused(PackedSingle, Order::O213, true, Addend::Plus),
        Vfnmadd231ps => Fused(PackedSingle, Order::O231, true, Addend::Plus),
        Vfnmsub132ps => Fused(PackedSingle, Order::O132, true, Addend::Minus),
        Vfnmsub213ps => Fused(PackedSingle, Order::O213, true, Addend::Minus),
        Vfnmsub231ps => Fused(PackedSingle, Order::O231, true, Addend::Minus),
        Vfmaddsub132ps => Fused(PackedSingle, Order::O132, false, Addend::MinusPlus),
        Vfmaddsub213ps => Fused(PackedSingle, Order::O213, false, Addend::MinusPlus),
        Vfmaddsub231ps => Fused(PackedSingle, Order::O231, false, Addend::MinusPlus),
        Vfmsubadd132ps => Fused(PackedSingle, Order::O132, false, Addend::PlusMinus),
        Vfmsubadd213ps => Fused(PackedSingle, Order::O213, false, Addend::PlusMinus),
        Vfmsubadd231ps => Fused(PackedSingle, Order::O231, false, Addend::PlusMinus),
        Vfmadd132pd => Fused(PackedDouble, Order::O132, false, Addend::Plus),
        Vfmadd213pd => Fused(PackedDouble, Order::O213, false, Addend::Plus),
        Vfmadd231pd => Fused(PackedDouble, Order::O231, false, Addend::Plus),
        Vfmsub132pd => Fused(PackedDouble, Order::O132, false, Addend::Minus),
        Vfmsub213pd => Fused(PackedDouble, Order::O213, false, Addend::Minus),
        Vfmsub231pd => Fused(PackedDouble, Order::O231, false, Addend::Minus),
        Vfnmadd132pd => Fused(PackedDouble, Order::O132, true, Addend::Plus),
        Vfnmadd213pd => Fused(PackedDouble, Order::O213, true, Addend::Plus),
        Vfnmadd231pd => Fused(PackedDouble, Order::O231, true, Addend::Plus),
        Vfnmsub132pd => Fused(PackedDouble, Order::O132, true, Addend::Minus),
        Vfnmsub213pd => Fused(PackedDouble, Order::O213, true, Addend::Minus),
        Vfnmsub231pd => Fused(PackedDouble, Order::O231, true, Addend::Minus),
        Vfmaddsub132pd => Fused(PackedDouble, Order::O132, false, Addend::MinusPlus),
        Vfmaddsub213pd => Fused(PackedDouble, Order::O213, false, Addend::MinusPlus),
        Vfmaddsub231pd => Fused(PackedDouble, Order::O231, false, Addend::MinusPlus),
        Vfmsubadd132pd => Fused(PackedDouble, Order::O132, false, Addend::PlusMinus),
        Vfmsubadd213pd => Fused(PackedDouble, Order::O213, false, Addend::PlusMinus),
        Vfmsubadd231pd => Fused(PackedDouble, Order::O231, false, Addend::PlusMinus),
        Vfmadd132ss => Fused(ScalarSingle, Order::O132, false, Addend::Plus),
        Vfmadd213ss => Fused(ScalarSingle, Order::O213, false, Addend::Plus),
        Vfmadd231ss => Fused(ScalarSingle, Order::O231, false, Addend::Plus),
        Vfmsub132ss => Fused(ScalarSingle, Order::O132, false, Addend::Minus),
        Vfmsub213ss => Fused(ScalarSingle, Order::O213, false, Addend::Minus),
        Vfmsub231ss => Fused(ScalarSingle, Order::O231, false, Addend::Minus),
        Vfnmadd132ss => Fused(ScalarSingle, Order::O132, true, Addend::Plus),
        Vfnmadd213ss => Fused(ScalarSingle, Order::O213, true, Addend::Plus),
        Vfnmadd231ss => Fused(ScalarSingle, Order::O231, true, Addend::Plus),
        Vfnmsub132ss => Fused(ScalarSingle, Order::O132, true, Addend::Minus),
        Vfnmsub213ss => Fused(ScalarSingle, Order::O213, true, Addend::Minus),
        Vfnmsub231ss => Fused(ScalarSingle, Order::O231, true, Addend::Minus),
        Vfmadd132sd => Fused(ScalarDouble, Order::O132, false, Addend::Plus),
        Vfmadd213sd => Fused(ScalarDouble, Order::O213, false, Addend::Plus),
        Vfmadd231sd => Fused(ScalarDouble, Order::O231, false, Addend::Plus),
        Vfmsub132sd => Fused(ScalarDouble, Order::O132, false, Addend::Minus),
        Vfmsub213sd => Fused(ScalarDouble, Order::O213, false, Addend::Minus),
        Vfmsub231sd => Fused(ScalarDouble, Order::O231, false, Addend::Minus),
        Vfnmadd132sd => Fused(ScalarDouble, Order::O132, true, Addend::Plus),
        Vfnmadd213sd => Fused(ScalarDouble, Order::O213, true, Addend::Plus),
        Vfnmadd231sd => Fused(ScalarDouble, Order::O231, true, Addend::Plus),
        Vfnmsub132sd => Fused(ScalarDouble, Order::O132, true, Addend::Minus),
        Vfnmsub213sd => Fused(ScalarDouble, Order::O213, true, Addend::Minus),
        Vfnmsub231sd => Fused(ScalarDouble, Order::O231, true, Addend::Minus),
        _ => return None,
    })
}
