//! The digest engine against a second, naive implementation, and against vectors of another tool.

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest, Sha384};
use snp_abi::{CpuidPage, Gpa, GuestPolicy, LaunchDigest, PAGE_SIZE, PageType, SevFeatures, VmplPermissions, Vmsa};
use snp_launch::{BootState, DigestEngine, LaunchPage, LaunchPlan, PageBytes, predict, predict_steps};
use zerocopy::IntoBytes;

/// PAGE_INFO byte by byte, as the specification's table has it.
fn naive(digest: [u8; 48], page_type: u8, gpa: u64, contents: [u8; 48], imi: bool, permissions: [u8; 3]) -> [u8; 48] {
    let mut info = [0_u8; 0x70];
    info[0x00..0x30].copy_from_slice(&digest);
    info[0x30..0x60].copy_from_slice(&contents);
    info[0x60..0x62].copy_from_slice(&0x70_u16.to_le_bytes());
    info[0x62] = page_type;
    info[0x63] = imi.into();
    info[0x65..0x68].copy_from_slice(&permissions);
    info[0x68..0x70].copy_from_slice(&gpa.to_le_bytes());
    Sha384::digest(info).into()
}

fn naive_plan(plan: &LaunchPlan) -> [u8; 48] {
    let mut digest = [0; 48];
    let hash = |page: &[u8]| -> [u8; 48] { Sha384::digest(page).into() };
    let vmsa_hash = |vmsa: &Vmsa| hash(Vmsa { tsc_scale: 0, tsc_offset: 0, ..*vmsa }.as_bytes());
    for page in &plan.pages {
        for index in 0..page.len_bytes() as usize / PAGE_SIZE {
            let contents = match page {
                LaunchPage::Normal { data, .. } => hash(&data.bytes()[index * PAGE_SIZE..][..PAGE_SIZE]),
                LaunchPage::Vmsa { vmsa, .. } => vmsa_hash(vmsa),
                _ => [0; 48],
            };
            let gpa = page.gpa().0 + (index * PAGE_SIZE) as u64;
            digest = naive(digest, page.page_type().0, gpa, contents, false, [0; 3]);
        }
    }
    if let BootState::Registers { boot, others } = &plan.boot {
        for index in 0..plan.vcpus {
            let vmsa = if index == 0 { boot } else { others };
            digest = naive(digest, 2, 0xffff_ffff_f000, vmsa_hash(vmsa), false, [0; 3]);
        }
    }
    digest
}

fn any_contents() -> impl Strategy<Value = PageBytes> {
    prop::collection::vec(0..4_u8, 1..12).prop_map(|pages| {
        // Seeds 0 and 1 make zero pages and equal pages.
        let page = |seed: u8| (0..PAGE_SIZE).map(move |i| if seed == 0 { 0 } else { seed.wrapping_mul(i as u8 | 1) });
        PageBytes::new(pages.into_iter().flat_map(page).collect::<Bytes>()).expect("whole pages")
    })
}

fn any_page() -> impl Strategy<Value = LaunchPage> {
    let gpa = (0..1_u64 << 40).prop_map(|gfn| Gpa(gfn << 12));
    let vmsa = (any::<u64>(), any::<u64>(), any::<u64>())
        .prop_map(|(rip, tsc_scale, tsc_offset)| Box::new(Vmsa { rip, tsc_scale, tsc_offset, ..Vmsa::default() }));
    (gpa, 0..6_u8, any_contents(), 1..9_u64, vmsa).prop_map(|(gpa, kind, data, pages, vmsa)| match kind {
        0 => LaunchPage::Normal { gpa, data },
        1 => LaunchPage::Unmeasured { gpa, data },
        2 => LaunchPage::Zero { gpa, len: pages << 12 },
        3 => LaunchPage::Secrets { gpa },
        4 => LaunchPage::Cpuid { gpa, table: Box::<CpuidPage>::default() },
        _ => LaunchPage::Vmsa { gpa, vmsa },
    })
}

