//! Numbers and bytes as transcripts show them.

use std::fmt::Write;

/// A number with its prefix.
pub(crate) fn number(value: u64) -> String {
    format!("{value:#x}")
}

/// Bytes, first one first, without prefix.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The number that [`number`] wrote.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The bytes that [`bytes`] wrote.
pub(crate) fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = |digit: u8| (digit as char).to_digit(16).unwrap_or_default() as u8;
    Some(digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for data in [&[][..], &[0], &[0x12, 0xff, 0x00, 0xa5]] {
            assert_eq!(parse_bytes(&bytes(data)).as_deref(), Some(data));
        }
        for value in [0, 1, 0x1234, u64::MAX] {
            assert_eq!(parse_number(&number(value)), Some(value));
        }
        for bad in ["1", "zz", "é", "0x"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }
}
