//! The search itself: jobs in order of plausibility, on all cores, with progress and cancellation.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;
use snp_abi::LaunchDigest;

use crate::chain::extend_legacy;
use crate::{Answer, Launch, Question, Tried};

/// Is told how far the search is.
pub trait Observer: Sync {
    /// `done` of `total` candidates of the stage `stage` were compared. Called from several threads, often. False cancels
    /// the search.
    fn progress(&self, stage: &str, done: u64, total: u64) -> bool;
}

/// Wants to know nothing and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        true
    }
}

/// Jobs that are made together: their VMSAs are hashed side by side.
const GROUP: usize = 8;

/// A row of candidates that differ in their number of vCPUs only.
pub(crate) struct Job {
    /// The launch with one vCPU.
    pub(crate) launch: Launch,
    /// The digest after the image's pages.
    pub(crate) pages: LaunchDigest,
    /// What is measured for the boot processor and for each of the others; `None`: nothing, the pages are all.
    pub(crate) vmsas: Option<[[u8; 48]; 2]>,
}

/// A running search.
pub(crate) struct Search<'a> {
    target: LaunchDigest,
    observer: &'a dyn Observer,
    candidates: AtomicU64,
    cancelled: AtomicBool,
    space: Vec<String>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(target: LaunchDigest, observer: &'a dyn Observer) -> Self {
        Self { target, observer, candidates: AtomicU64::new(0), cancelled: AtomicBool::new(false), space: Vec::new() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tries `1..=most` vCPUs for each of `count` jobs, which `jobs` makes for a range of them at a time. `stage` says what
    /// is varied. The first match in the order of the jobs is taken, whichever core finds it first.
    pub(crate) fn stage<F>(&mut self, stage: &str, count: usize, most: u32, jobs: F) -> Option<Launch>
    where
        F: Fn(Range<usize>) -> Vec<Job> + Sync,
    {
        if self.is_cancelled() {
            return None;
        }
        let total = count as u64 * u64::from(most);
        let done = AtomicU64::new(0);
        let this = &*self;
        let found = (0..count.div_ceil(GROUP)).into_par_iter().find_map_first(|group| {
            if this.is_cancelled() {
                return None;
            }
            let range = group * GROUP..count.min((group + 1) * GROUP);
            let share = range.len() as u64 * u64::from(most);
            let found = jobs(range).iter().find_map(|job| {
                let (compared, found) = this.counts(job, most);
                this.candidates.fetch_add(compared, Ordering::Relaxed);
                found
            });
            let done = done.fetch_add(share, Ordering::Relaxed) + share;
            if !this.observer.progress(stage, done, total) {
                this.cancelled.store(true, Ordering::Relaxed);
            }
            found
        });
        if !self.is_cancelled() || found.is_some() {
            self.space.push(stage.to_owned());
        }
        found
    }

    /// Compares a job's candidates; tells how many they were.
    fn counts(&self, job: &Job, most: u32) -> (u64, Option<Launch>) {
        let Some([boot, others]) = job.vmsas else {
            return (1, (job.pages == self.target).then(|| job.launch.clone()));
        };
        let mut digest = job.pages;
        for vcpus in 1..=most {
            digest = extend_legacy(digest, if vcpus == 1 { boot } else { others });
            if digest == self.target {
                return (vcpus.into(), Some(Launch { vcpus, ..job.launch.clone() }));
            }
        }
        (most.into(), None)
    }

    /// The answer. A match is built again from its description and measured in full.
    pub(crate) fn answer(self, found: Option<(Launch, &Question)>) -> Answer {
        let cancelled = self.is_cancelled();
        let tried = Tried { candidates: self.candidates.into_inner(), space: self.space };
        match found {
            Some((launch, question)) if launch.measure(question) == Ok(question.digest) => {
                Answer::Match { launch: Box::new(launch), tried }
            }
            None if cancelled => Answer::Cancelled(tried),
            // A match that its own description does not reproduce is none: a bug of the search, never a claim.
            _ => Answer::NoMatch(tried),
        }
    }
}
