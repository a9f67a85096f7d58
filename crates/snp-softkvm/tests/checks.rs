//! Every check of the uAPI: errno, `error`, order, and nothing changed by a refusal.

mod common;

use common::*;
use snp_abi::kvm::proposed::*;
use snp_abi::kvm::*;
use snp_abi::{Errno, FwStatus, LEGACY_VMSA_GPA, PageState, PageType, SevFeatures, Vmpl, Vmsa};
use snp_asp::{AsidRanges, PlatformConfig};
use snp_softkvm::{MAX_VCPU_IDS, SoftKvm, UapiProfile, VcpuVmsa, profiles};
use zerocopy::IntoBytes;

const EINVAL: Answer = fails(Errno::EINVAL);
const EFAULT: Answer = fails(Errno::EFAULT);
const EIO: Answer = fails(Errno::EIO);
const ENOTTY: Answer = fails(Errno::ENOTTY);

/// Expects an answer, and that a refusal changed nothing.
fn expect(vmm: &Vmm, name: &str, expected: Answer, act: impl FnOnce(&Vmm) -> Answer) {
    let before = vmm.snapshot();
    let answer = act(vmm);
    assert_eq!(answer, expected, "{}: {name}", vmm.kvm.profile().name);
    if answer.0.is_some() {
        assert_eq!(vmm.snapshot(), before, "{}: {name}: something changed", vmm.kvm.profile().name);
    }
}

fn direct_profiles() -> impl Iterator<Item = &'static UapiProfile> {
    profiles::ALL.iter().copied().filter(|profile| profile.name != "mainline")
}

#[test]
fn vm_types() {
    let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::DIRECT_VMSA);
    for vm_type in [0, 1, 2, 3, 4] {
        assert_eq!(kvm.create_vm(vm_type).map(|vm| vm.vm_type()), Ok(vm_type));
    }
    for vm_type in [5, 6, 31, 32, u64::MAX] {
        assert_eq!(kvm.create_vm(vm_type).err(), Some(Errno::EINVAL), "{vm_type}");
    }
}

#[test]
fn a_host_without_some_vm_types() {
    let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::MAINLINE).with_vm_types(1 << KVM_X86_SNP_VM);
    assert_eq!(kvm.check_extension(KVM_CAP_VM_TYPES), 0x11);
    for (vm_type, expected) in [
        (KVM_X86_DEFAULT_VM, None),
        (KVM_X86_SW_PROTECTED_VM, Some(Errno::EINVAL)),
        (KVM_X86_SEV_VM, Some(Errno::EINVAL)),
        (KVM_X86_SEV_ES_VM, Some(Errno::EINVAL)),
        (KVM_X86_SNP_VM, None),
        (u64::MAX, Some(Errno::EINVAL)),
    ] {
        assert_eq!(kvm.create_vm(vm_type).err(), expected, "{vm_type}");
    }
}

#[test]
fn capabilities_tell_the_profiles_apart() {
    for (profile, direct, state) in [
        (&profiles::MAINLINE, 0, 0),
        (&profiles::DIRECT_VMSA, 1, 0),
        (&profiles::VCPU_STATE, 0, 1),
        (&profiles::VCPU_STATE_EXPLICIT, 1, 1),
    ] {
        let kvm = SoftKvm::new(PlatformConfig::genoa(), profile);
        let vm = kvm.create_vm(KVM_X86_SNP_VM).unwrap();
        for ask in [&|cap| kvm.check_extension(cap), &|cap| vm.check_extension(cap)] as [&dyn Fn(u32) -> i32; 2] {
            assert_eq!(ask(KVM_CAP_SNP_DIRECT_VMSA), direct, "{}", profile.name);
            assert_eq!(ask(KVM_CAP_SNP_VCPU_STATE), state, "{}", profile.name);
            assert_eq!(ask(250), 0);
            assert_eq!((ask(KVM_CAP_VM_TYPES), ask(KVM_CAP_GUEST_MEMFD)), (0x1f, 1));
            assert_eq!(ask(KVM_CAP_MEMORY_ATTRIBUTES), 8);
        }
        assert_eq!(profiles::find(profile.name), Some(*[profile].first().unwrap()));
    }
    let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::MAINLINE);
    assert_eq!(kvm.create_vm(KVM_X86_DEFAULT_VM).unwrap().check_extension(KVM_CAP_MEMORY_ATTRIBUTES), 0);
}

#[test]
fn device_attributes() {
    let kvm = SoftKvm::new(PlatformConfig::genoa(), &profiles::MAINLINE);
    assert_eq!(kvm.get_device_attr(1, 0), Ok(0x220));
    // All that firmware 1.58 knows but MIGRATE_MA, which KVM does not take.
    assert_eq!(kvm.get_device_attr(1, 1), Ok(0x3ff_ffff & !(1 << 18)));
    assert_eq!(kvm.get_device_attr(1, 2), Ok(1));
    for (group, attribute) in [(1, 3), (2, 0), (0, 1), (u32::MAX, u64::MAX)] {
        assert_eq!(kvm.has_device_attr(group, attribute), Err(Errno::ENXIO));
    }
}

