//! guest_memfd: memory that user space cannot map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use snp_abi::{PAGE_SIZE, Pfn};
use snp_asp::SealedPage;
use snp_memory::HostPage;

use crate::lock;
use crate::vm::VmInner;

/// A guest_memfd. Like the kernel's it keeps its VM alive, and its contents go when it goes.
#[derive(Debug)]
pub struct GuestMemfd {
    vm: Arc<VmInner>,
    /// The frames behind it, consecutive, reserved when it is made.
    start: Pfn,
    pages: u64,
    flags: u64,
    /// What was put there, in chunks of [`CHUNK`] pages by number. Pages that are not there are the hypervisor's and zero.
    contents: Mutex<BTreeMap<u64, Chunk>>,
    /// What user space maps, in place of pages of our own.
    backing: OnceLock<Backing>,
}

/// Pages by index, as user space maps them.
struct Backing(Box<dyn Fn(u64) -> HostPage + Send + Sync>);

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backing")
    }
}

/// Pages of one chunk: 2 MiB.
const CHUNK: u64 = 512;

type Chunk = Vec<Content>;

/// A page of a guest_memfd.
#[derive(Debug, Default)]
enum Content {
    /// The hypervisor's and zero.
    #[default]
    Absent,
    /// As it was launched: nobody has touched it since.
    Launched(SealedPage),
    /// A guest has used it.
    Used(HostPage),
}

impl GuestMemfd {
    pub(crate) fn new(vm: Arc<VmInner>, start: Pfn, pages: u64, flags: u64) -> Self {
        Self { vm, start, pages, flags, contents: Mutex::default(), backing: OnceLock::new() }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.pages * PAGE_SIZE as u64
    }

    /// Whether user space may map it: GUEST_MEMFD_FLAG_MMAP. What it writes there is not modelled: an SNP launch takes its
    /// pages from elsewhere.
    pub fn may_be_mapped(&self) -> bool {
        const MMAP: u64 = 1 << 0;
        self.flags & MMAP != 0
    }

    /// Whether user space may touch such a mapping: GUEST_MEMFD_FLAG_INIT_SHARED. Without it a touch is SIGBUS.
    pub fn is_shared(&self) -> bool {
        const INIT_SHARED: u64 = 1 << 1;
        self.flags & INIT_SHARED != 0
    }

    /// Has guests use the pages that user space maps, by their index. Once, and before a guest runs.
    pub fn set_backing(&self, pages: impl Fn(u64) -> HostPage + Send + Sync + 'static) {
        let known = self.backing.set(Backing(Box::new(pages)));
        assert!(known.is_ok(), "a guest_memfd gets its pages once");
    }

    /// FALLOC_FL_PUNCH_HOLE: the pages of the range become the hypervisor's, and zero. In bytes, whole pages.
    ///
    /// # Source
    /// Linux 7.3, virt/kvm/guest_memfd.c (`kvm_gmem_punch_hole`), arch/x86/kvm/svm/sev.c (`sev_gmem_invalidate`).
    pub fn punch_hole(&self, start: u64, len: u64) {
        let (first, end) = (start / PAGE_SIZE as u64, (start.saturating_add(len) / PAGE_SIZE as u64).min(self.pages));
        let mut gone = Vec::new();
        let mut contents = lock(&self.contents);
        for (number, chunk) in contents.range_mut(first / CHUNK..end.div_ceil(CHUNK).max(first / CHUNK)) {
            for (at, content) in (number * CHUNK..).zip(chunk.iter_mut()) {
                if (first..end).contains(&at) && !matches!(content, Content::Absent) {
                    *content = Content::Absent;
                    gone.push(at);
                }
            }
        }
        drop(contents);
        self.vm.host.take_back(self.start, &gone);
        self.vm.memory.invalidate();
    }

    /// Whether it belongs to that VM.
    pub(crate) fn is_of(&self, vm: &VmInner) -> bool {
        std::ptr::eq(&*self.vm, vm)
    }

    pub(crate) fn pfn(&self, index: u64) -> Pfn {
        Pfn(self.start.0 + index)
    }

    /// Keeps the contents of a page that the firmware took.
    pub(crate) fn keep(&self, index: u64, page: SealedPage) {
        self.change(index, |content| *content = Content::Launched(page));
    }

    fn change<T>(&self, index: u64, change: impl FnOnce(&mut Content) -> T) -> T {
        let mut contents = lock(&self.contents);
        let chunk = contents.entry(index / CHUNK).or_insert_with(|| (0..CHUNK).map(|_| Content::Absent).collect());
        change(&mut chunk[(index % CHUNK) as usize])
    }

    /// The page for a guest to use: what was launched is copied there once, after it was measured; an absent one is zero.
    pub(crate) fn host_page(&self, index: u64) -> HostPage {
        self.change(index, |content| {
            let page = match content {
                Content::Used(page) => return page.clone(),
                Content::Launched(page) => HostPage::copy_of(page.as_bytes()),
                Content::Absent => self.backing.get().map_or_else(HostPage::zeroed, |backing| (backing.0)(index)),
            };
            *content = Content::Used(page.clone());
            page
        })
    }

    /// Lends the contents of a page, for the guest's eyes: what the firmware left there, or the guest wrote since.
    pub fn with_page<T>(&self, index: u64, look: impl FnOnce(&SealedPage) -> T) -> Option<T> {
        match &lock(&self.contents).get(&(index / CHUNK))?[(index % CHUNK) as usize] {
            Content::Absent => None,
            Content::Launched(page) => Some(look(page)),
            Content::Used(page) => Some(look(&SealedPage::copy_of(&page.contents()))),
        }
    }
}

impl Drop for GuestMemfd {
    fn drop(&mut self) {
        let contents = std::mem::take(&mut *lock(&self.contents));
        let used = contents.iter().flat_map(|(number, chunk)| {
            let used = (0..CHUNK).zip(chunk).filter(|(_, page)| !matches!(page, Content::Absent));
            used.map(move |(index, _)| number * CHUNK + index)
        });
        self.vm.host.release_frames(self.start, self.pages, used);
    }
}
