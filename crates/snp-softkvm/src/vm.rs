//! VMs.

use std::sync::{Arc, Mutex, OnceLock};

use snp_abi::kvm::*;
use snp_abi::{Asid, Errno, LaunchDigest, PAGE_SIZE, Pfn, RmpEntry, Vmsa};
use zerocopy::FromBytes;

use crate::devices::{VmDevices, enable_cap};
use crate::host::{Host, has_private_memory};
use crate::memory::Memory;
use crate::sev::SevState;
use crate::vcpu::VcpuInner;
use crate::{GuestMemfd, Observer, UserSpace, Vcpu, capabilities, lock, sev};

/// KVM_CAP_MAX_VCPUS, as distributions configure it.
pub const MAX_VCPUS: u32 = 1024;
/// KVM_CAP_MAX_VCPU_ID: four numbers for every vCPU.
pub const MAX_VCPU_IDS: u32 = 4 * MAX_VCPUS;

const PAGE: u64 = PAGE_SIZE as u64;

/// A VM, as its descriptor. Lives as long as the descriptor, any of its vCPUs or guest_memfds.
#[derive(Clone, Debug)]
pub struct Vm {
    pub(crate) inner: Arc<VmInner>,
}

#[derive(Debug)]
pub(crate) struct VmInner {
    pub(crate) host: Arc<Host>,
    pub(crate) vm_type: u64,
    pub(crate) state: Mutex<VmState>,
    pub(crate) memory: Memory,
    observer: OnceLock<Arc<dyn Observer>>,
}

/// All that a VM's lock guards.
#[derive(Debug, Default)]
pub(crate) struct VmState {
    /// In index order.
    pub(crate) vcpus: Vec<Arc<VcpuInner>>,
    /// Set by INIT2.
    pub(crate) sev: Option<SevState>,
    /// A capability of the profile that was enabled.
    pub(crate) enabled: Option<u32>,
    /// Its encryption context was moved to another VM.
    pub(crate) dead: bool,
    pub(crate) max_vcpu_ids: Option<u32>,
    /// SEV-ES: the AP jump table's address.
    pub(crate) jump_table: u64,
    pub(crate) devices: VmDevices,
    pub(crate) hypercall_exits: u64,
}

impl Vm {
    pub(crate) fn new(host: Arc<Host>, vm_type: u64) -> Self {
        let (state, memory, observer) = (Mutex::default(), Memory::default(), OnceLock::new());
        Self { inner: Arc::new(VmInner { host, vm_type, state, memory, observer }) }
    }

    /// The number that KVM_CREATE_VM was given.
    pub fn vm_type(&self) -> u64 {
        self.inner.vm_type
    }

    /// KVM_CHECK_EXTENSION.
    pub fn check_extension(&self, capability: u32) -> i32 {
        capabilities::check(&self.inner.host, Some(self.inner.vm_type), capability)
    }

    /// KVM_ENABLE_CAP: EXIT_HYPERCALL, MAX_VCPU_ID, the capability by which the `vcpu-state-explicit` profile enables direct
    /// VMSAs, and those of devices.
    ///
    /// # Errors
    /// EINVAL: flags, arguments that the capability does not take, or a capability that cannot be enabled. ENOSYS: a
    /// capability that Linux can enable and this model cannot; it is noted in [`crate::SoftKvm::unmodelled`].
    pub fn enable_cap(&self, cap: &kvm_enable_cap) -> Result<(), Errno> {
        if cap.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.inner.lock();
        match cap.cap {
            KVM_CAP_EXIT_HYPERCALL => {
                if cap.args[0] & !(1 << KVM_HC_MAP_GPA_RANGE) != 0 {
                    return Err(Errno::EINVAL);
                }
                state.hypercall_exits = cap.args[0];
                Ok(())
            }
            KVM_CAP_MAX_VCPU_ID => state.set_max_vcpu_ids(cap.args[0]),
            capability if self.inner.direct_capability() == Some(capability) => {
                // Rework: flags and arguments zero, an SNP VM, and no vCPU yet.
                if cap.args != [0; 4] || !self.inner.is_snp() || !state.vcpus.is_empty() {
                    return Err(Errno::EINVAL);
                }
                state.enabled = Some(capability);
                Ok(())
            }
            capability if self.check_extension(capability) != 0 => enable_cap::enable(&mut state, cap),
            capability => Err(self.inner.host.unmodelled(format!("KVM_ENABLE_CAP {}", capability_name(capability)))),
        }
    }