/// What comes before any command.
#[test]
fn the_command_itself() {
    for profile in profiles::ALL {
        let vmm = Vmm::launching(profile, 1);
        assert_eq!(vmm.vm.memory_encrypt_op(&vmm.process, 0), Ok(()), "NULL is a probe");
        assert_eq!(vmm.vm.memory_encrypt_op(&vmm.process, unmapped()), Err(Errno::EFAULT));
        for id in [0, 1, 2, 7, 21, KVM_SEV_INIT2, 23, 99] {
            expect(&vmm, "older commands on an SNP guest", fails(Errno::EPERM), |vmm| vmm.raw(None, id, 0, 3));
        }
        for id in [104, 105, 1000, u32::MAX] {
            expect(&vmm, "unknown commands", EINVAL, |vmm| vmm.raw(None, id, 0, 3));
        }
        // A command that cannot be written back.
        let command = kvm_sev_cmd { id: KVM_SEV_SNP_LAUNCH_UPDATE, data: unmapped(), ..kvm_sev_cmd::default() };
        let address = vmm.process.map(command.as_bytes().to_vec().into());
        assert_eq!(vmm.vm.memory_encrypt_op(&vmm.process, address), Err(Errno::EFAULT));
    }
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SEV_VM);
    assert_eq!(vmm.raw(None, 2, 0, 3), fails(Errno::ENOTTY), "before INIT2 it is no SEV guest");
    assert_eq!(vmm.raw(None, 5, 0, 3), fails(Errno::ENOTTY));
    let init = vmm.process.buffer(kvm_sev_init::default().as_bytes());
    assert_eq!(vmm.raw(None, KVM_SEV_INIT2, init, 3), (None, 0));
    assert_eq!(vmm.raw(None, 9, 0, 3), fails(Errno::ENOSYS), "not modelled is said so");
    assert_eq!(vmm.kvm.unmodelled(), [("KVM_MEMORY_ENCRYPT_OP 9 (SEV, SEV-ES)".to_owned(), 1)]);
}

/// LAUNCH_SECRET of plain SEV, in the order of its checks.
#[test]
fn launch_secret() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SEV_VM);
    let command = |id: u32, data: &[u8]| vmm.raw(None, id, vmm.process.buffer(data), 3);
    let good = kvm_sev_launch_secret {
        hdr_uaddr: vmm.process.buffer(&[0; 52]),
        hdr_len: 52,
        guest_uaddr: vmm.process.buffer(&[0; 64]),
        guest_len: 64,
        trans_uaddr: vmm.process.buffer(&[0; 64]),
        trans_len: 64,
        ..kvm_sev_launch_secret::default()
    };
    let secret = |change: &dyn Fn(&mut kvm_sev_launch_secret)| {
        let mut secret = good;
        change(&mut secret);
        command(KVM_SEV_LAUNCH_SECRET, secret.as_bytes())
    };
    assert_eq!(secret(&|_| {}), fails(Errno::ENOTTY), "no SEV guest");
    assert_eq!(command(KVM_SEV_INIT2, kvm_sev_init::default().as_bytes()), OK);
    assert_eq!(vmm.raw(None, KVM_SEV_LAUNCH_SECRET, unmapped(), 3), fails(Errno::EFAULT));
    assert_eq!(secret(&|secret| secret.guest_len = 0), EINVAL);
    assert_eq!(secret(&|secret| secret.guest_uaddr = u64::MAX), EINVAL);
    assert_eq!(secret(&|secret| secret.guest_uaddr = unmapped()), fails(Errno::ENOMEM));
    assert_eq!(secret(&|secret| secret.trans_uaddr = 0), EINVAL);
    assert_eq!(secret(&|secret| secret.trans_len = 0x4001), EINVAL);
    assert_eq!(secret(&|secret| secret.hdr_len = 0), EINVAL);
    assert_eq!(secret(&|secret| secret.hdr_uaddr = unmapped()), fails(Errno::EFAULT));
    assert_eq!(secret(&|_| {}), firmware(FwStatus::INVALID_GUEST), "before LAUNCH_START");
    assert_eq!(command(KVM_SEV_LAUNCH_START, kvm_sev_launch_start::default().as_bytes()), OK);
    assert_eq!(secret(&|_| {}), firmware(FwStatus::INVALID_GUEST_STATE), "before LAUNCH_MEASURE");
    let measure = kvm_sev_launch_measure { uaddr: vmm.process.buffer(&[0; 48]), len: 48, pad0: 0 };
    assert_eq!(command(KVM_SEV_LAUNCH_MEASURE, measure.as_bytes()), OK);
    assert_eq!(secret(&|secret| secret.hdr_len = 51), firmware(FwStatus::INVALID_LEN));
    assert_eq!(secret(&|_| {}), firmware(FwStatus::BAD_MEASUREMENT), "not the owner's");
    assert!(vmm.kvm.unmodelled().is_empty());
}

