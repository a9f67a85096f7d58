//! `snp measure` predicts what `snp launch` launches, for every profile of the software platform.

mod common;

use common::{Firmware, provided, snp, stdout};
use serde_json::Value;

#[test]
fn prediction_is_launch() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| stdout(&snp(place, &words.split_whitespace().collect::<Vec<_>>()));
    run("example hello -o hello.igvm");
    std::fs::write(place.join("kernel"), b"a kernel of no kind").expect("written");
    let full = Firmware::full().write(&place.join("full.fd"));
    let debian = provided("SNPKIT_TESTDATA").map(|data| data.join("sid/OVMF.amdsev.fd"));
    let mut images = vec!["--igvm hello.igvm".to_owned()];
    for ovmf in [Some(full), debian].into_iter().flatten() {
        images.push(format!("--ovmf {}", ovmf.display()));
        images.push(format!("--ovmf {} --kernel kernel --append quiet", ovmf.display()));
    }
    run(&format!("igvm build {} -o built.igvm", images[1]));
    images.push("--igvm built.igvm".to_owned());
    let mut compared = 0;
    for image in &images {
        for profile in ["direct-vmsa", "vcpu-state", "mainline"] {
            for guest in ["--vcpus 1 --vcpu-type EPYC-Milan", "--vcpus 5 --vcpu-type EPYC-v4 --guest-features 0x1"] {
                let options = format!("{image} --profile {profile} {guest}");
                let launched: Value = serde_json::from_str(&run(&format!("launch {options} --json"))).expect("JSON");
                let predicted = run(&format!("measure {options}"));
                assert_eq!(launched["launch_digest"], predicted.as_str(), "{options}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 24, "{compared}");
}

#[test]
fn a_list_of_counts_is_each_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| stdout(&snp(place, &words.split_whitespace().collect::<Vec<_>>()));
    Firmware::full().write(&place.join("full.fd"));
    let list = run("measure --ovmf full.fd --vcpu-type EPYC-v4 --vcpus 1..6,512");
    let each: Vec<String> = [1, 2, 3, 4, 5, 6, 512]
        .map(|count| format!("{count} {}", run(&format!("measure --ovmf full.fd --vcpu-type EPYC-v4 --vcpus {count}"))))
        .to_vec();
    assert_eq!(list.lines().collect::<Vec<_>>(), each);
}

/// Whoever reads the answer must not take a VMM for the maker of a VMSA that somebody else made.
#[test]
fn the_vmsa_is_told_to_be_of_whom_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| stdout(&snp(place, &words.split_whitespace().collect::<Vec<_>>()));
    Firmware::full().write(&place.join("full.fd"));
    run("example hello -o hello.igvm");
    run("vmsa new -o own.vmsa");
    for (options, maker) in [
        ("--ovmf full.fd --vcpu-type EPYC-v4 --vcpus 1", Some("qemu")),
        ("--ovmf full.fd --vcpu-type EPYC-v4 --vcpus 1 --vmm-type ec2", Some("ec2")),
        ("--ovmf full.fd --profile direct-vmsa --vmm-type ec2", Some("direct")),
        ("--ovmf full.fd --profile vcpu-state --vmsa own.vmsa", None),
        ("--ovmf full.fd --mode sev", Some("any")),
        ("--igvm hello.igvm", None),
        ("--igvm hello.igvm --loader qemu-replay --vcpus 1 --vcpu-type EPYC-v4", Some("qemu")),
    ] {
        let answer: Value = serde_json::from_str(&run(&format!("measure {options} --json"))).expect("JSON");
        assert_eq!(answer["vmsa_profile"].as_str(), maker, "{options}");
    }
}

#[test]
fn options_without_effect_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| stdout(&snp(place, &words.split_whitespace().collect::<Vec<_>>()));
    Firmware::full().write(&place.join("full.fd"));
    run("example hello -o hello.igvm");
    run("vmsa new -o own.vmsa");
    for (options, without_effect) in [
        ("--igvm hello.igvm --vcpu-type EPYC-Milan --vmm-type ec2", &["--vcpu-type", "--vmm-type"][..]),
        ("--igvm hello.igvm --vcpu-sig 0 --era 6.8", &["--vcpu-sig", "--era"]),
        ("--ovmf full.fd --profile direct-vmsa --vmsa own.vmsa --vcpu-type EPYC --vmm-type ec2", &["--vcpu-type"]),
        ("--ovmf full.fd --profile direct-vmsa --vcpu-type EPYC", &[]),
    ] {
        let answer: Value = serde_json::from_str(&run(&format!("measure {options} --json"))).expect("JSON");
        let told: Vec<_> = answer["warnings"].as_array().expect("warnings").iter().filter_map(Value::as_str).collect();
        let options_told: Vec<_> = told.iter().filter_map(|warning| warning.split(' ').next()).collect();
        assert_eq!(options_told, without_effect, "{options}: {told:?}");
    }
}

