//! Which descriptor stands for which object.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicU64, Ordering};

use snp_abi::Errno;
use snp_softkvm::ioctl::{Object, VCPU_MMAP_SIZE};

use crate::descriptor::{self, Identity};
use crate::guest;
use crate::recorder;
use crate::spin::Spin;

/// Descriptors below this number have a bit in [`SEEN`]; a program with more of them pays for a look into the table.
const BITS: usize = 1 << 16;
/// Which numbers were ever in the table: the hooks' way out for everything else, without a lock.
static SEEN: [AtomicU64; BITS / 64] = [const { AtomicU64::new(0) }; BITS / 64];
static TABLE: Spin<BTreeMap<c_int, Entry>> = Spin::new(BTreeMap::new());

struct Entry {
    object: Object,
    /// The file behind the descriptor: a number that was closed behind our back, and used again, is not ours.
    identity: Identity,
    /// The process that made it. KVM's objects belong to an address space: a forked child has a copy of the table that it
    /// may neither use nor empty, and a vforked one has the table itself.
    owner: i32,
}

/// What a descriptor is.
pub(crate) enum Found {
    /// Not ours.
    Foreign,
    /// Ours, in the process that may use it.
    Object(Object),
    /// Ours, inherited from another process.
    Inherited,
}

fn may_be_ours(fd: c_int) -> bool {
    let Ok(number) = usize::try_from(fd) else { return false };
    number >= BITS || SEEN[number / 64].load(Ordering::Relaxed) & 1 << (number % 64) != 0
}

/// Looks a descriptor up.
pub(crate) fn find(fd: c_int) -> Found {
    if !may_be_ours(fd) {
        return Found::Foreign;
    }
    let table = TABLE.lock();
    let Some(entry) = table.get(&fd) else { return Found::Foreign };
    if descriptor::identity(fd) != Some(entry.identity) {
        return Found::Foreign;
    }
    // A guest's devices are not of this process, and a fork changes nothing about them.
    let shared = matches!(entry.object, Object::Device(_));
    if shared || entry.owner == descriptor::pid() { Found::Object(entry.object.clone()) } else { Found::Inherited }
}

/// The object behind a descriptor of this process.
pub(crate) fn object(fd: c_int) -> Option<Object> {
    match find(fd) {
        Found::Object(object) => Some(object),
        Found::Foreign | Found::Inherited => None,
    }
}

/// Gives an object a descriptor.
///
/// # Errors
/// The errno of making one.
pub(crate) fn install(object: Object, close_on_exec: bool) -> Result<c_int, Errno> {
    let (name, len): (&CStr, u64) = match &object {
        Object::Kvm(_) => (c"kvm", 0),
        Object::Sev(_) => (c"sev", 0),
        Object::Vm(_) => (c"kvm-vm", 0),
        Object::Vcpu(_) => (c"kvm-vcpu", VCPU_MMAP_SIZE as u64),
        Object::GuestMemfd(memfd) => (c"kvm-gmem", memfd.size()),
        Object::HostMsrs(_) => (c"msr", 0),
        Object::Device(_) => (c"device", 0),
    };
    let fd = descriptor::create(name, len, close_on_exec).map_err(Errno)?;
    match &object {
        Object::Vcpu(vcpu) => guest::share_run_area(vcpu, fd),
        Object::GuestMemfd(memfd) if memfd.may_be_mapped() => guest::share_guest_memfd(memfd, fd),
        _ => {}
    }
    insert(fd, object);
    Ok(fd)
}

/// Gives a descriptor that is open already an object.
pub(crate) fn adopt(fd: c_int, object: Object) {
    insert(fd, object);
}

fn insert(fd: c_int, object: Object) {
    let Some(identity) = descriptor::identity(fd) else { return };
    if let Ok(number) = usize::try_from(fd)
        && number < BITS
    {
        SEEN[number / 64].fetch_or(1 << (number % 64), Ordering::Relaxed);
    }
    let entry = Entry { object, identity, owner: descriptor::pid() };
    let old = TABLE.lock().insert(fd, entry);
    end(old);
}

/// A descriptor was duplicated.
pub(crate) fn duplicated(old: c_int, new: c_int) {
    recorder::duplicated(old, new);
    if let Some(object) = object(old) {
        insert(new, object);
    }
}

/// A descriptor is about to be closed. The object goes with its last descriptor.
pub(crate) fn closing(fd: c_int) {
    if may_be_ours(fd) {
        closing_range(fd, fd);
    }
}

/// All descriptors of a range are about to be closed.
pub(crate) fn closing_range(first: c_int, last: c_int) {
    loop {
        let mut table = TABLE.lock();
        let pid = descriptor::pid();
        let next = table.range(first..=last.max(first)).find(|(_, entry)| entry.owner == pid).map(|(fd, _)| *fd);
        let gone = next.and_then(|fd| table.remove(&fd));
        drop(table);
        // Outside of the lock: the end of a VM takes time and other locks.
        if gone.is_none() {
            return;
        }
        end(gone);
    }
}

/// Lets go of an object; another process's may be locked for ever and is forgotten.
fn end(entry: Option<Entry>) {
    if let Some(entry) = entry
        && entry.owner != descriptor::pid()
    {
        std::mem::forget(entry);
    }
}

/// Before a fork: nobody may be in the table.
pub(crate) extern "C" fn before_fork() {
    TABLE.take();
}

/// After a fork, in parent and child.
pub(crate) extern "C" fn after_fork() {
    TABLE.give_back();
}
