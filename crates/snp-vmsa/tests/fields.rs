//! Fields by name, and differences.

use proptest::prelude::*;
use snp_abi::Vmsa;
use snp_vmsa::diff::differences;
use snp_vmsa::fields::{FieldError, Value, assign, fields, find};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn fields_cover_the_page_once() {
    let mut end = 0;
    for field in fields() {
        assert_eq!(field.offset(), end, "{field}");
        end += field.size();
        assert_eq!(find(&field.name()), Ok(field));
    }
    assert_eq!(end, 4096);
}

#[test]
fn sets_what_it_shows() {
    let mut vmsa = Vmsa::default();
    for (assignment, shown) in [
        ("rip=0xfff0", "0xfff0"),
        ("cs.base = 4294901760", "0xffff0000"),
        ("cs.attrib=0x9b", "0x9b"),
        ("vmpl=3", "0x3"),
        ("sev_features=0x21", "0x21"),
        ("g_pat=0x0007_0406_0007_0406", "0x7040600070406"),
        ("reserved_0xc8=0aFf", "0aff"),
        ("mxcsr=8064", "0x1f80"),
    ] {
        assign(&mut vmsa, assignment).unwrap();
        let name = assignment.split('=').next().unwrap().trim();
        assert_eq!(find(name).unwrap().get(&vmsa).to_string(), shown, "{assignment}");
    }
    assert_eq!((vmsa.rip, vmsa.cs.base, vmsa.cs.attrib, vmsa.vmpl.0), (0xfff0, 0xffff_0000, 0x9b, 3));
    assign(&mut vmsa, "fpreg_xmm=0").unwrap();
    assert_eq!(find("fpreg_xmm").unwrap().get(&vmsa), Value::Bytes(vec![0; 256]));
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let before = Vmsa { rip: 7, ..Vmsa::default() };
    for (assignment, message) in [
        ("rflag=1", "no field \"rflag\" in a VMSA; did you mean rflags?"),
        ("fcw=0x37f", "no field \"fcw\" in a VMSA; did you mean x87_fcw?"),
        ("CR0=1", "no field \"CR0\" in a VMSA; did you mean cr0?"),
        ("nothing_like_it=1", "no field \"nothing_like_it\" in a VMSA"),
        ("cs=1", "cs is a segment: want cs.selector, cs.attrib, cs.limit or cs.base"),
        ("rip", "\"rip\": want FIELD=VALUE, for instance rip=0xfff0"),
        ("rip=fff0", "rip: \"fff0\" is not a number: want decimal digits, or hexadecimal ones after 0x"),
        ("rip=-1", "rip: \"-1\" is not a number: want decimal digits, or hexadecimal ones after 0x"),
        ("rip=", "rip: \"\" is not a number: want decimal digits, or hexadecimal ones after 0x"),
        ("cs.attrib=0x10000", "cs.attrib: 0x10000 does not fit in 16 bits"),
        ("rip=0x10000000000000000", "rip: 0x10000000000000000 does not fit in 64 bits"),
        (
            "reserved_0xc8=1234ff",
            "reserved_0xc8: want 4 hexadecimal digits (2 bytes, first byte first), or 0 for all zero; got 6 characters",
        ),
        (
            "reserved_0xc8=é34",
            "reserved_0xc8: want 4 hexadecimal digits (2 bytes, first byte first), or 0 for all zero; got 3 characters",
        ),
    ] {
        let mut vmsa = before;
        let error: FieldError = assign(&mut vmsa, assignment).unwrap_err();
        assert_eq!(error.to_string(), message, "{assignment}");
        assert_eq!(vmsa, before, "{assignment}");
    }
}

#[test]
fn a_difference_names_its_field() {
    let left = Vmsa::default();
    let mut right = left;
    right.cs.base = 0x8000;
    right.unused_0x670[5] = 1;
    let found = differences(&left, &right);
    let names: Vec<String> = found.iter().map(|difference| difference.field.name()).collect();
    assert_eq!(names, ["cs.base", "unused_0x670"]);
    assert_eq!(found[0].right, Value::Integer(0x8000));
    assert!(differences(&left, &left).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_byte_belongs_to_exactly_one_difference(at in 0_usize..4096, flip in 1_u8..=255) {
        let left = Vmsa::default();
        let mut right = left;
        right.as_mut_bytes()[at] ^= flip;
        let found = differences(&left, &right);
        prop_assert_eq!(found.len(), 1);
        prop_assert!((found[0].field.offset()..found[0].field.offset() + found[0].field.size()).contains(&at));
    }

    #[test]
    fn what_is_shown_can_be_set(page in proptest::collection::vec(any::<u8>(), 4096)) {
        let page = Vmsa::read_from_bytes(&page).unwrap();
        let mut copy = Vmsa::default();
        for field in fields() {
            assign(&mut copy, &format!("{field}={}", field.get(&page))).unwrap();
        }
        prop_assert!(copy == page);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _ = assign(&mut Vmsa::default(), &text);
        let _ = assign(&mut Vmsa::default(), &format!("reserved_0xcc={text}"));
    }
}
