//! One launch.
//!
//! # Unsafety
//! SEV commands carry addresses. They are of buffers that live across the call, each of the structure that its command takes.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_create_guest_memfd, kvm_enable_cap, kvm_memory_attributes,
    kvm_sev_cmd as bindings_sev_cmd, kvm_userspace_memory_region2,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use memmap2::{MmapMut, MmapOptions};
use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{
    CpuidFunction, CpuidPage, Errno, FwStatus, Gpa, LEGACY_VMSA_GPA, PAGE_SIZE, PageType, SevFeatures, Vmsa,
};
use snp_launch::registers::{RegisterState, differing_fields};
use snp_launch::{
    BootState, CommandRecord, LaunchError, LaunchObserver, LaunchPage, LaunchPlan, Launched, LaunchedVcpu, PageRecord,
    VmsaSource,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::profile::Profile;
use crate::raw;

/// Source pages that are copied to page-aligned memory at a time.
const CHUNK: usize = 16 << 20;

/// A VM and what it needs, in the order in which it may go.
pub(crate) struct Launcher<'a> {
    vcpus: Vec<VcpuFd>,
    vm: VmFd,
    memfds: Vec<OwnedFd>,
    memory: Vec<MmapMut>,
    sev: RawFd,
    profile: Profile,
    kvm: &'a Kvm,
    observer: &'a mut dyn LaunchObserver,
}

