//! The files that a host with SEV-SNP has and this machine need not have.

use snp_abi::Errno;
use snp_softkvm::ioctl::Object;

use crate::{descriptor, platform, settings, table};

/// What stands behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// /dev/kvm.
    Kvm,
    /// /dev/sev.
    Sev,
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
        _ => TEXTS.iter().find(|(known, _)| known.as_bytes() == path).map(|(_, text)| File::Text(text)),
    };
    // Settings are looked at last: most programs open none of these, and need none.
    file.filter(|_| !settings::get().records)
}

/// Opens it.
///
/// # Errors
/// The errno of making a descriptor.
pub(crate) fn open(file: File, close_on_exec: bool) -> Result<i32, Errno> {
    match file {
        File::Kvm => table::install(Object::Kvm(platform::kvm()), close_on_exec),
        File::Sev => table::install(Object::Sev(platform::kvm().sev_device()), close_on_exec),
        File::Text(text) => descriptor::with_text(text, close_on_exec).map_err(Errno),
    }
}
