//! Eras: when a host ran, as a date or by its kernel.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A day of the Gregorian calendar; ordered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A version of Linux, major and minor; ordered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    major: u16,
    minor: u16,
}

/// When a host ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// On that day.
    Date(Date),
    /// With that kernel.
    Kernel(KernelVersion),
}

/// Text that is no era.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no era: want a date like 2025-06-30, or a kernel version like 6.8")]
pub struct EraError(pub String);

impl Date {
    /// A day; the registry's are checked when it is built.
    pub(crate) const fn new(year: u16, month: u8, day: u8) -> Self {
        Self { year, month, day }
    }
}

impl KernelVersion {
    pub(crate) const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Date {
    type Err = EraError;

    /// `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, EraError> {
        let wrong = || EraError(text.to_owned());
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return Err(wrong());
        }
        let year = digits(year).ok_or_else(wrong)?;
        let month = digits(month).filter(|month| (1..=12).contains(month)).ok_or_else(wrong)?;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u16::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let day = digits(day).filter(|day| (1..=days).contains(day)).ok_or_else(wrong)?;
        Ok(Self { year, month: month as u8, day: day as u8 })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for KernelVersion {
    type Err = EraError;

    /// `MAJOR.MINOR`, and anything after another dot or hyphen, as `uname -r` prints it.
    fn from_str(text: &str) -> Result<Self, EraError> {
        let wrong = || EraError(text.to_owned());
        let (major, rest) = text.split_once('.').ok_or_else(wrong)?;
        let minor = rest.split(['.', '-', '+', '~']).next().unwrap_or_default();
        Ok(Self { major: digits(major).ok_or_else(wrong)?, minor: digits(minor).ok_or_else(wrong)? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Era {
    type Err = EraError;

    fn from_str(text: &str) -> Result<Self, EraError> {
        text.parse().map(Self::Date).or_else(|_| text.parse().map(Self::Kernel)).map_err(|_| EraError(text.to_owned()))
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Kernel(version) => write!(f, "Linux {version}"),
        }
    }
}

/// A number of digits only: no sign, no space.
fn digits(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_kernels_are_told_apart() {
        let era = |text: &str| text.parse::<Era>().map(|era| era.to_string());
        assert_eq!(era("2024-02-29").unwrap(), "2024-02-29");
        assert_eq!(era("6.8.0-51-generic").unwrap(), "Linux 6.8");
        assert_eq!(era("7.3~rc1").unwrap(), "Linux 7.3");
        for wrong in ["", "6", "6.", ".8", "2023-02-29", "2024-13-01", "2024-1-1", "+6.8", "6.8x", "today"] {
            assert_eq!(era(wrong), Err(EraError(wrong.to_owned())));
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("6.8") < version("6.10") && version("6.10") < version("7.0"));
    }
}
