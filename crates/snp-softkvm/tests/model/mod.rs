//! Random command sequences against a small reference model of the launch uAPI.
//!
//! The model is written from the reference and shares no code with the crate: it knows one SNP VM with 16 guest frames in two
//! memory slots, and predicts every answer and the launch digest. Included by path by a property test and by a fuzz target.

use sha2::{Digest, Sha384};
use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, PAGE_SIZE, SevFeatures, Vmpl, Vmsa};
use snp_asp::PlatformConfig;
use snp_softkvm::{Process, SoftKvm, UapiProfile, Vcpu, Vm};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const PAGE: u64 = PAGE_SIZE as u64;
/// Frames 0 to 9 are slot 0, 10 to 15 slot 1.
const FIRST: u64 = 10;
const FRAMES: u64 = 16;
/// Where nothing is mapped.
const UNMAPPED: u64 = 0x7000_0000_0000;
const INVALID_GUEST_STATE: u32 = 2;

/// One command, its arguments still raw.
#[derive(Clone, Copy, Debug)]
pub struct Op([u8; 4]);

/// Cuts bytes into commands; what is left over is dropped, and so is what comes after 64 commands.
pub fn decode(bytes: &[u8]) -> Vec<Op> {
    bytes.chunks_exact(4).take(64).map(|chunk| Op([chunk[0], chunk[1], chunk[2], chunk[3]])).collect()
}

/// Performs the commands on a fresh VM and on the model, and compares every answer.
///
/// # Panics
/// If an answer or the digest differs.
pub fn run(profile: &'static UapiProfile, ops: &[Op]) {
    let mut world = World::new(profile);
    for (index, op) in ops.iter().enumerate() {
        let (got, expected) = world.step(*op);
        assert_eq!(got, expected, "{}: command {index}, {op:?}, after {:?}", profile.name, &ops[..index]);
        let digest = world.vm.launch_digest().map(|digest| digest.0);
        assert_eq!(digest, world.model.digest, "{}: digest after command {index}, {op:?}", profile.name);
    }
}

/// An errno and `error`.
type Answer = (Option<Errno>, u32);

const OK: Answer = (None, 0);
const EINVAL: Answer = (Some(Errno::EINVAL), 0);
const EFAULT: Answer = (Some(Errno::EFAULT), 0);
const EIO: Answer = (Some(Errno::EIO), 0);
const ENOTTY: Answer = (Some(Errno::ENOTTY), 0);

/// The reference model.
#[derive(Default)]
struct Model {
    initialised: bool,
    /// `Some` from LAUNCH_START on.
    digest: Option<[u8; 48]>,
    finished: bool,
    boot_vmsa: bool,
    /// `direct-vmsa`: a launched VMSA is the boot processor's.
    bound: bool,
    direct: bool,
    private: [bool; FRAMES as usize],
    launched: [bool; FRAMES as usize],
    vcpus: Vec<ModelVcpu>,
}

struct ModelVcpu {
    rip: u64,
    protected: bool,
}

struct World {
    profile: &'static UapiProfile,
    model: Model,
    vm: Vm,
    vcpus: Vec<Vcpu>,
    process: Process,
}

impl World {
    fn new(profile: &'static UapiProfile) -> Self {
        let vm = SoftKvm::new(PlatformConfig::genoa(), profile).create_vm(KVM_X86_SNP_VM).expect("SNP");
        let process = Process::new();
        for (slot, start, pages) in [(0, 0, FIRST), (1, FIRST, FRAMES - FIRST)] {
            let args = kvm_create_guest_memfd { size: pages * PAGE, ..Default::default() };
            let guest_memfd = process.install(vm.create_guest_memfd(&args).expect("whole pages"));
            let region = kvm_userspace_memory_region2 {
                slot,
                flags: KVM_MEM_GUEST_MEMFD,
                // Not at 0, so that no VMSA in these frames is 2 MiB-aligned.
                guest_phys_addr: (start + 1) * PAGE,
                memory_size: pages * PAGE,
                guest_memfd,
                ..Default::default()
            };
            vm.set_user_memory_region2(&process, &region).expect("a fresh slot");
        }
        let model = Model { bound: profile.name == "direct-vmsa", ..Model::default() };
        Self { profile, model, vm, vcpus: Vec::new(), process }
    }

    /// (what the crate answered, what the model predicts).
    fn step(&mut self, op: Op) -> (Answer, Answer) {
        let Op([command, a, b, c]) = op;
        match command % 9 {
            0 => self.init2(a, b),
            1 => self.start(a),
            2 | 3 => self.update(a, b, c),
            4 => self.finish(a),
            5 => self.create_vcpu(a),
            6 => self.set_private(a, b, c & 3 != 0),
            7 => self.set_regs(a, b),
            _ => self.set_vcpu_state(a, b, c),
        }
    }

