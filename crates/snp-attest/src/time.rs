//! Time, which always comes from outside.

use core::fmt;
use core::time::Duration;

use der::DateTime;
use x509_cert::time::Time;

/// Seconds since 1970, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    pub(crate) fn of(time: Time) -> Self {
        Self(time.to_unix_duration().as_secs())
    }

    /// Reads `2026-01-31T23:59:59Z` or `2026-01-31`.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = if text.len() == 10 { alloc::format!("{text}T00:00:00Z") } else { text.into() };
        whole.parse::<DateTime>().ok().map(|time| Self(time.unix_duration().as_secs()))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!(UnixTime::parse("1970-01-02"), Some(UnixTime(86_400)));
        assert_eq!(UnixTime(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(UnixTime::parse("2023-11-14T22:13:20Z"), Some(UnixTime(1_700_000_000)));
        assert_eq!(UnixTime(u64::MAX).to_string(), "18446744073709551615 s after 1970");
        for wrong in ["", "2023", "2023-13-01", "2023-11-14T22:13:20", "yesterday"] {
            assert_eq!(UnixTime::parse(wrong), None, "{wrong}");
        }
    }
}
