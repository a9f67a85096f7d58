//! The software platform of this process.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use snp_abi::Errno;
use snp_abi::kvm::{KVM_MEMORY_ENCRYPT_OP, KVM_RUN};
use snp_softkvm::ioctl::{Answer, Object};
use snp_softkvm::{Engine, Interpreters, NoEngine, SoftKvm};

use crate::memory::Program;
use crate::settings::{self, VcpuRun};
use crate::spin::Spin;
use crate::{cpuid, descriptor, guest, report, table};

/// The host that all devices of a process show. A forked child gets one of its own: its copy of the parent's may be locked.
static HOST: Spin<Option<(i32, SoftKvm)>> = Spin::new(None);
/// Nanoseconds in SEV commands, if anybody wants to know.
static SPENT: AtomicU64 = AtomicU64::new(0);
/// How many kinds of unmodelled requests were reported.
static REPORTED: AtomicUsize = AtomicUsize::new(0);

/// /dev/kvm, made when it is first opened.
pub(crate) fn kvm() -> SoftKvm {
    let pid = descriptor::pid();
    let mut host = HOST.lock();
    match &*host {
        Some((owner, kvm)) if *owner == pid => kvm.clone(),
        _ => {
            let kvm = new_host();
            std::mem::forget(host.replace((pid, kvm.clone())));
            drop(host);
            first_opened();
            kvm
        }
    }
}

fn new_host() -> SoftKvm {
    let settings = settings::get();
    let engine: Arc<dyn Engine> = match settings.vcpu_run {
        VcpuRun::Run => Arc::new(Interpreters),
        VcpuRun::Stop | VcpuRun::Refuse => Arc::new(NoEngine),
    };
    SoftKvm::with_engine(settings.config.clone(), settings.profile, engine).with_vm_types(settings.vm_types)
}

fn first_opened() {
    report::event(report::OPENED, "");
    replace_cpuid();
}

/// Has the program's CPUID instructions answered by the platform.
pub(crate) fn replace_cpuid() {
    if let Err(why) = cpuid::replace(&settings::get().config) {
        report::event(
            report::NOTE,
            &format!("{why}: CPUID answers as this machine does, also for the C-bit (Fn8000_001F)"),
        );
    }
}

/// The end of the program after a launch, if that is what was asked for.
fn before_run(object: &Object) {
    if let Object::Vcpu(vcpu) = object
        && settings::get().vcpu_run == VcpuRun::Stop
        && vcpu.vm().launch_finished()
    {
        crate::hooks::end_program();
    }
}

/// ioctl(2) on one of our objects.
pub(crate) fn ioctl(object: &Object, request: u32, argument: u64) -> Result<c_int, Errno> {
    if request == KVM_RUN {
        before_run(object);
    }
    let launching = match object {
        Object::Vm(vm) if request == KVM_MEMORY_ENCRYPT_OP && !vm.launch_finished() => Some(vm),
        _ => None,
    };
    let start = settings::get().timing.then(Instant::now);
    let answer = match object {
        Object::Vcpu(vcpu) if request == KVM_RUN && argument == 0 => guest::run(vcpu).map(|()| Answer::DONE),
        _ => object.ioctl(&Program, request, argument),
    };
    if let Some(start) = start.filter(|_| request == KVM_MEMORY_ENCRYPT_OP) {
        SPENT.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
    if let Some(vm) = launching
        && vm.launch_finished()
        && let Some(digest) = vm.launch_digest()
    {
        report::event(report::DIGEST, &digest.to_string());
        if start.is_some() {
            let milliseconds = SPENT.swap(0, Ordering::Relaxed) as f64 / 1e6;
            report::event(report::NOTE, &format!("{milliseconds:.3} ms in SEV commands until the launch was finished"));
        }
    }
    report_unmodelled();
    match answer? {
        Answer::Value(value) => Ok(value),
        Answer::Descriptor(object) => table::install(object, true),
    }
}

fn report_unmodelled() {
    let kvm = match &*HOST.lock() {
        Some((owner, kvm)) if *owner == descriptor::pid() => kvm.clone(),
        _ => return,
    };
    let reported = REPORTED.load(Ordering::Relaxed);
    let kinds = kvm.unmodelled_kinds();
    if kinds > reported && REPORTED.compare_exchange(reported, kinds, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        for what in kvm.unmodelled_since(reported) {
            report::event(report::UNMODELLED, &what);
        }
    }
}

/// Fork handlers.
pub(crate) extern "C" fn before_fork() {
    HOST.take();
    descriptor::EVENTFDS.take();
}

/// After a fork, in parent and child.
pub(crate) extern "C" fn after_fork() {
    descriptor::EVENTFDS.give_back();
    HOST.give_back();
}