    fn init2(&mut self, a: u8, b: u8) -> (Answer, Answer) {
        let args = kvm_sev_init {
            flags: u32::from(a % 16 == 1),
            ghcb_version: u16::from(b % 4),
            vmsa_features: if a % 16 == 2 { 1 } else { 0 },
            ..Default::default()
        };
        let good = !self.model.initialised
            && self.model.vcpus.is_empty()
            && args.flags == 0
            && args.vmsa_features == 0
            && matches!(args.ghcb_version, 0 | 2);
        // An initialised SNP guest takes no older command at all.
        let expected = match (self.model.initialised, good) {
            (true, _) => (Some(Errno::EPERM), 0),
            (_, true) => OK,
            (_, false) => EINVAL,
        };
        self.model.initialised |= good;
        (self.command(KVM_SEV_INIT2, args).0, expected)
    }

    fn start(&mut self, a: u8) -> (Answer, Answer) {
        let policy = match a % 8 {
            0 => 0x10000,
            1 => 0x20000,
            2 => 0x30000 | 1 << 18,
            _ => 0x30000,
        };
        let args = kvm_sev_snp_launch_start { policy, flags: u16::from(a % 8 == 3), ..Default::default() };
        let expected = if !self.model.initialised {
            ENOTTY
        } else if self.model.digest.is_some() || !matches!(a % 8, 1 | 4..) {
            EINVAL
        } else if a % 8 == 1 {
            // The firmware: SMT is on.
            (Some(Errno::EIO), 7)
        } else {
            self.model.digest = Some([0; 48]);
            OK
        };
        (self.command(KVM_SEV_SNP_LAUNCH_START, args).0, expected)
    }

    fn update(&mut self, a: u8, b: u8, c: u8) -> (Answer, Answer) {
        let page_type = a % 8;
        let gfn = u64::from(b % 20);
        let pages = u64::from(c % 4);
        let vmsa = vmsa(b >> 5);
        let contents =
            if page_type == 2 { vmsa.as_bytes().repeat(4) } else { vec![if a < 128 { c } else { 0 }; 4 * PAGE_SIZE] };
        // The CPUID page must be one: all zero is.
        let contents = if page_type == 6 { vec![0; 4 * PAGE_SIZE] } else { contents };
        let buffer = self.process.buffer(&contents);
        let uaddr = match c >> 6 {
            0 if c & 0x20 != 0 => UNMAPPED,
            1 if c & 0x20 != 0 => buffer + 8,
            _ => buffer,
        };
        let args = kvm_sev_snp_launch_update {
            gfn_start: gfn + 1,
            uaddr,
            len: pages * PAGE,
            r#type: page_type,
            flags: u16::from(c >> 3 & 3 == 3),
            ..Default::default()
        };
        let (expected, done) = self.model.update(self.profile.name, &args, &contents, &vmsa);
        let (got, after) = self.command(KVM_SEV_SNP_LAUNCH_UPDATE, args);
        assert_eq!(after.len, args.len - done * PAGE, "short count of {args:?}");
        self.process.unmap(buffer);
        (got, expected)
    }

    fn finish(&mut self, a: u8) -> (Answer, Answer) {
        let args = kvm_sev_snp_launch_finish { flags: u16::from(a % 8 == 1), ..Default::default() };
        let expected = self.model.finish(args.flags);
        (self.command(KVM_SEV_SNP_LAUNCH_FINISH, args).0, expected)
    }

    fn create_vcpu(&mut self, a: u8) -> (Answer, Answer) {
        let id = u64::from(a % 4);
        let expected = if self.vcpus.iter().any(|vcpu| u64::from(vcpu.apic_id()) == id) {
            (Some(Errno::EEXIST), 0)
        } else {
            self.model.vcpus.push(ModelVcpu { rip: 0xfff0, protected: false });
            OK
        };
        let got = self.vm.create_vcpu(id).map(|vcpu| self.vcpus.push(vcpu));
        ((got.err(), 0), expected)
    }

    fn set_private(&mut self, a: u8, b: u8, private: bool) -> (Answer, Answer) {
        let (start, pages) = (u64::from(a % 18), u64::from(b % 12));
        let args = kvm_memory_attributes {
            address: (start + 1) * PAGE,
            size: pages * PAGE,
            attributes: if private { KVM_MEMORY_ATTRIBUTE_PRIVATE } else { 0 },
            flags: 0,
        };
        let expected = if pages == 0 { EINVAL } else { OK };
        for frame in start..(start + pages).min(FRAMES) {
            self.model.private[frame as usize] = private;
        }
        ((self.vm.set_memory_attributes(&args).err(), 0), expected)
    }