#[test]
fn init2() {
    let init = |vmsa_features, flags, ghcb_version| kvm_sev_init {
        vmsa_features,
        flags,
        ghcb_version,
        ..kvm_sev_init::default()
    };
    let (sev, es, snp) = (KVM_X86_SEV_VM, KVM_X86_SEV_ES_VM, KVM_X86_SNP_VM);
    let cases = [
        (snp, init(0, 0, 0), OK),
        (snp, init(0x20, 0, 2), OK),
        (snp, init(0x220, 0, 2), OK),
        (snp, init(1, 0, 2), EINVAL),
        (snp, init(2, 0, 2), EINVAL),
        (snp, init(1 << 63, 0, 2), EINVAL),
        (snp, init(0, 1, 2), EINVAL),
        (snp, init(0, 0, 1), EINVAL),
        (snp, init(0, 0, 3), EINVAL),
        (es, init(0x20, 0, 0), OK),
        (es, init(0, 0, 1), OK),
        (es, init(0x200, 0, 0), EINVAL),
        (sev, init(0, 0, 0), OK),
        (sev, init(0x20, 0, 0), EINVAL),
        (sev, init(0, 0, 1), EINVAL),
        (KVM_X86_DEFAULT_VM, init(0, 0, 0), EINVAL),
        (KVM_X86_SW_PROTECTED_VM, init(0, 0, 0), EINVAL),
    ];
    for profile in profiles::ALL {
        for (vm_type, args, expected) in cases {
            let vmm = Vmm::new(profile, vm_type);
            expect(&vmm, &format!("{vm_type} {args:?}"), expected, |vmm| vmm.init2(&args));
            if expected == OK && vm_type != snp {
                expect(&vmm, "twice", EINVAL, |vmm| vmm.init2(&args));
            }
        }
    }
    let vmm = Vmm::new(&profiles::MAINLINE, snp);
    expect(&vmm, "unmapped", EFAULT, |vmm| vmm.raw(None, KVM_SEV_INIT2, unmapped(), 3));
    vmm.vm.create_vcpu(0).unwrap();
    expect(&vmm, "unmapped comes before the vCPU", EFAULT, |vmm| vmm.raw(None, KVM_SEV_INIT2, unmapped(), 3));
    expect(&vmm, "a vCPU exists", EINVAL, |vmm| vmm.init2(&kvm_sev_init::default()));
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_DEFAULT_VM);
    expect(&vmm, "the type comes before unmapped", EINVAL, |vmm| vmm.raw(None, KVM_SEV_INIT2, unmapped(), 3));
}

#[test]
fn asids_run_out_and_come_back() {
    let config = PlatformConfig { asids: AsidRanges { es_max: 2, max: 3 }, ..PlatformConfig::genoa() };
    let kvm = SoftKvm::new(config, &profiles::MAINLINE);
    let vmm = |vm_type| {
        let vm = kvm.create_vm(vm_type).unwrap();
        Vmm {
            kvm: kvm.clone(),
            vm,
            process: Default::default(),
            vcpus: Vec::new(),
            memfds: Vec::new(),
            shared_memory: false,
        }
    };
    let init = kvm_sev_init::default();
    let first = vmm(KVM_X86_SNP_VM);
    let second = vmm(KVM_X86_SNP_VM);
    assert_eq!((first.init2(&init), second.init2(&init)), (OK, OK));
    assert_eq!(second.start(&start()), OK);
    let third = vmm(KVM_X86_SNP_VM);
    assert_eq!(third.init2(&init), fails(Errno::EBUSY));
    assert_eq!(vmm(KVM_X86_SEV_VM).init2(&init), OK, "plain SEV has its own range");
    drop(second);
    assert_eq!(third.init2(&init), OK, "a flush makes the ASID usable again");
    assert_eq!(third.start(&start()), OK);
}

