//! All ways of hashing give the same bytes.

use std::ops::ControlFlow;

use proptest::prelude::*;
use sha2::{Digest, Sha384};
use snp_sha384::{LINK_SIZE, PAGE_SIZE, link, pages, pages_in_order, pages_on_this_core, sha384, zero_page};

/// FIPS 180-4 example "abc" for SHA-384 (NIST, "Examples with Intermediate Values").
#[test]
fn known_answer_abc() {
    let hex: String = sha384(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7");
}

/// Computed with Python's hashlib: `hashlib.sha384(bytes(i * 7 % 251 for i in range(4096))).hexdigest()`, four times, so
/// that the four-lane way is taken where the processor has it.
#[test]
fn known_answer_page() {
    let page: [u8; PAGE_SIZE] = std::array::from_fn(|i| (i * 7 % 251) as u8);
    for hash in pages(&[&page; 4]) {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("page.sha384").trim());
    }
}

#[test]
fn zero_pages_hash_as_zeros() {
    assert_eq!(pages(&[&[0; PAGE_SIZE]; 5]), vec![sha384(&[0; PAGE_SIZE]); 5]);
    for byte in [1, 0x7f, 0xff] {
        assert_eq!(pages(&[&[byte; PAGE_SIZE]; 5]), vec![sha384(&[byte; PAGE_SIZE]); 5]);
    }
    // All but the last byte.
    let mut almost = [0xff; PAGE_SIZE];
    almost[PAGE_SIZE - 1] = 0xfe;
    assert_eq!(pages(&[&almost]), vec![sha384(&almost)]);
    assert_eq!(zero_page(), sha384(&[0; PAGE_SIZE]));
}

proptest! {
    #[test]
    fn links_are_messages_like_others(message in prop::collection::vec(any::<u8>(), LINK_SIZE)) {
        let expected: [u8; 48] = Sha384::digest(&message).into();
        prop_assert_eq!(link(message.as_slice().try_into().unwrap()), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Runs of every length around the lane width and the task size, zero pages in between.
    #[test]
    fn every_way_agrees(seed in any::<u64>(), count in 0usize..23, zeros in any::<u32>(), long in any::<bool>()) {
        let count = if long { count + 520 } else { count };
        let mut state = seed | 1;
        let buffer: Vec<[u8; PAGE_SIZE]> = (0..count)
            .map(|index| {
                if zeros >> (index % 32) & 1 == 1 {
                    return [0; PAGE_SIZE];
                }
                std::array::from_fn(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
            })
            .collect();
        let borrowed: Vec<&[u8; PAGE_SIZE]> = buffer.iter().collect();
        let expected: Vec<[u8; 48]> = buffer.iter().map(|page| Sha384::digest(page).into()).collect();
        let mut one_core = vec![[0; 48]; count];
        pages_on_this_core(&borrowed, &mut one_core);
        prop_assert_eq!(&one_core, &expected);
        prop_assert_eq!(&pages(&borrowed), &expected);
        let mut in_order = Vec::new();
        let ended: ControlFlow<()> = pages_in_order(&borrowed, |index, hash| {
            assert_eq!(index, in_order.len());
            in_order.push(hash);
            ControlFlow::Continue(())
        });
        prop_assert!(ended.is_continue());
        prop_assert_eq!(in_order, expected);
    }

    #[test]
    fn what_breaks_ends(count in 1usize..300, at in 0usize..300) {
        let seen = pages_in_order(&vec![&[1; PAGE_SIZE]; count], |index, _| {
            if index == at { ControlFlow::Break(index) } else { ControlFlow::Continue(()) }
        });
        prop_assert_eq!(seen.break_value(), (at < count).then_some(at));
    }
}
