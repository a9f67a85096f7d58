//! Writes seed inputs for every fuzz target below the directory that is named: small, valid, and made by the crates that are
//! fuzzed, so that no binary has to be kept.

use std::fs;
use std::path::Path;

use snp_abi::kvm::*;
use snp_abi::{GuestPolicy, MessageType, PageType, ProductLine, SevFeatures};
use snp_asp::PlatformConfig;
use snp_attest::authority::TestAuthority;
use snp_attest::certificate::Certificate;
use snp_attest::chain::Certificates;
use snp_attest::error::Role;
use snp_image::{IgvmWriter, PageKind};
use snp_sev_guest::{Attribute, Call, Channel};
use snp_softkvm::ioctl::{Answer, Object};
use snp_softkvm::{Process, SoftKvm, profiles};
use snp_transcript::{On, Pending, Seen};
use snp_vmsa::reset::{self, BOOT_EIP};
use zerocopy::IntoBytes;

fn main() -> std::io::Result<()> {
    let root = std::env::args().nth(1).expect("usage: seeds DIRECTORY");
    let put = |target: &str, name: &str, data: &[u8]| {
        let directory = Path::new(&root).join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name), data)
    };
    for profile in reset::profiles() {
        let vmsa = profile.vmsa(BOOT_EIP, 0x0080_0f12, SevFeatures(1));
        put("vmsa", profile.name, vmsa.as_bytes())?;
    }
    put("vmsa", "assignments", b"rip=0x1000\ncs.base=0xffff0000\nfpreg_xmm=00\nvmpl=1\nnothing=3\nrax\n")?;
    for name in snp_guests::NAMES {
        let guest = snp_guests::find(name).expect("a listed guest");
        put("igvm", name, &igvm(&guest))?;
    }
    put("ovmf", "sections", &ovmf())?;
    put("ioctl", "vm", &[0, 1, 1, 1, 8, 2, 0, 61, 3, 3])?;
    put("replay", "launch", &transcript())?;
    put("ghcb", "requests", &ghcb())?;
    let real = |name: &str| {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/snp-attest/tests/reports");
        fs::read(Path::new(tests).join(name))
    };
    for name in ["genoa-v3.report.bin", "genoa-v3.vcek.der", "milan-v3-vlek.report.bin", "milan-v3-vlek.vlek.der"] {
        put("report", name, &real(name)?)?;
    }
    let authority = TestAuthority::new(ProductLine::Genoa);
    put("report", "crl", authority.crl(Role::Ark, &[]).der())?;
    let vcek = Certificate::from_der(&real("genoa-v3.vcek.der")?).ok();
    let table = Certificates { vcek, ..authority.certificates() };
    put("certificate_table", "chain", &snp_attest::certificate_table::build(&table))?;
    put("policy_file", "yaml", POLICY.as_bytes())?;
    put("policy_file", "list", b"bootloader=4,snp=20,microcode=209")?;
    for (name, seed) in guest_messages() {
        put("guest_message", name, &seed)?;
    }
    put(
        "commands",
        "direct",
        &[1, 0, 0, 0, 0, 1, 4, 0, 0, 5, 0, 0, 0, 6, 0, 11, 1, 2, 2, 0, 1, 2, 1, 5, 3, 4, 0, 0, 0],
    )?;
    put("commands", "state", &[2, 0, 0, 0, 0, 1, 4, 0, 0, 5, 0, 0, 0, 6, 0, 11, 1, 8, 0, 3, 1, 2, 2, 3, 1, 4, 0, 0, 0])
}

