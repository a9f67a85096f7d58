//! Structures of variable length, and user memory in general.

use snp_abi::Errno;
use snp_abi::kvm::kvm_msr_entry;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Answer;
use super::system::{CPUID_HEADER, MSRS_LIMIT};
use crate::UserSpace;
use crate::user::read_struct;

/// Reads a structure.
pub(super) fn read<T: FromBytes + IntoBytes>(user: &dyn UserSpace, address: u64) -> Result<T, Errno> {
    Ok(read_struct(user, address)?)
}

/// Writes a structure.
pub(super) fn write<T: IntoBytes + Immutable>(user: &dyn UserSpace, address: u64, value: &T) -> Result<(), Errno> {
    Ok(user.write(address, value.as_bytes())?)
}

/// The header of a list: how many entries follow, and padding to 8 bytes if the entries want it.
#[derive(Clone, Copy)]
pub(super) struct List {
    /// Where the count is.
    address: u64,
    /// Bytes before the first entry.
    header: u64,
    /// The count that user space gave.
    pub(super) count: u32,
}

impl List {
    /// A list whose entries follow the 32-bit count after `header` bytes.
    pub(super) fn at(user: &dyn UserSpace, address: u64, header: u64) -> Result<Self, Errno> {
        let mut count = [0; 4];
        user.read(address, &mut count)?;
        Ok(Self { address, header, count: u32::from_le_bytes(count) })
    }

    /// The same list with a count that was read and checked before: the one in user memory may have changed since.
    pub(super) fn bounded(self, count: u32) -> Self {
        Self { count, ..self }
    }

    fn entries(self) -> Result<u64, Errno> {
        self.address.checked_add(self.header).ok_or(Errno::EFAULT)
    }

    /// Reads all entries; the caller has bounded their count.
    pub(super) fn read<T>(self, user: &dyn UserSpace) -> Result<Vec<T>, Errno>
    where
        T: FromBytes + IntoBytes,
    {
        let mut entries: Vec<T> = (0..self.count).map(|_| T::new_zeroed()).collect();
        user.read(self.entries()?, entries.as_mut_slice().as_mut_bytes())?;
        Ok(entries)
    }

    /// Writes the count alone.
    pub(super) fn write_count(self, user: &dyn UserSpace, count: usize) -> Result<(), Errno> {
        Ok(user.write(self.address, &(count as u32).to_le_bytes())?)
    }

    /// Writes entries, not the count.
    pub(super) fn write<T: IntoBytes + Immutable>(self, user: &dyn UserSpace, entries: &[T]) -> Result<(), Errno> {
        Ok(user.write(self.entries()?, entries.as_bytes())?)
    }

    /// Answers a list whose size user space has to guess: E2BIG with the right count if it guessed too low.
    pub(super) fn answer<T: IntoBytes + Immutable>(self, user: &dyn UserSpace, entries: &[T]) -> Result<(), Errno> {
        self.write_count(user, entries.len())?;
        if (self.count as usize) < entries.len() {
            return Err(Errno::E2BIG);
        }
        self.write(user, entries)
    }
}

/// A device attribute has no flags.
pub(super) fn no_flags(flags: u32) -> Result<(), Errno> {
    if flags == 0 { Ok(()) } else { Err(Errno::ENXIO) }
}

/// The list of KVM_GET_MSRS or KVM_SET_MSRS.
pub(super) fn msr_list(user: &dyn UserSpace, argument: u64) -> Result<(List, Vec<kvm_msr_entry>), Errno> {
    let list = List::at(user, argument, CPUID_HEADER)?;
    if list.count >= MSRS_LIMIT {
        return Err(Errno::E2BIG);
    }
    Ok((list, list.read(user)?))
}

/// KVM_GET_MSRS: how many MSRs were read before the first that has no value.
pub(super) fn get_msrs(
    user: &dyn UserSpace,
    argument: u64,
    value: impl Fn(u32) -> Option<u64>,
) -> Result<Answer, Errno> {
    let (list, mut entries) = msr_list(user, argument)?;
    let mut read = 0;
    for entry in &mut entries {
        let Some(value) = value(entry.index) else { break };
        entry.data = value;
        read += 1;
    }
    list.write(user, &entries)?;
    Ok(Answer::Value(read))
}
