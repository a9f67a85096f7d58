//! IGVM files: written here, read here and by the `igvm` crate, broken in every way.

use bytes::Bytes;
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision, IsolationType};
use igvm_defs::*;
use proptest::prelude::*;
use sha2::{Digest, Sha384};
use snp_abi::{Gpa, GuestPolicy, KeyAlgorithm, LaunchDigest, PAGE_SIZE, SevFeatures, Vmsa};
use snp_image::{
    Delivery, Directive, GuestOptions, Igvm, IgvmFault, IgvmLaunch, IgvmLoader, IgvmWriter, ImageError, ImageWarning,
    PageKind, ParameterKind, Prepared,
};
use snp_launch::{BootState, IdBlockPair, LaunchPage, PlanError, PlanWarning, predict};
use zerocopy::{FromZeros, IntoBytes};

const FEATURES: SevFeatures = SevFeatures(SevFeatures::SNP_ACTIVE);
const VMSA_GPA: Gpa = Gpa(0x10_a000);

fn vmsa() -> Vmsa {
    Vmsa { sev_features: FEATURES, rip: 0x10_0000, rax: 7, efer: 0x1d00, dr7: 0x400, ..Vmsa::default() }
}

/// A portable file: pages of every kind with data, the VMSA last.
fn portable() -> Vec<u8> {
    let mut writer = IgvmWriter::new(GuestPolicy(0x3_0000));
    let code: Vec<u8> = (0..3 * PAGE_SIZE + 17).map(|i| (i * 7 + i / PAGE_SIZE) as u8).collect();
    writer.pages(Gpa(0x10_0000), PageKind::Normal, &code).unwrap();
    writer.pages(Gpa(0x10_4000), PageKind::Unmeasured, &[5; 0x1800]).unwrap();
    writer.pages(Gpa(0x10_6000), PageKind::Secrets, &[]).unwrap();
    writer.pages(Gpa(0x10_7000), PageKind::Cpuid, &[]).unwrap();
    writer.required_memory(Gpa(0x4000_0000), 0x20_0000).unwrap();
    writer.vmsa(VMSA_GPA, &vmsa()).unwrap();
    writer.finish().unwrap()
}

fn direct() -> Delivery {
    Delivery::Direct { vmsa: None, gpa: None }
}

fn loader_for(delivery: &Delivery) -> &'static IgvmLoader {
    if matches!(delivery, Delivery::Registers) { IgvmLoader::qemu_replay() } else { IgvmLoader::qemu_direct() }
}

fn launch(file: Vec<u8>, delivery: Delivery) -> IgvmLaunch {
    let file = Igvm::parse(Bytes::from(file)).expect("a valid file");
    IgvmLaunch { file, loader: loader_for(&delivery), append: "quiet".into(), options: GuestOptions::new(delivery) }
}

fn prepare(file: Vec<u8>) -> Prepared {
    launch(file, direct()).prepare().expect("a plan")
}

/// A file of these directives, made by the `igvm` crate.
fn file(directives: Vec<IgvmDirectiveHeader>) -> Vec<u8> {
    let policy = IgvmInitializationHeader::GuestPolicy { policy: 0x3_0000, compatibility_mask: 2 };
    file_with(vec![policy], directives)
}

fn file_with(initialization: Vec<IgvmInitializationHeader>, directives: Vec<IgvmDirectiveHeader>) -> Vec<u8> {
    let platform = |compatibility_mask, platform_type| {
        IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
            compatibility_mask,
            highest_vtl: 0,
            platform_type,
            platform_version: 1,
            shared_gpa_boundary: 0,
        })
    };
    let platforms = vec![platform(1, IgvmPlatformType::VSM_ISOLATION), platform(2, IgvmPlatformType::SEV_SNP)];
    let file = IgvmFile::new(IgvmRevision::V1, platforms, initialization, directives).unwrap();
    let mut bytes = Vec::new();
    file.serialize(&mut bytes).unwrap();
    bytes
}

