//! Every field of a VMSA by name.
//!
//! The names are those of [`snp_abi::Vmsa`]; the parts of a segment follow a dot: `cs.base`. The table is derived from the
//! layout that `snp-abi` asserts, so a field can be neither forgotten nor misplaced here.

use std::fmt;

use snp_abi::{AbiLayout, FieldLayout, Segment, Vmsa};
use thiserror::Error;
use zerocopy::IntoBytes;

/// The fields that are segments, which are shown and set part by part.
const SEGMENTS: [&str; 10] = ["es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"];

/// One field, or one part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    segment: Option<&'static str>,
    layout: FieldLayout,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number of at most 64 bits.
    Integer(u64),
    /// Bytes in the order of their addresses.
    Bytes(Vec<u8>),
}

/// A field that cannot be found or a value that it cannot take.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FieldError {
    /// No such field.
    #[error("no field {name:?} in a VMSA{}", hint(.suggestion))]
    Unknown {
        /// The name asked for.
        name: String,
        /// The name that it resembles most, if it resembles one.
        suggestion: Option<String>,
    },
    /// A segment named as a whole.
    #[error("{name} is a segment: want {name}.selector, {name}.attrib, {name}.limit or {name}.base")]
    WholeSegment {
        /// The segment.
        name: String,
    },
    /// No `=` between name and value.
    #[error("{text:?}: want FIELD=VALUE, for instance rip=0xfff0")]
    NoValue {
        /// What was given.
        text: String,
    },
    /// Not a number.
    #[error("{field}: {text:?} is not a number: want decimal digits, or hexadecimal ones after 0x")]
    NotANumber {
        /// The field.
        field: String,
        /// What was given.
        text: String,
    },
    /// A number of too many bits.
    #[error("{field}: {text} does not fit in {bits} bits")]
    TooLarge {
        /// The field.
        field: String,
        /// What was given.
        text: String,
        /// The field's width.
        bits: usize,
    },
    /// Bytes of another length, or not hexadecimal digits.
    #[error("{field}: want {} hexadecimal digits ({size} bytes, first byte first), or 0 for all zero; got {got} characters", 2 * .size)]
    WrongBytes {
        /// The field.
        field: String,
        /// The field's size in bytes.
        size: usize,
        /// Characters given.
        got: usize,
    },
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// All fields in order of their offset, without gaps and without overlap.
pub fn fields() -> impl Iterator<Item = Field> {
    Vmsa::FIELDS.iter().flat_map(|layout| {
        let parts: &[FieldLayout] = if SEGMENTS.contains(&layout.name) { Segment::FIELDS } else { &[] };
        let whole = parts.is_empty().then_some(Field { segment: None, layout: *layout });
        let parts = parts.iter().map(|part| Field {
            segment: Some(layout.name),
            layout: FieldLayout { offset: layout.offset + part.offset, ..*part },
        });
        whole.into_iter().chain(parts)
    })
}

/// The field called `name`.
///
/// # Errors
/// [`FieldError::Unknown`] with the most similar name, or [`FieldError::WholeSegment`].
pub fn find(name: &str) -> Result<Field, FieldError> {
    if SEGMENTS.contains(&name) {
        return Err(FieldError::WholeSegment { name: name.into() });
    }
    fields()
        .find(|field| field.name() == name)
        .ok_or_else(|| FieldError::Unknown { name: name.into(), suggestion: nearest(name) })
}

/// Sets a field from `FIELD=VALUE`. Numbers are decimal, or hexadecimal after `0x`; `_` may separate digits. Fields that
/// are not numbers take their bytes as hexadecimal digits.
///
/// # Errors
/// [`FieldError`]; `vmsa` is unchanged then.
pub fn assign(vmsa: &mut Vmsa, assignment: &str) -> Result<(), FieldError> {
    let Some((name, value)) = assignment.split_once('=') else {
        return Err(FieldError::NoValue { text: assignment.into() });
    };
    find(name.trim())?.set(vmsa, value.trim())
}

impl Field {
    /// The name, for instance `rip` or `cs.base`.
    pub fn name(&self) -> String {
        match self.segment {
            Some(segment) => format!("{segment}.{}", self.layout.name),
            None => self.layout.name.into(),
        }
    }