#[test]
fn signed_files_launch_and_only_they() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| snp(place, &words.split_whitespace().collect::<Vec<_>>());
    std::fs::write(place.join("id.pem"), include_bytes!("../../snp-attest/tests/keys/author.sec1.pem"))
        .expect("written");
    stdout(&run("example hello -o hello.igvm"));
    let digest = stdout(&run("igvm sign hello.igvm --id-key id.pem --author-key id.pem --guest-svn 7 -o signed.igvm"));
    assert_eq!(stdout(&run("measure --igvm signed.igvm")), digest);
    assert!(stdout(&run("launch --igvm signed.igvm --vcpus 3")).contains("ID block accepted"));
    // Signed again: replaced, not added.
    stdout(&run("igvm sign signed.igvm --id-key id.pem --guest-svn 8 -o again.igvm"));
    let shown: Value = serde_json::from_str(&stdout(&run("igvm show again.igvm --json"))).expect("JSON");
    assert_eq!(shown["id_block"]["guest_svn"], 8);
    assert_eq!(shown["id_block"]["author_key"], false);
    // What is signed for another loader is refused by the platform.
    stdout(&run("igvm sign hello.igvm --id-key id.pem --loader qemu-replay -o replay.igvm"));
    assert_eq!(run("launch --igvm replay.igvm").status.code(), Some(1));
}

/// Every command with --html writes a page about what it found; snp-html's own tests look at pages in a browser.
#[test]
fn pages_are_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| snp(place, &words.split_whitespace().collect::<Vec<_>>());
    Firmware::full().write(&place.join("full.fd"));
    stdout(&run("example hello -o hello.igvm"));
    let digest = stdout(&run("measure --ovmf full.fd --vcpus 3 --vcpu-type EPYC-v4"));
    for (command, says) in [
        ("launch --igvm hello.igvm --html page.html", "supplied by user space"),
        ("measure --ovmf full.fd --vcpus 3 --vcpu-type EPYC-v4 --html page.html", digest.as_str()),
        ("igvm show hello.igvm --html page.html", "vp-context"),
        (&format!("explain --ovmf full.fd --digest {digest} --html page.html"), "measured again in full"),
        ("diff full.fd@vcpus=2 full.fd@vcpus=3 --html page.html", "The digests part at page"),
    ] {
        run(command);
        let page = std::fs::read_to_string(place.join("page.html")).expect(command);
        assert!(page.contains(says) && page.contains("Memory map"), "{command}");
        std::fs::remove_file(place.join("page.html")).expect("it was there");
    }
}

#[test]
fn diff_tells_the_page_and_the_fields() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let run = |words: &str| snp(place, &words.split_whitespace().collect::<Vec<_>>());
    Firmware::full().write(&place.join("full.fd"));
    stdout(&run("example hello -o hello.igvm"));
    stdout(&run("launch --igvm hello.igvm --transcript hello.jsonl"));
    assert_eq!(stdout(&run("diff hello.jsonl hello.igvm")), "the same");
    // VMSAs of transcripts by field too: one that user space supplied, those that KVM made.
    stdout(&run("vmsa new --eip 0xfffffff0 -o a.vmsa"));
    stdout(&run("vmsa new --eip 0xffffff00 -o b.vmsa"));
    stdout(&run("launch --ovmf full.fd --vmsa a.vmsa --transcript a.jsonl"));
    stdout(&run("launch --ovmf full.fd --vmsa b.vmsa --transcript b.jsonl"));
    let mainline = "launch --ovmf full.fd --profile mainline --vcpus 2";
    stdout(&run(&format!("{mainline} --vcpu-type EPYC-Milan --transcript c.jsonl")));
    stdout(&run(&format!("{mainline} --vcpu-type EPYC-Genoa --transcript d.jsonl")));
    for (a, b, pages, field) in [("a", "b", 1, "rip"), ("c", "d", 2, "rdx")] {
        let output = run(&format!("diff {a}.jsonl {b}.jsonl --json"));
        assert_eq!(output.status.code(), Some(1));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let differences = answer["differences"].as_array().expect("a list");
        assert_eq!(differences.len(), pages, "{answer}");
        for page in differences {
            assert_eq!(page["fields"].as_array().expect("a list").len(), 1, "{answer}");
            assert_eq!(page["fields"][0]["name"], field, "{answer}");
        }
    }
    // A page that is not the one that was measured is not believed.
    let told = std::fs::read_to_string(place.join("a.jsonl")).expect("written");
    let (before, data) = told.split_once("\"data\":\"").expect("the VMSA");
    std::fs::write(place.join("e.jsonl"), format!("{before}\"data\":\"ff{}", &data[2..])).expect("written");
    let output = run("diff e.jsonl a.jsonl");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("`data` is not the VMSA whose hash is in `contents`"), "{words}");
    // One that has only the hash.
    let (_, after) = data.split_once('"').expect("its end");
    let without = format!("{}{after}", before.strip_suffix(',').expect("not the first field"));
    std::fs::write(place.join("f.jsonl"), without).expect("written");
    let text = String::from_utf8_lossy(&run("diff f.jsonl b.jsonl").stdout).into_owned();
    assert!(text.contains("(its fields are not known: a transcript has only its hash)"), "{text}");
    let output = run("diff full.fd@vcpus=2 full.fd@vcpus=2,guest-features=0x21 --json");
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let fields = &answer["differences"][1]["fields"];
    assert_eq!(fields[0]["name"], "sev_features");
    assert_eq!((&fields[0]["a"], &fields[0]["b"]), (&"0x1".into(), &"0x21".into()));
    assert!(answer["parts_at"].as_str().expect("a place").contains("vmsa at 0xfffffffff000"));
    let mut changed = std::fs::read(place.join("full.fd")).expect("written");
    changed[0x1_0000 / 2] ^= 1;
    std::fs::write(place.join("changed.fd"), changed).expect("written");
    let output = run("diff full.fd changed.fd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 bytes, the first at offset 0x0"), "{text}");
}
