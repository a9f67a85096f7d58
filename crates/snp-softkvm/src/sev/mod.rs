//! KVM_MEMORY_ENCRYPT_OP: what all its commands have in common, and which module has which.

mod init;
mod launch_finish;
mod launch_start;
mod launch_update;
mod plain;
mod transfer;
mod vcpu_state;

use std::sync::Arc;

use snp_abi::kvm::proposed::{KVM_SEV_SNP_GET_VCPU_STATE, KVM_SEV_SNP_SET_VCPU_STATE};
use snp_abi::kvm::*;
use snp_abi::{Asid, Errno, FwStatus, Gpa, Pfn, SevFeatures};
use zerocopy::IntoBytes;

use crate::host::Host;
use crate::user::{UserSpace, read_struct};
use crate::vm::{VmInner, VmState};
use crate::{Vcpu, lock};

/// The first command of SEV-SNP; those before it are of SEV and SEV-ES.
const FIRST_SNP_COMMAND: u32 = KVM_SEV_SNP_LAUNCH_START;
/// KVM_SEV_SEND_CANCEL, the last of the older commands before INIT2.
const LAST_OLD_COMMAND: u32 = 21;

/// The commands that a VM may give which mirrors another.
const MIRROR_COMMANDS: [u32; 4] =
    [KVM_SEV_LAUNCH_UPDATE_VMSA, KVM_SEV_GUEST_STATUS, KVM_SEV_DBG_DECRYPT, KVM_SEV_DBG_ENCRYPT];

/// What INIT2 sets up.
#[derive(Debug)]
pub(crate) struct SevState {
    pub(crate) asid: Asid,
    /// With SNPActive for SNP VMs.
    pub(crate) features: SevFeatures,
    pub(crate) ghcb_version: u16,
    pub(crate) certificates_requested: bool,
    /// What SNP's LAUNCH_START sets up.
    pub(crate) launch: Option<Launch>,
    /// Whether the guest's registers are encrypted: SEV-ES and SNP.
    pub(crate) es: bool,
    /// What plain SEV has in the firmware; `None` for SNP guests.
    pub(crate) context: Option<Arc<plain::Context>>,
    /// The context is another VM's.
    pub(crate) mirror: bool,
    /// Registered encrypted regions: user address and bytes.
    pub(crate) regions: Vec<(u64, u64)>,
}

/// A launch.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) gctx: Pfn,
    /// The descriptor of /dev/sev that LAUNCH_START was given.
    pub(crate) sev_fd: u32,
    /// `direct-vmsa` profile: the boot processor's VMSA.
    pub(crate) boot_vmsa: Option<Gpa>,
    /// `vcpu-state` profile: SET_VCPU_STATE was used, so that KVM makes no VMSAs.
    pub(crate) direct: bool,
    pub(crate) finished: bool,
}

impl SevState {
    /// Gives back what the VM had of the host.
    pub(crate) fn destroy(self, host: &Host) {
        if let Some(launch) = self.launch {
            decommission(host, launch.gctx);
        }
        // That of plain SEV goes with its context, which mirrors share.
        if self.context.is_none() {
            host.release_asid(self.asid);
        }
    }
}

/// Ends a guest context and frees its page.
fn decommission(host: &Host, gctx: Pfn) {
    lock(&host.firmware).decommission(gctx).expect("the context is this VM's");
    host.release_firmware_frame(gctx);
}

/// A command that can go on: the VM's state, locked, and the command as user space gave it.
struct Call<'a> {
    vm: &'a VmInner,
    state: &'a mut VmState,
    user: &'a dyn UserSpace,
    command: &'a mut kvm_sev_cmd,
}

impl Call<'_> {
    /// Issues a firmware command through a descriptor of /dev/sev: EBADF if it is none, else EIO with `error` set if the
    /// firmware refuses, and `error` 0 if it does not.
    fn firmware(
        &mut self,
        fd: u32,
        command: impl FnOnce(&mut snp_asp::Firmware) -> Result<(), FwStatus>,
    ) -> Result<(), Errno> {
        if !self.user.is_sev_device(fd) {
            return Err(Errno::EBADF);
        }
        let answer = command(&mut lock(&self.vm.host.firmware));
        self.command.error = answer.err().unwrap_or(FwStatus::SUCCESS).0;
        answer.map_err(|_| Errno::EIO)
    }

    /// Whether INIT2 made this an SNP guest.
    fn is_snp(&self) -> bool {
        self.vm.is_snp() && self.state.sev.is_some()
    }

    /// The launch, if LAUNCH_START began one.
    fn launch(&mut self) -> Option<&mut Launch> {
        self.state.sev.as_mut()?.launch.as_mut()
    }

    /// The features that every VMSA must have.
    fn features(&self) -> SevFeatures {
        self.state.sev.as_ref().map(|sev| sev.features).unwrap_or_default()
    }
}

