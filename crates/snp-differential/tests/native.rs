//! The native side alone: sequences run, repeat themselves, and do what they were made for.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::BTreeMap;

use snp_differential::generate::{Catalogue, Generator};
use snp_differential::layout::Images;
use snp_differential::native::{BATCH_LEN, Native};

/// What a sequence does depends on nothing but its seed: otherwise it could not be compared.
#[test]
fn sequences_repeat_themselves() {
    if let Some(reason) = Native::unsupported() {
        println!("skipped: {reason}");
        return;
    }
    let catalogue = Catalogue::of_this_machine();
    println!("{} instructions; not on this machine: {:?}", catalogue.len(), catalogue.missing);
    let images = Images::new(1);
    let mut generator = Generator::new(&catalogue);
    let mut native = Native::new().unwrap();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for batch in 0..8 {
        let cases: Vec<_> = (0..BATCH_LEN as u64).map(|index| generator.case(batch << 32 | index)).collect();
        let first = native.run(&cases, &images).unwrap();
        let second = native.run(&cases, &images).unwrap();
        for ((case, first), second) in cases.iter().zip(&first).zip(&second) {
            let code: Vec<String> = case.items.iter().map(|item| item.instruction.to_string()).collect();
            assert_eq!(first, second, "seed {:#x}: {code:#?}", case.seed);
            let end = match first {
                None => "the child ended".to_owned(),
                Some(outcome) => {
                    outcome.fault.map_or("to the end".to_owned(), |fault| format!("vector {}", fault.vector))
                }
            };
            if first.is_none() {
                println!("{:#x} {code:?}", case.seed);
            }
            *ends.entry(end).or_default() += 1;
        }
    }
    println!("{ends:#?}");
    let all: u32 = ends.values().sum();
    assert!(ends["to the end"] > all / 3, "{ends:?}");
    assert!(ends.get("the child ended").is_none_or(|count| *count < all / 500), "{ends:?}");
}
