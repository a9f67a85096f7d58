//! Bad files: exit code 2, a message that names the file and, where there is one, the offset; no panic.

mod common;

use std::path::Path;

use common::{Firmware, snp, stdout};

struct Case {
    name: String,
    bytes: Vec<u8>,
    command: &'static str,
    /// The message tells an offset.
    offset: bool,
}

fn firmware_cases() -> Vec<Case> {
    let good = Firmware::full().bytes();
    let end = good.len();
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, offset: bool| {
        let command = "measure --vcpus 2 --vcpu-type EPYC-v4 --ovmf FILE";
        cases.push(Case { name: format!("firmware {name}"), bytes, command, offset });
    };
    let patched = |at: usize, patch: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    add("empty", Vec::new(), false);
    add("one byte", vec![0], false);
    add("odd length", good[..end - 1].to_vec(), false);
    add("only zeros", vec![0; 65536], true);
    add("only ones", vec![0xff; 65536], true);
    add("too large", vec![0; (16 << 20) + 4096], false);
    add("cut off at the front to one page", good[end - 4096..].to_vec(), true);
    let footer = end - 32 - 18;
    add("footer GUID", patched(footer + 2, &[0; 16]), true);
    for size in [0_u16, 17, 19, 0x7fff, u16::MAX] {
        add(&format!("table size {size}"), patched(footer, &size.to_le_bytes()), true);
    }
    // The last entry before the footer is the metadata offset: 4 bytes, size, GUID.
    let entry = footer - 18;
    for size in [0_u16, 17, 18, 21, u16::MAX] {
        add(&format!("entry size {size}"), patched(entry, &size.to_le_bytes()), true);
    }
    for back in [0_u32, 1, 15, 0x1_0001, u32::MAX] {
        add(&format!("metadata {back:#x} from the end"), patched(entry - 4, &back.to_le_bytes()), true);
    }
    add("metadata signature", patched(4096, b"VESA"), true);
    for size in [0_u32, 15, 87] {
        add(&format!("metadata size {size}"), patched(4100, &size.to_le_bytes()), true);
    }
    for version in [0_u32, 2] {
        add(&format!("metadata version {version}"), patched(4104, &version.to_le_bytes()), true);
    }
    for count in [7_u32, 0x1000, u32::MAX] {
        add(&format!("{count} sections"), patched(4108, &count.to_le_bytes()), true);
    }
    add("section misaligned", patched(4112, &0x80_e001_u32.to_le_bytes()), true);
    add("section empty", patched(4116, &0_u32.to_le_bytes()), true);
    add("section of part of a page", patched(4116, &0x800_u32.to_le_bytes()), true);
    add("CPUID section of two pages", patched(4116, &0x2000_u32.to_le_bytes()), true);
    add("unknown section", patched(4120, &0x77_u32.to_le_bytes()), false);
    add("sections that overlap", patched(4112, &0x80_0000_u32.to_le_bytes()), false);
    add("no metadata", Firmware { sections: None, ..Firmware::full() }.bytes(), false);
    add("no reset block", Firmware { reset_eip: None, ..Firmware::full() }.bytes(), false);
    cases
}

fn igvm_cases(good: &[u8]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>, offset: bool| {
        cases.push(Case { name: format!("IGVM {name}"), bytes, command: "measure --igvm FILE", offset });
    };
    let patched = |at: usize, patch: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    for len in [0, 3, 4, 8, 23, 24, 40, 100, 200] {
        add(format!("cut off after {len} bytes"), good[..len].to_vec(), true);
    }
    add("without its last page".into(), good[..good.len() - 4096].to_vec(), true);
    add("magic".into(), patched(0, b"XXXX"), true);
    for version in [0_u32, 3, u32::MAX] {
        add(format!("version {version}"), patched(4, &version.to_le_bytes()), true);
    }
    for (field, at) in [("header offset", 8), ("header size", 12), ("file size", 16), ("checksum", 20)] {
        for value in [0_u32, 1, 0x7fff_ffff, u32::MAX] {
            add(format!("{field} {value:#x}"), patched(at, &value.to_le_bytes()), false);
        }
    }
    add("first header's type".into(), patched(24, &[0xff; 4]), false);
    add("first header's length".into(), patched(28, &[0xff; 4]), false);
    cases
}

fn other_cases() -> Vec<Case> {
    let case = |name: &str, bytes: &[u8], command: &'static str| Case {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
        command,
        offset: false,
    };
    let key = "id-block create --digest DIGEST --id-key FILE --id-block b --id-auth a";
    let report = "explain --report FILE --igvm hello.igvm";
    let mut version = vec![0; 0x4a0];
    version[0] = 77;
    vec![
        case("empty key", b"", key),
        case("key that is no PEM", b"hello", key),
        case("key of another kind", b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", key),
        case("key cut off", b"-----BEGIN EC PRIVATE KEY-----\nMIGkAgEBBDD\n", key),
        case("key that is not UTF-8", &[0xff; 300], key),
        case("empty report", b"", report),
        case("short report", &[3; 0x49f], report),
        case("long report", &[3; 0x4a1], report),
        case("report of an unknown version", &version, report),
        case("report in bad base64", b"!!!!", report),
        case("short VMSA", &[0; 4095], "measure --igvm hello.igvm --vmsa FILE"),
        case("long VMSA", &[0; 4097], "vmsa show FILE"),
        case("transcript that is no JSON", b"{\"seq\":0,", "diff FILE FILE"),
        case("transcript without pages", b"{\"seq\":0}\n", "diff FILE FILE"),
        case(
            "transcript with a bad page",
            b"{\"pages\":[{\"gpa\":\"0x1000\",\"type\":\"x\",\"contents\":\"\"}]}\n",
            "diff FILE FILE",
        ),
        case("ID block of the wrong size", &[1; 95], "id-block show FILE"),
        case("IGVM file that is firmware", &Firmware::full().bytes(), "igvm lint FILE"),
        case("firmware for a file that is text", b"text\n", "igvm build --ovmf FILE -o out.igvm"),
    ]
}

#[test]
fn bad_files_are_refused_with_their_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let place: &Path = directory.path();
    stdout(&snp(place, &["example", "hello", "-o", "hello.igvm"]));
    let hello = std::fs::read(place.join("hello.igvm")).expect("written");
    let cases: Vec<Case> = firmware_cases().into_iter().chain(igvm_cases(&hello)).chain(other_cases()).collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case { name, bytes, command, offset } in &cases {
        std::fs::write(place.join("bad-file"), bytes).expect("written");
        let command = command.replace("DIGEST", &"ab".repeat(48));
        let words: Vec<&str> =
            command.split_whitespace().map(|word| if word == "FILE" { "bad-file" } else { word }).collect();
        let output = snp(place, &words);
        let message = String::from_utf8_lossy(&output.stderr);
        let good = output.status.code() == Some(2)
            && message.contains("bad-file")
            && !message.contains("panicked")
            && output.stdout.is_empty()
            && (!offset || message.contains("offset") || message.contains("0x"));
        if !good {
            wrong.push(format!("{name}: {:?}: {message}", output.status.code()));
        }
        assert!(!place.join("out.igvm").exists(), "{name} left a file");
    }
    println!("{} cases", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_are_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    for command in ["measure --ovmf no --vcpus 1 --vcpu-type EPYC", "measure --igvm no", "igvm show no", "diff no no"] {
        let output = snp(directory.path(), &command.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{command}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("no") && message.contains("No such file"), "{command}: {message}");
    }
}
