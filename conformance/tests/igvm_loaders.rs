//! Our loader profiles against other implementations, on many IGVM files.
//!
//! `igvm-crate` is compared with the crate itself. `igvmmeasure` has no crate: its rules are written down here a second
//! time, over the directives that the `igvm` crate's reader finds, from the facts in `docs/prior-bugs.md`.

use bytes::Bytes;
use igvm::measurement::generate_snp_measurement;
use igvm::snp_defs::SevVmsa;
use igvm::{IgvmDirectiveHeader, IgvmFile, IgvmInitializationHeader, IgvmPlatformHeader, IgvmRevision};
use igvm_defs::{
    IGVM_SEV_SNP_PLATFORM_VERSION, IGVM_VHS_PARAMETER, IGVM_VHS_PARAMETER_INSERT, IGVM_VHS_SUPPORTED_PLATFORM,
    IgvmPageDataFlags, IgvmPageDataType, IgvmPlatformType,
};
use sha2::{Digest, Sha384};
use snp_abi::{SevFeatures, Vmsa};
use snp_image::{Delivery, GuestOptions, Igvm, IgvmLaunch, IgvmLoader, ImageError};
use snp_launch::DigestEngine;
use zerocopy::{FromBytes, IntoBytes};

const MASK: u32 = 1;

/// Which features a generated file has, one bit each: every combination is a file.
#[derive(Clone, Copy)]
struct Features(u32);

impl Features {
    const COUNT: u32 = 7;

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 == 1
    }

    fn dataless(self) -> bool {
        self.has(0)
    }

    fn areas(self) -> bool {
        self.has(1)
    }

    fn large_area(self) -> bool {
        self.has(1) && self.has(2)
    }

    fn shared(self) -> bool {
        self.has(3)
    }

    fn second_vmsa(self) -> bool {
        self.has(4)
    }

    fn tsc(self) -> bool {
        self.has(5)
    }

    fn vmsa_first(self) -> bool {
        self.has(6)
    }
}

fn page(gpa: u64, data_type: IgvmPageDataType, flags: IgvmPageDataFlags, data: Vec<u8>) -> IgvmDirectiveHeader {
    IgvmDirectiveHeader::PageData { gpa, compatibility_mask: MASK, flags, data_type, data }
}

fn vmsa(vp_index: u16, tsc: bool) -> IgvmDirectiveHeader {
    let vmsa = Vmsa {
        rip: 0x10_0000 + u64::from(vp_index),
        rax: 0x1234_5678,
        efer: 0x1d00,
        g_pat: 0x7_0406,
        sev_features: SevFeatures(1),
        tsc_scale: if tsc { 0x1_0000_0001 } else { 0 },
        tsc_offset: if tsc { 77 } else { 0 },
        ..Vmsa::default()
    };
    IgvmDirectiveHeader::SnpVpContext {
        gpa: 0x20_1000 + 0x1000 * u64::from(vp_index),
        compatibility_mask: MASK,
        vp_index,
        vmsa: Box::new(SevVmsa::read_from_bytes(vmsa.as_bytes()).expect("both are one page")),
    }
}

fn directives(features: Features) -> Vec<IgvmDirectiveHeader> {
    let flags = IgvmPageDataFlags::new();
    let normal = IgvmPageDataType::NORMAL;
    let contents = |seed: usize| (0..4096).map(|i| (i * 7 + seed * 13 + 1) as u8).collect::<Vec<u8>>();
    let mut list = Vec::new();
    if features.vmsa_first() {
        list.push(vmsa(0, features.tsc()));
    }
    for index in 0..3_u64 {
        list.push(page(0x10_0000 + index * 0x1000, normal, flags, contents(index as usize)));
    }
    list.push(page(0x11_0000, normal, flags.with_unmeasured(true), contents(9)));
    list.push(page(0x11_1000, IgvmPageDataType::SECRETS, flags, Vec::new()));
    list.push(page(0x11_2000, IgvmPageDataType::CPUID_DATA, flags, Vec::new()));
    if features.dataless() {
        list.push(page(0x12_0000, normal, flags, Vec::new()));
        list.push(page(0x12_1000, normal, flags, Vec::new()));
    }
    if features.shared() {
        list.push(page(0x13_0000, normal, flags.with_shared(true), contents(5)));
    }
    if features.areas() {
        let number_of_bytes = if features.large_area() { 0x3000 } else { 0x1000 };
        list.push(IgvmDirectiveHeader::ParameterArea {
            number_of_bytes,
            parameter_area_index: 0,
            initial_data: Vec::new(),
        });
        list.push(IgvmDirectiveHeader::VpCount(IGVM_VHS_PARAMETER { parameter_area_index: 0, byte_offset: 16 }));
        list.push(IgvmDirectiveHeader::ParameterInsert(IGVM_VHS_PARAMETER_INSERT {
            gpa: 0x14_0000,
            compatibility_mask: MASK,
            parameter_area_index: 0,
        }));
    }
    if !features.vmsa_first() {
        list.push(vmsa(0, features.tsc()));
    }
    if features.second_vmsa() {
        list.push(vmsa(1, false));
    }
    list
}

