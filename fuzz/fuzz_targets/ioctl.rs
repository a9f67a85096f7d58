//! Sequences of raw ioctls on every kind of object, with arguments that point to the input's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_abi::kvm::{KVM_IOCTLS, KVM_X86_SNP_VM};
use snp_asp::PlatformConfig;
use snp_softkvm::ioctl::{Answer, Object};
use snp_softkvm::{Process, SoftKvm, profiles};

/// Objects that a sequence may have at once.
const OBJECTS: usize = 16;
const SEV_ISSUE_CMD: u32 = 0xc010_5300;

fuzz_target!(|data: &[u8]| {
    let mut data = data.iter().copied();
    let Some(choice) = data.next() else { return };
    let process = Process::new();
    let kvm = SoftKvm::new(PlatformConfig::genoa(), profiles::ALL[usize::from(choice) % profiles::ALL.len()]);
    let mut objects = vec![Object::Sev(kvm.sev_device()), Object::Kvm(kvm)];
    // Request, object, and what the argument is: a number, or the next bytes in memory.
    while let (Some(request), Some(object), Some(kind)) = (data.next(), data.next(), data.next()) {
        let request = match KVM_IOCTLS.get(usize::from(request)) {
            Some((number, _)) => *number,
            None => SEV_ISSUE_CMD,
        };
        let bytes: Vec<u8> = match kind % 4 {
            0 | 1 => Vec::new(),
            2 => data.by_ref().take(usize::from(kind)).collect(),
            // As long as the request says.
            _ => data.by_ref().take((request >> 16 & 0x3fff) as usize).collect(),
        };
        let buffer = process.buffer(&bytes);
        let argument = match kind % 4 {
            0 => u64::from(kind >> 2),
            1 => KVM_X86_SNP_VM,
            _ => buffer,
        };
        let index = usize::from(object) % objects.len();
        if let Ok(Answer::Descriptor(made)) = objects[index].ioctl(&process, request, argument)
            && objects.len() < OBJECTS
        {
            if let Object::GuestMemfd(memfd) = &made {
                process.install(memfd.clone());
            }
            objects.push(made);
        }
        // Some stay mapped: commands hold addresses of others.
        if kind & 0x80 == 0 {
            process.unmap(buffer);
        }
    }
});
