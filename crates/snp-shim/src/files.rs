//! The files that a host with SEV-SNP has and this machine need not have.

use std::sync::Arc;

use snp_abi::Errno;
use snp_sev_guest::TSM_ROOT;
use snp_softkvm::HostMsrs;
use snp_softkvm::ioctl::Object;

use crate::in_guest::{self, Node, SevGuestDevice};
use crate::{descriptor, platform, settings, table};

/// What stands behind a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// /dev/kvm.
    Kvm,
    /// /dev/sev.
    Sev,
    /// /dev/cpu/N/msr.
    HostMsrs,
    /// /dev/sev-guest, of the guest that the program runs in.
    SevGuest,
    /// A file or directory of the guest's configfs-tsm.
    Tsm(Node),
    /// A file of sysfs with this text.
    Text(&'static str),
}

/// Parameters of the modules, and what else VMMs and tests read before they launch.
const TEXTS: &[(&str, &str)] = &[
    ("/sys/module/kvm_amd/parameters/sev", "Y\n"),
    ("/sys/module/kvm_amd/parameters/sev_es", "Y\n"),
    ("/sys/module/kvm_amd/parameters/sev_snp", "Y\n"),
    ("/sys/module/kvm_amd/parameters/nested", "0\n"),
    ("/sys/module/kvm_amd/parameters/npt", "Y\n"),
    ("/sys/module/kvm_amd/parameters/avic", "N\n"),
    ("/sys/module/kvm_amd/parameters/vgif", "1\n"),
    ("/sys/module/kvm_amd/parameters/vls", "1\n"),
    ("/sys/module/kvm_amd/parameters/lbrv", "1\n"),
    ("/sys/module/kvm/parameters/enable_pmu", "N\n"),
    ("/sys/module/kvm/parameters/ignore_msrs", "N\n"),
    ("/sys/module/kvm/parameters/report_ignored_msrs", "Y\n"),
    ("/sys/module/kvm/parameters/tdp_mmu", "Y\n"),
    ("/sys/module/kvm/parameters/force_emulation_prefix", "0\n"),
    ("/sys/module/kvm/parameters/nx_huge_pages", "N\n"),
    ("/sys/module/kvm/parameters/halt_poll_ns", "200000\n"),
    ("/sys/module/kvm/parameters/mitigate_smt_rsb", "N\n"),
    ("/sys/devices/system/cpu/smt/control", "on\n"),
];

/// The file at that path, if the platform has one of its own there.
pub(crate) fn find(path: &[u8]) -> Option<File> {
    let file = match path {
        b"/dev/kvm" => Some(File::Kvm),
        b"/dev/sev" => Some(File::Sev),
        b"/dev/sev-guest" => Some(File::SevGuest),
        _ if is_msr_device(path) => Some(File::HostMsrs),
        _ if path.starts_with(TSM_ROOT.as_bytes()) => Node::of(path).map(File::Tsm),
        _ => TEXTS.iter().find(|(known, _)| known.as_bytes() == path).map(|(_, text)| File::Text(text)),
    };
    // Settings are looked at last: most programs open none of these, and need none.
    file.filter(|file| match file {
        File::SevGuest | File::Tsm(_) => in_guest::is_there(),
        _ => !settings::get().records,
    })
}

/// Whether a path is that of a processor's MSRs.
fn is_msr_device(path: &[u8]) -> bool {
    let number = path.strip_prefix(b"/dev/cpu/").and_then(|rest| rest.strip_suffix(b"/msr"));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

impl File {
    /// Whether it is a character device, and of which number.
    pub(crate) fn device(&self) -> Option<(u32, u32)> {
        match self {
            Self::Kvm => Some((10, 232)),
            Self::Sev => Some((10, 124)),
            Self::HostMsrs => Some((202, 0)),
            Self::SevGuest => Some((10, 125)),
            Self::Tsm(_) | Self::Text(_) => None,
        }
    }

    /// Whether it is there: all but what a guest has not made yet.
    ///
    /// # Errors
    /// ENOENT
    pub(crate) fn want(&self) -> Result<(), Errno> {
        match self {
            Self::Tsm(node) => node.want(),
            _ => Ok(()),
        }
    }

    /// Its type and permissions: those of sysfs for parameters, of configfs, and of a device that everybody may open.
    pub(crate) fn mode(&self) -> u32 {
        match self {
            Self::Tsm(Node::File(_, attribute)) if attribute.is_written() => libc::S_IFREG | 0o200,
            Self::Tsm(Node::File(..)) | Self::Text(_) => libc::S_IFREG | 0o444,
            Self::Tsm(_) => libc::S_IFDIR | 0o755,
            _ => libc::S_IFCHR | 0o666,
        }
    }
}

/// Opens it.
///
/// # Errors
/// The errno of making a descriptor.
pub(crate) fn open(file: &File, close_on_exec: bool, writable: bool) -> Result<i32, Errno> {
    let object = match file {
        File::SevGuest => Object::Device(Arc::new(SevGuestDevice)),
        File::Tsm(node) => return node.open(close_on_exec, writable),
        File::Kvm => Object::Kvm(platform::kvm()),
        File::Sev if writable => Object::Sev(platform::kvm().sev_device()),
        File::Sev => Object::Sev(platform::kvm().sev_device().read_only()),
        File::HostMsrs => Object::HostMsrs(HostMsrs),
        File::Text(text) => return descriptor::with_contents(text.as_bytes(), close_on_exec).map_err(Errno),
    };
    table::install(object, close_on_exec)
}
