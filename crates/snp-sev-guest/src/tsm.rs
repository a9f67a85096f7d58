//! configfs-tsm: reports as files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use snp_abi::sev_guest::{SEV_FW_BLOB_MAX_SIZE, snp_report_req};
use snp_abi::{Errno, FwStatus, ReportResponseHeader};
use zerocopy::FromBytes;

use crate::Driver;

/// Where configfs shows the tree.
pub const TSM_ROOT: &str = "/sys/kernel/config/tsm";
/// The most that `inblob` takes.
pub const TSM_INBLOB_MAX: usize = 64;
/// The most privileged levels that a report may name.
const PRIVILEGE_LEVEL_MAX: u32 = 3;
/// Entries that one tree may have: a program that makes more must not fill our memory.
const ENTRY_LIMIT: usize = 4096;
/// The kernel's name of the driver that answers.
const PROVIDER: &str = "sev_guest\n";

/// A file of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// What the report shall say for the program: REPORT_DATA.
    Inblob,
    /// The report.
    Outblob,
    /// The certificates that came with it.
    Auxblob,
    /// Who answers.
    Provider,
    /// How often the entry was written to.
    Generation,
    /// VMPL of the report.
    Privlevel,
    /// The least VMPL that can be asked for.
    PrivlevelFloor,
}

impl Attribute {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 7] = [
        Self::Auxblob,
        Self::Generation,
        Self::Inblob,
        Self::Outblob,
        Self::Privlevel,
        Self::PrivlevelFloor,
        Self::Provider,
    ];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inblob => "inblob",
            Self::Outblob => "outblob",
            Self::Auxblob => "auxblob",
            Self::Provider => "provider",
            Self::Generation => "generation",
            Self::Privlevel => "privlevel",
            Self::PrivlevelFloor => "privlevel_floor",
        }
    }

    /// Whether it is written, and never read; all others are read, and never written.
    pub const fn is_written(self) -> bool {
        matches!(self, Self::Inblob | Self::Privlevel)
    }
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The tree's root, or the directory of all entries.
    Directory,
    /// An entry, there or not.
    Entry(&'a str),
    /// A file of an entry.
    File(&'a str, Attribute),
    /// Under the root, and nothing that there can be.
    Nothing,
}

impl<'a> Place<'a> {
    /// What a path names; `None` if it is outside of the tree. Repeated and trailing slashes are as anywhere; `.` and `..` are
    /// not followed.
    pub fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(TSM_ROOT)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        Some(match [parts.next(), parts.next(), parts.next(), parts.next()] {
            [None, ..] | [Some("report"), None, ..] => Self::Directory,
            [Some("report"), Some(name), None, _] => Self::Entry(name),
            [Some("report"), Some(name), Some(file), None] => {
                let attribute = Attribute::ALL.into_iter().find(|attribute| attribute.name() == file);
                attribute.map_or(Self::Nothing, |attribute| Self::File(name, attribute))
            }
            _ => Self::Nothing,
        })
    }
}

/// The tree.
#[derive(Debug, Default)]
pub struct Reports {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    inblob: Vec<u8>,
    privlevel: u32,
    writes: u64,
    /// The report, and after how many writes it was made.
    made: Option<(u64, Made)>,
}

#[derive(Debug)]
struct Made {
    outblob: Vec<u8>,
    auxblob: Vec<u8>,
}

impl Reports {
    /// mkdir(2) of an entry.
    ///
    /// # Errors
    /// EEXIST, ENAMETOOLONG, ENOMEM: too many.
    pub fn make(&mut self, name: &str) -> Result<(), Errno> {
        const NAME_MAX: usize = 255;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if self.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if self.entries.len() >= ENTRY_LIMIT {
            return Err(Errno::ENOMEM);
        }
        self.entries.insert(name.to_owned(), Entry::default());
        Ok(())
    }

    /// rmdir(2) of an entry.
    ///
    /// # Errors
    /// ENOENT
    pub fn remove(&mut self, name: &str) -> Result<(), Errno> {
        self.entries.remove(name).map(drop).ok_or(Errno::ENOENT)
    }

    /// Whether there is such an entry.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The entries' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// open(2) of a file for writing.
    ///
    /// # Errors
    /// ENOENT. EACCES: the file is not written.
    pub fn want_writable(&self, name: &str, attribute: Attribute) -> Result<(), Errno> {
        match self.contains(name) {
            true if attribute.is_written() => Ok(()),
            true => Err(Errno::EACCES),
            false => Err(Errno::ENOENT),
        }
    }

