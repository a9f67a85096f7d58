//! Encrypted memory of plain SEV and SEV-ES guests.
//!
//! User space sees what the keyed pad of [`snp_asp`] makes of it; the guest sees plain bytes. While vCPUs run, a page that
//! one of them accessed with the C-bit has a plain copy here, which all of them share. It is encrypted back when a vCPU
//! leaves the guest, and taken anew when user space changed its side in between.

use std::collections::BTreeMap;
use std::sync::Mutex;

use snp_abi::PAGE_SIZE;
use snp_memory::HostPage;

use crate::host::Host;
use crate::{Fault, UserSpace, lock};

/// Whose key: the guest's handle at the firmware of a host.
pub(crate) type Key<'a> = (&'a Host, u32);

/// Plain copies by user address.
#[derive(Debug, Default)]
pub(super) struct Shadows(Mutex<BTreeMap<u64, Shadow>>);

#[derive(Debug)]
struct Shadow {
    plain: HostPage,
    /// User memory as it was last seen or written, encrypted.
    seen: Box<[u8; PAGE_SIZE]>,
}

impl Shadows {
    /// The plain copy of the page at a user address.
    pub(super) fn page(&self, key: Key<'_>, user: &dyn UserSpace, address: u64) -> Result<HostPage, Fault> {
        let mut shadows = lock(&self.0);
        if let Some(shadow) = shadows.get(&address) {
            return Ok(shadow.plain.clone());
        }
        let mut seen = Box::new([0; PAGE_SIZE]);
        user.read(address, &mut *seen)?;
        let plain = HostPage::copy_of(&through_pad(key, address, &seen));
        shadows.insert(address, Shadow { plain: plain.clone(), seen });
        Ok(plain)
    }

    /// Writes back what guests changed, and takes what user space changed.
    fn synchronise(&self, key: Key<'_>, user: &dyn UserSpace) {
        lock(&self.0).retain(|address, shadow| {
            let mut now = Box::new([0; PAGE_SIZE]);
            if user.read(*address, &mut *now).is_err() {
                return false;
            }
            if now != shadow.seen {
                shadow.plain.write(0, &*through_pad(key, *address, &now));
                shadow.seen = now;
                return true;
            }
            let encrypted = through_pad(key, *address, &shadow.plain.contents());
            if encrypted != shadow.seen {
                if user.write(*address, &*encrypted).is_err() {
                    return false;
                }
                shadow.seen = encrypted;
            }
            true
        });
    }
}

impl super::Memory {
    /// On entry to and exit from a guest of plain SEV: both views of its encrypted memory are the same again.
    pub(crate) fn synchronise(&self, key: Key<'_>, user: &dyn UserSpace) {
        self.shadows.synchronise(key, user);
    }
}

/// The pad is its own inverse.
fn through_pad((host, handle): Key<'_>, address: u64, page: &[u8; PAGE_SIZE]) -> Box<[u8; PAGE_SIZE]> {
    let mut page = Box::new(*page);
    lock(&host.firmware).sev_memory(handle, address, &mut *page);
    page
}
