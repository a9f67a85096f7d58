//! Plain SEV and SEV-ES: launch, status, debugging.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/svm/sev.c, read for behaviour.

use std::sync::Arc;

use snp_abi::kvm::*;
use snp_abi::{Asid, Errno, FwStatus, PAGE_SIZE};
use snp_asp::{SEV_MEASUREMENT_LEN, SealedPage};
use zerocopy::IntoBytes;

use super::Call;
use crate::host::Host;
use crate::user::read_struct;
use crate::vcpu::VcpuVmsa;
use crate::{lock, vmsa};

/// What a guest of plain SEV has of the host. VMs that mirror it share it; it goes with the last of them.
#[derive(Debug)]
pub(crate) struct Context {
    host: Arc<Host>,
    asid: Asid,
    handle: u32,
}

impl Drop for Context {
    fn drop(&mut self) {
        // INVALID_GUEST for a handle that LAUNCH_START never gave.
        let _ = lock(&self.host.firmware).sev_decommission(self.handle);
        self.host.release_asid(self.asid);
    }
}

impl Context {
    /// The firmware's handle; 0 before LAUNCH_START.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    /// Before LAUNCH_START.
    pub(super) fn new(host: Arc<Host>, asid: Asid) -> Arc<Self> {
        Arc::new(Self { host, asid, handle: 0 })
    }
}

/// Bytes that are read, encrypted and written back at a time.
const CHUNK: usize = 16 * PAGE_SIZE;
/// SEV_FW_BLOB_MAX_SIZE.
const BLOB_LIMIT: u32 = 0x4000;

/// The firmware's handle of the guest: 0, which no guest has, before LAUNCH_START.
fn handle(call: &Call<'_>) -> Result<u32, Errno> {
    let context = call.state.sev.as_ref().and_then(|sev| sev.context.as_ref());
    context.map(|context| context.handle).ok_or(Errno::ENOTTY)
}

/// Issues a firmware command through the descriptor that LAUNCH_START was given.
fn firmware<T>(
    call: &mut Call<'_>,
    command: impl FnOnce(&mut snp_asp::Firmware) -> Result<T, FwStatus>,
) -> Result<T, Errno> {
    let answer = command(&mut lock(&call.vm.host.firmware));
    call.command.error = answer.as_ref().err().copied().unwrap_or(FwStatus::SUCCESS).0;
    answer.map_err(|_| Errno::EIO)
}

/// KVM_SEV_LAUNCH_START.
///
/// # Errors
/// ENOTTY: no SEV guest. EFAULT. EINVAL: a blob that is empty or too large. EBADF: no descriptor of /dev/sev. EIO with
/// ASID_OWNED: started already.
pub(super) fn launch_start(call: &mut Call<'_>) -> Result<(), Errno> {
    let old = handle(call)?;
    let mut start: kvm_sev_launch_start = read_struct(call.user, call.command.data)?;
    for (address, len) in [(start.dh_uaddr, start.dh_len), (start.session_uaddr, start.session_len)] {
        if address != 0 {
            if len == 0 || len > BLOB_LIMIT {
                return Err(Errno::EINVAL);
            }
            call.user.read(address, &mut vec![0; len as usize])?;
        }
    }
    if start.session_uaddr != 0 {
        return Err(call.vm.host.unmodelled("KVM_SEV_LAUNCH_START with a session"));
    }
    let fd = call.command.sev_fd;
    let mut new = 0;
    call.firmware(fd, |firmware| {
        if old != 0 {
            return Err(FwStatus::ASID_OWNED);
        }
        new = firmware.sev_launch_start(start.policy);
        Ok(())
    })?;
    start.handle = new;
    if let Err(fault) = call.user.write(call.command.data, start.as_bytes()) {
        let _ = lock(&call.vm.host.firmware).sev_decommission(new);
        return Err(fault.into());
    }
    let context = call.state.sev.as_mut().and_then(|sev| sev.context.as_mut()).and_then(Arc::get_mut);
    context.ok_or(Errno::EINVAL)?.handle = new;
    Ok(())
}

/// KVM_SEV_LAUNCH_UPDATE_DATA: encrypts user memory in place.
///
/// # Errors
/// ENOTTY, EFAULT. EINVAL: nothing, or a range that wraps. ENOMEM: memory that cannot be written. EIO: the firmware refuses.
pub(super) fn launch_update_data(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    let update: kvm_sev_launch_update_data = read_struct(call.user, call.command.data)?;
    let end = update.uaddr.checked_add(update.len.into()).filter(|_| update.len != 0).ok_or(Errno::EINVAL)?;
    let mut at = update.uaddr;
    let mut buffer = vec![0; CHUNK.min(update.len as usize)];
    while at < end {
        let data = &mut buffer[..CHUNK.min((end - at) as usize)];
        call.user.read(at, data).map_err(|_| Errno::ENOMEM)?;
        // Whether it can be written is known before anything is encrypted.
        call.user.write(at, data).map_err(|_| Errno::ENOMEM)?;
        firmware(call, |firmware| firmware.sev_launch_update_data(handle, at, data))?;
        call.user.write(at, data).map_err(|_| Errno::ENOMEM)?;
        at += data.len() as u64;
    }
    Ok(())
}

