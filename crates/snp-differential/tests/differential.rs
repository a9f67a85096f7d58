//! The model does what this machine does. `cargo xtask differential` compares a million sequences; these are fewer.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use snp_differential::generate::Catalogue;
use snp_differential::native::Native;
use snp_differential::run::{Comparison, Summary};

const SEQUENCES: u64 = 50_000;

fn compare(seed: u64) {
    if let Some(reason) = Native::unsupported() {
        println!("skipped: {reason}");
        return;
    }
    let catalogue = Catalogue::of_this_machine();
    println!("seed {seed:#x}, {} instructions; not on this machine: {:?}", catalogue.len(), catalogue.missing);
    let mut comparison = Comparison::new(&catalogue, seed).unwrap();
    let mut summary = Summary::default();
    comparison.run(seed, 0..SEQUENCES, &mut summary).unwrap();
    println!("{summary}");
    let differences: Vec<String> = summary.differences.iter().map(|found| comparison.describe(found)).collect();
    assert!(summary.is_good(), "cargo xtask differential --seed {seed:#x}\n{}\n{summary}", differences.join("\n"));
    assert!(
        summary.equal + summary.lost + summary.own_code == SEQUENCES
            && summary.lost + summary.own_code < SEQUENCES / 500,
        "{summary}"
    );
    assert!(summary.completed > SEQUENCES / 2, "{summary}");
}

#[test]
fn the_model_does_what_this_machine_does() {
    compare(1);
}
