//! The `soft` back end: a launch plan carried out by the ioctls that a VMM would issue.

mod machine;
mod registers;

use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{CpuidFunction, Errno, FwStatus, Gpa, LEGACY_VMSA_GPA, PAGE_SIZE, SevFeatures, Vmsa};
use snp_asp::PlatformConfig;
use snp_launch::registers::RegisterState;
use snp_launch::{
    BootState, CommandRecord, LaunchError, LaunchObserver, LaunchPage, LaunchPlan, Launched, LaunchedVcpu, PageRecord,
    Platform, VmsaSource,
};
use zerocopy::{FromBytes, IntoBytes};

pub use self::machine::Machine;
use self::registers::{cpuid, want_lossless};
use crate::vcpu::VcpuVmsa;
use crate::{Process, SoftKvm, UapiProfile, UserSpace, Vcpu, Vm};

/// The software platform as a back end: every launch gets a host of its own, so that the same plan gives the same bytes.
#[derive(Clone, Debug)]
pub struct SoftPlatform {
    config: PlatformConfig,
    profile: &'static UapiProfile,
}

impl SoftPlatform {
    /// A platform whose KVM has that uAPI.
    pub fn new(config: PlatformConfig, profile: &'static UapiProfile) -> Self {
        Self { config, profile }
    }
}

impl Platform for SoftPlatform {
    fn backend(&self) -> &'static str {
        "soft"
    }

    fn profile(&self) -> &'static str {
        self.profile.name
    }

    fn launch(&self, plan: &LaunchPlan, observer: &mut dyn LaunchObserver) -> Result<Launched, LaunchError> {
        self.launch_and_keep(plan, observer).map(|(launched, _)| launched)
    }
}

impl SoftPlatform {
    /// As [`Platform::launch`]; the VM stays, without its memory, for who speaks to the firmware in the guest's name.
    ///
    /// # Errors
    /// As there.
    pub fn launch_and_keep(
        &self,
        plan: &LaunchPlan,
        observer: &mut dyn LaunchObserver,
    ) -> Result<(Launched, Vm), LaunchError> {
        plan.validate()?;
        let kvm = SoftKvm::new(self.config.clone(), self.profile);
        let mut launcher = Launcher { vm: None, process: Process::new(), observer, runs: false, shared: Vec::new() };
        let vm = launcher.create_vm(&kvm)?;
        let (launched, _, fds) = launcher.launch(&vm, plan, self.profile)?;
        fds.into_iter().for_each(|fd| launcher.process.close(fd));
        Ok((launched, vm))
    }
}

/// A launch in progress.
struct Launcher<'a> {
    vm: Option<Vm>,
    process: Process,
    observer: &'a mut dyn LaunchObserver,
    /// The guest will run: there is memory behind what it shares, and it is given certificates.
    runs: bool,
    /// That memory, in slot order.
    shared: Vec<Shared>,
}

/// Memory that a VMM has for what a slot's guest shares.
#[derive(Clone, Copy, Debug)]
struct Shared {
    gpa: u64,
    len: u64,
    address: u64,
}

/// What a launch leaves: its outcome, the vCPUs, the descriptors of guest_memfds.
type Left = (Launched, Vec<Vcpu>, Vec<u32>);

