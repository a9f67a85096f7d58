//! The search's progress on a terminal, and its end at Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use snp_explain::Observer;

/// Work that takes less than this shows no bar.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Bar {
    bar: ProgressBar,
    start: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Bar {
    pub(super) fn new() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        // A second Ctrl-C, while the search is about to end, ends the process.
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })?;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").expect("a good template"));
        Ok(Self { bar, start: Instant::now(), interrupted })
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Bar {
    fn progress(&self, stage: &str, done: u64, total: u64) -> bool {
        if self.bar.is_hidden() && self.start.elapsed() > QUIET {
            // Draws on a terminal only.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if self.bar.length() != Some(total) || self.bar.message() != stage {
            self.bar.set_length(total);
            self.bar.set_message(stage.to_owned());
        }
        self.bar.set_position(done);
        !self.interrupted.load(Ordering::Relaxed)
    }
}