    /// The segment that this field is a part of.
    pub fn segment(&self) -> Option<&'static str> {
        self.segment
    }

    /// Offset in the page, in bytes.
    pub fn offset(&self) -> usize {
        self.layout.offset
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.layout.size
    }

    /// Whether the specification gives the field no meaning.
    pub fn is_reserved(&self) -> bool {
        self.layout.name.starts_with("reserved_") || self.layout.name.starts_with("unused_")
    }

    /// Whether the field is a number.
    pub fn is_integer(&self) -> bool {
        !self.is_reserved() && matches!(self.layout.size, 1 | 2 | 4 | 8)
    }

    /// The field's bytes in the page.
    pub fn bytes<'a>(&self, vmsa: &'a Vmsa) -> &'a [u8] {
        &vmsa.as_bytes()[self.range()]
    }

    /// What the field holds in `vmsa`.
    pub fn get(&self, vmsa: &Vmsa) -> Value {
        let bytes = self.bytes(vmsa);
        if !self.is_integer() {
            return Value::Bytes(bytes.to_vec());
        }
        Value::Integer(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Sets the field from text, as [`assign`] takes it after the `=`.
    ///
    /// # Errors
    /// [`FieldError`]; `vmsa` is unchanged then.
    pub fn set(&self, vmsa: &mut Vmsa, text: &str) -> Result<(), FieldError> {
        let bytes = if self.is_integer() { self.parse_integer(text)? } else { self.parse_bytes(text)? };
        vmsa.as_mut_bytes()[self.range()].copy_from_slice(&bytes);
        Ok(())
    }

    /// Inside the page: the layout's offsets are asserted at compile time.
    fn range(&self) -> std::ops::Range<usize> {
        self.layout.offset..self.layout.offset + self.layout.size
    }

    fn parse_integer(&self, text: &str) -> Result<Vec<u8>, FieldError> {
        use std::num::IntErrorKind;
        let digits = text.replace('_', "");
        let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None => (digits.as_str(), 10),
        };
        let too_large = || FieldError::TooLarge { field: self.name(), text: text.into(), bits: 8 * self.size() };
        let not_a_number = || FieldError::NotANumber { field: self.name(), text: text.into() };
        if digits.starts_with(['+', '-']) {
            return Err(not_a_number());
        }
        let value = u64::from_str_radix(digits, radix).map_err(|error| match error.kind() {
            IntErrorKind::PosOverflow => too_large(),
            _ => not_a_number(),
        })?;
        let (low, high) = value.as_bytes().split_at(self.size());
        if high.iter().any(|byte| *byte != 0) {
            return Err(too_large());
        }
        Ok(low.to_vec())
    }

    fn parse_bytes(&self, text: &str) -> Result<Vec<u8>, FieldError> {
        if text == "0" {
            return Ok(vec![0; self.size()]);
        }
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let wrong = || FieldError::WrongBytes { field: self.name(), size: self.size(), got: text.chars().count() };
        if digits.len() != 2 * self.size() {
            return Err(wrong());
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
        let bytes: Option<Vec<u8>> =
            digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
        bytes.ok_or_else(wrong)
    }
}

impl Value {
    /// Whether nothing but zeros is in the field.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Integer(value) => *value == 0,
            Self::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
        }
    }
}

/// As [`Field::set`] takes it back.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value:#x}"),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// The name that `name` resembles most: one that ends with it (`fcw` → `x87_fcw`), else the one at the smallest edit
/// distance, if that is at most a third of its length.
fn nearest(name: &str) -> Option<String> {
    const LONGEST: usize = 32;
    let name = name.to_lowercase();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let mut names: Vec<String> = fields().map(|field| field.name()).collect();
    if let Some(whole) = names.iter().find(|known| known.ends_with(&name)) {
        return Some(whole.clone());
    }
    names.sort_by_key(|known| edit_distance(known, &name));
    names.into_iter().next().filter(|known| edit_distance(known, &name) <= (known.len() / 3).max(1))
}

/// Levenshtein distance over bytes; both are short.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