    fn set_regs(&mut self, a: u8, b: u8) -> (Answer, Answer) {
        let Some(index) = self.index(a) else { return (OK, OK) };
        let rip = u64::from(b);
        let model = &mut self.model.vcpus[index];
        let expected = if model.protected { EINVAL } else { OK };
        if expected == OK {
            model.rip = rip;
        }
        let regs = kvm_regs { rip, rflags: 2, ..Default::default() };
        ((self.vcpus[index].set_regs(&regs).err(), 0), expected)
    }

    fn set_vcpu_state(&mut self, a: u8, b: u8, c: u8) -> (Answer, Answer) {
        let Some(index) = self.index(a) else { return (OK, OK) };
        let args = kvm_sev_snp_vcpu_state {
            valid_fields: u64::from(c % 8),
            vmsa_gpa: u64::from(b % 20 + 1) * PAGE + u64::from(c >> 6 == 3),
            ..Default::default()
        };
        let outside = !args.vmsa_gpa.is_multiple_of(PAGE) || args.vmsa_gpa / PAGE > FRAMES;
        let bad_vmsa = args.valid_fields & 1 != 0 && outside;
        let model = &mut self.model;
        let expected = if self.profile.name != "vcpu-state" || !model.initialised {
            ENOTTY
        } else if model.digest.is_none() || model.finished || args.valid_fields > 3 || bad_vmsa {
            EINVAL
        } else {
            model.direct = true;
            OK
        };
        let data = self.process.buffer(args.as_bytes());
        let got = self.issue(KVM_SEV_SNP_SET_VCPU_STATE, data, Some(index));
        self.process.unmap(data);
        (got, expected)
    }

    fn index(&self, a: u8) -> Option<usize> {
        (!self.vcpus.is_empty()).then(|| usize::from(a) % self.vcpus.len())
    }

    fn command<T>(&self, id: u32, args: T) -> (Answer, T)
    where
        T: IntoBytes + FromBytes + Immutable + KnownLayout,
    {
        let data = self.process.buffer(args.as_bytes());
        let answer = self.issue(id, data, None);
        let after = self.process.unmap(data).expect("mapped");
        (answer, T::read_from_bytes(&after).expect("sizes are equal"))
    }

    fn issue(&self, id: u32, data: u64, vcpu: Option<usize>) -> Answer {
        let command = kvm_sev_cmd { id, data, sev_fd: self.process.sev_fd(), ..Default::default() };
        let address = self.process.buffer(command.as_bytes());
        let answer = match vcpu {
            None => self.vm.memory_encrypt_op(&self.process, address),
            Some(index) => self.vcpus[index].memory_encrypt_op(&self.process, address),
        };
        let after = self.process.unmap(address).expect("mapped");
        (answer.err(), kvm_sev_cmd::read_from_bytes(&after).expect("sizes are equal").error)
    }
}

/// A VMSA that KVM accepts for even choices, and not for odd ones.
fn vmsa(choice: u8) -> Vmsa {
    Vmsa {
        sev_features: SevFeatures(if choice == 1 { 0x21 } else { 1 }),
        vmpl: Vmpl(if choice == 3 { 1 } else { 0 }),
        rip: u64::from(choice),
        tsc_scale: u64::from(choice / 2),
        ..Default::default()
    }
}