    /// KVM_CREATE_VCPU. The vCPU's index is the number of vCPUs before it; its APIC ID is `id`.
    ///
    /// # Errors
    /// EINVAL: `id` or the number of vCPUs is too large. EEXIST: there is such a vCPU. ENOMEM: no frame for its VMSA.
    pub fn create_vcpu(&self, id: u64) -> Result<Vcpu, Errno> {
        let mut state = self.inner.lock();
        if id >= u64::from(MAX_VCPU_IDS) || state.vcpus.len() >= MAX_VCPUS as usize {
            return Err(Errno::EINVAL);
        }
        if state.vcpus.iter().any(|vcpu| u64::from(vcpu.id) == id) {
            return Err(Errno::EEXIST);
        }
        if id >= u64::from(state.max_vcpu_ids.unwrap_or(MAX_VCPU_IDS)) {
            return Err(Errno::EINVAL);
        }
        let frame = match self.inner.vm_type {
            KVM_X86_SEV_ES_VM | KVM_X86_SNP_VM => Some(lock(&self.inner.host.frames).allocate(1)?),
            _ => None,
        };
        let vcpu = Arc::new(VcpuInner::new(&state, &self.inner.host, id as u32, frame));
        state.vcpus.push(vcpu.clone());
        Ok(Vcpu { vm: self.inner.clone(), inner: vcpu })
    }

    /// KVM_CREATE_GUEST_MEMFD.
    ///
    /// # Errors
    /// EINVAL: flags, or a size that is zero, negative or not whole pages. ENOMEM: more than the host's address space.
    pub fn create_guest_memfd(&self, args: &kvm_create_guest_memfd) -> Result<Arc<GuestMemfd>, Errno> {
        if args.flags & !capabilities::guest_memfd_flags(Some(self.inner.vm_type)) != 0 {
            return Err(Errno::EINVAL);
        }
        if args.size == 0 || args.size > i64::MAX as u64 || !args.size.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let pages = args.size / PAGE;
        let start = lock(&self.inner.host.frames).allocate(pages)?;
        Ok(Arc::new(GuestMemfd::new(self.inner.clone(), start, pages, args.flags)))
    }

    /// KVM_SET_USER_MEMORY_REGION2.
    ///
    /// # Errors
    /// EINVAL, EEXIST (overlap), EBADF (no such guest_memfd), in Linux's order; the slots are unchanged then.
    pub fn set_user_memory_region2(
        &self,
        user: &dyn UserSpace,
        region: &kvm_userspace_memory_region2,
    ) -> Result<(), Errno> {
        let spaces = if self.inner.has_private_memory() { 1 } else { 2 };
        let _vm = self.inner.lock();
        self.inner.memory.change(|layout| layout.slots.set(&self.inner, user, region, spaces))
    }

    /// KVM_SET_MEMORY_ATTRIBUTES.
    ///
    /// # Errors
    /// EINVAL: flags, an attribute that the VM does not have, or a range that is empty, misaligned or wraps.
    pub fn set_memory_attributes(&self, attributes: &kvm_memory_attributes) -> Result<(), Errno> {
        let kvm_memory_attributes { address, size, attributes, flags } = *attributes;
        let supported = if self.inner.has_private_memory() { KVM_MEMORY_ATTRIBUTE_PRIVATE } else { 0 };
        let end = address.checked_add(size);
        if flags != 0 || attributes & !supported != 0 || size == 0 || end.is_none() {
            return Err(Errno::EINVAL);
        }
        if !address.is_multiple_of(PAGE) || !size.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let private = attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE != 0;
        let _vm = self.inner.lock();
        self.inner.memory.change(|layout| layout.private.set(address / PAGE, (address + size) / PAGE, private));
        Ok(())
    }

    /// KVM_MEMORY_ENCRYPT_OP: `argument` is the user address of a [`kvm_sev_cmd`]; 0 asks whether there is support.
    ///
    /// # Errors
    /// As Linux: see the reference in `docs/` and the modules of `sev`. What the command left in `error` is in user memory.
    pub fn memory_encrypt_op(&self, user: &dyn UserSpace, argument: u64) -> Result<(), Errno> {
        sev::vm_command(&self.inner, user, argument)
    }