#[test]
fn launch_start() {
    let policy = |policy| kvm_sev_snp_launch_start { policy, ..start() };
    for profile in profiles::ALL {
        let vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        expect(&vmm, "before INIT2", ENOTTY, |vmm| vmm.start(&start()));
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        expect(&vmm, "unmapped", EFAULT, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_START, unmapped(), 3));
        expect(&vmm, "flags", EINVAL, |vmm| vmm.start(&kvm_sev_snp_launch_start { flags: 1, ..start() }));
        expect(&vmm, "undefined policy bit", EINVAL, |vmm| vmm.start(&policy(0x30000 | 1 << 26)));
        expect(&vmm, "MIGRATE_MA", EINVAL, |vmm| vmm.start(&policy(0x30000 | 1 << 18)));
        expect(&vmm, "must-be-one", EINVAL, |vmm| vmm.start(&policy(0x10000)));
        expect(&vmm, "SMT is on", firmware(FwStatus::POLICY_FAILURE), |vmm| vmm.start(&policy(0x20000)));
        expect(&vmm, "newer ABI", firmware(FwStatus::POLICY_FAILURE), |vmm| vmm.start(&policy(0x30200)));
        let data = vmm.process.buffer(start().as_bytes());
        expect(&vmm, "not /dev/sev", ENOTTY, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_START, data, 99));
        expect(&vmm, "at last", OK, |vmm| vmm.start(&start()));
        expect(&vmm, "twice", EINVAL, |vmm| vmm.start(&start()));
    }
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SEV_ES_VM);
    assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
    assert_eq!(vmm.start(&start()), ENOTTY);
}