type Arguments<'a> = &'a [(&'static str, u64)];

impl<'a> Launcher<'a> {
    pub(crate) fn new(
        kvm: &'a Kvm,
        sev: RawFd,
        profile: Profile,
        observer: &'a mut dyn LaunchObserver,
    ) -> Result<Self, LaunchError> {
        let vm = kvm.create_vm_with_type(KVM_X86_SNP_VM).map_err(errno);
        let vm = tell(observer, "KVM_CREATE_VM", &[("type", KVM_X86_SNP_VM)], vm)?;
        Ok(Self { vcpus: Vec::new(), vm, memfds: Vec::new(), memory: Vec::new(), sev, profile, kvm, observer })
    }

    pub(crate) fn launch(mut self, plan: &LaunchPlan) -> Result<Launched, LaunchError> {
        let mut init =
            kvm_sev_init { vmsa_features: plan.features.0 & !SevFeatures::SNP_ACTIVE, ..kvm_sev_init::default() };
        let arguments = [("vmsa_features", init.vmsa_features)];
        self.sev("KVM_SEV_INIT2", KVM_SEV_INIT2, &mut init, &arguments, None)?;
        self.enable_cap(KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE)?;
        let mut start = kvm_sev_snp_launch_start {
            policy: plan.policy.0,
            gosvw: plan.gosvw,
            ..kvm_sev_snp_launch_start::default()
        };
        let arguments = [("policy", start.policy)];
        self.sev("KVM_SEV_SNP_LAUNCH_START", KVM_SEV_SNP_LAUNCH_START, &mut start, &arguments, None)?;
        if self.profile == Profile::VcpuStateExplicit {
            self.enable_cap(KVM_CAP_SNP_DIRECT_VMSA, 0)?;
        }
        self.create_memory(plan)?;
        self.create_vcpus(plan)?;
        for page in &plan.pages {
            self.set_private(page)?;
            self.update(page)?;
        }
        if let BootState::Direct { vmsa_gpa } = plan.boot
            && matches!(self.profile, Profile::VcpuState | Profile::VcpuStateExplicit)
        {
            self.set_vcpu_state(vmsa_gpa)?;
        }
        self.finish(plan)?;
        // No ioctl tells the digest.
        Ok(Launched { digest: None, vcpus: (0..plan.vcpus).map(|index| launched_vcpu(&plan.boot, index)).collect() })
    }

    fn enable_cap(&mut self, capability: u32, argument: u64) -> Result<(), LaunchError> {
        let cap = kvm_enable_cap { cap: capability, args: [argument, 0, 0, 0], ..kvm_enable_cap::default() };
        let arguments = [("cap", capability.into()), ("args[0]", argument)];
        let answer = self.vm.enable_cap(&cap).map_err(errno);
        tell(self.observer, "KVM_ENABLE_CAP", &arguments, answer)
    }

    /// For every region a guest_memfd, memory that is shared until the guest says otherwise, and a slot.
    fn create_memory(&mut self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        for (slot, region) in (0..).zip(&plan.memory) {
            let memfd = kvm_create_guest_memfd { size: region.len, ..kvm_create_guest_memfd::default() };
            let arguments = [("size", region.len), ("flags", 0)];
            let memfd = self.vm.create_guest_memfd(memfd).map_err(errno);
            let memfd = tell(self.observer, "KVM_CREATE_GUEST_MEMFD", &arguments, memfd)?;
            // SAFETY: the kernel has just made it for us.
            self.memfds.push(unsafe { OwnedFd::from_raw_fd(memfd) });
            let shared = anonymous(region.len)?;
            let region = kvm_userspace_memory_region2 {
                slot,
                flags: KVM_MEM_GUEST_MEMFD,
                guest_phys_addr: region.gpa.0,
                memory_size: region.len,
                userspace_addr: shared.as_ptr() as u64,
                guest_memfd: memfd as u32,
                ..kvm_userspace_memory_region2::default()
            };
            // Kept until after the VM.
            self.memory.push(shared);
            let arguments = [
                ("slot", slot.into()),
                ("flags", region.flags.into()),
                ("guest_phys_addr", region.guest_phys_addr),
                ("memory_size", region.memory_size),
            ];
            // SAFETY: fields are dropped in order: the memory goes after the VM and its vCPUs.
            let answer = unsafe { raw::set_memory(&self.vm, region) };
            tell(self.observer, "KVM_SET_USER_MEMORY_REGION2", &arguments, answer)?;
        }
        Ok(())
    }

    fn create_vcpus(&mut self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        for id in 0..u64::from(plan.vcpus) {
            let vcpu = self.vm.create_vcpu(id).map_err(errno);
            let vcpu = tell(self.observer, "KVM_CREATE_VCPU", &[("id", id)], vcpu)?;
            if let BootState::Registers { boot, others } = &plan.boot {
                self.set_cpuid(&vcpu, id)?;
                self.set_registers(&vcpu, id, if id == 0 { boot } else { others })?;
            }
            self.vcpus.push(vcpu);
        }
        Ok(())
    }

    /// What the host offers. Before the registers: what CR4 and EFER may have depends on it.
    fn set_cpuid(&mut self, vcpu: &VcpuFd, id: u64) -> Result<(), LaunchError> {
        let offered = self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(errno);
        let offered = tell(self.observer, "KVM_GET_SUPPORTED_CPUID", &[], offered)?;
        tell(self.observer, "KVM_SET_CPUID2", &[("vcpu", id)], vcpu.set_cpuid2(&offered).map_err(errno))
    }

    fn set_registers(&mut self, vcpu: &VcpuFd, id: u64, vmsa: &Vmsa) -> Result<(), LaunchError> {
        want_lossless(id, vmsa)?;
        let state = RegisterState::of(vmsa);
        let arguments = [("vcpu", id)];
        let observer = &mut *self.observer;
        tell(observer, "KVM_SET_SREGS", &arguments, raw::set(vcpu, &state.sregs))?;
        tell(observer, "KVM_SET_REGS", &arguments, raw::set(vcpu, &state.regs))?;
        tell(observer, "KVM_SET_XSAVE", &arguments, raw::set(vcpu, &state.xsave))?;
        tell(observer, "KVM_SET_XCRS", &arguments, raw::set(vcpu, &state.xcrs))?;
        tell(observer, "KVM_SET_MSRS", &arguments, raw::set_msrs(vcpu, &raw::Msrs::new(state.msrs)))?;
        tell(observer, "KVM_SET_DEBUGREGS", &arguments, raw::set(vcpu, &state.debugregs))
    }

    fn set_private(&mut self, page: &LaunchPage) -> Result<(), LaunchError> {
        let range = kvm_memory_attributes {
            address: page.gpa().0,
            size: page.len_bytes(),
            attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE,
            flags: 0,
        };
        let arguments = [("address", range.address), ("size", range.size), ("attributes", range.attributes)];
        let answer = self.vm.set_memory_attributes(range).map_err(errno);
        tell(self.observer, "KVM_SET_MEMORY_ATTRIBUTES", &arguments, answer)
    }

    /// Launches a run of pages, from copies in page-aligned memory.
    fn update(&mut self, page: &LaunchPage) -> Result<(), LaunchError> {
        const ONE: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        let data: &[u8] = match page {
            LaunchPage::Zero { len, .. } => return self.update_all(page, page.gpa(), 0, *len),
            LaunchPage::Normal { data, .. } | LaunchPage::Unmeasured { data, .. } => data.bytes(),
            LaunchPage::Vmsa { vmsa, .. } => vmsa.as_bytes(),
            LaunchPage::Cpuid { table, .. } => table.as_bytes(),
            // The firmware fills the page, but KVM wants a source all the same.
            LaunchPage::Secrets { .. } => &ONE,
        };
        let mut source = anonymous(data.len().min(CHUNK) as u64)?;
        for (at, chunk) in (0..).step_by(CHUNK).zip(data.chunks(CHUNK)) {
            source[..chunk.len()].copy_from_slice(chunk);
            let gpa = Gpa(page.gpa().0 + at);
            let answer = self.update_all(page, gpa, source.as_mut_ptr() as u64, chunk.len() as u64);
            answer.map_err(|error| explain_cpuid(error, page, &source))?;
        }
        Ok(())
    }

    /// Loops on the length that is left, as every caller must: a run that crosses memory slots is done slot by slot.
    fn update_all(&mut self, page: &LaunchPage, gpa: Gpa, source: u64, len: u64) -> Result<(), LaunchError> {
        let mut params = kvm_sev_snp_launch_update {
            gfn_start: gpa.gfn().0,
            uaddr: source,
            len,
            r#type: page.page_type().0,
            ..kvm_sev_snp_launch_update::default()
        };
        while params.len != 0 {
            let before = params;
            let arguments = [
                ("gfn_start", before.gfn_start),
                ("uaddr", before.uaddr),
                ("len", before.len),
                ("type", before.r#type.into()),
            ];
            let issued = self.issue(KVM_SEV_SNP_LAUNCH_UPDATE, &mut params);
            let pages = match self.observer.wants_pages() {
                true => page_records(page, before.gfn_start, params.gfn_start),
                false => Vec::new(),
            };
            let gpa = Gpa(before.gfn_start * PAGE_SIZE as u64);
            self.conclude("KVM_SEV_SNP_LAUNCH_UPDATE", &arguments, pages, Some(gpa), issued)?;
        }
        Ok(())
    }

    fn set_vcpu_state(&mut self, vmsa_gpa: Gpa) -> Result<(), LaunchError> {
        let mut state = kvm_sev_snp_vcpu_state {
            valid_fields: KVM_SEV_SNP_VCPU_STATE_VMSA_VALID,
            vmsa_gpa: vmsa_gpa.0,
            ..kvm_sev_snp_vcpu_state::default()
        };
        let arguments = [("vcpu", 0), ("valid_fields", state.valid_fields), ("vmsa_gpa", state.vmsa_gpa)];
        let mut command = self.command(KVM_SEV_SNP_SET_VCPU_STATE, &mut state);
        // SAFETY: `state` is the structure of the command.
        let answer = unsafe { raw::memory_encrypt_op(&self.vcpus[0], &mut command) };
        let issued = (answer, FwStatus(command.error));
        self.conclude("KVM_SEV_SNP_SET_VCPU_STATE", &arguments, Vec::new(), Some(vmsa_gpa), issued)
    }

    fn finish(&mut self, plan: &LaunchPlan) -> Result<(), LaunchError> {
        let mut finish = kvm_sev_snp_launch_finish {
            vcek_disabled: plan.vcek_disabled.into(),
            host_data: plan.host_data,
            ..kvm_sev_snp_launch_finish::default()
        };
        if let Some(id) = &plan.id_block {
            finish.id_block_en = 1;
            finish.auth_key_en = id.author_key_enabled.into();
            finish.id_block_uaddr = id.block.as_bytes().as_ptr() as u64;
            finish.id_auth_uaddr = id.auth.as_bytes().as_ptr() as u64;
        }
        let arguments = [
            ("id_block_en", finish.id_block_en.into()),
            ("auth_key_en", finish.auth_key_en.into()),
            ("vcek_disabled", finish.vcek_disabled.into()),
        ];
        self.sev("KVM_SEV_SNP_LAUNCH_FINISH", KVM_SEV_SNP_LAUNCH_FINISH, &mut finish, &arguments, None)
    }

    /// A command on the VM whose arguments are one structure.
    fn sev<T: IntoBytes + FromBytes>(
        &mut self,
        name: &'static str,
        id: u32,
        data: &mut T,
        arguments: Arguments<'_>,
        gpa: Option<Gpa>,
    ) -> Result<(), LaunchError> {
        let issued = self.issue(id, data);
        self.conclude(name, arguments, Vec::new(), gpa, issued)
    }

    /// Issues KVM_MEMORY_ENCRYPT_OP on the VM; its answer and what it left in `error`.
    fn issue<T: IntoBytes + FromBytes>(&self, id: u32, data: &mut T) -> (Result<(), Errno>, FwStatus) {
        let mut command = self.command(id, data);
        // SAFETY: every caller gives the structure of its command; addresses in it are of buffers that the caller holds.
        let answer = unsafe { raw::memory_encrypt_op(&self.vm, &mut command) };
        (answer, FwStatus(command.error))
    }

    fn command<T>(&self, id: u32, data: &mut T) -> kvm_sev_cmd {
        const { assert!(size_of::<kvm_sev_cmd>() == size_of::<bindings_sev_cmd>()) };
        let data = std::ptr::from_mut(data) as u64;
        kvm_sev_cmd { id, data, sev_fd: self.sev as u32, ..kvm_sev_cmd::default() }
    }

    /// Tells the observer of an SEV command and turns a refusal into an error.
    fn conclude(
        &mut self,
        command: &'static str,
        arguments: Arguments<'_>,
        pages: Vec<PageRecord>,
        gpa: Option<Gpa>,
        (answer, status): (Result<(), Errno>, FwStatus),
    ) -> Result<(), LaunchError> {
        self.observer.command(CommandRecord {
            command,
            arguments: arguments.to_vec(),
            pages,
            errno: answer.err(),
            fw_status: Some(status),
            digest: None,
        });
        answer.map_err(|errno| LaunchError::Refused { command, gpa, errno, fw_status: Some(status) })
    }
}

/// Tells the observer of an ioctl that is no SEV command, and turns a refusal into an error.
fn tell<T>(
    observer: &mut dyn LaunchObserver,
    command: &'static str,
    arguments: Arguments<'_>,
    answer: Result<T, Errno>,
) -> Result<T, LaunchError> {
    observer.command(CommandRecord {
        command,
        arguments: arguments.to_vec(),
        pages: Vec::new(),
        errno: answer.as_ref().err().copied(),
        fw_status: None,
        digest: None,
    });
    answer.map_err(|errno| LaunchError::Refused { command, gpa: None, errno, fw_status: None })
}

fn errno(error: kvm_ioctls::Error) -> Errno {
    Errno(error.errno())
}

/// Page-aligned memory that costs nothing until it is touched.
fn anonymous(len: u64) -> Result<MmapMut, LaunchError> {
    let mapped =
        usize::try_from(len).ok().and_then(|len| MmapOptions::new().len(len).no_reserve_swap().map_anon().ok());
    mapped.ok_or(LaunchError::Refused { command: "mmap", gpa: None, errno: Errno::ENOMEM, fw_status: None })
}

/// Refuses a VMSA with state that no register carries: KVM would measure another one.
fn want_lossless(id: u64, vmsa: &Vmsa) -> Result<(), LaunchError> {
    let lost = uncarried(vmsa);
    if lost.is_empty() {
        return Ok(());
    }
    let lost = lost.join(", ");
    Err(LaunchError::Unmodelled(format!("vCPU {id}: KVM's registers cannot carry this state of its VMSA: {lost}")))
}

/// Fields that are set and that KVM does not take from registers.
fn uncarried(vmsa: &Vmsa) -> Vec<&'static str> {
    // What KVM does take, and what INIT2 sets, as they are; all else is zero in what KVM makes.
    let kept = Vmsa {
        es: vmsa.es,
        cs: vmsa.cs,
        ss: vmsa.ss,
        ds: vmsa.ds,
        fs: vmsa.fs,
        gs: vmsa.gs,
        gdtr: vmsa.gdtr,
        ldtr: vmsa.ldtr,
        idtr: vmsa.idtr,
        tr: vmsa.tr,
        cpl: vmsa.cpl,
        efer: vmsa.efer,
        cr0: vmsa.cr0,
        cr3: vmsa.cr3,
        cr4: vmsa.cr4,
        dr6: vmsa.dr6,
        dr7: vmsa.dr7,
        rflags: vmsa.rflags,
        rip: vmsa.rip,
        rax: vmsa.rax,
        rbx: vmsa.rbx,
        rcx: vmsa.rcx,
        rdx: vmsa.rdx,
        rsi: vmsa.rsi,
        rdi: vmsa.rdi,
        rsp: vmsa.rsp,
        rbp: vmsa.rbp,
        r8: vmsa.r8,
        r9: vmsa.r9,
        r10: vmsa.r10,
        r11: vmsa.r11,
        r12: vmsa.r12,
        r13: vmsa.r13,
        r14: vmsa.r14,
        r15: vmsa.r15,
        star: vmsa.star,
        lstar: vmsa.lstar,
        cstar: vmsa.cstar,
        sfmask: vmsa.sfmask,
        kernel_gs_base: vmsa.kernel_gs_base,
        sysenter_cs: vmsa.sysenter_cs,
        sysenter_esp: vmsa.sysenter_esp,
        sysenter_eip: vmsa.sysenter_eip,
        xss: vmsa.xss,
        g_pat: vmsa.g_pat,
        pkru: vmsa.pkru,
        xcr0: vmsa.xcr0,
        sev_features: vmsa.sev_features,
        x87_fcw: vmsa.x87_fcw,
        x87_fsw: vmsa.x87_fsw,
        x87_ftw: vmsa.x87_ftw,
        x87_fop: vmsa.x87_fop,
        x87_rip: vmsa.x87_rip,
        x87_dp: vmsa.x87_dp,
        mxcsr: vmsa.mxcsr,
        fpreg_x87: vmsa.fpreg_x87,
        fpreg_xmm: vmsa.fpreg_xmm,
        fpreg_ymm: vmsa.fpreg_ymm,
        ..Vmsa::default()
    };
    differing_fields(&kept, vmsa)
}

fn launched_vcpu(boot: &BootState, index: u32) -> LaunchedVcpu {
    let (vmsa_source, vmsa_gpa) = match boot {
        BootState::Registers { .. } => (VmsaSource::Kvm, Some(LEGACY_VMSA_GPA)),
        BootState::Direct { vmsa_gpa } if index == 0 => (VmsaSource::User, Some(*vmsa_gpa)),
        BootState::Direct { .. } => (VmsaSource::None, None),
    };
    LaunchedVcpu { index, vmsa_source, vmsa_gpa }
}

/// The pages of a run from one frame up to another.
fn page_records(page: &LaunchPage, from: u64, to: u64) -> Vec<PageRecord> {
    let first = page.gpa().gfn().0;
    let contents = |frame: u64| match page {
        LaunchPage::Normal { data, .. } => {
            let at = (frame - first) as usize * PAGE_SIZE;
            snp_sha384::sha384(&data.bytes()[at..at + PAGE_SIZE])
        }
        // A VMSA is measured without the two fields that the host may set.
        LaunchPage::Vmsa { vmsa, .. } => snp_sha384::sha384(Vmsa { tsc_scale: 0, tsc_offset: 0, ..**vmsa }.as_bytes()),
        _ => [0; 48],
    };
    let record = |frame: u64| {
        let page_type: PageType = page.page_type();
        PageRecord { gpa: Gpa(frame * PAGE_SIZE as u64), page_type, contents: contents(frame) }
    };
    (from..to).map(record).collect()
}

/// A refused CPUID page says more than its status: `source` now holds what the firmware would accept.
fn explain_cpuid(error: LaunchError, page: &LaunchPage, source: &[u8]) -> LaunchError {
    let LaunchPage::Cpuid { gpa, table } = page else { return error };
    match error {
        LaunchError::Refused { command, fw_status: Some(FwStatus::INVALID_PARAM), .. } => {
            let Ok(accepted) = CpuidPage::read_from_bytes(source) else { return error };
            let pairs = table.functions.iter().copied().zip(accepted.functions);
            let corrected: Vec<(CpuidFunction, CpuidFunction)> =
                pairs.filter(|(given, accepted)| given != accepted).collect();
            LaunchError::Cpuid { command, gpa: *gpa, corrected }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_register_carries_is_named() {
        let mut vmsa = Vmsa { rip: 0xfff0, xcr0: 1, sev_features: SevFeatures(1), ..Vmsa::default() };
        assert!(uncarried(&vmsa).is_empty());
        vmsa.vmpl = snp_abi::Vmpl(1);
        vmsa.tsc_offset = 7;
        assert_eq!(uncarried(&vmsa), ["vmpl", "tsc_offset"]);
        assert!(want_lossless(3, &vmsa).unwrap_err().to_string().contains("vCPU 3"));
    }
}
