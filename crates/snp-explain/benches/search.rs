//! Candidates per second on one core: 4 MiB of firmware, every digest wrong.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snp_abi::LaunchDigest;
use snp_explain::{Answer, Image, NoObserver, Question, explain};
use snp_image::Ovmf;

/// 4 MiB of firmware whose metadata has what OVMF's has: about 30 pages beside the flash.
fn firmware() -> Vec<u8> {
    let mut image: Vec<u8> = (0..4_usize << 20).map(|i| (i / 4096 * 31 + i * 7 + 1) as u8).collect();
    let mut table = Vec::new();
    let mut entry = |guid: u128, data: &[u8]| {
        table.extend_from_slice(data);
        table.extend_from_slice(&((data.len() + 18) as u16).to_le_bytes());
        let mut bytes = guid.to_be_bytes();
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        table.extend_from_slice(&bytes);
    };
    entry(0x00f7_71de_1a7e_4fcb_890e_68c7_7e2f_b44e, &0x0080_b004_u32.to_le_bytes());
    let sections =
        [(0x80_0000_u32, 0x9000_u32, 1_u32), (0x80_d000, 0x1000, 2), (0x80_e000, 0x1000, 3), (0x81_0000, 0x1_0000, 1)];
    let mut metadata = b"ASEV".to_vec();
    let head = [16 + 12 * sections.len() as u32, 1, sections.len() as u32];
    let words = head.into_iter().chain(sections.into_iter().flat_map(|(gpa, len, kind)| [gpa, len, kind]));
    words.for_each(|word| metadata.extend_from_slice(&word.to_le_bytes()));
    image[4096..4096 + metadata.len()].copy_from_slice(&metadata);
    entry(0xdc88_6566_984a_4798_a75e_5585_a7bf_67cc, &((4 << 20) - 4096_u32).to_le_bytes());
    entry(0x96b5_82de_1fb2_45f7_baea_a366_c55a_082d, &[]);
    let size = table.len() as u16;
    let at = table.len() - 18;
    table[at..at + 2].copy_from_slice(&size.to_le_bytes());
    let end = image.len() - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

fn bench(criterion: &mut Criterion) {
    let firmware = Box::new(Ovmf::parse(Bytes::from(firmware())).expect("good firmware"));
    let question = Question {
        // A known processor keeps the space small enough for a benchmark.
        cpu_signature: Some(0x00a0_0f11),
        most_vcpus: 64,
        ..Question::new(LaunchDigest([7; 48]), Image::Firmware { firmware, kernels: Vec::new() })
    };
    let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let Answer::NoMatch(tried) = one_core.install(|| explain(&question, &NoObserver)) else { panic!("no such digest") };
    let mut group = criterion.benchmark_group("explain");
    group.throughput(Throughput::Elements(tried.candidates)).sample_size(10);
    group.bench_function("candidates on one core", |b| {
        b.iter(|| one_core.install(|| explain(black_box(&question), &NoObserver)));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