/// In the order of the reference: each case is also wrong in a way that comes later.
#[test]
fn launch_update_before_any_page() {
    for profile in profiles::ALL {
        let vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        expect(&vmm, "before INIT2", EINVAL, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_UPDATE, unmapped(), 3));
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        expect(&vmm, "before START", EINVAL, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_UPDATE, unmapped(), 3));

        let vmm = Vmm::launching(profile, 1);
        expect(&vmm, "unmapped", EFAULT, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_UPDATE, unmapped(), 3));
        let page = vmm.process.buffer(&[1; 4096]);
        let good = update(PageType::NORMAL, 5, page, PAGE);
        let cases = [
            ("length 0", kvm_sev_snp_launch_update { len: 0, ..good }),
            ("length 100", kvm_sev_snp_launch_update { len: 100, ..good }),
            ("flags", kvm_sev_snp_launch_update { flags: 1, ..good }),
            ("type 0", kvm_sev_snp_launch_update { r#type: 0, ..good }),
            ("type 7", kvm_sev_snp_launch_update { r#type: 7, ..good }),
            ("misaligned source", kvm_sev_snp_launch_update { uaddr: page + 8, ..good }),
            ("null source", kvm_sev_snp_launch_update { uaddr: 0, ..good }),
            ("no slot", kvm_sev_snp_launch_update { gfn_start: 1000, ..good }),
            ("slot without guest_memfd", kvm_sev_snp_launch_update { gfn_start: FIRST_SLOT + SECOND_SLOT, ..good }),
            ("frame past all", kvm_sev_snp_launch_update { gfn_start: u64::MAX, ..good }),
        ];
        for (name, args) in cases {
            expect(&vmm, name, EINVAL, |vmm| vmm.update(&args).0);
        }
        let zero = kvm_sev_snp_launch_update { r#type: PageType::ZERO.0, uaddr: 3, ..good };
        expect(&vmm, "ZERO ignores its source", OK, |vmm| vmm.update(&zero).0);
    }
}

#[test]
fn a_first_page_that_fails_is_eio() {
    for profile in profiles::ALL {
        let vmm = Vmm::launching(profile, 1);
        let page = vmm.process.buffer(&[1; 4096]);
        let normal = |gfn| update(PageType::NORMAL, gfn, page, PAGE);
        expect(&vmm, "a shared frame", EIO, |vmm| vmm.update(&normal(SHARED_GFN)).0);
        expect(&vmm, "an unmapped source", EIO, |vmm| vmm.update(&update(PageType::NORMAL, 5, unmapped(), PAGE)).0);
        let read_only = vmm.process.map(vec![0; 4096].into());
        expect(&vmm, "a read-only CPUID source", EIO, |vmm| vmm.update(&update(PageType::CPUID, 5, read_only, PAGE)).0);
        let data = vmm.process.buffer(normal(5).as_bytes());
        expect(&vmm, "not /dev/sev", EIO, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_UPDATE, data, 99));
        expect(&vmm, "now it goes", OK, |vmm| vmm.update(&normal(5)).0);
        expect(&vmm, "a second time it does not", EIO, |vmm| vmm.update(&normal(5)).0);
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        expect(&vmm, "after FINISH", firmware(FwStatus::INVALID_GUEST_STATE), |vmm| vmm.update(&normal(6)).0);
    }
}

/// A closed guest_memfd leaves a slot without memory.
#[test]
fn a_closed_guest_memfd_has_no_pages() {
    let vmm = Vmm::launching(&profiles::DIRECT_VMSA, 0);
    vmm.process.close(vmm.memfds[0]);
    assert_eq!(vmm.launch_pages(PageType::NORMAL, 0, &[1; 4096]), EIO);
    assert_eq!(vmm.launch_pages(PageType::NORMAL, FIRST_SLOT, &[1; 4096]), OK);
}

#[test]
fn a_later_page_that_fails_is_a_short_count() {
    let vmm = Vmm::launching(&profiles::MAINLINE, 1);
    let pages = vmm.process.buffer(&[7; 8 * 4096]);
    let cases = [
        ("a shared frame", update(PageType::NORMAL, SHARED_GFN - 2, pages, 5 * PAGE), 2),
        ("the end of the source", update(PageType::NORMAL, 0, pages + 5 * PAGE, 5 * PAGE), 3),
        ("the end of the slot", update(PageType::NORMAL, FIRST_SLOT - 1, pages, 5 * PAGE), 1),
        ("a launched page", update(PageType::NORMAL, FIRST_SLOT - 3, pages, 5 * PAGE), 2),
    ];
    for (name, args, done) in cases {
        let (answer, after) = vmm.update(&args);
        assert_eq!(answer, OK, "{name}");
        let expected = kvm_sev_snp_launch_update {
            gfn_start: args.gfn_start + done,
            uaddr: args.uaddr + done * PAGE,
            len: args.len - done * PAGE,
            ..args
        };
        assert_eq!(after, expected, "{name}");
    }
    let (answer, after) = vmm.update(&update(PageType::ZERO, FIRST_SLOT + 30, 0x5000, 4 * PAGE));
    assert_eq!((answer, after.uaddr, after.len), (OK, 0x5000, 2 * PAGE), "ZERO leaves uaddr alone");
}

#[test]
fn a_refused_cpuid_page_comes_back_corrected() {
    for profile in profiles::ALL {
        let vmm = Vmm::launching(profile, 1);
        let mut table = snp_abi::CpuidPage { count: 1, ..Default::default() };
        // Fn7 ECX bit 24 is no feature of the host.
        table.functions[0] = snp_abi::CpuidFunction { eax_in: 7, ecx: 1 << 24, ..Default::default() };
        let buffer = vmm.process.buffer(table.as_bytes());
        let args = update(PageType::CPUID, 9, buffer, PAGE);
        expect(&vmm, "CPUID", firmware(FwStatus::INVALID_PARAM), |vmm| vmm.update(&args).0);
        table.functions[0].ecx = 0;
        assert_eq!(read(&vmm.process, buffer, 4096), table.as_bytes());
        expect(&vmm, "as corrected", OK, |vmm| vmm.update(&args).0);
    }
}

#[test]
fn mainline_has_no_vmsa_pages() {
    let vmm = Vmm::launching(&profiles::MAINLINE, 1);
    expect(&vmm, "VMSA", EINVAL, |vmm| vmm.launch_vmsa(5, &good_vmsa()));
}

#[test]
fn a_bad_vmsa_is_not_measured() {
    let other_features = Vmsa { sev_features: SevFeatures(0x21), ..good_vmsa() };
    let no_features = Vmsa { sev_features: SevFeatures(0), ..good_vmsa() };
    let vmpl1 = Vmsa { vmpl: Vmpl(1), ..good_vmsa() };
    for profile in direct_profiles() {
        let expected = if profile.name == "direct-vmsa" { EIO } else { EINVAL };
        let vmm = Vmm::launching(profile, 2);
        for (name, vmsa) in [("features", &other_features), ("no features", &no_features), ("VMPL 1", &vmpl1)] {
            expect(&vmm, name, expected, |vmm| vmm.launch_vmsa(5, vmsa));
        }
        // The attribute is looked at first, and its failure is EIO everywhere.
        expect(&vmm, "a bad VMSA in a shared frame", EIO, |vmm| vmm.launch_vmsa(SHARED_GFN, &vmpl1));
        expect(&vmm, "a good one", OK, |vmm| vmm.launch_vmsa(5, &good_vmsa()));
        let entry = vmm.vm.rmp_entry(5).unwrap();
        assert_eq!((entry.state, entry.vmsa, entry.gpa.0), (PageState::GuestValid, true, 5 * PAGE));
    }
}

#[test]
fn direct_vmsa_takes_one() {
    let vmm = Vmm::launching(&profiles::DIRECT_VMSA, 3);
    let two = [good_vmsa().as_bytes(), good_vmsa().as_bytes()].concat();
    expect(&vmm, "8192 bytes", EINVAL, |vmm| vmm.launch_pages(PageType::VMSA, 5, &two));
    expect(&vmm, "one", OK, |vmm| vmm.launch_vmsa(5, &good_vmsa()));
    expect(&vmm, "another", fails(Errno::EBUSY), |vmm| vmm.launch_vmsa(6, &good_vmsa()));
    expect(&vmm, "EBUSY comes before the length", fails(Errno::EBUSY), |vmm| vmm.launch_pages(PageType::VMSA, 6, &two));
    let digest = vmm.vm.launch_digest();
    assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
    assert_eq!(vmm.vm.launch_digest(), digest, "FINISH measures nothing");
    let vmsas: Vec<_> = vmm.vcpus.iter().map(|vcpu| vcpu.vmsa()).collect();
    assert_eq!(vmsas, [VcpuVmsa::User(snp_abi::Gpa(5 * PAGE)), VcpuVmsa::None, VcpuVmsa::None]);
    for vcpu in &vmm.vcpus {
        assert_eq!(vcpu.regs(), Err(Errno::EINVAL), "every vCPU is protected");
    }
    assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), firmware(FwStatus::INVALID_GUEST_STATE));
}

