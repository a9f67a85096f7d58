//! A user space inside this process, for our own launches and for tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use snp_abi::{Errno, PAGE_SIZE};
use snp_asp::SealedPage;
use snp_memory::HostPage;

use crate::{Fault, GuestMemfd, UserSpace, lock};

/// The descriptor of /dev/sev in every [`Process`].
const SEV_FD: u32 = 3;

/// A user space made of buffers. Immutable ones are shared with the kernel, never copied.
#[derive(Debug, Default)]
pub struct Process {
    mappings: Mutex<BTreeMap<u64, Mapping>>,
    memfds: Mutex<BTreeMap<u32, Arc<GuestMemfd>>>,
}

#[derive(Debug)]
enum Mapping {
    /// Readable; shared page by page.
    Immutable(Bytes),
    /// Readable and writable: its bytes, and the pages that hold them.
    Buffer(usize, Vec<HostPage>),
    /// Readable and writable; whole pages, zero until they are touched. For memory of which little is used.
    Reserved(usize, BTreeMap<usize, HostPage>),
}

impl Mapping {
    fn buffer(data: &[u8]) -> Self {
        let page = |data: &[u8]| {
            let page = HostPage::zeroed();
            page.write(0, data);
            page
        };
        Self::Buffer(data.len(), data.chunks(PAGE_SIZE).map(page).collect())
    }

    fn len(&self) -> usize {
        match self {
            Self::Immutable(bytes) => bytes.len(),
            Self::Buffer(len, _) | Self::Reserved(len, _) => *len,
        }
    }
}

impl Process {
    /// An empty user space with /dev/sev open.
    pub fn new() -> Self {
        Self::default()
    }

    /// The descriptor of /dev/sev.
    pub fn sev_fd(&self) -> u32 {
        SEV_FD
    }

    /// Maps immutable bytes, page-aligned, and returns their address.
    pub fn map(&self, bytes: Bytes) -> u64 {
        self.insert(Mapping::Immutable(bytes))
    }

    /// Maps a writable copy of `data`, page-aligned, and returns its address.
    pub fn buffer(&self, data: &[u8]) -> u64 {
        self.insert(Mapping::buffer(data))
    }

    /// Maps `len` bytes of zeros, writable and page-aligned, and returns their address. They cost nothing until they are used.
    pub fn reserve(&self, len: usize) -> u64 {
        self.insert(Mapping::Reserved(len, BTreeMap::new()))
    }

    /// Removes a mapping by its address, and returns what a buffer held last.
    pub fn unmap(&self, address: u64) -> Option<Vec<u8>> {
        match lock(&self.mappings).remove(&address)? {
            Mapping::Buffer(len, pages) => {
                let mut bytes = vec![0; len];
                each_page(0, len, |page, offset, part| pages[page].read(offset, &mut bytes[part]));
                Some(bytes)
            }
            Mapping::Immutable(_) | Mapping::Reserved(..) => None,
        }
    }

    /// Gives a guest_memfd a descriptor.
    pub fn install(&self, memfd: Arc<GuestMemfd>) -> u32 {
        let mut memfds = lock(&self.memfds);
        let fd = memfds.last_key_value().map_or(SEV_FD + 1, |(last, _)| last + 1);
        memfds.insert(fd, memfd);
        fd
    }

    /// Closes the descriptor of a guest_memfd.
    pub fn close(&self, fd: u32) {
        lock(&self.memfds).remove(&fd);
    }

    /// Mappings are a guard page apart, so that running off the end of one is a fault.
    fn insert(&self, mapping: Mapping) -> u64 {
        const FIRST: u64 = 0x10_0000;
        let mut mappings = lock(&self.mappings);
        let after = |(start, mapping): (&u64, &Mapping)| {
            let len = mapping.len().next_multiple_of(PAGE_SIZE) + PAGE_SIZE;
            start + len as u64
        };
        let address = mappings.last_key_value().map_or(FIRST, after);
        mappings.insert(address, mapping);
        address
    }
}

/// Cuts `len` bytes at `offset` of a buffer at its pages: the page, where in it, and which of the bytes.
fn each_page(offset: usize, len: usize, mut each: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let (page, at) = ((offset + done) / PAGE_SIZE, (offset + done) % PAGE_SIZE);
        let part = (PAGE_SIZE - at).min(len - done);
        each(page, at, done..done + part);
        done += part;
    }
}

