//! Compile-time proof that a Rust structure has the offsets that its specification prints.

/// Name, offset and size of one field of an [`AbiLayout`] structure, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLayout {
    /// The field's name in this crate.
    pub name: &'static str,
    /// Byte offset from the start of the structure.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// The layout of a structure as data, so that programs can walk it: the header check compares it with the C compiler's
/// answer, and `snp vmsa show` names every field by it.
pub trait AbiLayout {
    /// The structure's name in this crate.
    const NAME: &'static str;
    /// Size of the whole structure in bytes.
    const SIZE: usize;
    /// All fields in order of their offset, without gaps.
    const FIELDS: &'static [FieldLayout];
}

/// The size of the field that `_accessor` returns; the accessor is never called.
pub(crate) const fn size_of_field<T, F>(_accessor: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Asserts size and every offset of a structure at compile time and implements [`AbiLayout`] for it.
///
/// The fields must be listed in order and must leave no gap: a forgotten field fails to compile.
macro_rules! abi_layout {
    ($type:ty, $size:expr, { $($field:ident : $offset:expr),+ $(,)? }) => {
        impl $crate::AbiLayout for $type {
            const NAME: &'static str = stringify!($type);
            const SIZE: usize = $size;
            const FIELDS: &'static [$crate::FieldLayout] = &[
                $($crate::FieldLayout {
                    name: stringify!($field),
                    offset: $offset,
                    size: $crate::layout::size_of_field(|s: &$type| &s.$field),
                }),+
            ];
        }
        const _: () = {
            assert!(size_of::<$type>() == $size, concat!("size of ", stringify!($type)));
            $(assert!(
                core::mem::offset_of!($type, $field) == $offset,
                concat!("offset of ", stringify!($type), ".", stringify!($field))
            );)+
            let fields = <$type as $crate::AbiLayout>::FIELDS;
            let mut end = 0;
            let mut i = 0;
            while i < fields.len() {
                assert!(fields[i].offset == end, concat!("gap in ", stringify!($type)));
                end = fields[i].offset + fields[i].size;
                i += 1;
            }
            assert!(end == $size, concat!("tail of ", stringify!($type)));
        };
    };
}
pub(crate) use abi_layout;