fn page(gpa: u64, mask: u32, flags: IgvmPageDataFlags, data: Vec<u8>) -> IgvmDirectiveHeader {
    IgvmDirectiveHeader::PageData { gpa, compatibility_mask: mask, flags, data_type: IgvmPageDataType::NORMAL, data }
}

fn normal(gpa: u64, data: Vec<u8>) -> IgvmDirectiveHeader {
    page(gpa, 2, IgvmPageDataFlags::new(), data)
}

fn context(gpa: u64, vp_index: u16) -> IgvmDirectiveHeader {
    let vmsa = zerocopy::FromBytes::read_from_bytes(vmsa().as_bytes()).expect("a page");
    IgvmDirectiveHeader::SnpVpContext { gpa, compatibility_mask: 2, vp_index, vmsa: Box::new(vmsa) }
}

fn area(number_of_bytes: u64) -> IgvmDirectiveHeader {
    IgvmDirectiveHeader::ParameterArea { number_of_bytes, parameter_area_index: 3, initial_data: vec![] }
}

fn insert(gpa: u64) -> IgvmDirectiveHeader {
    let insert = IGVM_VHS_PARAMETER_INSERT { gpa, compatibility_mask: 2, parameter_area_index: 3 };
    IgvmDirectiveHeader::ParameterInsert(insert)
}

fn parameter(byte_offset: u32) -> IGVM_VHS_PARAMETER {
    IGVM_VHS_PARAMETER { parameter_area_index: 3, byte_offset }
}

/// Recomputes the checksum after an edit of the headers.
fn fix_checksum(file: &mut [u8]) {
    let word = |at: usize| u64::from(u32::from_le_bytes(file[at..at + 4].try_into().unwrap()));
    let end = word(8) + word(12);
    let Some(headers) = file.get_mut(..end as usize).filter(|headers| headers.len() >= 0x18) else { return };
    headers[0x14..0x18].fill(0);
    let checksum = crc32fast::hash(headers);
    file[0x14..0x18].copy_from_slice(&checksum.to_le_bytes());
}

/// The fault of the portable file with bytes at `offset` replaced.
fn fault_at(offset: usize, with: &[u8]) -> IgvmFault {
    let mut bytes = portable();
    bytes[offset..offset + with.len()].copy_from_slice(with);
    fix_checksum(&mut bytes);
    Igvm::parse(bytes.into()).unwrap_err().fault
}

fn fault(file: Vec<u8>) -> IgvmFault {
    Igvm::parse(file.into()).unwrap_err().fault
}

