//! Text into HTML, numbers into text.

use std::fmt;

/// Text that is safe between tags and in quoted attributes.
///
/// Control characters are not text in HTML, and direction overrides can make a line read as something that it is not (the
/// labels come from the files under examination): both show as the replacement character.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A length in bytes: exact when it is a multiple of a KiB or more, else with two decimals and the bytes.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let unit = if self.0 == 0 { 0 } else { (self.0.ilog2() / 10) as usize };
        let whole = self.0 >> (10 * unit);
        let rest = self.0 - (whole << (10 * unit));
        if rest == 0 {
            return write!(f, "{whole}\u{a0}{}", UNITS[unit]);
        }
        // A length just below the next unit is better said in the smaller one than as "1023.99".
        let smaller = unit - 1;
        if self.0.trailing_zeros() as usize >= 10 * smaller && whole < 10 {
            return write!(f, "{}\u{a0}{}", Count((self.0 >> (10 * smaller)) as usize), UNITS[smaller]);
        }
        let hundredths = (u128::from(rest) * 100) >> (10 * unit);
        write!(f, "{whole}.{hundredths:02}\u{a0}{}", UNITS[unit])
    }
}

/// A number with its thousands apart.
pub(crate) struct Count(pub(crate) usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number of things, with the noun in the right form.
pub(crate) struct Many(pub(crate) usize, pub(crate) &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\u{a0}{}{}", Count(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A range of memory, first to last byte.
pub(crate) struct Range(pub(crate) u64, pub(crate) u64);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Range(start, len) = self;
        write!(f, "{start:#x}\u{2013}{:#x}", start.saturating_add(len.saturating_sub(1)))
    }
}
