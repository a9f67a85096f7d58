//! A whole launch on the software platform, against hashing the same pages (on one core, on all) and against the digest
//! engine, which hashes them on all cores and chains the hashes, but performs nothing.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, SevFeatures, Vmsa};
use snp_asp::PlatformConfig;
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, NoObserver, PageBytes, Platform, predict};
use snp_softkvm::{SoftPlatform, profiles};
use zerocopy::FromBytes;

const MIB: u64 = 1 << 20;

/// Contents without two pages alike and without zero pages.
fn image(mib: u64) -> Bytes {
    let mut state = 1_u64;
    let words = (0..mib * MIB / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    });
    words.collect::<Vec<u8>>().into()
}

fn plan(image: &Bytes) -> LaunchPlan {
    let features = SevFeatures(SevFeatures::SNP_ACTIVE);
    let (start, len) = (Gpa(0x10_0000), image.len() as u64);
    let vmsa_gpa = Gpa(start.0 + len);
    LaunchPlan {
        policy: GuestPolicy::DEFAULT,
        gosvw: [0; 16],
        features,
        memory: vec![MemoryRegion { gpa: start, len: len + 0x1000 }],
        pages: vec![
            LaunchPage::Normal { gpa: start, data: PageBytes::new(image.clone()).expect("whole pages") },
            LaunchPage::Vmsa { gpa: vmsa_gpa, vmsa: Box::new(Vmsa { sev_features: features, ..Vmsa::default() }) },
        ],
        boot: BootState::Direct { vmsa_gpa },
        vcpus: 1,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("launch");
    for mib in [4, 256] {
        let image = image(mib);
        let plan = plan(&image);
        let pages = <[[u8; PAGE_SIZE]]>::ref_from_bytes(&image).expect("whole pages");
        let pages: Vec<_> = pages.iter().collect();
        let platform = SoftPlatform::new(PlatformConfig::genoa(), &profiles::DIRECT_VMSA);
        group.throughput(Throughput::Bytes(mib * MIB)).sample_size(if mib > 4 { 10 } else { 50 });
        let mut hashes = vec![[0; 48]; pages.len()];
        group.bench_function(BenchmarkId::new("hash pages on one core, MiB", mib), |b| {
            b.iter(|| snp_sha384::pages_on_this_core(&pages, black_box(&mut hashes)));
        });
        group.bench_function(BenchmarkId::new("hash pages on all cores, MiB", mib), |b| {
            b.iter(|| black_box(snp_sha384::pages(&pages)));
        });
        group.bench_function(BenchmarkId::new("predict, MiB", mib), |b| b.iter(|| predict(black_box(&plan))));
        group.bench_function(BenchmarkId::new("platform, MiB", mib), |b| {
            b.iter(|| platform.launch(&plan, &mut NoObserver).expect("a good plan"));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