fn plan(pages: Vec<LaunchPage>, boot: BootState, vcpus: u32) -> LaunchPlan {
    LaunchPlan {
        policy: GuestPolicy::DEFAULT,
        gosvw: [0; 16],
        features: SevFeatures(SevFeatures::SNP_ACTIVE),
        memory: Vec::new(),
        pages,
        boot,
        vcpus,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn plans(pages in prop::collection::vec(any_page(), 0..8), vcpus in 1..9_u32, direct: bool, rip: u64, tsc: u64) {
        let vmsa = |rip| Box::new(Vmsa { rip, tsc_offset: tsc, ..Vmsa::default() });
        let boot = match direct {
            true => BootState::Direct { vmsa_gpa: Gpa(0) },
            false => BootState::Registers { boot: vmsa(rip), others: vmsa(!rip) },
        };
        let plan = plan(pages, boot, vcpus);
        prop_assert_eq!(predict(&plan).0, naive_plan(&plan));
        // The steps end where the prediction does, and each starts where the last one ended.
        let mut last = LaunchDigest::ZERO;
        let mut chained = true;
        let end = predict_steps(&plan, &mut |step| {
            let next = naive(last.0, step.page_type.0, step.gpa.0, step.contents, false, [0; 3]);
            chained &= next == step.digest.0;
            last = step.digest;
        });
        prop_assert!(chained);
        prop_assert_eq!(end, last);
    }

    #[test]
    fn single_pages(page_type: u8, gpa: u64, contents: [u8; 24], imi: bool, permissions: [u8; 3], before: [u8; 24]) {
        let double = |half: [u8; 24]| <[u8; 48]>::try_from([half, half].concat()).expect("48 bytes");
        let (contents, before) = (double(contents), double(before));
        let mut engine = DigestEngine::resume(LaunchDigest(before));
        let got = engine.extend(PageType(page_type), Gpa(gpa), contents, imi, permissions.map(VmplPermissions));
        prop_assert_eq!(got.0, naive(before, page_type, gpa, contents, imi, permissions));
        prop_assert_eq!(engine.digest(), got);
    }
}

/// One page after the other: the engine's pages equal the plan's.
#[test]
fn the_engine_is_the_plan_page_by_page() {
    let pages = vec![
        LaunchPage::Normal { gpa: Gpa(0x1000), data: PageBytes::padded(&[1; 9000]) },
        LaunchPage::Zero { gpa: Gpa(0x8000), len: 0x3000 },
    ];
    let mut engine = DigestEngine::new();
    let last = pages.iter().map(|page| engine.page(page)).last();
    assert_eq!(last, Some(predict(&plan(pages, BootState::Direct { vmsa_gpa: Gpa(0) }, 1))));
}

/// A run of more pages than are hashed at a time.
#[test]
fn a_run_of_several_batches() {
    let data: Bytes = (0..4099 * PAGE_SIZE).map(|i| (i / PAGE_SIZE * 7 + i) as u8).collect();
    let pages = vec![LaunchPage::Normal { gpa: Gpa(0), data: PageBytes::new(data).unwrap() }];
    let plan = plan(pages, BootState::Direct { vmsa_gpa: Gpa(0) }, 1);
    assert_eq!(predict(&plan).0, naive_plan(&plan));
}

/// TSC_SCALE and TSC_OFFSET are measured as zero; their neighbours are not.
#[test]
fn tsc_fields_are_not_measured() {
    let digest = |vmsa: Vmsa| DigestEngine::new().page(&LaunchPage::Vmsa { gpa: Gpa(0x1000), vmsa: Box::new(vmsa) });
    let plain = digest(Vmsa::default());
    assert_eq!(digest(Vmsa { tsc_scale: !0, tsc_offset: !0, ..Vmsa::default() }), plain);
    assert_ne!(digest(Vmsa { tsc_aux: 1, ..Vmsa::default() }), plain);
    assert_ne!(digest(Vmsa { reg_prot_nonce: 1, ..Vmsa::default() }), plain);
}

/// Vectors of sev-snp-measure 0.0.13 (`gctx.py`, `GCTX._update`, `update_normal_pages`, `update_zero_pages`,
/// `update_secrets_page`, `update_cpuid_page`, `update_vmsa_page`), and of hashlib for what it does not do: permissions in
/// the specification's order. Made by `tests/vectors.py`.
#[test]
fn vectors_of_another_tool() {
    let vectors = include_str!("vectors.txt");
    let expected = |name: &str| {
        let line = vectors.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no vector {name}")).to_owned()
    };
    let page: Vec<u8> = (0..2 * PAGE_SIZE).map(|i| (i * 3 + i / 256) as u8).collect();
    let mut vmsa = Vmsa::default();
    vmsa.as_mut_bytes().iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 5 + 1) as u8);
    vmsa.tsc_scale = 0;
    vmsa.tsc_offset = 0;
    let mut engine = DigestEngine::new();
    let steps = [
        ("normal", LaunchPage::Normal { gpa: Gpa(0xffe0_0000), data: PageBytes::padded(&page) }),
        ("zero", LaunchPage::Zero { gpa: Gpa(0x80_0000), len: 0x3000 }),
        ("unmeasured", LaunchPage::Unmeasured { gpa: Gpa(0x90_0000), data: PageBytes::padded(&page) }),
        ("secrets", LaunchPage::Secrets { gpa: Gpa(0x80_d000) }),
        ("cpuid", LaunchPage::Cpuid { gpa: Gpa(0x80_e000), table: Box::default() }),
        ("vmsa", LaunchPage::Vmsa { gpa: Gpa(0xffff_ffff_f000), vmsa: Box::new(vmsa) }),
    ];
    for (name, page) in steps {
        assert_eq!(engine.page(&page).to_string(), expected(name), "{name}");
    }
    let contents = std::array::from_fn(|i| i as u8 + 1);
    let permissions = [0x0f, 0x05, 0x11].map(VmplPermissions);
    let digest = engine.extend(PageType::NORMAL, Gpa(0x1234_5000), contents, true, permissions);
    assert_eq!(digest.to_string(), expected("permissions"));
}