fn build(directives: Vec<IgvmDirectiveHeader>) -> (IgvmFile, Bytes) {
    let platform = IgvmPlatformHeader::SupportedPlatform(IGVM_VHS_SUPPORTED_PLATFORM {
        compatibility_mask: MASK,
        highest_vtl: 0,
        platform_type: IgvmPlatformType::SEV_SNP,
        platform_version: IGVM_SEV_SNP_PLATFORM_VERSION,
        shared_gpa_boundary: 0,
    });
    let policy = IgvmInitializationHeader::GuestPolicy { policy: 0x3_0000, compatibility_mask: MASK };
    let file = IgvmFile::new(IgvmRevision::V1, vec![platform], vec![policy], directives).expect("a good file");
    let mut bytes = Vec::new();
    file.serialize(&mut bytes).expect("it can be written");
    (file, bytes.into())
}

fn ours(file: &Bytes, loader: &str) -> Result<[u8; 48], ImageError> {
    let loader = IgvmLoader::find(loader).expect("a loader");
    let delivery = if loader.is_direct() { Delivery::Direct { vmsa: None, gpa: None } } else { Delivery::Registers };
    let file = Igvm::parse(file.clone()).expect("a good file");
    let options = GuestOptions::new(delivery);
    let plan = IgvmLaunch { file, loader, append: String::new(), options }.prepare()?.plan;
    let engine = DigestEngine::new();
    let mut engine = if loader.verbatim_tsc { engine.with_verbatim_vmsas() } else { engine };
    engine.plan(&plan, &mut |_| {});
    Ok(engine.digest().0)
}

/// igvmmeasure's rules: a PAGE_INFO for every 4 KiB page, data-less normal pages as zeros or as ZERO pages, one page for
/// every parameter area, shared pages as others, VMSAs of all processors, as they are.
fn igvmmeasure(file: &IgvmFile, native_zero: bool) -> [u8; 48] {
    let mut digest = [0_u8; 48];
    let mut measure = |page_type: u8, gpa: u64, contents: Option<&[u8]>| {
        let mut info = Vec::with_capacity(112);
        info.extend_from_slice(&digest);
        info.extend_from_slice(&contents.map_or([0; 48], |page| Sha384::digest(page).into()));
        info.extend_from_slice(&112_u16.to_le_bytes());
        info.extend_from_slice(&[page_type, 0, 0, 0, 0, 0]);
        info.extend_from_slice(&gpa.to_le_bytes());
        digest = Sha384::digest(&info).into();
    };
    for directive in file.directives() {
        match directive {
            IgvmDirectiveHeader::PageData { gpa, flags, data_type, data, .. } => match *data_type {
                IgvmPageDataType::SECRETS => measure(5, *gpa, None),
                IgvmPageDataType::CPUID_DATA => measure(6, *gpa, None),
                _ if flags.unmeasured() => measure(4, *gpa, None),
                _ if data.is_empty() && native_zero => measure(3, *gpa, None),
                _ if data.is_empty() => measure(1, *gpa, Some(&[0; 4096])),
                _ => measure(1, *gpa, Some(data)),
            },
            IgvmDirectiveHeader::ParameterInsert(insert) => measure(4, insert.gpa, None),
            IgvmDirectiveHeader::SnpVpContext { gpa, vmsa, .. } => {
                let mut page = vmsa.as_bytes().to_vec();
                page.resize(4096, 0);
                measure(2, *gpa, Some(&page));
            }
            _ => {}
        }
    }
    digest
}

