//! The user space that issues the ioctls, as the kernel sees it.

use std::sync::Arc;

use snp_abi::PAGE_SIZE;
use snp_asp::SealedPage;
use snp_memory::HostPage;

use crate::{GuestMemfd, Vm};

/// An address that user space cannot read or write there: EFAULT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl From<Fault> for snp_abi::Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

/// A user space: its memory and its descriptors.
///
/// Its memory may change under the kernel's hands: other threads write it. The model therefore reads everything once.
pub trait UserSpace: Sync {
    /// Fills `buffer` from user memory at `address`.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be read; the buffer may be partly filled then.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault>;

    /// Writes `data` to user memory at `address`.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be written.
    fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault>;

    /// Takes one page of user memory at `address`, 4 KiB-aligned, **once**. `writable`: the page must also be writable.
    ///
    /// The default copies it. An implementation whose memory is immutable may share it instead.
    ///
    /// # Errors
    /// [`Fault`] if the page is not mapped so.
    fn page(&self, address: u64, writable: bool) -> Result<SealedPage, Fault> {
        let mut page = [0; PAGE_SIZE];
        self.read(address, &mut page)?;
        if writable {
            // What was just read goes back where it came from: only whether it may is of interest.
            self.write(address, &page)?;
        }
        Ok(SealedPage::copy_of(&page))
    }

    /// The page of user memory at `address`, 4 KiB-aligned, for a guest that shares it. `writable`: it must also be writable.
    /// The page is used until the VM's slots or attributes change, or [`Vm::invalidate_memory`] is called.
    ///
    /// The default has none.
    ///
    /// # Errors
    /// [`Fault`] if the page is not mapped so.
    fn host_page(&self, address: u64, writable: bool) -> Result<HostPage, Fault> {
        let _ = (address, writable);
        Err(Fault)
    }

    /// The eventfd behind `fd`. The default takes every number for one of its own.
    ///
    /// # Errors
    /// EBADF: the descriptor is not open. EINVAL: it is something else.
    fn eventfd(&self, fd: u32) -> Result<Eventfd, snp_abi::Errno> {
        Ok(Eventfd::new(fd.into(), ()))
    }

    /// Whether `fd` is an open descriptor of /dev/sev.
    fn is_sev_device(&self, fd: u32) -> bool;

    /// The VM behind `fd`. The default knows none.
    ///
    /// # Errors
    /// EBADF: the descriptor is not open, or is something else.
    fn vm(&self, fd: u32) -> Result<Vm, snp_abi::Errno> {
        let _ = fd;
        Err(snp_abi::Errno::EBADF)
    }

    /// The guest_memfd behind `fd`: `Err(EBADF)` if the descriptor is not open, `Err(EINVAL)` if it is something else.
    ///
    /// # Errors
    /// EBADF, EINVAL.
    fn guest_memfd(&self, fd: u32) -> Result<Arc<GuestMemfd>, snp_abi::Errno>;
}

/// What an eventfd counts.
pub trait Counter: std::fmt::Debug + Send + Sync {
    /// Adds one; never waits.
    fn signal(&self);
}

/// Counts nothing.
impl Counter for () {
    fn signal(&self) {}
}

/// An eventfd: two descriptors of one have the same identity.
#[derive(Clone, Debug)]
pub struct Eventfd {
    identity: u64,
    counter: Arc<dyn Counter>,
}

impl Eventfd {
    /// One of that identity, which no other gets as long as `counter` lives.
    pub fn new(identity: u64, counter: impl Counter + 'static) -> Self {
        Self { identity, counter: Arc::new(counter) }
    }

    /// Adds one.
    pub(crate) fn signal(&self) {
        self.counter.signal();
    }

    /// Which one it is.
    pub fn identity(&self) -> u64 {
        self.identity
    }
}

/// Reads a structure of the uAPI.
pub(crate) fn read_struct<T>(user: &dyn UserSpace, address: u64) -> Result<T, Fault>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes,
{
    let mut value = T::new_zeroed();
    user.read(address, value.as_mut_bytes())?;
    Ok(value)
}
