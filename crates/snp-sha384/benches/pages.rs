//! Page hashing: one page at a time, four lanes on one core, all cores.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snp_sha384::{LINK_SIZE, PAGE_SIZE, link, pages, pages_on_this_core, sha384};

const PAGES: usize = 16 << 20 >> 12;

fn bench(criterion: &mut Criterion) {
    let buffer: Vec<[u8; PAGE_SIZE]> =
        (0..PAGES).map(|n| std::array::from_fn(|i| (n * 31 + i * 7) as u8 | 1)).collect();
    let borrowed: Vec<&[u8; PAGE_SIZE]> = buffer.iter().collect();
    let mut hashes = vec![[0; 48]; PAGES];
    let mut group = criterion.benchmark_group("sha384 of 16 MiB in pages");
    group.throughput(Throughput::Bytes((PAGES * PAGE_SIZE) as u64)).sample_size(20);
    group.bench_function("one page at a time", |b| {
        b.iter(|| borrowed.iter().zip(&mut hashes).for_each(|(page, hash)| *hash = sha384(*page)));
    });
    group.bench_function("one core", |b| b.iter(|| pages_on_this_core(&borrowed, &mut hashes)));
    group.bench_function("all cores", |b| b.iter(|| pages(&borrowed)));
    group.finish();
    criterion.bench_function("a link of a chain", |b| {
        let mut message = [7; LINK_SIZE];
        b.iter(|| {
            let hash = link(&message);
            message[..48].copy_from_slice(&hash);
        });
    });
    criterion.bench_function("a link of a chain, as any message", |b| {
        let mut message = [7; LINK_SIZE];
        b.iter(|| {
            let hash = sha384(&message);
            message[..48].copy_from_slice(&hash);
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