fn all_features() -> impl Iterator<Item = Features> {
    (0..1 << Features::COUNT).map(Features)
}

#[test]
fn the_igvm_crates_measurement() {
    let mut files = 0;
    for features in all_features() {
        let (file, bytes) = build(directives(features));
        let theirs = generate_snp_measurement(file.initializations(), file.directives(), MASK).expect("it measures");
        assert_eq!(ours(&bytes, "igvm-crate").unwrap(), theirs, "{:07b}", features.0);
        files += 1;
    }
    assert!(files >= 40, "{files} files");
}

#[test]
fn igvmmeasures_rules() {
    for features in all_features() {
        let (file, bytes) = build(directives(features));
        assert_eq!(ours(&bytes, "igvmmeasure").unwrap(), igvmmeasure(&file, false), "{:07b}", features.0);
        assert_eq!(ours(&bytes, "igvmmeasure-native-zero").unwrap(), igvmmeasure(&file, true), "{:07b}", features.0);
    }
}

/// Every known disagreement shows exactly where its reason is present (docs/prior-bugs.md).
#[test]
fn known_disagreements_and_no_others() {
    for features in all_features() {
        let (_, bytes) = build(directives(features));
        let digest = |loader| ours(&bytes, loader).unwrap();
        let direct = digest("qemu-direct");
        let name = format!("{:07b}", features.0);
        let crate_differs = features.tsc() || features.second_vmsa();
        assert_eq!(digest("igvm-crate") != direct, crate_differs, "igvm-crate {name}");
        let tool_differs = crate_differs || features.shared() || features.large_area();
        assert_eq!(digest("igvmmeasure") != direct, tool_differs, "igvmmeasure {name}");
        let zero_differs = features.dataless();
        assert_eq!(digest("igvmmeasure-native-zero") != digest("igvmmeasure"), zero_differs, "native zero {name}");
        assert_ne!(digest("qemu-replay"), direct, "{name}");
        assert_ne!(digest("cloud-hypervisor-kvm"), direct, "{name}");
        let sorted_differs =
            features.vmsa_first() || features.shared() || features.large_area() || features.second_vmsa();
        assert_eq!(digest("cloud-hypervisor-mshv") != direct, sorted_differs, "mshv {name}");
        assert_eq!(digest("openvmm") != direct, features.second_vmsa(), "openvmm {name}");
    }
}

/// The crate does not look at the mark of a 2 MiB page without data: it measures 4 KiB.
#[test]
fn large_pages_without_data() {
    let flags = IgvmPageDataFlags::new().with_is_2mb_page(true);
    let mut list = vec![page(0x40_0000, IgvmPageDataType::NORMAL, flags, Vec::new())];
    list.extend(directives(Features(0)));
    let (file, bytes) = build(list);
    let theirs = generate_snp_measurement(file.initializations(), file.directives(), MASK).expect("it measures");
    assert_eq!(ours(&bytes, "igvm-crate").unwrap(), theirs);
    assert_ne!(ours(&bytes, "igvm-crate"), ours(&bytes, "qemu-direct"));
    // igvmmeasure splits it as we do.
    assert_eq!(ours(&bytes, "igvmmeasure"), ours(&bytes, "qemu-direct"));
}

/// The example guest is portable: all that deliver the VMSA as a page agree.
#[test]
fn the_example_is_portable() {
    let guest = snp_guests::find("hello").expect("the example");
    let mut writer = snp_image::IgvmWriter::new(guest.policy);
    for page in &guest.pages {
        let kind = match page.page_type {
            snp_abi::PageType::SECRETS => snp_image::PageKind::Secrets,
            snp_abi::PageType::CPUID => snp_image::PageKind::Cpuid,
            _ => snp_image::PageKind::Normal,
        };
        writer.pages(page.gpa, kind, &page.data).expect("a good page");
    }
    writer.vmsa(guest.vmsa_gpa, &guest.vmsa).expect("a good place");
    let bytes = Bytes::from(writer.finish().expect("a good file"));
    let file = Igvm::parse(bytes.clone()).expect("a good file");
    assert_eq!(snp_image::lint::lint(&file), []);
    for loader in ["igvmmeasure", "igvm-crate", "cloud-hypervisor-mshv", "openvmm", "igvmmeasure-native-zero"] {
        assert_eq!(ours(&bytes, loader), ours(&bytes, "qemu-direct"), "{loader}");
    }
}
