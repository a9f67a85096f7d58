//! A guest's encryption context in two VMs: intra-host migration moves it, mirroring shares it.
//!
//! # Source
//! Linux 7.3, arch/x86/kvm/svm/sev.c: `sev_vm_move_enc_context_from`, `sev_vm_copy_enc_context_from`, and the registration
//! of encrypted regions.

use std::sync::Arc;

use snp_abi::Errno;
use snp_abi::kvm::kvm_enc_region;

use crate::vm::VmState;
use crate::{UserSpace, Vm};

use super::SevState;

impl Vm {
    /// KVM_ENABLE_CAP of KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: takes the source's context; the source is dead then.
    ///
    /// # Errors
    /// EINVAL: the VM itself, another type, an SEV guest already, a source that is none or is an SNP guest, or an SEV-ES
    /// source whose vCPUs are not as many or have no VMSA yet.
    pub fn move_enc_context_from(&self, source: &Vm) -> Result<(), Errno> {
        self.with_source(source, |target, from| {
            if self.vm_type() != source.vm_type() || target.sev.is_some() {
                return Err(Errno::EINVAL);
            }
            let es = plain(from)?.es;
            if es {
                let protected = from.vcpus.iter().all(|vcpu| vcpu.lock().protected);
                if from.vcpus.len() != target.vcpus.len() || !protected {
                    return Err(Errno::EINVAL);
                }
                target.vcpus.iter().for_each(|vcpu| vcpu.lock().protected = true);
                from.vcpus.iter().for_each(|vcpu| vcpu.lock().protected = false);
            }
            target.sev = from.sev.take();
            from.dead = true;
            Ok(())
        })
    }

    /// KVM_ENABLE_CAP of KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: shares the source's context.
    ///
    /// # Errors
    /// EINVAL: the VM itself, an SEV guest already or one with vCPUs, a source that is none, is an SNP guest, or mirrors
    /// another VM.
    pub fn copy_enc_context_from(&self, source: &Vm) -> Result<(), Errno> {
        self.with_source(source, |target, from| {
            if target.sev.is_some() || !target.vcpus.is_empty() {
                return Err(Errno::EINVAL);
            }
            let owner = plain(from)?;
            if owner.mirror {
                return Err(Errno::EINVAL);
            }
            target.sev = Some(SevState {
                asid: owner.asid,
                features: owner.features,
                ghcb_version: owner.ghcb_version,
                certificates_requested: false,
                launch: None,
                es: owner.es,
                context: owner.context.clone(),
                mirror: true,
                regions: Vec::new(),
            });
            Ok(())
        })
    }

    /// KVM_MEMORY_ENCRYPT_REG_REGION.
    ///
    /// # Errors
    /// ENOTTY: no SEV guest. EINVAL: a mirror, nothing, or a range that wraps. ENOMEM: memory that is not there.
    pub fn register_region(&self, user: &dyn UserSpace, region: &kvm_enc_region) -> Result<(), Errno> {
        self.region(|sev| {
            let last = region.addr.checked_add(region.size).filter(|_| region.size != 0).ok_or(Errno::EINVAL)? - 1;
            let mut byte = [0];
            let there = [region.addr, last].iter().all(|address| user.read(*address, &mut byte).is_ok());
            if !there {
                return Err(Errno::ENOMEM);
            }
            sev.regions.push((region.addr, region.size));
            Ok(())
        })
    }

    /// KVM_MEMORY_ENCRYPT_UNREG_REGION.
    ///
    /// # Errors
    /// ENOTTY: no SEV guest. EINVAL: a mirror, or a region that is not registered.
    pub fn unregister_region(&self, region: &kvm_enc_region) -> Result<(), Errno> {
        self.region(|sev| {
            let place = sev.regions.iter().position(|known| *known == (region.addr, region.size));
            sev.regions.swap_remove(place.ok_or(Errno::EINVAL)?);
            Ok(())
        })
    }

    fn region(&self, change: impl FnOnce(&mut SevState) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = self.inner.lock();
        let sev = state.sev.as_mut().ok_or(Errno::ENOTTY)?;
        if sev.mirror { Err(Errno::EINVAL) } else { change(sev) }
    }

    /// Locks both VMs, in an order that two opposite transfers agree on.
    fn with_source(
        &self,
        source: &Vm,
        transfer: impl FnOnce(&mut VmState, &mut VmState) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let (ours, theirs) = (Arc::as_ptr(&self.inner), Arc::as_ptr(&source.inner));
        if ours == theirs {
            return Err(Errno::EINVAL);
        }
        if ours < theirs {
            let mut target = self.inner.lock();
            transfer(&mut target, &mut source.inner.lock())
        } else {
            let mut from = source.inner.lock();
            transfer(&mut self.inner.lock(), &mut from)
        }
    }
}

/// The state of a guest of plain SEV.
fn plain(state: &VmState) -> Result<&SevState, Errno> {
    state.sev.as_ref().filter(|sev| sev.context.is_some()).ok_or(Errno::EINVAL)
}