impl Model {
    /// The answer, and how many pages were launched.
    fn update(
        &mut self,
        profile: &str,
        args: &kvm_sev_snp_launch_update,
        contents: &[u8],
        vmsa: &Vmsa,
    ) -> (Answer, u64) {
        const ZERO: u8 = 3;
        const VMSA: u8 = 2;
        if self.digest.is_none() {
            return (EINVAL, 0);
        }
        let known = matches!(args.r#type, 1 | 3..=6) || args.r#type == VMSA && profile != "mainline";
        if args.len == 0 || args.flags != 0 || !known {
            return (EINVAL, 0);
        }
        if args.r#type == VMSA && profile == "direct-vmsa" {
            if self.boot_vmsa {
                return ((Some(Errno::EBUSY), 0), 0);
            }
            if args.len != PAGE {
                return (EINVAL, 0);
            }
        }
        if args.r#type != ZERO && !args.uaddr.is_multiple_of(PAGE) {
            return (EINVAL, 0);
        }
        let first = args.gfn_start - 1;
        if first >= FRAMES {
            return (EINVAL, 0);
        }
        let slot_end = if first < FIRST { FIRST } else { FRAMES };
        let mut done = 0;
        while done < (args.len / PAGE).min(slot_end - first) {
            let frame = (first + done) as usize;
            let page = &contents[done as usize * PAGE_SIZE..][..PAGE_SIZE];
            let refusal =
                if args.r#type != ZERO && args.uaddr == UNMAPPED || !self.private[frame] || self.launched[frame] {
                    Some(EIO)
                } else if args.r#type == VMSA && (vmsa.sev_features.0 != 1 || vmsa.vmpl.0 != 0) {
                    Some(if profile == "vcpu-state" { EINVAL } else { EIO })
                } else if self.finished {
                    Some((Some(Errno::EIO), INVALID_GUEST_STATE))
                } else {
                    None
                };
            if let Some(refusal) = refusal {
                return if done == 0 { (refusal, 0) } else { (OK, done) };
            }
            self.launched[frame] = true;
            self.boot_vmsa |= args.r#type == VMSA;
            self.measure(args.r#type, (args.gfn_start + done) * PAGE, page);
            done += 1;
        }
        (OK, done)
    }

    fn finish(&mut self, flags: u16) -> Answer {
        if !self.initialised {
            return ENOTTY;
        }
        if self.digest.is_none() || flags != 0 {
            return EINVAL;
        }
        // A VMSA that a profile does not bind (vcpu-state without SET) does not make the launch direct.
        if self.direct || self.boot_vmsa && self.bound {
            self.vcpus.iter_mut().for_each(|vcpu| vcpu.protected = true);
        } else {
            for index in 0..self.vcpus.len() {
                if self.vcpus[index].protected {
                    return EINVAL;
                }
                if self.finished {
                    return (Some(Errno::EIO), INVALID_GUEST_STATE);
                }
                self.vcpus[index].protected = true;
                let page = legacy(self.vcpus[index].rip);
                self.measure(2, 0xffff_ffff_f000, &page);
            }
        }
        if self.finished {
            return (Some(Errno::EIO), INVALID_GUEST_STATE);
        }
        self.finished = true;
        OK
    }

    fn measure(&mut self, page_type: u8, gpa: u64, page: &[u8]) {
        let digest = self.digest.as_mut().expect("started");
        let mut page = page.to_vec();
        if page_type == 2 {
            page[0x2f0..0x300].fill(0);
        }
        let contents: [u8; 48] = if page_type <= 2 { Sha384::digest(&page).into() } else { [0; 48] };
        let mut info = digest.to_vec();
        info.extend_from_slice(&contents);
        info.extend_from_slice(&[0x70, 0, page_type, 0, 0, 0, 0, 0]);
        info.extend_from_slice(&gpa.to_le_bytes());
        *digest = Sha384::digest(&info).into();
    }
}

/// The VMSA of a vCPU at reset but for RIP, written from the table of the reference.
fn legacy(rip: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE_SIZE];
    let mut put = |at: usize, value: &[u8]| page[at..at + value.len()].copy_from_slice(value);
    // ES, CS, SS, DS, FS, GS: selector, attributes, limit, base.
    for (index, (selector, attributes, base)) in
        [(0u16, 0x93u16, 0u64), (0xf000, 0x9b, 0xffff_0000), (0, 0x93, 0), (0, 0x93, 0), (0, 0x93, 0), (0, 0x93, 0)]
            .into_iter()
            .chain([(0, 0, 0), (0, 0x82, 0), (0, 0, 0), (0, 0x83, 0)])
            .enumerate()
    {
        put(16 * index, &selector.to_le_bytes());
        put(16 * index + 2, &attributes.to_le_bytes());
        put(16 * index + 4, &0xffff_u32.to_le_bytes());
        put(16 * index + 8, &base.to_le_bytes());
    }
    for (at, value) in [
        (0xd0, 0x1000u64),
        (0x148, 0x40),
        (0x158, 0x10),
        (0x160, 0x400),
        (0x168, 0xffff_0ff0),
        (0x170, 2),
        (0x178, rip),
        (0x268, 0x0007_0406_0007_0406),
        // RDX before KVM knows the CPUID, until KVM_SET_REGS writes all.
        (0x310, if rip == 0xfff0 { 0x600 } else { 0 }),
        (0x3b0, 1),
        (0x3e8, 1),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(0x408, &0x1f80_u32.to_le_bytes());
    put(0x410, &0x37f_u16.to_le_bytes());
    page
}