/// The launch digest as igvmmeasure and the `igvm` crate compute it, on the crate's own reader.
fn naive_digest(file: &[u8]) -> String {
    let file = IgvmFile::new_from_binary(file, Some(IsolationType::Snp)).unwrap();
    let mut digest = [0_u8; 48];
    let mut measure = |page_type: u8, gpa: u64, data: Option<&[u8]>| {
        let contents = data.map_or([0; 48], |data| {
            let mut page = data.to_vec();
            page.resize(PAGE_SIZE, 0);
            Sha384::digest(page).into()
        });
        let info = [&digest[..], &contents, &[0x70, 0, page_type, 0, 0, 0, 0, 0], &gpa.to_le_bytes()].concat();
        digest = Sha384::digest(info).into();
    };
    let mut sizes = std::collections::HashMap::new();
    for directive in file.directives() {
        match directive {
            IgvmDirectiveHeader::PageData { gpa, flags, data_type, data, .. } => match *data_type {
                IgvmPageDataType::NORMAL if flags.shared() => {}
                IgvmPageDataType::NORMAL if flags.unmeasured() => measure(4, *gpa, None),
                IgvmPageDataType::NORMAL => measure(1, *gpa, Some(data)),
                IgvmPageDataType::SECRETS => measure(5, *gpa, None),
                _ => measure(6, *gpa, None),
            },
            IgvmDirectiveHeader::ParameterArea { number_of_bytes, parameter_area_index, .. } => {
                sizes.insert(*parameter_area_index, *number_of_bytes);
            }
            IgvmDirectiveHeader::ParameterInsert(insert) => {
                let size = sizes[&insert.parameter_area_index];
                (0..size).step_by(PAGE_SIZE).for_each(|at| measure(4, insert.gpa + at, None));
            }
            IgvmDirectiveHeader::SnpVpContext { gpa, vmsa, .. } => measure(2, *gpa, Some(vmsa.as_bytes())),
            _ => {}
        }
    }
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_portable_file_has_the_digest_that_others_compute() {
    let prepared = prepare(portable());
    assert_eq!(prepared.warnings, []);
    assert_eq!(predict(&prepared.plan).to_string(), naive_digest(&portable()));
    assert_eq!(prepared.plan.policy, GuestPolicy(0x3_0000));
    assert!(matches!(prepared.plan.boot, BootState::Direct { vmsa_gpa: VMSA_GPA }));
    assert!(matches!(prepared.plan.pages.last(), Some(LaunchPage::Vmsa { gpa: VMSA_GPA, .. })));
    // Pages that follow each other in memory and in the file are one run, and share the file.
    assert_eq!((prepared.plan.pages[0].gpa(), prepared.plan.pages[0].len_bytes()), (Gpa(0x10_0000), 0x4000));
    let required = prepared.plan.memory.iter().any(|region| region.gpa == Gpa(0x4000_0000) && region.len == 0x20_0000);
    assert!(required);
}

#[test]
fn the_digest_does_not_depend_on_the_vcpu_count() {
    let digest = |vcpus| {
        let mut launch = launch(portable(), direct());
        launch.options.vcpus = vcpus;
        predict(&launch.prepare().unwrap().plan)
    };
    for vcpus in [2, 64, 512] {
        assert_eq!(digest(vcpus), digest(1));
    }
}

#[test]
fn parameters_dataless_and_shared_pages() {
    let flags = IgvmPageDataFlags::new;
    let bytes = file(vec![
        normal(0x1000, vec![1; PAGE_SIZE]),
        normal(0x2000, vec![]),
        normal(0x3000, vec![]),
        page(0x4000, 2, flags().with_shared(true), vec![9; PAGE_SIZE]),
        page(0x5000, 1, flags(), vec![8; PAGE_SIZE]),
        page(0x6000, 2, flags().with_unmeasured(true), vec![]),
        area(0x2000),
        IgvmDirectiveHeader::VpCount(parameter(4)),
        IgvmDirectiveHeader::EnvironmentInfo(parameter(8)),
        IgvmDirectiveHeader::MemoryMap(parameter(0x100)),
        IgvmDirectiveHeader::CommandLine(parameter(0x1ffa)),
        IgvmDirectiveHeader::Madt(parameter(0x200)),
        normal(0x9000, vec![3; PAGE_SIZE]),
        insert(0x7000),
        context(0xa000, 0),
        context(0xb000, 1),
    ]);
    let mut launch = launch(bytes.clone(), direct());
    launch.options.vcpus = 5;
    let Prepared { plan, warnings } = launch.prepare().unwrap();
    let expected = [
        ImageWarning::ParameterUnknown { kind: ParameterKind::MADT },
        ImageWarning::OtherVpContext { vp_index: 1 },
        ImageWarning::DatalessPages { count: 2 },
        ImageWarning::SharedPages { count: 1 },
        ImageWarning::InsertAfterPages,
    ];
    assert_eq!(warnings, expected);
    let inserted = plan.pages.iter().find(|page| page.gpa() == Gpa(0x7000)).unwrap();
    let LaunchPage::Unmeasured { data, .. } = inserted else { panic!("{inserted:?}") };
    let data = data.bytes();
    assert_eq!((&data[4..8], &data[8..12]), (&5_u32.to_le_bytes()[..], &1_u32.to_le_bytes()[..]));
    assert_eq!(&data[0x108..0x110], &(0x2000_0000_u64 >> 12).to_le_bytes());
    assert_eq!(&data[0x1ffa..], b"quiet\0");
    // The other reader counts the second VP context, which is left out here.
    let without = file(vec![normal(0x1000, vec![1; PAGE_SIZE]), normal(0x2000, vec![]), context(0xa000, 0)]);
    assert_eq!(predict(&prepare(without.clone()).plan).to_string(), naive_digest(&without));
}

#[test]
fn registers_replay_what_they_can_carry() {
    let state = Vmsa { cr0: 0x8000_0001, tsc_offset: 5, star: 9, rflags: 0, efer: 0xd00, ..vmsa() };
    let mut writer = IgvmWriter::new(GuestPolicy::DEFAULT);
    writer.pages(Gpa(0x1000), PageKind::Normal, &[1]).unwrap().vmsa(Gpa(0xffff_ffff_f000), &state).unwrap();
    let mut launch = launch(writer.finish().unwrap(), Delivery::Registers);
    launch.options.vcpus = 2;
    let Prepared { plan, warnings } = launch.prepare().unwrap();
    let BootState::Registers { boot, others } = &plan.boot else { panic!("registers") };
    assert_eq!((boot.efer, boot.cr0, boot.cr4, boot.rflags), (0x1d00, 0x8000_0011, 0x40, 2));
    assert_eq!((boot.rip, boot.rax, boot.star, boot.tsc_offset), (0x10_0000, 7, 0, 0));
    assert_eq!((others.cs.base, others.rip), (0xffff_0000, 0xfff0));
    assert_eq!(plan.pages.len(), 1, "no VMSA page");
    let lost = |field| ImageWarning::LostInRegisters { field };
    assert_eq!(warnings, [lost("star"), lost("tsc_offset")]);
    let warnings = launch_registers(portable());
    assert!(warnings.contains(&ImageWarning::QemuRefusesGpa { gpa: VMSA_GPA }));
}

fn launch_registers(file: Vec<u8>) -> Vec<ImageWarning> {
    launch(file, Delivery::Registers).prepare().unwrap().warnings
}

#[test]
fn the_users_vmsa_and_its_place_win() {
    let given = Vmsa { rip: 0x77, sev_features: SevFeatures(0x21), ..vmsa() };
    let delivery = Delivery::Direct { vmsa: Some(Box::new(given)), gpa: Some(Gpa(0x20_0000)) };
    let Prepared { plan, warnings } = launch(portable(), delivery).prepare().unwrap();
    let Some(LaunchPage::Vmsa { gpa: Gpa(0x20_0000), vmsa }) = plan.pages.last() else { panic!("{:?}", plan.boot) };
    assert_eq!((vmsa.rip, plan.features), (0x77, SevFeatures(0x21)));
    assert_eq!(warnings, [ImageWarning::Plan(PlanWarning::VmsaAt2Mib { gpa: Gpa(0x20_0000) })]);
    // A file without context: the user's VMSA goes to a page that the file does not use.
    let bare = || file(vec![normal(0xfeff_f000, vec![1; PAGE_SIZE])]);
    let delivery = Delivery::Direct { vmsa: Some(Box::new(given)), gpa: None };
    let plan = launch(bare(), delivery).prepare().unwrap().plan;
    assert!(matches!(plan.boot, BootState::Direct { vmsa_gpa: Gpa(0xfeff_e000) }));
    for delivery in [direct(), Delivery::Registers] {
        assert_eq!(launch(bare(), delivery).prepare().unwrap_err(), ImageError::NoVpContext);
    }
}

#[test]
fn overlapping_pages_are_refused() {
    let bytes = file(vec![normal(0x1000, vec![1; PAGE_SIZE]), normal(0x1000, vec![2; PAGE_SIZE]), context(0x2000, 0)]);
    let error = launch(bytes, direct()).prepare().unwrap_err();
    assert_eq!(error, ImageError::Plan(PlanError::PageTwice { gpa: Gpa(0x1000) }));
}

#[test]
fn the_id_block_is_the_firmwares() {
    let signature = |seed| IGVM_VHS_SNP_ID_BLOCK_SIGNATURE { r_comp: [seed; 72], s_comp: [seed + 1; 72] };
    let key = |seed| IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY { curve: 2, reserved: 0, qx: [seed; 72], qy: [seed + 1; 72] };
    let block = || IgvmDirectiveHeader::SnpIdBlock {
        compatibility_mask: 2,
        author_key_enabled: 1,
        reserved: [0; 3],
        ld: [1; 48],
        family_id: [2; 16],
        image_id: [3; 16],
        version: 1,
        guest_svn: 4,
        id_key_algorithm: 1,
        author_key_algorithm: 1,
        id_key_signature: Box::new(signature(0x10)),
        id_public_key: Box::new(key(0x20)),
        author_key_signature: Box::new(signature(0x30)),
        author_public_key: Box::new(key(0x40)),
    };
    let bytes = file(vec![context(0x1000, 0), block()]);
    let pair = prepare(bytes).plan.id_block.expect("an ID block");
    assert_eq!((pair.block.ld.0, pair.block.guest_svn, pair.block.policy), ([1; 48], 4, GuestPolicy(0x3_0000)));
    assert_eq!((pair.block.family_id, pair.block.image_id, pair.author_key_enabled), ([2; 16], [3; 16], true));
    let auth = pair.auth;
    assert_eq!((auth.id_key_algo, auth.author_key_algo), (KeyAlgorithm(1), KeyAlgorithm(1)));
    assert_eq!((auth.id_block_sig.r, auth.id_block_sig.s), ([0x10; 72], [0x11; 72]));
    assert_eq!((auth.id_key.curve, auth.id_key.qx, auth.id_key.qy), (2, [0x20; 72], [0x21; 72]));
    assert_eq!((auth.id_key_sig.r, auth.author_key.qy), ([0x30; 72], [0x41; 72]));
    assert_eq!(fault(file(vec![block(), block()])), IgvmFault::IdBlockTwice);
    assert_eq!(fault(file_with(vec![], vec![block()])), IgvmFault::IdBlockWithoutPolicy);
}

#[test]
fn faults_of_the_fixed_header() {
    assert_eq!(fault_at(0, b"IGVN"), IgvmFault::Magic(*b"IGVN"));
    assert_eq!(fault_at(4, &[3]), IgvmFault::Version(3));
    assert!(matches!(fault_at(0x10, &[0; 4]), IgvmFault::FileSize { expected: 0, .. }));
    for (offset, word) in [(8, 0), (8, 0x1c), (8, u32::MAX), (12, u32::MAX), (12, 0x11), (12, 0x7fff_fff8)] {
        let fault = fault_at(offset, &word.to_le_bytes());
        assert!(matches!(fault, IgvmFault::VariableHeaders { .. }), "{offset} {word:#x}: {fault}");
    }
    let mut bytes = portable();
    bytes[0x40] ^= 1;
    assert!(matches!(Igvm::parse(bytes.into()).unwrap_err().fault, IgvmFault::Checksum { .. }));
}

/// The variable headers of the portable file: platform at 0x18, policy at 0x30, the first page at 0x48.
#[test]
fn faults_of_the_variable_headers() {
    assert!(matches!(fault_at(0x18, &2_u32.to_le_bytes()), IgvmFault::UnknownHeader(2)));
    assert!(matches!(fault_at(0x1c, &[17]), IgvmFault::HeaderLength { got: 17, .. } | IgvmFault::Truncated(_)));
    assert!(matches!(fault_at(0x1c, &[0xff; 4]), IgvmFault::Truncated(_)));
    assert_eq!(fault_at(0x20, &[3]), IgvmFault::PlatformMask(3));
    assert_eq!(fault_at(0x25, &[3]), IgvmFault::NoSnpPlatform(vec![3]));
    assert_eq!(fault_at(0x48, &1_u32.to_le_bytes()), IgvmFault::SectionOrder(1));
    assert_eq!(fault_at(0x48, &0x306_u32.to_le_bytes()), IgvmFault::UnknownHeader(0x306));
    assert!(matches!(fault_at(0x50, &[1]), IgvmFault::Range { gpa: Gpa(0x10_0001), .. }));
    assert!(matches!(fault_at(0x56, &[0x10, 0]), IgvmFault::Range { .. }));
    assert!(matches!(fault_at(0x5c, &[1, 0, 0, 0]), IgvmFault::DataOffset { got: 1, .. }));
    assert!(matches!(fault_at(0x5c, &[0xff; 4]), IgvmFault::Truncated(_)));
    assert_eq!(fault_at(0x60, &[8]), IgvmFault::Reserved("a page data header"));
    assert_eq!(fault_at(0x64, &[4, 0]), IgvmFault::PageDataType(4));
    // A 2 MiB secrets page; a 2 MiB page that is not aligned.
    assert_eq!(fault_at(0x60, &[1, 0, 0, 0, 1]), IgvmFault::PageFlags(1));
    assert!(matches!(fault_at(0x60, &[1]), IgvmFault::Range { alignment: 0x20_0000, .. }));
}

/// Headers that may be skipped are skipped; the same without the bit are not.
#[test]
fn optional_headers() {
    let mut bytes = portable();
    bytes[0x48..0x4c].copy_from_slice(&0x8000_03ff_u32.to_le_bytes());
    fix_checksum(&mut bytes);
    let file = Igvm::parse(bytes.into()).unwrap();
    let first = file.directives().first();
    assert!(matches!(first, Some(Directive::Page { gpa: Gpa(0x10_1000), .. })), "{first:?}");
}

#[test]
fn faults_of_parameters() {
    let huge = file(vec![area(1 << 40)]);
    assert!(matches!(fault(huge), IgvmFault::ParameterAreaSize { got, .. } if got == 1 << 40));
    assert!(matches!(fault(file(vec![area(!0xfff)])), IgvmFault::ParameterAreaSize { .. }));
    let second =
        IgvmDirectiveHeader::ParameterArea { number_of_bytes: 64 << 20, parameter_area_index: 4, initial_data: vec![] };
    assert!(matches!(fault(file(vec![area(0x1000), second])), IgvmFault::ParameterAreaSize { .. }));
    let end = file(vec![area(0x1000), insert(0x000f_ffff_ffff_f000), context(0x1000, 0)]);
    assert!(Igvm::parse(end.into()).is_ok());
    let beyond = file(vec![area(0x2000), insert(0x000f_ffff_ffff_f000)]);
    assert!(matches!(fault(beyond), IgvmFault::Range { .. }));
    for at in [0xffd, 0x1000, u32::MAX] {
        let bytes =
            file(vec![area(0x1000), IgvmDirectiveHeader::VpCount(parameter(at)), insert(0), context(0x2000, 0)]);
        let error = launch(bytes, direct()).prepare().unwrap_err();
        let ImageError::Igvm(error) = error else { panic!("{error}") };
        assert!(matches!(error.fault, IgvmFault::ParameterFit { len: 4, size: 0x1000, .. }), "{error}");
    }
}

#[test]
fn contexts_are_counted() {
    assert_eq!(fault(file(vec![context(0x1000, 0), context(0x2000, 0)])), IgvmFault::VpContextTwice(0));
}

#[test]
fn the_writer_checks_its_ranges() {
    let mut writer = IgvmWriter::new(GuestPolicy::DEFAULT);
    for gpa in [1, !0xfff, 1 << 52] {
        assert!(writer.pages(Gpa(gpa), PageKind::Normal, &[1]).is_err(), "{gpa:#x}");
        assert!(writer.vmsa(Gpa(gpa), &Vmsa::new_zeroed()).is_err(), "{gpa:#x}");
    }
    assert!(writer.required_memory(Gpa(0), 1).is_err());
}

#[test]
fn every_prefix_is_refused() {
    let bytes = Bytes::from(portable());
    for len in 0..bytes.len() {
        assert!(Igvm::parse(bytes.slice(..len)).is_err(), "{len}");
        // The same with a fixed header that tells the true size, so that later checks are reached.
        let mut prefix = bytes[..len].to_vec();
        if (0x18..0x400).contains(&len) {
            prefix[0x10..0x14].copy_from_slice(&(len as u32).to_le_bytes());
            fix_checksum(&mut prefix);
            assert!(Igvm::parse(prefix.into()).is_err(), "{len}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever happens to the headers, there is an answer, and it takes little time and memory.
    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((0x8..0x1b8_usize, any::<u8>()), 1..5)) {
        let mut bytes = portable();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        fix_checksum(&mut bytes);
        if let Ok(file) = Igvm::parse(Bytes::from(bytes)) {
            for delivery in [direct(), Delivery::Registers] {
                let options = GuestOptions::new(delivery);
                let loader = loader_for(&options.delivery);
                let _ = IgvmLaunch { file: file.clone(), loader, append: String::new(), options }.prepare();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both readers make the same digest of any file whose semantics are agreed on.
    #[test]
    fn both_readers_agree(pages in prop::collection::vec((0..200_u64, 0..5_u8, any::<u8>()), 0..20), at in 0..300_u64) {
        let mut seen = std::collections::BTreeSet::from([at]);
        let mut writer = IgvmWriter::new(GuestPolicy::DEFAULT);
        for (page, kind, byte) in pages.into_iter().filter(|(page, ..)| seen.insert(*page)) {
            let kind = match kind {
                0 | 1 => PageKind::Normal,
                2 => PageKind::Unmeasured,
                3 => PageKind::Secrets,
                _ => PageKind::Cpuid,
            };
            writer.pages(Gpa(page << 12), kind, &[byte; 64]).unwrap();
        }
        writer.vmsa(Gpa(at << 12), &vmsa()).unwrap();
        let bytes = writer.finish().unwrap();
        prop_assert_eq!(predict(&prepare(bytes.clone()).plan).to_string(), naive_digest(&bytes));
    }
}

#[test]
fn an_id_block_is_held_against_the_digests_that_loaders_give() {
    use snp_image::lint::{Hazard, id_block};
    use snp_image::loader::LOADERS;
    let file = Igvm::parse(portable().into()).unwrap();
    let of_block = LaunchDigest([0x11; 48]);
    let (direct, replay, mshv) = (&LOADERS[0], &LOADERS[1], IgvmLoader::find("cloud-hypervisor-mshv").unwrap());
    assert_eq!(id_block(&file, &[(direct, of_block)]), None, "there is none");
    let block = snp_abi::IdBlock { ld: of_block, ..FromZeros::new_zeroed() };
    let pair = IdBlockPair { block, auth: Box::new(FromZeros::new_zeroed()), author_key_enabled: false };
    let file = Igvm::parse(file.with_id_block(&pair).unwrap().into()).unwrap();
    let other = LaunchDigest([0x22; 48]);
    assert_eq!(id_block(&file, &[(direct, of_block), (replay, other), (mshv, other)]), None);
    for (digests, loaders, told) in [
        (
            vec![(direct, other), (replay, other), (mshv, of_block)],
            vec![mshv.name],
            "which only cloud-hypervisor-mshv gives:",
        ),
        (
            vec![(replay, of_block), (mshv, of_block)],
            vec![replay.name, mshv.name],
            "only qemu-replay and cloud-hypervisor-mshv give:",
        ),
        (vec![(direct, other)], vec![], "which no loader gives:"),
    ] {
        let hazard = id_block(&file, &digests).unwrap();
        assert!(hazard.to_string().contains(told), "{hazard}");
        assert_eq!(hazard, Hazard::IdBlockDigest { digest: of_block, loaders });
    }
}
