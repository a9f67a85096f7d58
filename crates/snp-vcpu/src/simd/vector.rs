//! Vectors as bytes, and functions on their elements.
//!
//! All functions work on 32 bytes: whoever writes a register takes as many of them as the instruction has. Elements beyond
//! those cost a little and mean nothing, so only functions without side effects may be applied to all of them.

/// A YMM register, or the low bytes of one; the least significant byte first.
pub(super) type Vector = [u8; 32];

/// The vector of zeros.
pub(super) const ZERO: Vector = [0; 32];

/// An element of a vector.
pub(super) trait Lane: Copy {
    /// Bytes.
    const SIZE: usize;

    /// The element that these bytes are.
    fn from_bytes(bytes: &[u8]) -> Self;

    /// Its bytes.
    fn put(self, bytes: &mut [u8]);
}

macro_rules! lanes {
    ($($integer:ty),*) => {$(
        impl Lane for $integer {
            const SIZE: usize = size_of::<$integer>();

            fn from_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as the element has"))
            }

            fn put(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

lanes!(u8, i8, u16, i16, u32, i32, u64, i64, u128);

/// Element `index`.
pub(super) fn get<T: Lane>(vector: &[u8], index: usize) -> T {
    T::from_bytes(&vector[index * T::SIZE..(index + 1) * T::SIZE])
}

/// Replaces element `index`.
pub(super) fn set<T: Lane>(vector: &mut [u8], index: usize, value: T) {
    value.put(&mut vector[index * T::SIZE..(index + 1) * T::SIZE]);
}

/// A vector with these low bytes and zeros above.
pub(super) fn extend(bytes: &[u8]) -> Vector {
    let mut vector = ZERO;
    vector[..bytes.len()].copy_from_slice(bytes);
    vector
}

/// `f` of every element.
pub(super) fn map<T: Lane>(a: &Vector, f: impl Fn(T) -> T) -> Vector {
    let mut result = ZERO;
    for (into, a) in result.chunks_exact_mut(T::SIZE).zip(a.chunks_exact(T::SIZE)) {
        f(T::from_bytes(a)).put(into);
    }
    result
}

/// `f` of every pair of elements.
pub(super) fn zip<T: Lane>(a: &Vector, b: &Vector, f: impl Fn(T, T) -> T) -> Vector {
    let mut result = ZERO;
    for ((into, a), b) in result.chunks_exact_mut(T::SIZE).zip(a.chunks_exact(T::SIZE)).zip(b.chunks_exact(T::SIZE)) {
        f(T::from_bytes(a), T::from_bytes(b)).put(into);
    }
    result
}

/// The vector whose elements are `f` of their index.
pub(super) fn build<T: Lane>(f: impl Fn(usize) -> T) -> Vector {
    let mut result = ZERO;
    for (index, into) in result.chunks_exact_mut(T::SIZE).enumerate() {
        f(index).put(into);
    }
    result
}

/// `f` of every pair of blocks of `N` bytes: most 256-bit instructions are two 128-bit ones side by side, and MMX has blocks
/// of 8 bytes.
pub(super) fn blocks<const N: usize>(a: &Vector, b: &Vector, f: impl Fn(&[u8; N], &[u8; N]) -> [u8; N]) -> Vector {
    let mut result = ZERO;
    for ((into, a), b) in result.as_chunks_mut::<N>().0.iter_mut().zip(a.as_chunks().0).zip(b.as_chunks().0) {
        *into = f(a, b);
    }
    result
}

/// The most significant bit of each of the first `count` elements.
pub(super) fn sign_mask<T: Lane>(a: &Vector, count: usize) -> u64 {
    (0..count).fold(0, |mask, index| mask | u64::from(a[(index + 1) * T::SIZE - 1] >> 7) << index)
}