/// Without a supplied VMSA every profile falls back to KVM's own.
#[test]
fn without_a_vmsa_kvm_makes_them() {
    for profile in profiles::ALL {
        let vmm = Vmm::launching(profile, 2);
        vmm.vcpus[1].set_regs(&kvm_regs { rip: 0x1234, rflags: 0, ..kvm_regs::default() }).unwrap();
        let before = vmm.vm.launch_digest();
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        assert_ne!(vmm.vm.launch_digest(), before);
        for vcpu in &vmm.vcpus {
            assert_eq!(vcpu.vmsa(), VcpuVmsa::Kvm);
            let made = vcpu.with_made_vmsa(|page| *page.as_bytes()).unwrap();
            let made: Vmsa = zerocopy::FromBytes::read_from_bytes(&made).unwrap();
            assert_eq!((made.efer, made.cr4, made.cr0), (0x1000, 0x40, 0x10));
            assert_eq!((made.mxcsr, made.x87_fcw, made.xcr0, made.rflags), (0x1f80, 0x37f, 1, 2));
            assert_eq!(made.rip, if vcpu.index() == 0 { 0xfff0 } else { 0x1234 });
        }
        assert_eq!(LEGACY_VMSA_GPA.0, 0xffff_ffff_f000);
    }
}

#[test]
fn launch_finish() {
    let finish = kvm_sev_snp_launch_finish::default();
    for profile in profiles::ALL {
        let vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        expect(&vmm, "before INIT2", ENOTTY, |vmm| vmm.finish(&finish));
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        expect(&vmm, "before START", EINVAL, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_FINISH, unmapped(), 3));

        let vmm = Vmm::launching(profile, 2);
        expect(&vmm, "unmapped", EFAULT, |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_FINISH, unmapped(), 3));
        let flags = kvm_sev_snp_launch_finish { flags: 1, ..finish };
        expect(&vmm, "flags", EINVAL, |vmm| vmm.finish(&flags));
        let data = vmm.process.buffer(finish.as_bytes());
        expect(&vmm, "not /dev/sev", fails(Errno::EBADF), |vmm| vmm.raw(None, KVM_SEV_SNP_LAUNCH_FINISH, data, 99));
        vmm.vcpus[0].set_guest_debug(&kvm_guest_debug { control: 1, ..kvm_guest_debug::default() }).unwrap();
        expect(&vmm, "a debugged vCPU", EINVAL, |vmm| vmm.finish(&finish));
        vmm.vcpus[0].set_guest_debug(&kvm_guest_debug::default()).unwrap();
        let debug = kvm_debugregs { dr6: 0xffff_0ff0, dr7: 0x401, ..kvm_debugregs::default() };
        vmm.vcpus[0].set_debugregs(&debug).unwrap();
        expect(&vmm, "DR7", EINVAL, |vmm| vmm.finish(&finish));
        vmm.vcpus[0].set_debugregs(&kvm_debugregs { dr7: 0x400, ..debug }).unwrap();
        assert_eq!(vmm.finish(&finish), OK);
        expect(&vmm, "twice", EINVAL, |vmm| vmm.finish(&finish));
    }
}

/// As in Linux, the VMSAs are measured before the ID block is read: such a refusal leaves its trace, and only a direct launch
/// can be finished after it.
#[test]
fn an_id_block_that_cannot_be_read_comes_after_the_vcpus() {
    let finish = kvm_sev_snp_launch_finish { id_block_en: 1, ..kvm_sev_snp_launch_finish::default() };
    let block = |vmm: &Vmm| vmm.process.buffer(&[0; 96]);
    for profile in profiles::ALL {
        let direct = profile.name == "direct-vmsa";
        for (expected, id_block, id_auth) in [(EINVAL, 0, 0), (EFAULT, 1, 0), (EINVAL, 2, 0), (EFAULT, 2, 1)] {
            let vmm = Vmm::launching(profile, 2);
            if direct {
                assert_eq!(vmm.launch_vmsa(5, &good_vmsa()), OK);
            }
            let digest = vmm.vm.launch_digest();
            let address = |choice| match choice {
                0 => 0,
                1 => unmapped(),
                _ => block(&vmm),
            };
            let args = kvm_sev_snp_launch_finish {
                id_block_uaddr: address(id_block),
                id_auth_uaddr: address(id_auth),
                ..finish
            };
            assert_eq!(vmm.finish(&args), expected, "{}", profile.name);
            assert_eq!(vmm.vcpus[1].regs(), Err(Errno::EINVAL), "the vCPUs are protected already");
            assert_eq!(vmm.vm.launch_digest() == digest, direct, "only KVM's own VMSAs were measured");
            let again = vmm.finish(&kvm_sev_snp_launch_finish::default());
            assert_eq!(again, if direct { OK } else { EINVAL }, "{}", profile.name);
        }
    }
}

