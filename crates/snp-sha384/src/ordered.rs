//! Page hashes handed out in order while the pages after them are still being hashed.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread::{self, Scope};

use crate::placement::Core;
use crate::{Hash, PAGE_SIZE, PAGES_PER_TASK, pages_on_this_core};

/// Hands the hash of every page to `each`, in order, on the calling thread, until it breaks.
///
/// For work that is serial, as a digest chain is: the other cores hash ahead of it, and so does the calling thread when
/// it has caught up with them. No core waits while there is a page to hash.
pub fn pages_in_order<B>(
    pages: &[&[u8; PAGE_SIZE]],
    mut each: impl FnMut(usize, Hash) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let tasks = Tasks::new(pages);
    // Threads of this call's own and not a pool's: a short-lived process, which is what measuring firmware is, would spend
    // more time on starting a pool than on hashing.
    thread::scope(|scope| {
        if tasks.done.len() > 1 {
            let core = Core::current();
            let tasks = &tasks;
            scope.spawn(move || {
                core.leave();
                help(scope, tasks);
            });
            // The new thread waits on this core until it runs for the first time.
            thread::yield_now();
        }
        let mut index = 0;
        for task in &tasks.done {
            for hash in tasks.wait(task) {
                if let ControlFlow::Break(value) = each(index, *hash) {
                    tasks.cancel();
                    return ControlFlow::Break(value);
                }
                index += 1;
            }
        }
        ControlFlow::Continue(())
    })
}

/// Hashes until nothing is left, on as many threads as there are cores besides the caller's.
///
/// How many those are takes longer to find out than to hash some firmware: a second thread starts without asking, and asks
/// while the first already hashes.
fn help<'scope, 'a>(scope: &'scope Scope<'scope, '_>, tasks: &'scope Tasks<'a>) {
    let left = tasks.done.len().saturating_sub(tasks.next.load(Ordering::Relaxed));
    if left > WORTH_ASKING {
        for _ in 0..CORES.saturating_sub(2).min(left) {
            scope.spawn(|| while tasks.hash_next() {});
        }
    }
    while tasks.hash_next() {}
}

/// Tasks, of 128 KiB, below which two threads are enough.
const WORTH_ASKING: usize = 64;

/// Cores that this process may use.
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// The pages in tasks of [`PAGES_PER_TASK`], claimed in order by whoever has nothing better to do.
struct Tasks<'a> {
    pages: &'a [&'a [u8; PAGE_SIZE]],
    done: Vec<OnceLock<Vec<Hash>>>,
    next: AtomicUsize,
}

impl<'a> Tasks<'a> {
    fn new(pages: &'a [&'a [u8; PAGE_SIZE]]) -> Self {
        let done = pages.chunks(PAGES_PER_TASK).map(|_| OnceLock::new()).collect();
        Self { pages, done, next: AtomicUsize::new(0) }
    }

    /// Hashes the next task that nobody claimed; false if there is none.
    fn hash_next(&self) -> bool {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(pages) = self.pages.chunks(PAGES_PER_TASK).nth(index) else { return false };
        let mut hashes = vec![[0; 48]; pages.len()];
        pages_on_this_core(pages, &mut hashes);
        self.done[index].set(hashes).expect("each task is claimed once");
        true
    }

    /// The hashes of a task. Until they are there the caller hashes what comes after.
    fn wait<'t>(&self, task: &'t OnceLock<Vec<Hash>>) -> &'t [Hash] {
        loop {
            if let Some(hashes) = task.get() {
                return hashes;
            }
            if !self.hash_next() {
                // All are claimed: another core is about to finish this one.
                thread::yield_now();
            }
        }
    }

    /// Leaves nothing to claim.
    fn cancel(&self) {
        self.next.store(self.done.len(), Ordering::Relaxed);
    }
}