    /// Has somebody watch its guests run. Only the first one that is given does.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.inner.observer.set(observer);
    }

    /// Makes every processor of the VM ask again for the pages that it kept: user memory was mapped or unmapped.
    pub fn invalidate_memory(&self) {
        self.inner.memory.invalidate();
    }

    /// Whether the VM's encryption context was moved away: every ioctl on it and its vCPUs is EIO.
    pub fn is_dead(&self) -> bool {
        self.inner.lock().dead
    }

    /// Whether LAUNCH_FINISH ended a launch of this VM well, for processors: no ioctl tells it.
    pub fn launch_finished(&self) -> bool {
        self.inner.lock().sev.as_ref().and_then(|sev| sev.launch.as_ref()).is_some_and(|launch| launch.finished)
    }

    /// The launch digest so far, for tests and transcripts: no ioctl tells it.
    pub fn launch_digest(&self) -> Option<LaunchDigest> {
        let gctx = self.inner.lock().gctx()?;
        lock(&self.inner.host.firmware).launch_digest(gctx)
    }

    /// The VMSAs that KVM made for the vCPUs, in index order, for transcripts: no ioctl tells them.
    pub fn made_vmsas(&self) -> Vec<Box<Vmsa>> {
        let vcpus = self.inner.lock().vcpus.clone();
        let made = |vcpu: Arc<VcpuInner>| {
            let state = vcpu.lock();
            let page = state.made.as_ref()?;
            Some(Box::new(Vmsa::read_from_bytes(page.as_bytes()).expect("a VMSA is a page")))
        };
        vcpus.into_iter().filter_map(made).collect()
    }

    /// The RMP entry behind a guest frame, for tests: no ioctl tells it.
    pub fn rmp_entry(&self, gfn: u64) -> Option<RmpEntry> {
        let layout = self.inner.memory.layout();
        let slot = layout.slots.find(gfn)?;
        let (memfd, first) = slot.guest_memfd.as_ref()?;
        let pfn = memfd.upgrade()?.pfn(first + (gfn - slot.base_gfn));
        Some(lock(&self.inner.host.firmware).rmp().entry(pfn))
    }
}

impl VmInner {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, VmState> {
        lock(&self.state)
    }

    /// Whether the VM was made as an SNP VM.
    pub(crate) fn is_snp(&self) -> bool {
        self.vm_type == KVM_X86_SNP_VM
    }

    pub(crate) fn has_private_memory(&self) -> bool {
        has_private_memory(self.vm_type)
    }

    /// The guest's ASID, and its handle if it is one of plain SEV.
    pub(crate) fn encryption(&self) -> (Option<Asid>, u32) {
        let state = self.lock();
        let sev = state.sev.as_ref();
        let handle = sev.and_then(|sev| sev.context.as_ref()).map_or(0, |context| context.handle());
        (sev.map(|sev| sev.asid), handle)
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    fn direct_capability(&self) -> Option<u32> {
        self.host.profile.vcpu_state.and_then(|command| command.enabled_by)
    }
}

impl VmState {
    /// The page of the guest context, between LAUNCH_START and the VM's end.
    pub(crate) fn gctx(&self) -> Option<Pfn> {
        Some(self.sev.as_ref()?.launch.as_ref()?.gctx)
    }

    fn set_max_vcpu_ids(&mut self, ids: u64) -> Result<(), Errno> {
        let may = |ids: &u32| *ids <= MAX_VCPU_IDS && *ids >= self.devices.boot_cpu;
        let ids = u32::try_from(ids).ok().filter(may).ok_or(Errno::EINVAL)?;
        match self.max_vcpu_ids {
            Some(set) if set != ids => Err(Errno::EINVAL),
            _ => {
                // Zero leaves the limit open, as in Linux.
                self.max_vcpu_ids = (ids != 0).then_some(ids);
                Ok(())
            }
        }
    }
}

impl Drop for VmInner {
    fn drop(&mut self) {
        lock(&self.host.irqfds).release(self);
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for vcpu in &state.vcpus {
            if let Some(frame) = vcpu.frame {
                self.host.release_frames(frame, 1, [0].into_iter());
            }
        }
        if let Some(sev) = state.sev.take() {
            sev.destroy(&self.host);
        }
    }
}

/// The uAPI's name of a capability, or its number.
fn capability_name(capability: u32) -> String {
    let known = KVM_CAPS.iter().find(|(number, _)| *number == capability);
    known.map_or_else(|| capability.to_string(), |(_, name)| (*name).to_owned())
}