#[test]
fn a_wrong_id_block_is_the_firmwares_to_refuse() {
    let vmm = Vmm::launching(&profiles::DIRECT_VMSA, 1);
    assert_eq!(vmm.launch_vmsa(5, &good_vmsa()), OK);
    let args = kvm_sev_snp_launch_finish {
        id_block_en: 1,
        id_block_uaddr: vmm.process.buffer(&[0; 96]),
        id_auth_uaddr: vmm.process.buffer(&[0; 4096]),
        ..kvm_sev_snp_launch_finish::default()
    };
    assert_eq!(vmm.finish(&args), firmware(FwStatus::INVALID_PARAM));
    assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
}

#[test]
fn vcpu_commands_are_the_reworks() {
    for profile in [&profiles::MAINLINE, &profiles::DIRECT_VMSA] {
        let vmm = Vmm::launching(profile, 1);
        expect(&vmm, "no such ioctl", ENOTTY, |vmm| vmm.raw(Some(0), KVM_SEV_SNP_SET_VCPU_STATE, unmapped(), 3));
    }
    let vmm = Vmm::launching(&profiles::VCPU_STATE, 1);
    assert_eq!(vmm.vcpus[0].memory_encrypt_op(&vmm.process, 0), Ok(()));
    assert_eq!(vmm.vcpus[0].memory_encrypt_op(&vmm.process, unmapped()), Err(Errno::EFAULT));
    expect(&vmm, "a VM's command", EINVAL, |vmm| vmm.raw(Some(0), KVM_SEV_SNP_LAUNCH_START, 0, 3));
}

#[test]
fn set_vcpu_state() {
    let vmsa = |gpa| kvm_sev_snp_vcpu_state { valid_fields: 1, vmsa_gpa: gpa, ..kvm_sev_snp_vcpu_state::default() };
    for profile in [&profiles::VCPU_STATE, &profiles::VCPU_STATE_EXPLICIT] {
        let mut vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        vmm.vcpus.push(vmm.vm.create_vcpu(0).unwrap());
        expect(&vmm, "not yet an SNP guest", ENOTTY, |vmm| vmm.set_vcpu_state(0, &vmsa(0x5000)));

        let mut vmm = Vmm::new(profile, KVM_X86_SNP_VM);
        assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
        vmm.vcpus.push(vmm.vm.create_vcpu(0).unwrap());
        expect(&vmm, "before START", EINVAL, |vmm| vmm.raw(Some(0), KVM_SEV_SNP_SET_VCPU_STATE, unmapped(), 3));

        let vmm = Vmm::launching(profile, 3);
        expect(&vmm, "unmapped", EFAULT, |vmm| vmm.raw(Some(0), KVM_SEV_SNP_SET_VCPU_STATE, unmapped(), 3));
        let cases = [
            ("unknown bit", EINVAL, kvm_sev_snp_vcpu_state { valid_fields: 4, ..vmsa(0x5000) }),
            ("padding", EINVAL, kvm_sev_snp_vcpu_state { pad: [0, 0, 0, 0, 1], ..vmsa(0x5000) }),
            ("misaligned", EINVAL, vmsa(0x5008)),
            ("2 MiB-aligned", EINVAL, vmsa(0)),
            ("outside the address space", EINVAL, vmsa(1 << 36 | 0x1000)),
            ("no slot", EINVAL, vmsa(0x1000 * 1000)),
            ("no guest_memfd", EFAULT, vmsa((FIRST_SLOT + SECOND_SLOT) * PAGE)),
        ];
        for (name, expected, state) in cases {
            expect(&vmm, name, expected, |vmm| vmm.set_vcpu_state(1, &state));
            assert_eq!(vmm.get_vcpu_state(1), kvm_sev_snp_vcpu_state::default(), "{name}");
        }
        assert_eq!(vmm.set_vcpu_state(1, &vmsa(0x5000)), OK);
        assert_eq!(vmm.set_vcpu_state(1, &vmsa(0x6000)), OK, "the last one wins");
        assert_eq!(vmm.get_vcpu_state(1), vmsa(0x6000));
        let both = kvm_sev_snp_vcpu_state { valid_fields: 3, ghcb_gpa: 0x9000, ..vmsa(0x7000) };
        assert_eq!(vmm.set_vcpu_state(2, &both), OK);
        assert_eq!(vmm.get_vcpu_state(2), both);
        assert_eq!(vmm.set_vcpu_state(2, &kvm_sev_snp_vcpu_state::default()), OK, "no bits: the VMSA is taken away");
        // Any number of VMSA pages; those that no vCPU has are ordinary pages.
        for gfn in [5, 6, 7] {
            assert_eq!(vmm.launch_vmsa(gfn, &good_vmsa()), OK);
        }
        let digest = vmm.vm.launch_digest();
        assert_eq!(vmm.finish(&kvm_sev_snp_launch_finish::default()), OK);
        assert_eq!(vmm.vm.launch_digest(), digest);
        let vmsas: Vec<_> = vmm.vcpus.iter().map(|vcpu| vcpu.vmsa()).collect();
        assert_eq!(vmsas, [VcpuVmsa::None, VcpuVmsa::User(snp_abi::Gpa(0x6000)), VcpuVmsa::None]);
        expect(&vmm, "after FINISH", EINVAL, |vmm| vmm.set_vcpu_state(1, &vmsa(0x5000)));
        assert_eq!(vmm.get_vcpu_state(1), vmsa(0x6000), "GET goes on");
    }
}

