//! How long a verification takes: one report with its chain, and many of one chip.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snp_attest::UnixTime;
use snp_attest::certificate::Certificate;
use snp_attest::chain::{Certificates, Chain, Trust};
use snp_attest::ecdsa::GeneratorTable;
use snp_attest::policy::Policy;
use snp_attest::report::{parse, product_line, verify, verify_with};

const REPORT: &[u8] = include_bytes!("../tests/reports/genoa-v3.report.bin");
const VCEK: &[u8] = include_bytes!("../tests/reports/genoa-v3.vcek.der");

/// Promise: one report, chain included, in less than 2 ms; more than 3000 reports of a chip in a second and core.
fn verification(c: &mut Criterion) {
    let trust = Trust { now: UnixTime::parse("2026-06-01"), ..Trust::default() };
    let policy = Policy { allow_debug: true, ..Policy::default() };
    let read = || Certificates { vcek: Certificate::from_der(VCEK).ok(), ..Certificates::default() };
    assert!(verify(REPORT, &read(), &trust, &policy).passed());

    c.bench_function("verify/one report with its chain, from bytes", |b| {
        b.iter(|| verify(black_box(REPORT), &read(), &trust, &policy).passed());
    });

    let report = parse(REPORT).expect("a report");
    let key = report.signer_info.signing_key();
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(1000));
    group.sample_size(10);
    group.bench_function("1000 reports of one chip, chain and tables included", |b| {
        let generator = GeneratorTable::new();
        b.iter(|| {
            let mut chain = Chain::check(key, product_line(&report), &read(), &trust);
            chain.precompute(&generator);
            (0..1000).filter(|_| verify_with(black_box(&report), &chain, &policy).passed()).count()
        });
    });
    group.finish();
}

criterion_group!(benches, verification);
criterion_main!(benches);
