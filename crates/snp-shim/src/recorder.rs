//! The transcript: a line for every ioctl that shapes a launch, whoever answers it.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use snp_abi::Errno;
use snp_abi::kvm::{KVM_CREATE_VCPU, KVM_CREATE_VM};
use snp_softkvm::ioctl::Object;
use snp_softkvm::{Fault, GuestMemfd, UserSpace, Vm};
use snp_transcript::{Line, On, Pending, Seen};

use crate::memory::Program;
use crate::spin::Spin;
use crate::{descriptor, report, settings};

/// What descriptors are called in the transcript. A number that is used again is overwritten when it is; requests of KVM
/// reach nothing else, so that one which was closed cannot be mistaken.
static NAMES: Spin<BTreeMap<c_int, (i32, On)>> = Spin::new(BTreeMap::new());
/// VMs that this process created.
static VMS: AtomicU32 = AtomicU32::new(0);

/// The user space of a recording: descriptors are the kernel's.
struct Recorded;

impl UserSpace for Recorded {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        Program.read(address, buffer)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        Program.write(address, data)
    }

    fn is_sev_device(&self, fd: u32) -> bool {
        Program.is_sev_device(fd) || descriptor::is_file(fd as c_int, &["/dev/sev", "/memfd:sev"])
    }

    fn vm(&self, _fd: u32) -> Result<Vm, Errno> {
        Err(Errno::EBADF)
    }

    fn guest_memfd(&self, _fd: u32) -> Result<Arc<GuestMemfd>, Errno> {
        Err(Errno::EBADF)
    }
}

/// An ioctl on its way.
pub(crate) struct Recording {
    pending: Pending,
    on: On,
    request: u32,
    argument: u64,
}

/// Whether a request is one of KVM's: no other driver has its letter.
pub(crate) fn is_of_kvm(request: u32) -> bool {
    const KVMIO: u32 = 0xae;
    request >> 8 & 0xff == KVMIO
}

/// Before the ioctl; `None` if no transcript is written, or the ioctl is not in it.
pub(crate) fn begin(fd: c_int, request: u32, argument: u64) -> Option<Recording> {
    let settings = settings::get();
    settings.transcript.as_ref()?;
    let pid = descriptor::pid();
    let on = match request {
        KVM_CREATE_VM => On::Kvm,
        _ => NAMES.lock().get(&fd).filter(|(owner, _)| *owner == pid).map(|(_, on)| *on)?,
    };
    let pending = Pending::begin(&Recorded, pid as u32, on, request, argument)?;
    let pending =
        if settings.records { pending } else { pending.on_platform(settings.profile.name, settings.platform) };
    Some(Recording { pending, on, request, argument })
}

impl Recording {
    /// After the ioctl; `object` is what answered it, on the software platform.
    pub(crate) fn end(self, answer: Result<c_int, Errno>, object: Option<&Object>) {
        if let Ok(fd) = answer {
            self.name(fd);
        }
        let finished = answer.is_ok() && self.pending.finishes_launch();
        let seen = object.map(|object| seen(object, finished)).unwrap_or_default();
        let line = self.pending.end(&Recorded, answer, &seen);
        write(&line);
    }

    /// A descriptor that the ioctl made.
    fn name(&self, fd: c_int) {
        let on = match (self.request, self.on) {
            (KVM_CREATE_VM, _) => {
                if settings::get().records {
                    report::event(report::OPENED, "");
                }
                On::Vm(VMS.fetch_add(1, Ordering::Relaxed))
            }
            (KVM_CREATE_VCPU, On::Vm(vm)) => On::Vcpu(vm, self.argument as u32),
            _ => return,
        };
        NAMES.lock().insert(fd, (descriptor::pid(), on));
    }
}

/// A descriptor was duplicated.
pub(crate) fn duplicated(old: c_int, new: c_int) {
    if VMS.load(Ordering::Relaxed) != 0 {
        let mut names = NAMES.lock();
        if let Some(name) = names.get(&old).copied() {
            names.insert(new, name);
        }
    }
}

/// What the software platform can tell, and no host can.
fn seen(object: &Object, finished: bool) -> Seen {
    let vm = match object {
        Object::Vm(vm) => vm.clone(),
        Object::Vcpu(vcpu) => vcpu.vm(),
        _ => return Seen::default(),
    };
    Seen { digest: vm.launch_digest(), made_vmsas: if finished { vm.made_vmsas() } else { Vec::new() } }
}

/// Appends a line, in one write, so that those of several threads and processes do not mix.
fn write(line: &Line) {
    let Some(path) = &settings::get().transcript else { return };
    let Ok(mut text) = serde_json::to_vec(line) else { return };
    text.push(b'\n');
    let written = OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(&text));
    if let Err(error) = written {
        report::event(report::NOTE, &format!("a line of the transcript was lost: {error}"));
    }
}

/// Before a fork: nobody may be in the table.
pub(crate) fn before_fork() {
    NAMES.take();
}

/// After a fork, in parent and child.
pub(crate) fn after_fork() {
    NAMES.give_back();
}
