//! The result of a verification: every check that was made, and every one that was not.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::Failure;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked, by a name for programs that stays as it is.
    pub name: &'static str,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds; what was found.
    Passed(String),
    /// It does not hold.
    Failed(Failure),
    /// It was not made; why.
    Skipped(String),
}

/// All checks, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    /// Whether no check failed. Checks that were skipped do not count: look at them.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// What failed.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.0.iter().filter_map(|check| match &check.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Passed(_) | Outcome::Skipped(_) => None,
        })
    }

    /// The outcome of a check, if it is listed.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.0.iter().find(|check| check.name == name).map(|check| &check.outcome)
    }

    /// Notes a result, and gives what was computed on the way.
    pub(crate) fn note<T>(&mut self, name: &'static str, result: Result<(T, String), Failure>) -> Option<T> {
        let (value, outcome) = match result {
            Ok((value, found)) => (Some(value), Outcome::Passed(found)),
            Err(failure) => (None, Outcome::Failed(failure)),
        };
        self.0.push(Check { name, outcome });
        value
    }

    pub(crate) fn check(&mut self, name: &'static str, result: Result<String, Failure>) {
        self.note(name, result.map(|found| ((), found)));
    }

    pub(crate) fn skip(&mut self, name: &'static str, reason: impl Into<String>) {
        self.0.push(Check { name, outcome: Outcome::Skipped(reason.into()) });
    }
}
