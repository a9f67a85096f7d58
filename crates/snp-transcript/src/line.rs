//! The format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use snp_abi::{FwStatus, Gpa, LaunchDigest, PageType};
use snp_launch::{CommandRecord, PageRecord};
use thiserror::Error;

use crate::hex;

/// One ioctl. Field names are the stable schema of docs/json.md.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// The line's number, from 0.
    pub seq: u64,
    /// The uAPI's name of the ioctl or of the SEV command.
    pub command: String,
    /// The arguments by their uAPI names.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// The pages that were measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<Page>,
    /// Name of the errno; `None` if the ioctl succeeded.
    #[serde(default)]
    pub errno: Option<String>,
    /// What an SEV command left in `kvm_sev_cmd.error`.
    #[serde(default)]
    pub fw_status: Option<Status>,
    /// The launch digest afterwards, where it can be told.
    #[serde(default)]
    pub digest: Option<String>,
    /// What is needed to issue the ioctl again; `snp launch --transcript` leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
}

/// A page that was launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Where it is.
    pub gpa: String,
    /// Its type's name.
    pub r#type: String,
    /// CONTENTS of its PAGE_INFO.
    pub contents: String,
    /// The page itself: VMSAs and CPUID pages, whose contents are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// A firmware status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The number.
    pub code: u32,
    /// The specification's name, if it has one.
    pub name: Option<String>,
}

/// Which descriptor an ioctl was issued on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// /dev/kvm.
    Kvm,
    /// A VM, by its number in the process.
    Vm(u32),
    /// A vCPU: its VM, and the number that KVM_CREATE_VCPU was given.
    Vcpu(u32, u32),
}

/// An ioctl as it was issued, with all that the kernel reads of user memory but the contents of measured pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The process.
    pub process: u32,
    /// The descriptor.
    pub on: On,
    /// The request, hexadecimal.
    pub request: String,
    /// The argument, hexadecimal.
    pub argument: String,
    /// What ioctl(2) returned if it succeeded; a descriptor, for the ioctls that make one.
    pub returned: i32,
    /// User memory before the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Memory>,
    /// LAUNCH_UPDATE: the first page that was not launched, where the command stopped before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Page>,
    /// `sev_fd` of an SEV command is a descriptor of /dev/sev.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sev_device: bool,
    /// KVM_CREATE_VM on the software platform: its uAPI profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// KVM_CREATE_VM on the software platform: its product line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// Bytes of user memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Address, hexadecimal.
    pub at: String,
    /// Bytes, hexadecimal digits without prefix.
    pub data: String,
}

/// A line that is none.
#[derive(Debug, Error)]
pub enum Malformed {
    /// Not JSON, or not of this schema.
    #[error("line {line}: not a line of a transcript")]
    Json {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        #[source]
        error: serde_json::Error,
    },
    /// A field that cannot be what it says.
    #[error("line {line}: `{field}` is {found:?}: want {want}")]
    Field {
        /// The line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it should.
        want: &'static str,
    },
    /// A line that tells what happened and not how to do it again.
    #[error(
        "line {line}: {command} has no `call`: transcripts of `snp launch` tell what was launched and not what was asked; \
         those of `snp exec --transcript` and `snp record` can be performed again"
    )]
    NoCall {
        /// The line, from 1.
        line: usize,
        /// Its command.
        command: String,
    },
    /// A line about a VM or vCPU that no line before it made.
    #[error("line {line}: {command} on a {what} that no line before it made")]
    Unknown {
        /// The line, from 1.
        line: usize,
        /// Its command.
        command: String,
        /// `VM` or `vCPU`.
        what: &'static str,
    },
}

impl Line {
    /// A command of a launch of our own.
    pub fn of(seq: u64, record: &CommandRecord) -> Self {
        Self {
            seq,
            command: record.command.to_owned(),
            args: record.arguments.iter().map(|&(name, value)| (name.into(), hex::number(value).into())).collect(),
            pages: record.pages.iter().map(Page::of).collect(),
            errno: record.errno.map(|errno| errno.to_string()),
            fw_status: record.fw_status.map(Status::of),
            digest: record.digest.as_ref().map(LaunchDigest::to_string),
            call: None,
        }
    }

    /// Reads the line of that number, from 1.
    ///
    /// # Errors
    /// [`Malformed::Json`]
    pub fn parse(line: usize, text: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(text).map_err(|error| Malformed::Json { line, error })
    }
}

impl Page {
    fn of(record: &PageRecord) -> Self {
        Self::new(record.gpa, record.page_type, &record.contents)
    }

    pub(crate) fn new(gpa: Gpa, page_type: PageType, contents: &[u8; 48]) -> Self {
        Self { gpa: hex::number(gpa.0), r#type: page_type.to_string(), contents: hex::bytes(contents), data: None }
    }

    pub(crate) fn with_data(self, page: &[u8]) -> Self {
        Self { data: Some(hex::bytes(page)), ..self }
    }
}

impl Status {
    pub(crate) fn of(status: FwStatus) -> Self {
        Self { code: status.0, name: status.name().map(str::to_owned) }
    }
}
