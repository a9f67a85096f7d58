//! ECDSA on P-384 with SHA-384, as reports are signed, and tables for many reports of one key.
//!
//! Arithmetic is the `p384` crate's. What is ours is the choice of table entries: verification has no secrets, so that it
//! may take a path that depends on its numbers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use p384::ecdsa::signature::hazmat::PrehashVerifier;
use p384::ecdsa::{self, Signature};
use p384::elliptic_curve::ops::{Invert, Reduce};
use p384::elliptic_curve::point::{AffineCoordinates, BatchNormalize};
use p384::elliptic_curve::{Group, PrimeField};
use p384::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};
use sha2::{Digest, Sha384};
use snp_abi::EcdsaSignature;

use crate::error::Failure;

/// A P-384 key that verifies reports.
#[derive(Clone)]
pub struct VerifyingKey {
    key: ecdsa::VerifyingKey,
    tables: Option<(Arc<Table>, Arc<Table>)>,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("precomputed", &self.tables.is_some()).finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// From the uncompressed form of SEC1.
    pub(crate) fn from_uncompressed(bytes: &[u8]) -> Option<Self> {
        const UNCOMPRESSED: u8 = 4;
        if bytes.first() != Some(&UNCOMPRESSED) {
            return None;
        }
        Some(Self { key: ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()?, tables: None })
    }

    pub(crate) fn precompute(&mut self, generator: &GeneratorTable) {
        let point = ProjectivePoint::from(*self.key.as_affine());
        self.tables = Some((generator.0.clone(), Arc::new(Table::new(point))));
    }

    /// Whether `signature` is the key's over `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let digest = Sha384::digest(message);
        match &self.tables {
            None => self.key.verify_prehash(&digest, signature).is_ok(),
            Some((generator, key)) => verify_with(generator, key, &digest.into(), signature),
        }
    }
}

/// FIPS 186-5, section 6.4.2, with u G + v Q from tables.
fn verify_with(generator: &Table, key: &Table, digest: &[u8; 48], signature: &Signature) -> bool {
    let (r, s) = signature.split_scalars();
    let inverse = *s.invert_vartime();
    let u = Scalar::reduce(&FieldBytes::from(*digest)) * inverse;
    let v = *r * inverse;
    let sum = key.add_multiple(&v, generator.add_multiple(&u, ProjectivePoint::IDENTITY));
    // The point at infinity has no coordinates and verifies nothing.
    !bool::from(sum.is_identity()) && Scalar::reduce(&sum.to_affine().x()) == *r
}

/// Bits of a digit.
const DIGIT: usize = 8;
/// Digits of a scalar, one more for the carry of signed digits.
const DIGITS: usize = 384 / DIGIT + 1;
/// Multiples that are kept for each digit; the others are their negatives.
const MULTIPLES: usize = 1 << (DIGIT - 1);

/// j · 256^i · P for every digit i and every j from 1 to 128.
struct Table(Box<[AffinePoint]>);

impl Table {
    fn new(point: ProjectivePoint) -> Self {
        let mut multiples = Vec::with_capacity(DIGITS * MULTIPLES);
        let mut base = point;
        for _ in 0..DIGITS {
            let mut multiple = base;
            for _ in 0..MULTIPLES {
                multiples.push(multiple);
                multiple += base;
            }
            // The last one that was kept is 128 times the base.
            base = multiples[multiples.len() - 1].double();
        }
        Self(ProjectivePoint::batch_normalize(multiples.as_slice()).into_boxed_slice())
    }

    /// `sum` and `scalar` times the point of the table.
    fn add_multiple(&self, scalar: &Scalar, mut sum: ProjectivePoint) -> ProjectivePoint {
        for (multiples, digit) in self.0.chunks_exact(MULTIPLES).zip(signed_digits(scalar)) {
            if digit > 0 {
                sum += multiples[digit as usize - 1];
            } else if digit < 0 {
                sum -= multiples[digit.unsigned_abs() as usize - 1];
            }
        }
        sum
    }
}

/// The scalar in base 256 with digits from -127 to 128, the least first.
fn signed_digits(scalar: &Scalar) -> [i16; DIGITS] {
    let bytes = scalar.to_repr();
    let mut digits = [0; DIGITS];
    let mut carry = 0;
    for (digit, byte) in digits.iter_mut().zip(bytes.iter().rev()) {
        let value = i16::from(*byte) + carry;
        carry = i16::from(value > MULTIPLES as i16);
        *digit = value - (carry << DIGIT);
    }
    digits[DIGITS - 1] = carry;
    digits
}

