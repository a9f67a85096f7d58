//! What differs between two VMSAs.

use snp_abi::Vmsa;

use crate::fields::{Field, Value, fields};

/// A field that holds different values in two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field.
    pub field: Field,
    /// Its value in the first page.
    pub left: Value,
    /// Its value in the second page.
    pub right: Value,
}

/// All fields that differ, in order of their offset. No byte of the page is left out: equal pages, and only they, give
/// an empty answer.
pub fn differences(left: &Vmsa, right: &Vmsa) -> Vec<Difference> {
    fields()
        .filter(|field| field.bytes(left) != field.bytes(right))
        .map(|field| Difference { field, left: field.get(left), right: field.get(right) })
        .collect()
}
