//! A VMM in a few lines: a VM with memory, and commands by their structures.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod long_mode;
pub(crate) mod plain;

use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, FwStatus, LaunchDigest, PAGE_SIZE, PageType, SevFeatures, Vmsa};
use snp_asp::PlatformConfig;
use snp_softkvm::{Process, SoftKvm, UapiProfile, UserSpace, Vcpu, Vm};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const PAGE: u64 = PAGE_SIZE as u64;
/// Frames 0 to 63 of the first slot, 64 to 95 of the second, right behind it.
pub(crate) const FIRST_SLOT: u64 = 64;
pub(crate) const SECOND_SLOT: u64 = 32;
/// Frames 96 to 99: a slot without guest_memfd.
pub(crate) const PLAIN_SLOT: u64 = 4;
/// Frame 60: in the first slot, but shared.
pub(crate) const SHARED_GFN: u64 = 60;

/// An errno and what the command left in `error`.
pub(crate) type Answer = (Option<Errno>, u32);

pub(crate) const OK: Answer = (None, 0);

pub(crate) const fn fails(errno: Errno) -> Answer {
    (Some(errno), 0)
}

pub(crate) const fn firmware(status: FwStatus) -> Answer {
    (Some(Errno::EIO), status.0)
}

pub(crate) struct Vmm {
    pub(crate) kvm: SoftKvm,
    pub(crate) vm: Vm,
    pub(crate) process: Process,
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) memfds: Vec<u32>,
    /// Slots have user memory, too.
    pub(crate) shared_memory: bool,
}

impl Vmm {
    pub(crate) fn new(profile: &'static UapiProfile, vm_type: u64) -> Self {
        Self::on(PlatformConfig::genoa(), profile, vm_type)
    }

    pub(crate) fn on(config: PlatformConfig, profile: &'static UapiProfile, vm_type: u64) -> Self {
        let kvm = SoftKvm::with_engine(config, profile, std::sync::Arc::new(snp_softkvm::Interpreters));
        let vm = kvm.create_vm(vm_type).expect("a known type");
        Self { kvm, vm, process: Process::new(), vcpus: Vec::new(), memfds: Vec::new(), shared_memory: false }
    }

    /// An SNP VM after LAUNCH_START with memory and `vcpus` vCPUs, all of its memory private but [`SHARED_GFN`].
    pub(crate) fn launching(profile: &'static UapiProfile, vcpus: u64) -> Self {
        Self::new(profile, KVM_X86_SNP_VM).launch(profile, vcpus)
    }

    /// The same with memory that the guest can share.
    pub(crate) fn launching_to_run(profile: &'static UapiProfile, vcpus: u64) -> Self {
        Self { shared_memory: true, ..Self::new(profile, KVM_X86_SNP_VM) }.launch(profile, vcpus)
    }

    fn launch(mut self, profile: &'static UapiProfile, vcpus: u64) -> Self {
        let vmm = &mut self;
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        assert_eq!(vmm.start(&start()), OK);
        if let Some(capability) = profile.vcpu_state.and_then(|command| command.enabled_by) {
            let cap = kvm_enable_cap { cap: capability, ..kvm_enable_cap::default() };
            assert_eq!(vmm.vm.enable_cap(&cap), Ok(()));
        }
        vmm.add_memory();
        for id in 0..vcpus {
            let vcpu = vmm.vm.create_vcpu(id).expect("few vCPUs");
            vmm.vcpus.push(vcpu);
        }
        self
    }

    pub(crate) fn add_memory(&mut self) {
        for (slot, start, pages) in [(0, 0, FIRST_SLOT), (1, FIRST_SLOT, SECOND_SLOT)] {
            let args = kvm_create_guest_memfd { size: pages * PAGE, ..kvm_create_guest_memfd::default() };
            let memfd = self.vm.create_guest_memfd(&args).expect("whole pages");
            let fd = self.process.install(memfd);
            self.memfds.push(fd);
            self.add_slot(slot, KVM_MEM_GUEST_MEMFD, start, pages, fd);
        }
        self.add_slot(2, 0, FIRST_SLOT + SECOND_SLOT, PLAIN_SLOT, 0);
        self.set_private(0, FIRST_SLOT + SECOND_SLOT + PLAIN_SLOT, true);
        self.set_private(SHARED_GFN, 1, false);
    }

    pub(crate) fn add_slot(&self, slot: u32, flags: u32, start: u64, pages: u64, guest_memfd: u32) {
        let region = kvm_userspace_memory_region2 {
            slot,
            flags,
            guest_phys_addr: start * PAGE,
            memory_size: pages * PAGE,
            userspace_addr: if self.shared_memory { self.process.buffer(&vec![0; (pages * PAGE) as usize]) } else { 0 },
            guest_memfd,
            ..kvm_userspace_memory_region2::default()
        };
        assert_eq!(self.vm.set_user_memory_region2(&self.process, &region), Ok(()));
    }

    pub(crate) fn set_private(&self, start: u64, pages: u64, private: bool) {
        let attributes = kvm_memory_attributes {
            address: start * PAGE,
            size: pages * PAGE,
            attributes: if private { KVM_MEMORY_ATTRIBUTE_PRIVATE } else { 0 },
            flags: 0,
        };
        assert_eq!(self.vm.set_memory_attributes(&attributes), Ok(()));
    }