/// Multiples of the curve's generator, for any number of keys.
#[derive(Clone)]
pub struct GeneratorTable(Arc<Table>);

impl GeneratorTable {
    /// Computes them, in some milliseconds.
    #[expect(clippy::new_without_default, reason = "a default that takes milliseconds would surprise")]
    pub fn new() -> Self {
        Self(Arc::new(Table::new(ProjectivePoint::GENERATOR)))
    }
}

impl fmt::Debug for GeneratorTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorTable").finish_non_exhaustive()
    }
}

/// The order of P-384, big-endian.
///
/// # Source
/// NIST SP 800-186, section 3.2.1.4.
const ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The signature of a report, if it is written in its only form: both numbers from 1 to the order less 1, little-endian, and
/// everything behind them zero.
///
/// # Source
/// AMD 56860, "Format for an ECDSA P-384 with SHA-384 Signature"; FIPS 186-5, section 6.4.2, step 1.
pub(crate) fn canonical(signature: &EcdsaSignature) -> Result<Signature, Failure> {
    let r = scalar("R", "padding of R", &signature.r)?;
    let s = scalar("S", "padding of S", &signature.s)?;
    if signature.reserved_0x90 != [0; 368] {
        return Err(Failure::SignaturePadding { field: "the reserved part" });
    }
    Signature::from_scalars(r, s).map_err(|_| Failure::SignatureRange { scalar: "R or S" })
}

fn scalar(name: &'static str, padding: &'static str, field: &[u8; 72]) -> Result<[u8; 48], Failure> {
    let (low, high) = field.split_at(48);
    if high.iter().any(|byte| *byte != 0) {
        return Err(Failure::SignaturePadding { field: padding });
    }
    let mut number: [u8; 48] = low.try_into().expect("48 bytes");
    number.reverse();
    if number == [0; 48] {
        return Err(Failure::SignatureZero { scalar: name });
    }
    if number >= ORDER {
        return Err(Failure::SignatureRange { scalar: name });
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use p384::ecdsa::SigningKey;
    use p384::ecdsa::signature::Signer;

    fn scalar_of(bytes: [u8; 48]) -> Scalar {
        Scalar::reduce(&FieldBytes::from(bytes))
    }

    /// Against the multiplication of the library, at the edges of digits and in between.
    #[test]
    fn tables_multiply_as_the_library_does() {
        let table = Table::new(ProjectivePoint::GENERATOR);
        let mut scalars =
            alloc::vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, scalar_of([0x80; 48]), scalar_of([0x7f; 48])];
        for exponent in [0, 6, 7, 8, 9, 15, 16, 376, 383] {
            let power = (0..exponent).fold(Scalar::ONE, |power, _| power.double());
            scalars.extend([power, power - Scalar::ONE, power + Scalar::ONE, -power]);
        }
        scalars.extend((0..20u8).map(|seed| scalar_of(Sha384::digest([seed]).into())));
        for scalar in scalars {
            let ours = table.add_multiple(&scalar, ProjectivePoint::IDENTITY);
            assert_eq!(ours, ProjectivePoint::GENERATOR * scalar, "{scalar:?}");
        }
    }

    #[test]
    fn both_ways_of_verifying_agree() {
        let generator = GeneratorTable::new();
        for seed in 1..6u8 {
            let signer = SigningKey::from_slice(&[seed; 48]).unwrap();
            let point = signer.verifying_key().to_sec1_point(false);
            let plain = VerifyingKey::from_uncompressed(point.as_bytes()).unwrap();
            let mut fast = plain.clone();
            fast.precompute(&generator);
            let signature: Signature = signer.sign(&[seed]);
            let (r, s) = signature.split_bytes();
            let mut other = s;
            other[47] ^= 1;
            let changed = Signature::from_scalars(r, other).unwrap();
            for key in [&plain, &fast] {
                assert!(key.verify(&[seed], &signature));
                assert!(!key.verify(&[seed + 1], &signature));
                assert!(!key.verify(&[seed], &changed));
                assert!(!key.verify(&[seed], &Signature::from_scalars(s, r).unwrap()));
            }
        }
    }

    #[test]
    fn only_uncompressed_points_are_keys() {
        let point = SigningKey::from_slice(&[1; 48]).unwrap().verifying_key().to_sec1_point(true);
        assert!(VerifyingKey::from_uncompressed(point.as_bytes()).is_none());
        assert!(VerifyingKey::from_uncompressed(&[]).is_none());
        assert!(VerifyingKey::from_uncompressed(&[4; 97]).is_none());
    }
}
