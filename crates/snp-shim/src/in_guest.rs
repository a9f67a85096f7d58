//! The guest that the program runs in, as far as it sees one: /dev/sev-guest and configfs-tsm.
//!
//! The guest itself lives in `snp exec`; every call is a connection of its own to the socket that the environment names, so that
//! nothing has to survive a fork. A file that is open for writing *is* such a connection: what is written goes there, from
//! whichever process, and the kernel tells the other end when the last copy was closed.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use snp_abi::Errno;
use snp_sev_guest::{Answer, Attribute, Call, Place, UserMemory};
use snp_softkvm::UserSpace;
use snp_softkvm::ioctl::{self, Device, Object};

use crate::{descriptor, report, settings, table};

/// What a path of configfs-tsm names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// The tree's root, or the directory of all entries.
    Directory,
    /// An entry, there or not.
    Entry(String),
    /// A file of an entry.
    File(String, Attribute),
    /// Nothing that there can be.
    Nothing,
}

/// Whether the program runs in a guest.
pub(crate) fn is_there() -> bool {
    settings::get().guest.is_some()
}

impl Node {
    /// What the path names, if it is one of configfs-tsm.
    pub(crate) fn of(path: &[u8]) -> Option<Self> {
        Some(match Place::of(std::str::from_utf8(path).ok()?)? {
            Place::Directory => Self::Directory,
            Place::Entry(name) => Self::Entry(name.to_owned()),
            Place::File(name, attribute) => Self::File(name.to_owned(), attribute),
            Place::Nothing => Self::Nothing,
        })
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// ENOENT, EIO.
    pub(crate) fn want(&self) -> Result<(), Errno> {
        match self {
            Self::Directory => Ok(()),
            Self::Entry(name) | Self::File(name, _) => ask(&Call::Find { name: name.clone() }).map(drop),
            Self::Nothing => Err(Errno::ENOENT),
        }
    }

    /// mkdir(2)
    ///
    /// # Errors
    /// EEXIST, EPERM: not where entries are made; and others.
    pub(crate) fn make(&self) -> Result<(), Errno> {
        match self {
            Self::Entry(name) => ask(&Call::Make { name: name.clone() }).map(drop),
            Self::Directory | Self::File(..) => Err(Errno::EEXIST),
            Self::Nothing => Err(Errno::EPERM),
        }
    }

    /// rmdir(2)
    ///
    /// # Errors
    /// ENOENT, EPERM, ENOTDIR.
    pub(crate) fn remove(&self) -> Result<(), Errno> {
        match self {
            Self::Entry(name) => ask(&Call::Remove { name: name.clone() }).map(drop),
            Self::Directory => Err(Errno::EPERM),
            Self::File(..) => Err(Errno::ENOTDIR),
            Self::Nothing => Err(Errno::ENOENT),
        }
    }

    /// open(2), for reading or for writing. What is read is there when it is opened.
    ///
    /// # Errors
    /// EACCES: the file is only read, or only written. Those of reading it.
    pub(crate) fn open(&self, close_on_exec: bool, writable: bool) -> Result<i32, Errno> {
        self.want()?;
        match self {
            Self::File(_, attribute) if attribute.is_written() != writable => Err(Errno::EACCES),
            Self::File(name, attribute) if writable => begin(name, *attribute, close_on_exec),
            Self::File(name, attribute) => {
                let data = ask(&Call::Read { name: name.clone(), attribute: *attribute })?;
                descriptor::with_contents(&data, close_on_exec).map_err(Errno)
            }
            Self::Directory | Self::Entry(_) => {
                report::event(report::UNMODELLED, "open of a directory of configfs-tsm");
                Err(Errno::EOPNOTSUPP)
            }
            Self::Nothing => Err(Errno::ENOENT),
        }
    }
}

/// Opens a file for writing.
fn begin(name: &str, attribute: Attribute, close_on_exec: bool) -> Result<i32, Errno> {
    let (mut stream, answer) =
        send(&Call::OpenForWriting { name: name.to_owned(), attribute }).map_err(|_| Errno::EIO)?;
    answer.data()?;
    let _ = stream.flush();
    if !close_on_exec {
        descriptor::keep_on_exec(stream.as_raw_fd());
    }
    let fd = stream.into_raw_fd();
    if attribute == Attribute::Privlevel {
        // Linux tells at once whether it takes a level.
        table::adopt(fd, Object::Device(Arc::new(Level { name: name.to_owned() })));
    }
    Ok(fd)
}

/// A call that has an answer of bytes.
fn ask(call: &Call) -> Result<Vec<u8>, Errno> {
    answer(call).data()
}

/// A call. If nobody answers, the device is broken: EIO.
fn answer(call: &Call) -> Answer {
    send(call).map_or_else(|_| Answer::failed(Errno::EIO), |(_, answer)| answer)
}

/// A call over a connection of its own, which comes back with the answer.
fn send(call: &Call) -> std::io::Result<(UnixStream, Answer)> {
    report::event(report::OPENED, "");
    let path = settings::get().guest.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(&call.to_line())?;
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    // Nothing follows the line before the program writes.
    while line.last() != Some(&b'\n') {
        match stream.read(&mut buffer)? {
            0 => break,
            len => line.extend_from_slice(&buffer[..len]),
        }
    }
    Ok((stream, Answer::from_line(&line)))
}

/// /dev/sev-guest.
#[derive(Debug)]
pub(crate) struct SevGuestDevice;

impl Device for SevGuestDevice {
    fn ioctl(&self, user: &dyn UserSpace, request: u32, argument: u64) -> Result<ioctl::Answer, Errno> {
        snp_sev_guest::ioctl(&mut answer, &Memory(user), request, argument).map(|()| ioctl::Answer::DONE)
    }
}

struct Memory<'a>(&'a dyn UserSpace);

impl UserMemory for Memory<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        Ok(self.0.read(address, buffer)?)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Errno> {
        Ok(self.0.write(address, data)?)
    }
}

/// `privlevel`, open for writing.
#[derive(Debug)]
struct Level {
    name: String,
}

impl Device for Level {
    fn ioctl(&self, _user: &dyn UserSpace, _request: u32, _argument: u64) -> Result<ioctl::Answer, Errno> {
        Err(Errno::ENOTTY)
    }

    fn write(&self, data: &[u8]) -> Option<Result<usize, Errno>> {
        let call = Call::Write { name: self.name.clone(), attribute: Attribute::Privlevel, data: data.to_vec() };
        Some(ask(&call).map(|_| data.len()))
    }
}