impl Launcher<'_> {
    fn create_vm(&mut self, kvm: &SoftKvm) -> Result<Vm, LaunchError> {
        let vm = self.plain("KVM_CREATE_VM", &[("type", KVM_X86_SNP_VM)], kvm.create_vm(KVM_X86_SNP_VM))?;
        self.vm = Some(vm.clone());
        Ok(vm)
    }

    /// The order is QEMU's: the context exists before memory and vCPUs do.
    fn launch(&mut self, vm: &Vm, plan: &LaunchPlan, profile: &'static UapiProfile) -> Result<Left, LaunchError> {
        let init =
            kvm_sev_init { vmsa_features: plan.features.0 & !SevFeatures::SNP_ACTIVE, ..kvm_sev_init::default() };
        self.sev(vm, "KVM_SEV_INIT2", KVM_SEV_INIT2, init.as_bytes(), &[("vmsa_features", init.vmsa_features)])?;
        self.enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, 1 << KVM_HC_MAP_GPA_RANGE)?;
        if self.runs {
            self.sev(vm, "KVM_SEV_SNP_ENABLE_REQ_CERTS", KVM_SEV_SNP_ENABLE_REQ_CERTS, &[], &[])?;
        }
        let start = kvm_sev_snp_launch_start {
            policy: plan.policy.0,
            gosvw: plan.gosvw,
            ..kvm_sev_snp_launch_start::default()
        };
        let arguments = [("policy", start.policy)];
        self.sev(vm, "KVM_SEV_SNP_LAUNCH_START", KVM_SEV_SNP_LAUNCH_START, start.as_bytes(), &arguments)?;
        if let Some(capability) = profile.vcpu_state.and_then(|command| command.enabled_by) {
            self.enable_cap(vm, capability, 0)?;
        }
        let fds = self.create_memory(vm, plan)?;
        let vcpus = self.create_vcpus(vm, plan)?;
        for page in &plan.pages {
            self.update(vm, page)?;
        }
        if let (BootState::Direct { vmsa_gpa }, Some(_)) = (&plan.boot, profile.vcpu_state) {
            self.set_vcpu_state(&vcpus[0], *vmsa_gpa)?;
        }
        self.finish(vm, plan)?;
        let launched = Launched { digest: vm.launch_digest(), vcpus: vcpus.iter().map(launched_vcpu).collect() };
        Ok((launched, vcpus, fds))
    }

    fn enable_cap(&mut self, vm: &Vm, capability: u32, argument: u64) -> Result<(), LaunchError> {
        let cap = kvm_enable_cap { cap: capability, args: [argument, 0, 0, 0], ..kvm_enable_cap::default() };
        let arguments = [("cap", capability.into()), ("args[0]", argument)];
        self.plain("KVM_ENABLE_CAP", &arguments, vm.enable_cap(&cap))
    }

    /// A guest_memfd and a slot for every region.
    fn create_memory(&mut self, vm: &Vm, plan: &LaunchPlan) -> Result<Vec<u32>, LaunchError> {
        let mut fds = Vec::with_capacity(plan.memory.len());
        for (slot, region) in (0..).zip(&plan.memory) {
            let memfd = kvm_create_guest_memfd { size: region.len, ..kvm_create_guest_memfd::default() };
            let arguments = [("size", region.len), ("flags", 0)];
            let memfd = self.plain("KVM_CREATE_GUEST_MEMFD", &arguments, vm.create_guest_memfd(&memfd))?;
            let fd = self.process.install(memfd);
            fds.push(fd);
            let address = if self.runs { self.process.reserve(region.len as usize) } else { 0 };
            self.shared.extend(self.runs.then_some(Shared { gpa: region.gpa.0, len: region.len, address }));
            let region = kvm_userspace_memory_region2 {
                slot,
                flags: KVM_MEM_GUEST_MEMFD,
                guest_phys_addr: region.gpa.0,
                memory_size: region.len,
                userspace_addr: address,
                guest_memfd: fd,
                ..kvm_userspace_memory_region2::default()
            };
            let arguments = [
                ("slot", slot.into()),
                ("flags", region.flags.into()),
                ("guest_phys_addr", region.guest_phys_addr),
                ("memory_size", region.memory_size),
            ];
            let answer = vm.set_user_memory_region2(&self.process, &region);
            self.plain("KVM_SET_USER_MEMORY_REGION2", &arguments, answer)?;
        }
        Ok(fds)
    }

    fn create_vcpus(&mut self, vm: &Vm, plan: &LaunchPlan) -> Result<Vec<Vcpu>, LaunchError> {
        let mut vcpus = Vec::with_capacity(plan.vcpus as usize);
        for id in 0..u64::from(plan.vcpus) {
            let vcpu = self.plain("KVM_CREATE_VCPU", &[("id", id)], vm.create_vcpu(id))?;
            if self.runs || matches!(plan.boot, BootState::Registers { .. }) {
                // Before the registers: what CR4 and EFER may have depends on it.
                let table = cpuid(vm, &vcpu);
                self.plain("KVM_SET_CPUID2", &[("vcpu", id)], vcpu.set_cpuid2(&table))?;
            }
            if let BootState::Registers { boot, others } = &plan.boot {
                self.set_registers(&vcpu, if id == 0 { boot } else { others }, plan.features)?;
            }
            vcpus.push(vcpu);
        }
        Ok(vcpus)
    }

    /// Sets the registers from which KVM will build `vmsa` again.
    fn set_registers(&mut self, vcpu: &Vcpu, vmsa: &Vmsa, features: SevFeatures) -> Result<(), LaunchError> {
        let state = RegisterState::of(vmsa);
        want_lossless(&state, vcpu, vmsa, features)?;
        let vcpu_number = [("vcpu", u64::from(vcpu.index()))];
        self.plain("KVM_SET_SREGS", &vcpu_number, vcpu.set_sregs(&state.sregs))?;
        self.plain("KVM_SET_REGS", &vcpu_number, vcpu.set_regs(&state.regs))?;
        self.plain("KVM_SET_XSAVE", &vcpu_number, vcpu.set_xsave(&state.xsave))?;
        self.plain("KVM_SET_XCRS", &vcpu_number, vcpu.set_xcrs(&state.xcrs))?;
        self.plain("KVM_SET_MSRS", &vcpu_number, want_all(vcpu.set_msrs(&state.msrs), &state.msrs))?;
        self.plain("KVM_SET_DEBUGREGS", &vcpu_number, vcpu.set_debugregs(&state.debugregs))
    }

    /// Launches one run of pages, looping on the length that is left as every caller must: a run that crosses memory slots
    /// is done slot by slot.
    fn update(&mut self, vm: &Vm, page: &LaunchPage) -> Result<(), LaunchError> {
        let attributes = kvm_memory_attributes {
            address: page.gpa().0,
            size: page.len_bytes(),
            attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE,
            flags: 0,
        };
        let arguments =
            [("address", attributes.address), ("size", attributes.size), ("attributes", attributes.attributes)];
        self.plain("KVM_SET_MEMORY_ATTRIBUTES", &arguments, vm.set_memory_attributes(&attributes))?;

        let source = match page {
            LaunchPage::Normal { data, .. } | LaunchPage::Unmeasured { data, .. } => {
                self.process.map(data.bytes().clone())
            }
            LaunchPage::Vmsa { vmsa, .. } => self.process.buffer(vmsa.as_bytes()),
            LaunchPage::Cpuid { table, .. } => self.process.buffer(table.as_bytes()),
            // The firmware fills the page, but KVM wants a source all the same.
            LaunchPage::Secrets { .. } => self.process.buffer(&[0; PAGE_SIZE]),
            LaunchPage::Zero { .. } => 0,
        };
        let mut params = kvm_sev_snp_launch_update {
            gfn_start: page.gpa().gfn().0,
            uaddr: source,
            len: page.len_bytes(),
            r#type: page.page_type().0,
            ..kvm_sev_snp_launch_update::default()
        };
        let mut answer = Ok(());
        while params.len != 0 && answer.is_ok() {
            answer = self.update_once(vm, page, &mut params);
        }
        let buffer = self.process.unmap(source);
        answer.map_err(|error| explain_cpuid(error, page, buffer))
    }

    fn update_once(
        &mut self,
        vm: &Vm,
        page: &LaunchPage,
        params: &mut kvm_sev_snp_launch_update,
    ) -> Result<(), LaunchError> {
        let before = *params;
        let arguments = [
            ("gfn_start", before.gfn_start),
            ("uaddr", before.uaddr),
            ("len", before.len),
            ("type", before.r#type.into()),
        ];
        let address = self.process.buffer(params.as_bytes());
        let issued =
            self.issue(|process, command| vm.memory_encrypt_op(process, command), KVM_SEV_SNP_LAUNCH_UPDATE, address);
        let after = self.process.unmap(address).expect("mapped above");
        *params = kvm_sev_snp_launch_update::read_from_bytes(&after).expect("sizes are equal");
        let pages = match self.observer.wants_pages() {
            true => page_records(page, before.gfn_start, params.gfn_start),
            false => Vec::new(),
        };
        let gpa = Gpa(before.gfn_start * PAGE_SIZE as u64);
        self.conclude("KVM_SEV_SNP_LAUNCH_UPDATE", &arguments, pages, Some(gpa), issued)
    }

    fn set_vcpu_state(&mut self, vcpu: &Vcpu, vmsa_gpa: Gpa) -> Result<(), LaunchError> {
        let state = kvm_sev_snp_vcpu_state {
            valid_fields: KVM_SEV_SNP_VCPU_STATE_VMSA_VALID,
            vmsa_gpa: vmsa_gpa.0,
            ..kvm_sev_snp_vcpu_state::default()
        };
        let address = self.process.buffer(state.as_bytes());
        let issued = self.issue(
            |process, command| vcpu.memory_encrypt_op(process, command),
            KVM_SEV_SNP_SET_VCPU_STATE,
            address,
        );
        self.process.unmap(address);
        let arguments =
            [("vcpu", u64::from(vcpu.index())), ("valid_fields", state.valid_fields), ("vmsa_gpa", state.vmsa_gpa)];
        self.conclude("KVM_SEV_SNP_SET_VCPU_STATE", &arguments, Vec::new(), Some(vmsa_gpa), issued)
    }

    fn finish(&mut self, vm: &Vm, plan: &LaunchPlan) -> Result<(), LaunchError> {
        let mut finish = kvm_sev_snp_launch_finish {
            vcek_disabled: plan.vcek_disabled.into(),
            host_data: plan.host_data,
            ..kvm_sev_snp_launch_finish::default()
        };
        if let Some(id) = &plan.id_block {
            finish.id_block_en = 1;
            finish.auth_key_en = id.author_key_enabled.into();
            finish.id_block_uaddr = self.process.buffer(id.block.as_bytes());
            finish.id_auth_uaddr = self.process.buffer(id.auth.as_bytes());
        }
        let arguments = [
            ("id_block_en", finish.id_block_en.into()),
            ("auth_key_en", finish.auth_key_en.into()),
            ("vcek_disabled", finish.vcek_disabled.into()),
        ];
        let address = self.process.buffer(finish.as_bytes());
        let issued =
            self.issue(|process, command| vm.memory_encrypt_op(process, command), KVM_SEV_SNP_LAUNCH_FINISH, address);
        let made = self.observer.wants_pages() && issued.0.is_ok();
        let pages = if made { self.made_vmsas(plan) } else { Vec::new() };
        self.conclude("KVM_SEV_SNP_LAUNCH_FINISH", &arguments, pages, None, issued)
    }

    /// The VMSAs that KVM built and measured.
    fn made_vmsas(&self, plan: &LaunchPlan) -> Vec<PageRecord> {
        let BootState::Registers { boot, others } = &plan.boot else { return Vec::new() };
        let record = |vmsa: &Vmsa| PageRecord {
            gpa: LEGACY_VMSA_GPA,
            page_type: snp_abi::PageType::VMSA,
            contents: measured_vmsa(vmsa),
        };
        (0..plan.vcpus).map(|index| record(if index == 0 { boot } else { others })).collect()
    }

    /// A command whose arguments are one structure.
    fn sev(
        &mut self,
        vm: &Vm,
        name: &'static str,
        id: u32,
        data: &[u8],
        arguments: &[(&'static str, u64)],
    ) -> Result<(), LaunchError> {
        let address = self.process.buffer(data);
        let issued = self.issue(|process, command| vm.memory_encrypt_op(process, command), id, address);
        self.process.unmap(address);
        self.conclude(name, arguments, Vec::new(), None, issued)
    }

    /// Issues KVM_MEMORY_ENCRYPT_OP; returns its answer and what it left in `error`.
    fn issue(
        &self,
        ioctl: impl FnOnce(&dyn UserSpace, u64) -> Result<(), Errno>,
        id: u32,
        data: u64,
    ) -> (Result<(), Errno>, FwStatus) {
        let command = kvm_sev_cmd { id, data, sev_fd: self.process.sev_fd(), ..kvm_sev_cmd::default() };
        let address = self.process.buffer(command.as_bytes());
        let answer = ioctl(&self.process, address);
        let after = self.process.unmap(address).expect("mapped above");
        let command = kvm_sev_cmd::read_from_bytes(&after).expect("sizes are equal");
        (answer, FwStatus(command.error))
    }

    /// Tells the observer of an SEV command and turns a refusal into an error.
    fn conclude(
        &mut self,
        command: &'static str,
        arguments: &[(&'static str, u64)],
        pages: Vec<PageRecord>,
        gpa: Option<Gpa>,
        (answer, status): (Result<(), Errno>, FwStatus),
    ) -> Result<(), LaunchError> {
        self.tell(command, arguments, pages, answer.err(), Some(status));
        answer.map_err(|errno| LaunchError::Refused { command, gpa, errno, fw_status: Some(status) })
    }

    /// Tells the observer of an ioctl that is no SEV command, and turns a refusal into an error.
    fn plain<T>(
        &mut self,
        command: &'static str,
        arguments: &[(&'static str, u64)],
        answer: Result<T, Errno>,
    ) -> Result<T, LaunchError> {
        self.tell(command, arguments, Vec::new(), answer.as_ref().err().copied(), None);
        answer.map_err(|errno| LaunchError::Refused { command, gpa: None, errno, fw_status: None })
    }

    fn tell(
        &mut self,
        command: &'static str,
        arguments: &[(&'static str, u64)],
        pages: Vec<PageRecord>,
        errno: Option<Errno>,
        fw_status: Option<FwStatus>,
    ) {
        let digest = self.vm.as_ref().and_then(Vm::launch_digest);
        self.observer.command(CommandRecord {
            command,
            arguments: arguments.to_vec(),
            pages,
            errno,
            fw_status,
            digest,
        });
    }
}

/// KVM_SET_MSRS stops at the first MSR that it cannot set, without an errno.
fn want_all(set: usize, msrs: &[kvm_msr_entry]) -> Result<(), Errno> {
    if set == msrs.len() { Ok(()) } else { Err(Errno::EINVAL) }
}

fn launched_vcpu(vcpu: &Vcpu) -> LaunchedVcpu {
    let (vmsa_source, vmsa_gpa) = match vcpu.vmsa() {
        VcpuVmsa::None => (VmsaSource::None, None),
        VcpuVmsa::Kvm => (VmsaSource::Kvm, Some(LEGACY_VMSA_GPA)),
        VcpuVmsa::User(gpa) => (VmsaSource::User, Some(gpa)),
    };
    LaunchedVcpu { index: vcpu.index(), vmsa_source, vmsa_gpa }
}

/// The pages of a run from one frame up to another.
fn page_records(page: &LaunchPage, from: u64, to: u64) -> Vec<PageRecord> {
    let first = page.gpa().gfn().0;
    let contents = |frame: u64| match page {
        LaunchPage::Normal { data, .. } => {
            let at = (frame - first) as usize * PAGE_SIZE;
            snp_sha384::sha384(&data.bytes()[at..at + PAGE_SIZE])
        }
        LaunchPage::Vmsa { vmsa, .. } => measured_vmsa(vmsa),
        _ => [0; 48],
    };
    (from..to)
        .map(|frame| PageRecord {
            gpa: Gpa(frame * PAGE_SIZE as u64),
            page_type: page.page_type(),
            contents: contents(frame),
        })
        .collect()
}

/// CONTENTS of a VMSA page: with TSC_SCALE and TSC_OFFSET zero.
fn measured_vmsa(vmsa: &Vmsa) -> [u8; 48] {
    let measured = Vmsa { tsc_scale: 0, tsc_offset: 0, ..*vmsa };
    snp_sha384::sha384(measured.as_bytes())
}

/// A refused CPUID page says more than its status: `buffer` now holds what the firmware would accept.
fn explain_cpuid(error: LaunchError, page: &LaunchPage, buffer: Option<Vec<u8>>) -> LaunchError {
    match (error, page, buffer) {
        (
            LaunchError::Refused { command, fw_status: Some(FwStatus::INVALID_PARAM), .. },
            LaunchPage::Cpuid { gpa, table },
            Some(buffer),
        ) => {
            let accepted = snp_abi::CpuidPage::read_from_bytes(&buffer).expect("a CPUID page is a page");
            let pairs = table.functions.iter().copied().zip(accepted.functions);
            let corrected: Vec<(CpuidFunction, CpuidFunction)> =
                pairs.filter(|(given, accepted)| given != accepted).collect();
            LaunchError::Cpuid { command, gpa: *gpa, corrected }
        }
        (error, ..) => error,
    }
}
