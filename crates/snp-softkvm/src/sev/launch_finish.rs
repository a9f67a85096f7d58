//! SNP_LAUNCH_FINISH: the vCPUs' state, the ID block, the end of the launch.

use std::sync::Arc;

use snp_abi::kvm::{KVM_SEV_SNP_ID_AUTH_SIZE, KVM_SEV_SNP_ID_BLOCK_SIZE, kvm_sev_snp_launch_finish};
use snp_abi::{Errno, IdAuth, IdBlock, LEGACY_VMSA_GPA, PageSize, PageType, Vmsa};
use snp_asp::{LaunchFinish, LaunchUpdate, RmpUpdate, SealedPage};
use zerocopy::{FromBytes, IntoBytes};

use super::Call;
use crate::profile::VmsaPages;
use crate::user::read_struct;
use crate::vcpu::{VcpuInner, VcpuVmsa};
use crate::{lock, vmsa};

/// KVM_SEV_SNP_LAUNCH_FINISH.
///
/// # Errors
/// ENOTTY: not an SNP guest. EINVAL: no launch, flags, or (legacy) a vCPU that is debugged or protected already. EBADF: `sev_fd`
/// is not a descriptor of /dev/sev. EFAULT. EIO with `error` set: the firmware refused.
///
/// **State after a refusal:** as in Linux the vCPUs come first. Whatever fails after them leaves their VMSAs measured and
/// their state protected, so that a legacy launch cannot be finished any more; a direct launch has measured nothing here and
/// can be.
pub(super) fn launch_finish(call: &mut Call<'_>) -> Result<(), Errno> {
    if !call.is_snp() {
        return Err(Errno::ENOTTY);
    }
    if call.launch().is_none() {
        return Err(Errno::EINVAL);
    }
    let params: kvm_sev_snp_launch_finish = read_struct(call.user, call.command.data)?;
    if params.flags != 0 {
        return Err(Errno::EINVAL);
    }
    settle_vcpus(call)?;
    let id_block = match params.id_block_en {
        0 => None,
        _ => Some(read_id_block(call, &params)?),
    };
    let launch = call.launch().expect("checked");
    let (gctx, sev_fd) = (launch.gctx, launch.sev_fd);
    call.firmware(sev_fd, |firmware| {
        let finish = LaunchFinish {
            id_block: id_block.as_ref().map(|(block, auth)| (block, &**auth)),
            author_key_enabled: id_block.is_some() && params.auth_key_en != 0,
            vcek_disabled: params.vcek_disabled != 0,
            host_data: params.host_data,
        };
        firmware.launch_finish(gctx, &finish)
    })?;
    call.launch().expect("checked").finished = true;
    Ok(())
}

/// Gives every vCPU its VMSA, or none, and takes its registers out of user space's reach.
fn settle_vcpus(call: &mut Call<'_>) -> Result<(), Errno> {
    let vcpus = call.state.vcpus.clone();
    let profile = call.vm.host.profile;
    let launch = call.launch().expect("checked");
    match profile.vmsa_pages {
        VmsaPages::BootProcessor if launch.boot_vmsa.is_some() => {
            let boot = launch.boot_vmsa;
            for vcpu in &vcpus {
                let mut state = vcpu.lock();
                state.protected = true;
                state.vmsa = boot.filter(|_| vcpu.index == 0).map_or(VcpuVmsa::None, VcpuVmsa::User);
            }
            Ok(())
        }
        VmsaPages::Any if launch.direct => {
            for vcpu in &vcpus {
                let mut state = vcpu.lock();
                state.protected = true;
                state.vmsa = state.vmsa_gpa.map_or(VcpuVmsa::None, VcpuVmsa::User);
            }
            Ok(())
        }
        _ => vcpus.iter().try_for_each(|vcpu| measure_vcpu(call, vcpu)),
    }
}

/// Builds the VMSA of a vCPU from its registers and has it measured.
fn measure_vcpu(call: &mut Call<'_>, vcpu: &Arc<VcpuInner>) -> Result<(), Errno> {
    let mut state = vcpu.lock();
    if state.protected {
        return Err(Errno::EINVAL);
    }
    let vmsa: Box<Vmsa> = vmsa::build(&state.registers, call.features())?;
    let page = SealedPage::copy_of(vmsa.as_bytes().try_into().expect("a VMSA is a page"));
    let pfn = vcpu.frame.expect("a vCPU of an SNP VM has a frame");
    let asid = call.state.sev.as_ref().expect("checked").asid;
    let (gctx, sev_fd) = (call.launch().expect("checked").gctx, call.command.sev_fd);
    let host = call.vm.host.clone();
    lock(&host.firmware).rmp_update(pfn, RmpUpdate::pre_guest(asid, LEGACY_VMSA_GPA)).map_err(|_| Errno::EINVAL)?;
    let mut kept = None;
    let measured = call.firmware(sev_fd, |firmware| {
        let update = LaunchUpdate {
            pfn,
            page_size: PageSize::Size4K,
            page_type: PageType::VMSA,
            imi_page: false,
            permissions: Default::default(),
        };
        kept = Some(firmware.launch_update(gctx, &update, page).map_err(|refused| refused.status)?);
        Ok(())
    });
    if let Err(errno) = measured {
        let mut firmware = lock(&host.firmware);
        firmware.page_reclaim(pfn).expect("a pre-guest page can be reclaimed");
        firmware.rmp_update(pfn, RmpUpdate::SHARED).expect("a reclaimed page is mutable");
        return Err(errno);
    }
    state.protected = true;
    state.vmsa = VcpuVmsa::Kvm;
    state.made = kept;
    Ok(())
}

/// Copies ID block and authentication data. A null address is EINVAL, an unmapped one EFAULT.
fn read_id_block(call: &Call<'_>, params: &kvm_sev_snp_launch_finish) -> Result<(IdBlock, Box<IdAuth>), Errno> {
    const { assert!(size_of::<IdBlock>() == KVM_SEV_SNP_ID_BLOCK_SIZE) };
    const { assert!(size_of::<IdAuth>() == KVM_SEV_SNP_ID_AUTH_SIZE) };
    let read = |address: u64, buffer: &mut [u8]| match address {
        0 => Err(Errno::EINVAL),
        _ => Ok(call.user.read(address, buffer)?),
    };
    let mut block = [0; KVM_SEV_SNP_ID_BLOCK_SIZE];
    read(params.id_block_uaddr, &mut block)?;
    let mut auth = vec![0; KVM_SEV_SNP_ID_AUTH_SIZE];
    read(params.id_auth_uaddr, &mut auth)?;
    let block = IdBlock::read_from_bytes(&block).expect("sizes are equal");
    let auth = IdAuth::read_from_bytes(&auth).expect("sizes are equal");
    Ok((block, Box::new(auth)))
}