/// Requests of the GHCB: features, CPUID and a page-state change by the MSR; OUT, AP creation and APIC IDs by the page.
fn ghcb() -> Vec<u8> {
    let mut input = vec![4];
    let mut put = |kind: u8, words: &[u64]| {
        input.push(kind);
        input.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    for msr in [0x080, 0xb_c000_0004, 0x10_0000_0000_9014] {
        put(0, &[0, msr]);
    }
    let (code, info_1, info_2, rax) = (0x390, 0x398, 0x3a0, 0x1f8);
    put(0x41, &[0, code, 0x7b, info_1, 0x3f8_0210, info_2, 0, rax, 0x41]);
    put(0x41, &[0, code, 0x8000_0013, info_1, 1 << 32 | 1, info_2, 0x4000, rax, 1]);
    put(0x41, &[0, code, 0x8000_0017, info_1, 0x9000, info_2, 0, rax, 1]);
    input
}
const POLICY: &str = "measurement: [000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f]\n\
    min-tcb: {bootloader: 4, tee: 0, snp: 20, microcode: 209}\npolicy-forbid: [debug, migrate]\nvmpl: 0\nmin-svn: 3\n\
    host-data: '0000000000000000000000000000000000000000000000000000000000000000'\nreport-data: 0xabcd\n\
    allow-debug: false\nallow-unknown-version: false\nfamily-id: 00112233445566778899aabbccddeeff\n\
    policy-require: [single-socket]\nplatform-require: [alias-check]\nplatform-forbid: [smt]\nmitigations: 0x3\nprovider: A Cloud\n";

fn igvm(guest: &snp_guests::Guest) -> Vec<u8> {
    let mut writer = IgvmWriter::new(GuestPolicy::DEFAULT);
    let (start, len) = guest.memory;
    writer.required_memory(start, len as u32).expect("aligned");
    for page in &guest.pages {
        let kind = match page.page_type {
            PageType::SECRETS => PageKind::Secrets,
            PageType::CPUID => PageKind::Cpuid,
            _ => PageKind::Normal,
        };
        writer.pages(page.gpa, kind, &page.data).expect("aligned");
    }
    writer.vmsa(guest.vmsa_gpa, &guest.vmsa).expect("aligned");
    writer.finish().expect("a file")
}

/// A choice, then a page, or type, version and VMPCK of a payload, or lines of calls.
fn guest_messages() -> Vec<(&'static str, Vec<u8>)> {
    let page = Channel::resume(0, [1; 32], 0).seal(MessageType::REPORT_REQ, 1, &[0; 96]);
    let payload = |msg_type: MessageType, len| [&[1, msg_type.0, 1, 0][..], &vec![0; len]].concat();
    let call = |call: Call| [&[3][..], &call.to_line()].concat();
    let (name, attribute) = ("r".to_owned(), Attribute::Inblob);
    vec![
        ("page", [&[0][..], page.as_slice()].concat()),
        ("report", payload(MessageType::REPORT_REQ, 96)),
        ("key", payload(MessageType::KEY_REQ, 32)),
        ("tsc", payload(MessageType::TSC_INFO_REQ, 128)),
        ("answer", [&[2][..], page.as_slice()].concat()),
        ("make", call(Call::Make { name: name.clone() })),
        ("write", call(Call::Write { name, attribute, data: vec![1; 64] })),
    ]
}

/// The transcript of a launch of one page.
fn transcript() -> Vec<u8> {
    let process = Process::new();
    let mut lines = Vec::new();
    let mut issue = |on: On, object: &Object, request: u32, argument: u64| {
        let pending = Pending::begin(&process, 1, on, request, argument).expect("recorded");
        let answer = object.ioctl(&process, request, argument);
        // The first descriptor that `Process` hands out, which the next line names.
        let number = match &answer {
            Ok(Answer::Descriptor(_)) => Ok(process.sev_fd() as i32 + 1),
            Ok(Answer::Value(value)) => Ok(*value),
            Err(errno) => Err(*errno),
        };
        lines.extend(serde_json::to_vec(&pending.end(&process, number, &Seen::default())).expect("JSON"));
        lines.push(b'\n');
        answer.expect("accepted")
    };
    let made = |answer| match answer {
        Answer::Descriptor(object) => object,
        Answer::Value(_) => unreachable!("a descriptor"),
    };
    let kvm = Object::Kvm(SoftKvm::new(PlatformConfig::genoa(), &profiles::MAINLINE));
    let vm = made(issue(On::Kvm, &kvm, KVM_CREATE_VM, KVM_X86_SNP_VM));
    let command = |id, data: &[u8]| {
        let data = process.buffer(data);
        process.buffer(kvm_sev_cmd { id, data, sev_fd: process.sev_fd(), ..Default::default() }.as_bytes())
    };
    let on = On::Vm(0);
    issue(on, &vm, KVM_MEMORY_ENCRYPT_OP, command(KVM_SEV_INIT2, kvm_sev_init::default().as_bytes()));
    let start = kvm_sev_snp_launch_start { policy: 0x30000, ..Default::default() };
    issue(on, &vm, KVM_MEMORY_ENCRYPT_OP, command(KVM_SEV_SNP_LAUNCH_START, start.as_bytes()));
    let memfd = process.buffer(kvm_create_guest_memfd { size: 0x4000, ..Default::default() }.as_bytes());
    let Object::GuestMemfd(memfd) = made(issue(on, &vm, KVM_CREATE_GUEST_MEMFD, memfd)) else { unreachable!() };
    let region = kvm_userspace_memory_region2 {
        flags: KVM_MEM_GUEST_MEMFD,
        memory_size: 0x4000,
        guest_memfd: process.install(memfd),
        ..Default::default()
    };
    issue(on, &vm, KVM_SET_USER_MEMORY_REGION2, process.buffer(region.as_bytes()));
    issue(on, &vm, KVM_CREATE_VCPU, 0);
    let attributes = kvm_memory_attributes { size: 0x4000, attributes: 8, ..Default::default() };
    issue(on, &vm, KVM_SET_MEMORY_ATTRIBUTES, process.buffer(attributes.as_bytes()));
    let page = process.buffer(&[0x5a; 4096]);
    let update = kvm_sev_snp_launch_update { uaddr: page, len: 4096, r#type: 1, ..Default::default() };
    issue(on, &vm, KVM_MEMORY_ENCRYPT_OP, command(KVM_SEV_SNP_LAUNCH_UPDATE, update.as_bytes()));
    let finish = kvm_sev_snp_launch_finish::default();
    issue(on, &vm, KVM_MEMORY_ENCRYPT_OP, command(KVM_SEV_SNP_LAUNCH_FINISH, finish.as_bytes()));
    lines
}

/// One page of firmware with a GUIDed table and one section of each kind, after the byte that chooses its length.
fn ovmf() -> Vec<u8> {
    let guid = |text: &str| -> [u8; 16] {
        let hex: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |i: usize| {
            u8::from_str_radix(std::str::from_utf8(&hex[2 * i..2 * i + 2]).expect("ASCII"), 16).expect("hex")
        };
        // Little-endian fields of 4, 2 and 2 bytes, then 8 bytes as they are.
        [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(byte)
    };
    let mut metadata = b"ASEV".to_vec();
    let sections: [[u32; 3]; 5] = [
        [0x80_0000, 0x2000, 1],
        [0x80_d000, 0x1000, 2],
        [0x80_e000, 0x1000, 3],
        [0x80_f000, 0x1000, 4],
        [0x81_0000, 0x1000, 0x10],
    ];
    for word in [16 + 12 * sections.len() as u32, 1, sections.len() as u32] {
        metadata.extend_from_slice(&word.to_le_bytes());
    }
    sections.iter().flatten().for_each(|word| metadata.extend_from_slice(&word.to_le_bytes()));

    let mut table = Vec::new();
    let mut entry = |name: &str, data: &[u8]| {
        table.extend_from_slice(data);
        table.extend_from_slice(&(data.len() as u16 + 18).to_le_bytes());
        table.extend_from_slice(&guid(name));
    };
    // SEV metadata: its distance from the end of the file, which is fixed below.
    const FROM_END: u32 = 1024;
    entry("dc886566-984a-4798-a75e-5585a7bf67cc", &FROM_END.to_le_bytes());
    entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", &0x0080_b004_u32.to_le_bytes());
    entry("7255371f-3a3b-4b04-927b-1da6efa8d454", &[0x00, 0x0c, 0x81, 0x00, 0x00, 0x04, 0, 0]);
    let footer = (table.len() as u16 + 18).to_le_bytes();
    table.extend_from_slice(&footer);
    table.extend_from_slice(&guid("96b582de-1fb2-45f7-baea-a366c55a082d"));

    let mut file = vec![0; 4096];
    let end = 4096 - 32;
    file[end - table.len()..end].copy_from_slice(&table);
    file[4096 - FROM_END as usize..][..metadata.len()].copy_from_slice(&metadata);
    file.insert(0, 8);
    file
}
