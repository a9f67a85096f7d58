//! KVM_IOEVENTFD: guests' writes signal eventfds.

use std::collections::BTreeMap;

use snp_abi::Errno;
use snp_abi::kvm::kvm_ioeventfd;

use crate::{Eventfd, UserSpace, Vm};

/// KVM_IOEVENTFD_FLAG_DATAMATCH, _PIO, _DEASSIGN.
const DATAMATCH: u32 = 1;
const PIO: u32 = 2;
const DEASSIGN: u32 = 4;

/// The places at which a write signals an eventfd.
#[derive(Debug, Default)]
pub(crate) struct IoEvents(BTreeMap<IoEvent, Eventfd>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct IoEvent {
    ports: bool,
    address: u64,
    len: u32,
    /// `None` matches any value.
    value: Option<u64>,
    /// Which eventfd.
    identity: u64,
}

impl IoEvents {
    /// The eventfd that a write signals.
    pub(crate) fn find(&self, ports: bool, address: u64, data: &[u8]) -> Option<Eventfd> {
        let mut value = [0; 8];
        value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        let value = u64::from_le_bytes(value);
        let matches = |(event, _): &(&IoEvent, &Eventfd)| {
            event.ports == ports
                && event.address == address
                && (event.len == 0 || event.len as usize == data.len())
                && event.value.is_none_or(|wanted| wanted == value)
        };
        self.0.iter().find(matches).map(|(_, eventfd)| eventfd.clone())
    }
}

impl Vm {
    /// KVM_IOEVENTFD.
    ///
    /// # Errors
    /// EINVAL: a length that no access has, wrapping, unknown flags, a value to match without a length, or a descriptor of
    /// something else. EBADF: a descriptor that is not open. EEXIST: another is registered that would match the same writes.
    /// ENOENT: none to take away.
    pub fn ioeventfd(&self, user: &dyn UserSpace, event: &kvm_ioeventfd) -> Result<(), Errno> {
        let matches_value = event.flags & DATAMATCH != 0;
        let good = matches!(event.len, 0 | 1 | 2 | 4 | 8)
            && event.addr.checked_add(event.len.into()).is_some()
            && event.flags & !(DATAMATCH | PIO | DEASSIGN) == 0
            && !(event.len == 0 && matches_value);
        if !good {
            return Err(Errno::EINVAL);
        }
        let eventfd = user.eventfd(event.fd)?;
        let new = IoEvent {
            ports: event.flags & PIO != 0,
            address: event.addr,
            len: event.len,
            value: matches_value.then_some(event.datamatch),
            identity: eventfd.identity(),
        };
        self.devices(|state| {
            let events = &mut state.devices.io_events.0;
            if event.flags & DEASSIGN != 0 {
                return events.remove(&new).map(drop).ok_or(Errno::ENOENT);
            }
            if events.keys().any(|old| old.collides(&new)) {
                return Err(Errno::EEXIST);
            }
            events.insert(new, eventfd);
            Ok(())
        })
    }
}

impl IoEvent {
    fn collides(&self, new: &Self) -> bool {
        let same_len = self.len == 0 || new.len == 0 || self.len == new.len;
        let same_value = match (self.value, new.value) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.ports == new.ports && self.address == new.address && same_len && same_value
    }
}