/// KVM_MEMORY_ENCRYPT_OP on a VM.
pub(crate) fn vm_command(vm: &VmInner, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    if argument == 0 {
        // A probe for support.
        return Ok(());
    }
    let mut command: kvm_sev_cmd = read_struct(user, argument)?;
    let mut state = vm.lock();
    let mut call = Call { vm, state: &mut state, user, command: &mut command };
    let mirror = call.state.sev.as_ref().is_some_and(|sev| sev.mirror);
    if mirror && !MIRROR_COMMANDS.contains(&call.command.id) {
        return Err(Errno::EINVAL);
    }
    if call.is_snp() && call.command.id < FIRST_SNP_COMMAND {
        return Err(Errno::EPERM);
    }
    let answer = match call.command.id {
        KVM_SEV_INIT => init::init(&mut call, false),
        KVM_SEV_ES_INIT => init::init(&mut call, true),
        KVM_SEV_INIT2 => init::init2(&mut call),
        KVM_SEV_LAUNCH_START => plain::launch_start(&mut call),
        KVM_SEV_LAUNCH_UPDATE_DATA => plain::launch_update_data(&mut call),
        KVM_SEV_LAUNCH_UPDATE_VMSA => plain::launch_update_vmsa(&mut call),
        KVM_SEV_LAUNCH_MEASURE => plain::launch_measure(&mut call),
        KVM_SEV_LAUNCH_SECRET => plain::launch_secret(&mut call),
        KVM_SEV_LAUNCH_FINISH => plain::launch_finish(&mut call),
        KVM_SEV_GUEST_STATUS => plain::guest_status(&mut call),
        KVM_SEV_DBG_DECRYPT => plain::debug(&mut call, true),
        KVM_SEV_DBG_ENCRYPT => plain::debug(&mut call, false),
        KVM_SEV_SNP_LAUNCH_START => launch_start::launch_start(&mut call),
        KVM_SEV_SNP_LAUNCH_UPDATE => launch_update::launch_update(&mut call),
        KVM_SEV_SNP_LAUNCH_FINISH => launch_finish::launch_finish(&mut call),
        KVM_SEV_SNP_ENABLE_REQ_CERTS => init::enable_req_certs(&mut call),
        // Sessions, certificates, migration between hosts. On a VM that is none of SEV's Linux looks no further.
        0..=LAST_OLD_COMMAND if call.state.sev.is_none() => Err(Errno::ENOTTY),
        old @ 0..=LAST_OLD_COMMAND => Err(vm.host.unmodelled(format!("KVM_MEMORY_ENCRYPT_OP {old} (SEV, SEV-ES)"))),
        _ => return Err(Errno::EINVAL),
    };
    user.write(argument, command.as_bytes())?;
    answer
}

/// KVM_MEMORY_ENCRYPT_OP on a vCPU.
pub(crate) fn vcpu_command(vcpu: &Vcpu, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
    let Some(profile) = vcpu.vm.host.profile.vcpu_state else { return Err(Errno::ENOTTY) };
    if argument == 0 {
        return Ok(());
    }
    let mut command: kvm_sev_cmd = read_struct(user, argument)?;
    let mut state = vcpu.vm.lock();
    let mut call = Call { vm: &vcpu.vm, state: &mut state, user, command: &mut command };
    let answer = match call.command.id {
        KVM_SEV_SNP_GET_VCPU_STATE => vcpu_state::get(&mut call, &vcpu.inner),
        KVM_SEV_SNP_SET_VCPU_STATE => vcpu_state::set(&mut call, &vcpu.inner, profile),
        _ => return Err(Errno::EINVAL),
    };
    user.write(argument, command.as_bytes())?;
    answer
}