/// KVM_SEV_LAUNCH_UPDATE_VMSA: a VMSA for every vCPU, whose registers are then out of reach.
///
/// # Errors
/// ENOTTY: no SEV-ES guest. EINVAL: a vCPU that has one already, or is being debugged. EIO: the firmware refuses.
pub(super) fn launch_update_vmsa(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    let features = call.features();
    if !call.state.sev.as_ref().is_some_and(|sev| sev.es) {
        return Err(Errno::ENOTTY);
    }
    for vcpu in call.state.vcpus.clone() {
        let mut state = vcpu.lock();
        if state.protected {
            return Err(Errno::EINVAL);
        }
        let built = vmsa::build(&state.registers, features)?;
        firmware(call, |firmware| firmware.sev_launch_update_vmsa(handle, built.as_bytes()))?;
        state.protected = true;
        state.vmsa = VcpuVmsa::Kvm;
        state.made = Some(SealedPage::copy_of(built.as_bytes().try_into().expect("a VMSA is a page")));
    }
    Ok(())
}

/// KVM_SEV_LAUNCH_MEASURE. A length of 0, or one that is too short, is answered with the right one.
///
/// # Errors
/// ENOTTY, EFAULT. EINVAL: too long. EIO: the firmware refuses.
pub(super) fn launch_measure(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    let mut measure: kvm_sev_launch_measure = read_struct(call.user, call.command.data)?;
    if measure.uaddr != 0 && measure.len > BLOB_LIMIT {
        return Err(Errno::EINVAL);
    }
    let room = if measure.uaddr == 0 { 0 } else { measure.len as usize };
    let asked = measure.len;
    let answer = firmware(call, |firmware| {
        if room < SEV_MEASUREMENT_LEN {
            firmware.sev_guest_status(handle)?;
            return Err(FwStatus::INVALID_LEN);
        }
        firmware.sev_launch_measure(handle)
    });
    if asked != 0 {
        let mut blob = vec![0; room];
        blob[..SEV_MEASUREMENT_LEN].copy_from_slice(&answer?);
        call.user.write(measure.uaddr, &blob)?;
        measure.len = SEV_MEASUREMENT_LEN as u32;
        return Ok(call.user.write(call.command.data, measure.as_bytes())?);
    }
    measure.len = SEV_MEASUREMENT_LEN as u32;
    call.user.write(call.command.data, measure.as_bytes())?;
    answer.map(drop)
}

/// KVM_SEV_LAUNCH_SECRET.
///
/// # Errors
/// ENOTTY, EFAULT. EINVAL: no guest memory, or a blob that is empty or too large. ENOMEM: guest memory that cannot be
/// written. EIO: the firmware refuses, with BAD_MEASUREMENT if the packet is not the guest owner's. ENOSYS, noted: it is; the
/// transport encryption is not modelled.
pub(super) fn launch_secret(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    let secret: kvm_sev_launch_secret = read_struct(call.user, call.command.data)?;
    if secret.guest_len == 0 || secret.guest_uaddr.checked_add(secret.guest_len.into()).is_none() {
        return Err(Errno::EINVAL);
    }
    let blob = |call: &Call<'_>, address: u64, len: u32| {
        if address == 0 || len == 0 || len > BLOB_LIMIT {
            return Err(Errno::EINVAL);
        }
        let mut blob = vec![0; len as usize];
        call.user.read(address, &mut blob)?;
        Ok(blob)
    };
    let mut first = [0];
    let pinned = call.user.read(secret.guest_uaddr, &mut first);
    pinned.and_then(|()| call.user.write(secret.guest_uaddr, &first)).map_err(|_| Errno::ENOMEM)?;
    let packet = blob(call, secret.trans_uaddr, secret.trans_len)?;
    let header = blob(call, secret.hdr_uaddr, secret.hdr_len)?;
    firmware(call, |firmware| firmware.sev_launch_secret(handle, &header, &packet, secret.guest_len))?;
    Err(call.vm.host.unmodelled("KVM_SEV_LAUNCH_SECRET of an authentic packet"))
}

/// KVM_SEV_LAUNCH_FINISH.
///
/// # Errors
/// ENOTTY. EIO: the firmware refuses.
pub(super) fn launch_finish(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    firmware(call, |firmware| firmware.sev_launch_finish(handle))
}

/// KVM_SEV_GUEST_STATUS.
///
/// # Errors
/// ENOTTY, EFAULT. EIO: the firmware refuses.
pub(super) fn guest_status(call: &mut Call<'_>) -> Result<(), Errno> {
    let handle = handle(call)?;
    let (policy, state) = firmware(call, |firmware| firmware.sev_guest_status(handle))?;
    let status = kvm_sev_guest_status { handle, policy, state: state as u32 };
    Ok(call.user.write(call.command.data, status.as_bytes())?)
}

/// KVM_SEV_DBG_DECRYPT and KVM_SEV_DBG_ENCRYPT.
///
/// # Errors
/// ENOTTY, EFAULT. EINVAL: nothing, a null address, or a range that wraps. EIO: the firmware refuses.
pub(super) fn debug(call: &mut Call<'_>, decrypt: bool) -> Result<(), Errno> {
    let handle = handle(call)?;
    let request: kvm_sev_dbg = read_struct(call.user, call.command.data)?;
    let len = u64::from(request.len);
    let whole = |address: u64| address != 0 && address.checked_add(len).is_some();
    if len == 0 || !whole(request.src_uaddr) || !whole(request.dst_uaddr) {
        return Err(Errno::EINVAL);
    }
    let mut buffer = vec![0; CHUNK.min(len as usize)];
    let mut done = 0;
    while done < len {
        let data = &mut buffer[..CHUNK.min((len - done) as usize)];
        let (source, target) = (request.src_uaddr + done, request.dst_uaddr + done);
        call.user.read(source, data)?;
        // The encrypted side gives the address.
        let encrypted = if decrypt { source } else { target };
        firmware(call, |firmware| firmware.sev_debug(handle, encrypted, data))?;
        call.user.write(target, data)?;
        done += data.len() as u64;
    }
    Ok(())
}