    /// Writes a whole file. `floor` is the driver's VMPCK.
    ///
    /// # Errors
    /// ENOENT. EACCES: the file is not written. EINVAL: not a privilege level. EFBIG: too much.
    ///
    /// # Source
    /// Linux 7.3, drivers/virt/coco/guest/report.c (`tsm_report_privlevel_store`, `tsm_report_inblob_write`).
    pub fn write(&mut self, name: &str, attribute: Attribute, data: &[u8], floor: u32) -> Result<(), Errno> {
        let entry = self.entries.get_mut(name).ok_or(Errno::ENOENT)?;
        match attribute {
            Attribute::Privlevel => {
                let level = number(data).ok_or(Errno::EINVAL)?;
                if !(floor..=PRIVILEGE_LEVEL_MAX).contains(&level) {
                    return Err(Errno::EINVAL);
                }
                entry.privlevel = level;
            }
            Attribute::Inblob if data.len() > TSM_INBLOB_MAX => return Err(Errno::EFBIG),
            Attribute::Inblob => entry.inblob = data.to_vec(),
            _ => return Err(Errno::EACCES),
        }
        entry.writes += 1;
        Ok(())
    }

    /// Reads a whole file; a report is made if the last one is of other input.
    ///
    /// # Errors
    /// ENOENT. EACCES: the file is not read. EINVAL: nothing was written to `inblob`, not 64 bytes were, or the firmware
    /// answers INVALID_PARAM or INVALID_KEY. ENXIO: another status. Those of the driver.
    ///
    /// # Source
    /// Linux 7.3, drivers/virt/coco/guest/report.c (`tsm_report_read`), drivers/virt/coco/sev-guest/sev-guest.c
    /// (`sev_report_new`).
    pub fn read(
        &mut self,
        driver: &mut dyn Driver,
        name: &str,
        attribute: Attribute,
        floor: u32,
    ) -> Result<Vec<u8>, Errno> {
        let entry = self.entries.get_mut(name).ok_or(Errno::ENOENT)?;
        match attribute {
            Attribute::Provider => Ok(PROVIDER.into()),
            Attribute::Generation => Ok(format!("{}\n", entry.writes).into()),
            Attribute::PrivlevelFloor => Ok(format!("{floor}\n").into()),
            Attribute::Outblob => entry.report(driver).map(|made| made.outblob.clone()),
            Attribute::Auxblob => entry.report(driver).map(|made| made.auxblob.clone()),
            Attribute::Inblob | Attribute::Privlevel => Err(Errno::EACCES),
        }
    }
}

impl Entry {
    fn report(&mut self, driver: &mut dyn Driver) -> Result<&Made, Errno> {
        if self.inblob.is_empty() {
            return Err(Errno::EINVAL);
        }
        if self.made.as_ref().is_none_or(|(writes, _)| *writes != self.writes) {
            self.made = None;
            self.made = Some((self.writes, make(driver, &self.inblob, self.privlevel)?));
        }
        let (_, made) = self.made.as_ref().expect("made above");
        Ok(made)
    }
}

fn make(driver: &mut dyn Driver, inblob: &[u8], vmpl: u32) -> Result<Made, Errno> {
    const HEADER: usize = size_of::<ReportResponseHeader>();
    let user_data = inblob.try_into().map_err(|_| Errno::EINVAL)?;
    let request = snp_report_req { user_data, vmpl, rsvd: [0; 28] };
    let extended = driver.extended_report(1, &request, SEV_FW_BLOB_MAX_SIZE).map_err(|failure| failure.errno)?;
    let (header, _) = ReportResponseHeader::read_from_prefix(&extended.response).map_err(|_| Errno::ENXIO)?;
    match FwStatus(header.status) {
        FwStatus::SUCCESS => {}
        FwStatus::INVALID_PARAM | FwStatus::INVALID_KEY => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENXIO),
    }
    let report = extended.response.get(HEADER..HEADER.saturating_add(header.report_size as usize));
    let outblob = report.ok_or(Errno::ENOMEM)?.to_vec();
    let mut auxblob = extended.certificates;
    auxblob.truncate(table_len(&auxblob));
    Ok(Made { outblob, auxblob })
}

/// The bytes that a table of certificates has, by its entries: GUID, offset, length, up to an entry of zeros.
fn table_len(table: &[u8]) -> usize {
    let entries = table.chunks_exact(24).take_while(|entry| entry.iter().any(|byte| *byte != 0));
    let end = |entry: &[u8]| {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| entry[at + i])) as usize;
        word(16).saturating_add(word(20))
    };
    entries.map(end).max().unwrap_or(0).min(table.len())
}

/// A number as the kernel reads one: decimal, or with 0x or 0 before it, and a newline or none.
fn number(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // from_str_radix takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
