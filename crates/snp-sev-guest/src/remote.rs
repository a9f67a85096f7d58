//! The same requests as data, for a program whose guest lives in another process.

use serde::{Deserialize, Serialize};
use snp_abi::Errno;
use snp_abi::sev_guest::{snp_derived_key_req, snp_derived_key_resp, snp_report_req};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Attribute, Driver, ExtendedReport, Failure, Reports};

/// What a program asks of its guest. Structures are the bytes of the uAPI's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// [`Driver::report`].
    Report {
        /// Message version.
        version: u8,
        /// `struct snp_report_req`.
        request: Vec<u8>,
    },
    /// [`Driver::derived_key`].
    DerivedKey {
        /// Message version.
        version: u8,
        /// `struct snp_derived_key_req`.
        request: Vec<u8>,
    },
    /// [`Driver::extended_report`].
    ExtendedReport {
        /// Message version.
        version: u8,
        /// `struct snp_report_req`.
        request: Vec<u8>,
        /// Bytes for certificates.
        certs_len: u32,
    },
    /// [`Reports::make`].
    Make {
        /// Entry.
        name: String,
    },
    /// [`Reports::remove`].
    Remove {
        /// Entry.
        name: String,
    },
    /// [`Reports::contains`]: ENOENT if not.
    Find {
        /// Entry.
        name: String,
    },
    /// Whether a file can be opened for writing. What is written comes later, as [`Call::Write`], once it is closed.
    OpenForWriting {
        /// Entry.
        name: String,
        /// File.
        attribute: Attribute,
    },
    /// [`Reports::write`].
    Write {
        /// Entry.
        name: String,
        /// File.
        attribute: Attribute,
        /// Contents.
        data: Vec<u8>,
    },
    /// [`Reports::read`].
    Read {
        /// Entry.
        name: String,
        /// File.
        attribute: Attribute,
    },
}

impl Call {
    /// As a line that ends with a newline.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// EINVAL
    pub fn from_line(line: &[u8]) -> Result<Self, Errno> {
        serde_json::from_slice(line).map_err(|_| Errno::EINVAL)
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("numbers and strings");
    line.push(b'\n');
    line
}

/// What came of a [`Call`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Zero, or what the system call answers.
    pub errno: i32,
    /// Of a failed request to the driver.
    pub exitinfo2: u64,
    /// Of a buffer for certificates that was too small.
    pub certs_len: u32,
    /// The answer's bytes.
    pub data: Vec<u8>,
    /// Certificates.
    pub certificates: Vec<u8>,
}

impl Answer {
    /// A call that failed before it came to the driver.
    pub fn failed(errno: Errno) -> Self {
        Failure::not_asked(errno).into()
    }

    /// As a line that ends with a newline.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads a line, with or without its newline. What is no answer is EIO, as if the device had broken.
    pub fn from_line(line: &[u8]) -> Self {
        serde_json::from_slice(line).unwrap_or_else(|_| Self::failed(Errno::EIO))
    }

    /// The answer's bytes.
    ///
    /// # Errors
    /// The errno.
    pub fn data(self) -> Result<Vec<u8>, Errno> {
        if self.errno == 0 { Ok(self.data) } else { Err(Errno(self.errno)) }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let Failure { errno, exitinfo2, certs_len } = failure;
        Self { errno: errno.0, exitinfo2, certs_len, ..Self::default() }
    }
}

/// The side that has the guest.
#[derive(Debug)]
pub struct Served<D> {
    driver: D,
    reports: Reports,
    /// The least VMPL that can be asked for.
    floor: u32,
}

impl<D: Driver> Served<D> {
    /// A driver that speaks for VMPL `floor`, and a tree without entries.
    pub fn new(driver: D, floor: u32) -> Self {
        Self { driver, reports: Reports::default(), floor }
    }

    /// Answers a call.
    pub fn answer(&mut self, call: &Call) -> Answer {
        self.try_answer(call).unwrap_or_else(Into::into)
    }

    fn try_answer(&mut self, call: &Call) -> Result<Answer, Failure> {
        let Self { driver, reports, floor } = self;
        let with = |data: Vec<u8>| Answer { data, ..Answer::default() };
        let done = |result: Result<(), Errno>| result.map(|()| Answer::default()).map_err(Failure::not_asked);
        match call {
            Call::Report { version, request } => driver.report(*version, &structure(request)?).map(with),
            Call::DerivedKey { version, request } => {
                let key = driver.derived_key(*version, &structure(request)?)?;
                Ok(with(key.as_bytes().to_vec()))
            }
            Call::ExtendedReport { version, request, certs_len } => {
                let ExtendedReport { response, certificates } =
                    driver.extended_report(*version, &structure(request)?, *certs_len)?;
                Ok(Answer { certificates, ..with(response) })
            }
            Call::Make { name } => done(reports.make(name)),
            Call::Remove { name } => done(reports.remove(name)),
            Call::Find { name } if reports.contains(name) => Ok(Answer::default()),
            Call::Find { .. } => Err(Failure::not_asked(Errno::ENOENT)),
            Call::OpenForWriting { name, attribute } => done(reports.want_writable(name, *attribute)),
            Call::Write { name, attribute, data } => done(reports.write(name, *attribute, data, *floor)),
            Call::Read { name, attribute } => {
                reports.read(driver, name, *attribute, *floor).map(with).map_err(Failure::not_asked)
            }
        }
    }
}

fn structure<T: FromBytes>(bytes: &[u8]) -> Result<T, Failure> {
    T::read_from_bytes(bytes).map_err(|_| Failure::not_asked(Errno::EINVAL))
}

/// A driver in another process: every request is a call.
impl<F: FnMut(&Call) -> Answer> Driver for F {
    fn report(&mut self, version: u8, request: &snp_report_req) -> Result<Vec<u8>, Failure> {
        let answer = self(&Call::Report { version, request: request.as_bytes().to_vec() });
        failure(&answer)?;
        Ok(answer.data)
    }

    fn derived_key(&mut self, version: u8, request: &snp_derived_key_req) -> Result<snp_derived_key_resp, Failure> {
        let answer = self(&Call::DerivedKey { version, request: request.as_bytes().to_vec() });
        failure(&answer)?;
        structure(&answer.data)
    }

    fn extended_report(
        &mut self,
        version: u8,
        request: &snp_report_req,
        certs_len: u32,
    ) -> Result<ExtendedReport, Failure> {
        let answer = self(&Call::ExtendedReport { version, request: request.as_bytes().to_vec(), certs_len });
        failure(&answer)?;
        Ok(ExtendedReport { response: answer.data, certificates: answer.certificates })
    }
}

fn failure(answer: &Answer) -> Result<(), Failure> {
    let Answer { errno, exitinfo2, certs_len, .. } = *answer;
    if errno == 0 { Ok(()) } else { Err(Failure { errno: Errno(errno), exitinfo2, certs_len }) }
}