/// A page of reserved memory, there from now on.
fn touched(pages: &mut BTreeMap<usize, HostPage>, page: usize) -> &HostPage {
    pages.entry(page).or_insert_with(HostPage::zeroed)
}

/// The mapping that holds `len` bytes at `address`, and where in it they begin.
fn find(mappings: &mut BTreeMap<u64, Mapping>, address: u64, len: usize) -> Result<(&mut Mapping, usize), Fault> {
    let below = mappings.range_mut((Bound::Unbounded, Bound::Included(address))).next_back();
    let (start, mapping) = below.ok_or(Fault)?;
    let offset = usize::try_from(address - start).map_err(|_| Fault)?;
    let end = offset.checked_add(len).ok_or(Fault)?;
    if end > mapping.len() {
        return Err(Fault);
    }
    Ok((mapping, offset))
}

impl UserSpace for Process {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut mappings = lock(&self.mappings);
        let (mapping, offset) = find(&mut mappings, address, buffer.len())?;
        match mapping {
            Mapping::Immutable(bytes) => buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]),
            Mapping::Buffer(_, pages) => {
                each_page(offset, buffer.len(), |page, at, part| pages[page].read(at, &mut buffer[part]));
            }
            Mapping::Reserved(_, pages) => each_page(offset, buffer.len(), |page, at, part| match pages.get(&page) {
                Some(page) => page.read(at, &mut buffer[part]),
                None => buffer[part].fill(0),
            }),
        }
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        let mut mappings = lock(&self.mappings);
        match find(&mut mappings, address, data.len())? {
            (Mapping::Buffer(_, pages), offset) => {
                each_page(offset, data.len(), |page, at, part| pages[page].write(at, &data[part]));
                Ok(())
            }
            (Mapping::Reserved(_, pages), offset) => {
                each_page(offset, data.len(), |page, at, part| touched(pages, page).write(at, &data[part]));
                Ok(())
            }
            (Mapping::Immutable(_), _) => Err(Fault),
        }
    }

    fn page(&self, address: u64, writable: bool) -> Result<SealedPage, Fault> {
        let mut mappings = lock(&self.mappings);
        match find(&mut mappings, address, PAGE_SIZE)? {
            (Mapping::Immutable(_), _) if writable => Err(Fault),
            (Mapping::Immutable(bytes), offset) => {
                SealedPage::share(bytes.slice(offset..offset + PAGE_SIZE)).map_err(|_| Fault)
            }
            (Mapping::Buffer(_, pages), offset) => {
                let mut copy = [0; PAGE_SIZE];
                each_page(offset, PAGE_SIZE, |page, at, part| pages[page].read(at, &mut copy[part]));
                Ok(SealedPage::copy_of(&copy))
            }
            (Mapping::Reserved(_, pages), offset) => {
                let mut copy = [0; PAGE_SIZE];
                each_page(offset, PAGE_SIZE, |page, at, part| {
                    if let Some(page) = pages.get(&page) {
                        page.read(at, &mut copy[part]);
                    }
                });
                Ok(SealedPage::copy_of(&copy))
            }
        }
    }

    fn host_page(&self, address: u64, writable: bool) -> Result<HostPage, Fault> {
        let mut mappings = lock(&self.mappings);
        match find(&mut mappings, address, 1)? {
            (Mapping::Immutable(_), _) if writable => Err(Fault),
            // It never changes, so that a copy is as good.
            (Mapping::Immutable(bytes), offset) => {
                let page = HostPage::zeroed();
                page.write(0, &bytes[offset..bytes.len().min(offset + PAGE_SIZE)]);
                Ok(page)
            }
            (Mapping::Buffer(_, pages), offset) => Ok(pages[offset / PAGE_SIZE].clone()),
            (Mapping::Reserved(_, pages), offset) => Ok(touched(pages, offset / PAGE_SIZE).clone()),
        }
    }

    fn is_sev_device(&self, fd: u32) -> bool {
        fd == SEV_FD
    }

    fn guest_memfd(&self, fd: u32) -> Result<Arc<GuestMemfd>, Errno> {
        if fd == SEV_FD {
            return Err(Errno::EINVAL);
        }
        lock(&self.memfds).get(&fd).cloned().ok_or(Errno::EBADF)
    }
}
