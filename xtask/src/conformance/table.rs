//! Results beside expectations.

use serde::Deserialize;

/// How a test ended, or shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Pass,
    Skip,
    Fail,
}

/// A test.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) expected: Verdict,
    pub(super) found: Verdict,
    /// Why it is not a pass: the expectation's reason, or what the test said.
    pub(super) reason: String,
}

/// All tests.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    pub(super) fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// How many tests did not do what is expected of them. A pass that nobody expects is one: it must be recorded.
    pub(super) fn surprises(&self) -> usize {
        self.0.iter().filter(|row| row.found != row.expected).count()
    }

    pub(super) fn print(&self) {
        let width = self.0.iter().map(|row| row.name.len()).max().unwrap_or_default();
        for row in &self.0 {
            let surprise = if row.found == row.expected { "" } else { "UNEXPECTED " };
            let line = format!("{:width$}  {}  {surprise}{}", row.name, row.found.word(), row.reason);
            println!("{}", line.trim_end());
        }
        let count = |verdict| self.0.iter().filter(|row| row.found == verdict).count();
        let (passed, failed, skipped) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
        println!("conformance: {passed} pass, {failed} fail, {skipped} skip, {} unexpected", self.surprises());
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Fail => "FAIL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_pass_is_a_surprise_too() {
        let row = |expected, found| Row { name: "test".into(), expected, found, reason: String::new() };
        let mut table = Table::default();
        table.push(row(Verdict::Pass, Verdict::Pass));
        table.push(row(Verdict::Fail, Verdict::Fail));
        assert_eq!(table.surprises(), 0);
        table.push(row(Verdict::Fail, Verdict::Pass));
        table.push(row(Verdict::Pass, Verdict::Skip));
        assert_eq!(table.surprises(), 2);
    }
}