#[test]
fn the_explicit_variant_wants_its_capability() {
    let cap = kvm_enable_cap { cap: KVM_CAP_SNP_DIRECT_VMSA, ..kvm_enable_cap::default() };
    let mut vmm = Vmm::new(&profiles::VCPU_STATE_EXPLICIT, KVM_X86_SNP_VM);
    assert_eq!(vmm.vm.enable_cap(&kvm_enable_cap { flags: 1, ..cap }), Err(Errno::EINVAL));
    assert_eq!(vmm.vm.enable_cap(&kvm_enable_cap { args: [0, 0, 1, 0], ..cap }), Err(Errno::EINVAL));
    assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
    assert_eq!(vmm.start(&start()), OK);
    vmm.add_memory();
    vmm.vcpus.push(vmm.vm.create_vcpu(0).unwrap());
    let state = kvm_sev_snp_vcpu_state { valid_fields: 1, vmsa_gpa: 0x5000, ..kvm_sev_snp_vcpu_state::default() };
    expect(&vmm, "not enabled", EINVAL, |vmm| vmm.set_vcpu_state(0, &state));
    assert_eq!(vmm.vm.enable_cap(&cap), Err(Errno::EINVAL), "a vCPU exists");
    let other = Vmm::new(&profiles::VCPU_STATE_EXPLICIT, KVM_X86_SEV_ES_VM);
    assert_eq!(other.vm.enable_cap(&cap), Err(Errno::EINVAL), "not an SNP VM");
}

#[test]
fn vcpus() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SNP_VM);
    assert_eq!(vmm.vm.create_vcpu(MAX_VCPU_IDS.into()).err(), Some(Errno::EINVAL));
    let vcpu = vmm.vm.create_vcpu(5).unwrap();
    assert_eq!((vcpu.index(), vcpu.apic_id()), (0, 5));
    assert_eq!(vmm.vm.create_vcpu(5).err(), Some(Errno::EEXIST));
    let cap = |ids| kvm_enable_cap { cap: KVM_CAP_MAX_VCPU_ID, args: [ids, 0, 0, 0], ..kvm_enable_cap::default() };
    assert_eq!(vmm.vm.enable_cap(&cap(u64::from(MAX_VCPU_IDS) + 1)), Err(Errno::EINVAL));
    assert_eq!(vmm.vm.enable_cap(&cap(8)), Ok(()));
    assert_eq!(vmm.vm.enable_cap(&cap(9)), Err(Errno::EINVAL));
    assert_eq!(vmm.vm.create_vcpu(8).err(), Some(Errno::EINVAL));
    assert_eq!(vmm.vm.create_vcpu(7).map(|vcpu| vcpu.index()), Ok(1));
}

#[test]
fn request_certificates() {
    let vmm = Vmm::new(&profiles::MAINLINE, KVM_X86_SNP_VM);
    assert_eq!(vmm.raw(None, KVM_SEV_SNP_ENABLE_REQ_CERTS, 0, 3), EINVAL, "before INIT2");
    assert_eq!(vmm.init2(&kvm_sev_init::default()), OK);
    assert_eq!(vmm.raw(None, KVM_SEV_SNP_ENABLE_REQ_CERTS, 0, 3), OK);
    vmm.vm.create_vcpu(0).unwrap();
    assert_eq!(vmm.raw(None, KVM_SEV_SNP_ENABLE_REQ_CERTS, 0, 3), EINVAL, "a vCPU exists");
}
