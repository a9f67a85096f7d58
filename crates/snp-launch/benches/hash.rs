//! What predicting a digest costs, beside hashing the same pages and nothing else.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use snp_abi::{Gpa, GuestPolicy, PAGE_SIZE, SevFeatures, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PageBytes, predict};

/// Contents without zero pages, so that nothing is recognised.
fn contents(len: usize) -> Bytes {
    (0..len).map(|i| ((i / PAGE_SIZE) * 31 + i * 7) as u8 | 1).collect()
}

fn plan(data: &Bytes) -> LaunchPlan {
    let features = SevFeatures(SevFeatures::SNP_ACTIVE);
    let vmsa_gpa = Gpa(0x1000);
    let vmsa = Box::new(Vmsa { sev_features: features, ..Vmsa::default() });
    let data = PageBytes::new(data.clone()).expect("whole pages");
    LaunchPlan {
        policy: GuestPolicy::DEFAULT,
        gosvw: [0; 16],
        features,
        memory: vec![MemoryRegion { gpa: Gpa(0), len: 1 << 30 }],
        pages: vec![LaunchPage::Normal { gpa: Gpa(1 << 20), data }, LaunchPage::Vmsa { gpa: vmsa_gpa, vmsa }],
        boot: BootState::Direct { vmsa_gpa },
        vcpus: 1,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("launch digest");
    group.sample_size(10);
    for mib in [4_usize, 256] {
        let data = contents(mib << 20);
        let pages: Vec<&[u8; PAGE_SIZE]> =
            data.chunks_exact(PAGE_SIZE).map(|page| page.try_into().expect("a page")).collect();
        let plan = plan(&data);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(BenchmarkId::new("hash pages, MiB", mib), |b| b.iter(|| snp_sha384::pages(&pages)));
        group.bench_function(BenchmarkId::new("predict, MiB", mib), |b| b.iter(|| predict(&plan)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