    pub(crate) fn init2(&self, args: &kvm_sev_init) -> Answer {
        self.command(KVM_SEV_INIT2, *args).0
    }

    pub(crate) fn start(&self, args: &kvm_sev_snp_launch_start) -> Answer {
        self.command(KVM_SEV_SNP_LAUNCH_START, *args).0
    }

    pub(crate) fn update(&self, args: &kvm_sev_snp_launch_update) -> (Answer, kvm_sev_snp_launch_update) {
        self.command(KVM_SEV_SNP_LAUNCH_UPDATE, *args)
    }

    pub(crate) fn finish(&self, args: &kvm_sev_snp_launch_finish) -> Answer {
        self.command(KVM_SEV_SNP_LAUNCH_FINISH, *args).0
    }

    /// Launches whole pages of one type.
    pub(crate) fn launch_pages(&self, page_type: PageType, gfn: u64, contents: &[u8]) -> Answer {
        let uaddr = self.process.buffer(contents);
        self.update(&update(page_type, gfn, uaddr, contents.len() as u64)).0
    }

    pub(crate) fn launch_vmsa(&self, gfn: u64, vmsa: &Vmsa) -> Answer {
        self.launch_pages(PageType::VMSA, gfn, vmsa.as_bytes())
    }

    pub(crate) fn set_vcpu_state(&self, vcpu: usize, args: &kvm_sev_snp_vcpu_state) -> Answer {
        let data = self.process.buffer(args.as_bytes());
        self.raw(Some(vcpu), KVM_SEV_SNP_SET_VCPU_STATE, data, self.process.sev_fd())
    }

    pub(crate) fn get_vcpu_state(&self, vcpu: usize) -> kvm_sev_snp_vcpu_state {
        let data = self.process.buffer(kvm_sev_snp_vcpu_state::default().as_bytes());
        assert_eq!(self.raw(Some(vcpu), KVM_SEV_SNP_GET_VCPU_STATE, data, 3), OK);
        kvm_sev_snp_vcpu_state::read_from_bytes(&self.process.unmap(data).unwrap()).unwrap()
    }

    /// A command with its structure in user memory, and the structure afterwards.
    pub(crate) fn command<T>(&self, id: u32, args: T) -> (Answer, T)
    where
        T: IntoBytes + FromBytes + Immutable + KnownLayout,
    {
        let data = self.process.buffer(args.as_bytes());
        let answer = self.raw(None, id, data, self.process.sev_fd());
        (answer, T::read_from_bytes(&self.process.unmap(data).unwrap()).unwrap())
    }

    /// KVM_MEMORY_ENCRYPT_OP as it is, on the VM or on a vCPU.
    pub(crate) fn raw(&self, vcpu: Option<usize>, id: u32, data: u64, sev_fd: u32) -> Answer {
        let command = kvm_sev_cmd { id, data, sev_fd, ..kvm_sev_cmd::default() };
        let address = self.process.buffer(command.as_bytes());
        let answer = match vcpu {
            None => self.vm.memory_encrypt_op(&self.process, address),
            Some(vcpu) => self.vcpus[vcpu].memory_encrypt_op(&self.process, address),
        };
        let after = kvm_sev_cmd::read_from_bytes(&self.process.unmap(address).unwrap()).unwrap();
        (answer.err(), after.error)
    }

    /// All that user space and the RMP show of the launch.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let frames = FIRST_SLOT + SECOND_SLOT;
        Snapshot {
            digest: self.vm.launch_digest(),
            rmp: (0..frames).map(|gfn| format!("{:?}", self.vm.rmp_entry(gfn))).collect(),
            vcpus: self
                .vcpus
                .iter()
                .map(|vcpu| format!("{:?} {:?} {:?}", vcpu.vmsa(), vcpu.regs(), vcpu.sregs()))
                .collect(),
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    digest: Option<LaunchDigest>,
    rmp: Vec<String>,
    vcpus: Vec<String>,
}

pub(crate) fn start() -> kvm_sev_snp_launch_start {
    kvm_sev_snp_launch_start { policy: 0x30000, ..kvm_sev_snp_launch_start::default() }
}

pub(crate) fn update(page_type: PageType, gfn: u64, uaddr: u64, len: u64) -> kvm_sev_snp_launch_update {
    kvm_sev_snp_launch_update {
        gfn_start: gfn,
        uaddr,
        len,
        r#type: page_type.0,
        ..kvm_sev_snp_launch_update::default()
    }
}

/// A VMSA that KVM accepts in a VM without further features.
pub(crate) fn good_vmsa() -> Vmsa {
    Vmsa { rip: 0xfff0, efer: 0x1000, sev_features: SevFeatures(SevFeatures::SNP_ACTIVE), ..Vmsa::default() }
}

/// A page from whose address on nothing is mapped.
pub(crate) fn unmapped() -> u64 {
    0x7000_0000_0000
}

/// Keeps the trait in scope for tests that read user memory.
pub(crate) fn read(process: &Process, address: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    process.read(address, &mut buffer).expect("mapped");
    buffer
}
