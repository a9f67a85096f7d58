//! OVMF images that never came out of a build: every refusal, and inputs made to break a parser.

use bytes::Bytes;
use proptest::prelude::*;
use snp_abi::{Gpa, PAGE_SIZE, SevFeatures};
use snp_image::{
    Delivery, GuestOptions, Guid, ImageError, KernelHashes, OVMF_SIZE_LIMIT, Ovmf, OvmfError, OvmfLaunch, SectionKind,
};
use snp_launch::{BootState, LaunchPage, PlanError};

const FOOTER: Guid = Guid::new(0x96b5_82de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
const METADATA: Guid = Guid::new(0xdc88_6566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);
const HASHES: Guid = Guid::new(0x7255_371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);
const RESET: Guid = Guid::new(0x00f7_71de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);

/// Where the metadata start, from the end of the image.
const METADATA_BACK: u32 = 0x400;

/// A firmware image under construction.
struct Image {
    len: usize,
    entries: Vec<(Guid, Vec<u8>)>,
    sections: Vec<(u32, u32, u32)>,
}

impl Image {
    /// A small image with everything that Debian's OVMF.amdsev.fd has.
    fn valid() -> Self {
        Self {
            len: 0x2000,
            entries: vec![
                (HASHES, [0x810c00_u32.to_le_bytes(), 0x400_u32.to_le_bytes()].concat()),
                (RESET, 0x80_b004_u32.to_le_bytes().to_vec()),
                (METADATA, METADATA_BACK.to_le_bytes().to_vec()),
            ],
            sections: vec![
                (0x80_0000, 0x9000, 1),
                (0x80_d000, 0x1000, 2),
                (0x80_e000, 0x1000, 3),
                (0x80_f000, 0x1000, 4),
                (0x81_1000, 0x1_f000, 1),
                (0x81_0000, 0x1000, 0x10),
            ],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut image = vec![0xcc; self.len];
        let mut end = self.len - 32;
        let size = 18 + self.entries.iter().map(|(_, data)| data.len() + 18).sum::<usize>();
        put_entry(&mut image, &mut end, &FOOTER, &[], size);
        for (guid, data) in &self.entries {
            put_entry(&mut image, &mut end, guid, data, data.len() + 18);
        }
        let mut metadata = b"ASEV".to_vec();
        let count = self.sections.len() as u32;
        for word in [16 + 12 * count, 1, count] {
            metadata.extend_from_slice(&word.to_le_bytes());
        }
        for (gpa, len, kind) in &self.sections {
            [gpa, len, kind].iter().for_each(|word| metadata.extend_from_slice(&word.to_le_bytes()));
        }
        let start = self.len - METADATA_BACK as usize;
        image[start..start + metadata.len()].copy_from_slice(&metadata);
        image
    }
}

/// Writes an entry that ends at `end`, which moves to its start.
fn put_entry(image: &mut [u8], end: &mut usize, guid: &Guid, data: &[u8], size: usize) {
    image[*end - 16..*end].copy_from_slice(&guid.0);
    image[*end - 18..*end - 16].copy_from_slice(&(size as u16).to_le_bytes());
    *end -= 18 + data.len();
    image[*end..*end + data.len()].copy_from_slice(data);
}

fn parse(bytes: Vec<u8>) -> Result<Ovmf, OvmfError> {
    Ovmf::parse(Bytes::from(bytes))
}

/// The valid image with bytes from `back` bytes before its end replaced.
fn patched(back: usize, with: &[u8]) -> Result<Ovmf, OvmfError> {
    let mut bytes = Image::valid().bytes();
    let at = bytes.len() - back;
    bytes[at..at + with.len()].copy_from_slice(with);
    parse(bytes)
}

fn launch(image: &Image, delivery: Delivery) -> OvmfLaunch {
    let options = GuestOptions { vcpus: 2, cpu_signature: 0x80_0f12, ..GuestOptions::new(delivery) };
    OvmfLaunch { firmware: parse(image.bytes()).expect("a valid image"), kernel: None, options }
}

fn direct() -> Delivery {
    Delivery::Direct { vmsa: None, gpa: None }
}

#[test]
fn a_valid_image_is_read_in_file_order() {
    let ovmf = parse(Image::valid().bytes()).unwrap();
    assert_eq!(ovmf.gpa(), Gpa(0xffff_e000));
    assert_eq!(ovmf.reset_eip(), Ok(Some(0x80_b004)));
    assert_eq!(ovmf.hash_table_gpa(), Ok(Some(Gpa(0x81_0c00))));
    assert_eq!(ovmf.svsm_offset(), Ok(None));
    assert_eq!(ovmf.table().entries().len(), 3);
    let kinds: Vec<_> = ovmf.sections().iter().map(|section| section.kind).collect();
    use SectionKind as Kind;
    assert_eq!(kinds, [Kind::SEC_MEM, Kind::SECRETS, Kind::CPUID, Kind::SVSM_CAA, Kind::SEC_MEM, Kind::KERNEL_HASHES]);
    assert_eq!((ovmf.sections()[4].gpa, ovmf.sections()[4].len), (Gpa(0x81_1000), 0x1_f000));
}

#[test]
fn wrong_sizes() {
    for len in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, OVMF_SIZE_LIMIT + PAGE_SIZE] {
        assert_eq!(parse(vec![0; len]).unwrap_err(), OvmfError::Size { len: len as u64 });
    }
    // One page is enough for a table.
    assert!(matches!(parse(vec![0; PAGE_SIZE]).unwrap_err(), OvmfError::NoTable { offset: 0xfd0, .. }));
}

#[test]
fn wrong_tables() {
    // The footer's size lies 50 bytes before the end.
    assert!(matches!(patched(50, &[17, 0]).unwrap_err(), OvmfError::TableSize { got: 17, .. }));
    assert!(matches!(patched(50, &[0xff, 0xff]).unwrap_err(), OvmfError::TableSize { got: 0xffff, .. }));
    assert!(matches!(patched(50, &[19, 0]).unwrap_err(), OvmfError::TableRemainder { len: 1, .. }));
    // The next entry's size, 68 bytes before the end: zero would loop, and it must not leave the table.
    for size in [0, 17, 0xffff_u16] {
        let error = patched(68, &size.to_le_bytes()).unwrap_err();
        assert!(matches!(error, OvmfError::EntrySize { got, .. } if got == u64::from(size)), "{error}");
    }
    let mut image = Image::valid();
    image.entries.push((RESET, vec![0; 4]));
    assert!(matches!(parse(image.bytes()).unwrap_err(), OvmfError::DuplicateEntry { guid, .. } if guid == RESET));
    let mut image = Image::valid();
    image.entries.retain(|(guid, _)| *guid != METADATA);
    let error = parse(image.bytes()).unwrap_err();
    assert_eq!(error, OvmfError::NoSevMetadata);
    assert!(error.to_string().contains("Debian"));
    let mut image = Image::valid();
    image.entries[2].1.truncate(3);
    assert!(matches!(parse(image.bytes()).unwrap_err(), OvmfError::ShortEntry { len: 3, .. }));
}

#[test]
fn wrong_metadata() {
    let back = METADATA_BACK as usize;
    assert!(matches!(patched(back, b"ASEW").unwrap_err(), OvmfError::MetadataSignature { offset: 0x1c00, .. }));
    assert!(matches!(patched(back - 8, &[2]).unwrap_err(), OvmfError::MetadataVersion { got: 2, .. }));
    assert!(matches!(patched(back - 12, &[7]).unwrap_err(), OvmfError::MetadataSize { count: 7, .. }));
    // A huge count is refused by its size, and with a size to match, by the file's end: nothing is reserved for it.
    assert!(matches!(patched(back - 12, &[0xff; 4]).unwrap_err(), OvmfError::MetadataSize { .. }));
    let header = [u32::MAX, 1, 0x1000_0000].map(u32::to_le_bytes).concat();
    assert!(matches!(patched(back - 4, &header).unwrap_err(), OvmfError::Truncated(_)));
    let mut image = Image::valid();
    image.entries[2].1 = 0x2001_u32.to_le_bytes().to_vec();
    assert!(matches!(parse(image.bytes()).unwrap_err(), OvmfError::MetadataOffset { got: 0x2001, .. }));
    for section in [(0x80_0001, 0x1000, 1), (0x80_0000, 0, 1), (0x80_0000, 0x1800, 1), (0x80_0000, 0x2000, 2)] {
        let mut image = Image::valid();
        image.sections[0] = section;
        assert!(matches!(parse(image.bytes()).unwrap_err(), OvmfError::Section { .. }), "{section:x?}");
    }
}

#[test]
fn every_prefix_is_refused() {
    let bytes = Image::valid().bytes();
    for len in 0..bytes.len() {
        assert!(parse(bytes[..len].to_vec()).is_err(), "{len}");
    }
}

#[test]
fn pages_in_launch_order_with_the_vmsa_last() {
    let plan = launch(&Image::valid(), direct()).prepare().unwrap().plan;
    let pages: Vec<_> = plan.pages.iter().map(|page| (page.page_type().0, page.gpa().0, page.len_bytes())).collect();
    let expected = [
        (1, 0xffff_e000, 0x2000),
        (3, 0x80_0000, 0x9000),
        (5, 0x80_d000, 0x1000),
        (6, 0x80_e000, 0x1000),
        (3, 0x80_f000, 0x1000),
        (3, 0x81_1000, 0x1_f000),
        (3, 0x81_0000, 0x1000),
        (2, 0xffff_d000, 0x1000),
    ];
    assert_eq!(pages, expected);
    let BootState::Direct { vmsa_gpa } = plan.boot else { panic!("a direct plan") };
    assert_eq!(vmsa_gpa, Gpa(0xffff_d000));
    let Some(LaunchPage::Vmsa { vmsa, .. }) = plan.pages.last() else { panic!("the VMSA is last") };
    assert_eq!((vmsa.rip, vmsa.cs.base, vmsa.rdx), (0xfff0, 0xffff_0000, 0x80_0f12));
}

#[test]
fn registers_start_at_the_reset_vector_and_at_the_reset_block() {
    let plan = launch(&Image::valid(), Delivery::Registers).prepare().unwrap().plan;
    let BootState::Registers { boot, others } = plan.boot else { panic!("a plan with registers") };
    assert_eq!((boot.cs.base, boot.rip), (0xffff_0000, 0xfff0));
    assert_eq!((others.cs.base, others.rip), (0x80_0000, 0xb004));
    let mut image = Image::valid();
    image.entries.remove(1);
    let error = launch(&image, Delivery::Registers).prepare().unwrap_err();
    assert_eq!(error, ImageError::NoResetBlock { vcpus: 2 });
    // One vCPU needs no reset block.
    let mut alone = launch(&image, Delivery::Registers);
    alone.options.vcpus = 1;
    assert!(alone.prepare().is_ok());
}

#[test]
fn options_reach_the_plan() {
    let vmsa = snp_abi::Vmsa { sev_features: SevFeatures(0x21), rip: 0x1234, ..Default::default() };
    let delivery = Delivery::Direct { vmsa: Some(Box::new(vmsa)), gpa: Some(Gpa(0x10_0000)) };
    let mut launch = launch(&Image::valid(), delivery);
    launch.options.host_data = [7; 32];
    let prepared = launch.prepare().unwrap();
    assert_eq!((prepared.plan.features, prepared.plan.host_data), (SevFeatures(0x21), [7; 32]));
    assert!(matches!(prepared.plan.boot, BootState::Direct { vmsa_gpa: Gpa(0x10_0000) }));
}

#[test]
fn a_vmsa_on_a_page_of_the_image_is_refused() {
    let delivery = Delivery::Direct { vmsa: None, gpa: Some(Gpa(0x80_1000)) };
    let error = launch(&Image::valid(), delivery).prepare().unwrap_err();
    assert_eq!(error, ImageError::Plan(PlanError::PageTwice { gpa: Gpa(0x80_1000) }));
}

#[test]
fn kernel_hashes_need_their_place() {
    let hashes = Some(KernelHashes::new(b"kernel", Some(b"initrd"), Some("quiet")));
    let prepare = |image: &Image| OvmfLaunch { kernel: hashes, ..launch(image, direct()) }.prepare();
    let plan = prepare(&Image::valid()).unwrap().plan;
    let page = plan.pages.iter().find(|page| page.gpa() == Gpa(0x81_0000)).unwrap();
    let LaunchPage::Normal { data, .. } = page else { panic!("{page:?}") };
    assert!(data.bytes()[..0xc00].iter().all(|byte| *byte == 0));
    // The table counts itself: GUID, length, three entries of GUID, length and hash.
    assert_eq!(data.bytes()[0xc10..0xc12], 168_u16.to_le_bytes());
    let mut image = Image::valid();
    image.sections.pop();
    assert_eq!(prepare(&image).unwrap_err(), ImageError::NoKernelHashes);
    let mut image = Image::valid();
    image.entries[0].1 = 0x81_2000_u32.to_le_bytes().to_vec();
    assert!(matches!(prepare(&image).unwrap_err(), ImageError::HashTableElsewhere { .. }));
    image.entries[0].1 = 0x81_0f80_u32.to_le_bytes().to_vec();
    assert!(matches!(prepare(&image).unwrap_err(), ImageError::HashTable(_)));
    image.entries[0].1 = vec![0; 8];
    assert_eq!(prepare(&image).unwrap_err(), ImageError::NoKernelHashes);
}

#[test]
fn unknown_sections_are_refused_when_launched() {
    let mut image = Image::valid();
    image.sections[3].2 = 0x77;
    let error = launch(&image, direct()).prepare().unwrap_err();
    assert_eq!(error, ImageError::UnknownSection { kind: SectionKind(0x77), gpa: Gpa(0x80_f000) });
}

#[test]
fn the_place_of_the_vmsa_depends_on_the_image_only() {
    for (vcpus, len) in [(1, 0x2000), (512, 0x2000), (1, 4 << 20), (64, 4 << 20)] {
        let image = Image { len, ..Image::valid() };
        let mut launch = launch(&image, direct());
        launch.options.vcpus = vcpus;
        let plan = launch.prepare().unwrap().plan;
        let expected = (1 << 32) - len as u64 - 0x1000;
        assert!(matches!(plan.boot, BootState::Direct { vmsa_gpa: Gpa(gpa) } if gpa == expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever happens to the table and the metadata, there is an answer.
    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((0..0x480_usize, any::<u8>()), 1..6)) {
        let mut bytes = Image::valid().bytes();
        let len = bytes.len();
        for (back, byte) in edits {
            bytes[len - 1 - back] = byte;
        }
        if let Ok(firmware) = Ovmf::parse(Bytes::from(bytes)) {
            let _ = (firmware.reset_eip(), firmware.hash_table_gpa(), firmware.svsm_offset());
            let kernel = Some(KernelHashes::new(b"k", None, None));
            let _ = OvmfLaunch { firmware, kernel, options: GuestOptions::new(direct()) }.prepare();
        }
    }
}
