//! ioctl(2) by number: what no typed test reaches, on every kind of object.

use snp_abi::Errno;
use snp_abi::kvm::*;
use snp_asp::PlatformConfig;
use snp_softkvm::ioctl::{Answer, Object};
use snp_softkvm::{HostMsrs, Process, SoftKvm, profiles};
use zerocopy::IntoBytes;

/// Every kind of object, on one host.
struct Objects {
    process: Process,
    all: Vec<Object>,
}

fn made(answer: Result<Answer, Errno>) -> Object {
    match answer {
        Ok(Answer::Descriptor(object)) => object,
        other => panic!("no descriptor: {other:?}"),
    }
}

impl Objects {
    fn new(vm_type: u64) -> Self {
        let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::VCPU_STATE);
        let process = Process::new();
        let sev = Object::Sev(kvm.sev_device());
        let kvm = Object::Kvm(kvm);
        let vm = made(kvm.ioctl(&process, KVM_CREATE_VM, vm_type));
        let create = kvm_create_guest_memfd { size: 0x10000, ..kvm_create_guest_memfd::default() };
        let memfd = vm.ioctl(&process, KVM_CREATE_GUEST_MEMFD, process.buffer(create.as_bytes()));
        let vcpu = made(vm.ioctl(&process, KVM_CREATE_VCPU, 0));
        let mut all = vec![kvm, sev, vm, vcpu, Object::HostMsrs(HostMsrs)];
        if let Ok(Answer::Descriptor(object)) = memfd {
            let Object::GuestMemfd(shared) = &object else { panic!("no guest_memfd") };
            process.install(shared.clone());
            all.push(object);
        }
        Self { process, all }
    }
}

/// A pointer to nowhere is EFAULT, or whatever is looked at before it; never a panic, and never success for a request that
/// reads or writes a structure of more than a few bytes.
#[test]
fn pointers_to_nowhere() {
    const NOWHERE: u64 = 0xdead_0000;
    // They look at nothing behind the pointer, at least on these objects.
    let lenient = [KVM_MEMORY_ENCRYPT_OP];
    for vm_type in [0, KVM_X86_SNP_VM] {
        let objects = Objects::new(vm_type);
        for (number, name) in KVM_IOCTLS {
            let size = number >> 16 & 0x3fff;
            for object in &objects.all {
                let answer = object.ioctl(&objects.process, *number, NOWHERE);
                if size >= 8 && !lenient.contains(number) {
                    assert!(answer.is_err(), "{name} on {object:?} took a pointer to nowhere");
                }
            }
        }
    }
}

#[test]
fn requests_that_an_object_has_not() {
    let objects = Objects::new(KVM_X86_SNP_VM);
    for object in &objects.all {
        let expected = match object {
            Object::Vm(_) | Object::GuestMemfd(_) | Object::HostMsrs(_) => Errno::ENOTTY,
            _ => Errno::EINVAL,
        };
        // 0xaeff is nobody's.
        assert_eq!(object.ioctl(&objects.process, 0xaeff, 0).unwrap_err(), expected, "{object:?}");
    }
}

/// Seeded, so that a failure happens again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        self.roll() as usize % limit
    }
}

/// 10 000 requests with random arguments: small numbers, pointers to random bytes, pointers to nowhere.
#[test]
fn random_requests_on_every_object() {
    for (seed, vm_type) in [(1, 0), (2, KVM_X86_SEV_VM), (3, KVM_X86_SEV_ES_VM), (4, KVM_X86_SNP_VM)] {
        let mut dice = Dice(seed);
        let mut objects = Objects::new(vm_type);
        for _ in 0..2_500 {
            let (number, _) = KVM_IOCTLS[dice.below(KVM_IOCTLS.len())];
            let bytes: Vec<u8> =
                (0..dice.below(5000)).map(|_| if dice.roll() & 3 == 0 { dice.roll() as u8 } else { 0 }).collect();
            let buffer = objects.process.buffer(&bytes);
            let argument = match dice.below(4) {
                0 => dice.roll() & 0xff,
                1 => dice.roll() << 13,
                _ => buffer,
            };
            let which = dice.below(objects.all.len());
            if let Ok(Answer::Descriptor(object)) = objects.all[which].ioctl(&objects.process, number, argument)
                && objects.all.len() < 12
            {
                objects.all.push(object);
            }
            objects.process.unmap(buffer);
        }
    }
}
