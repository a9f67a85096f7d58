//! Guests that run: the examples from their boot VMSA to their end, under every profile, twice alike, and under gdb.

use std::process::{Command, Output};

use serde_json::Value;

fn snp(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_snp")).args(arguments).output();
    output.expect("snp runs")
}

/// A run's report, what the guest printed, and the exit code.
fn run(arguments: &[&str]) -> (Value, String, i32) {
    let output = snp(&[&["run", "--json", "--timeout", "100"], arguments].concat());
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {printed}"));
    (report, printed, output.status.code().expect("no signal"))
}

fn launch_digest(report: &Value) -> String {
    report["launch_digest"].as_str().expect("a digest").to_owned()
}

/// Issue 5, "Must hold" 2: the guests end well with any number of processors, and the launch digest is one.
#[test]
fn hello_and_smp_end_well_with_one_digest() {
    for example in ["hello", "smp"] {
        let mut digests = std::collections::BTreeSet::new();
        for profile in ["direct-vmsa", "vcpu-state"] {
            for vcpus in ["1", "2", "64"] {
                let arguments = ["--example", example, "--profile", profile, "--vcpus", vcpus, "--deterministic"];
                let (report, printed, code) = run(&arguments);
                assert_eq!((code, &report["ended_well"]), (0, &Value::Bool(true)), "{arguments:?}: {printed}{report}");
                digests.insert(launch_digest(&report));
                if example == "smp" {
                    assert!(printed.contains(&format!("all {vcpus} processors run")), "{printed}");
                    let reports = printed.lines().filter(|line| line.starts_with("processor ")).count();
                    let others: usize = vcpus.parse::<usize>().unwrap() - 1;
                    // The last one reports twice.
                    assert_eq!(reports, others + usize::from(others > 0), "{printed}");
                } else {
                    assert_eq!(printed, "hello from a boot VMSA that user space supplied\n");
                }
            }
        }
        assert_eq!(digests.len(), 1, "{example}: {digests:?}");
    }
}

#[test]
fn threads_end_well_too() {
    for vcpus in ["2", "8"] {
        let (report, printed, code) = run(&["--example", "smp", "--vcpus", vcpus]);
        assert_eq!((code, &report["deterministic"]), (0, &Value::Bool(false)), "{printed}{report}");
        assert!(printed.contains(&format!("all {vcpus} processors run")), "{printed}");
    }
}

/// Under `mainline` every count has a digest of its own, and KVM has no list of APIC IDs from which a guest could learn of its
/// other processors.
#[test]
fn mainline_differs() {
    let digests: std::collections::BTreeSet<_> = ["1", "2"]
        .map(|vcpus| {
            let arguments = ["--example", "hello", "--profile", "mainline", "--vcpus", vcpus, "--deterministic"];
            let (report, printed, code) = run(&arguments);
            assert_eq!((code, printed.as_str()), (0, "hello from a boot VMSA that user space supplied\n"), "{report}");
            launch_digest(&report)
        })
        .into();
    assert_eq!(digests.len(), 2);
    let (report, printed, code) =
        run(&["--example", "smp", "--profile", "mainline", "--vcpus", "2", "--deterministic"]);
    assert_eq!(code, 1);
    assert!(printed.starts_with("hypervisor features 0x3\ntoo few"), "{printed}");
    assert_eq!((&report["end"]["set"], &report["end"]["code"]), (&1.into(), &6.into()));
}

/// Issue 5, "Must hold" 6.
#[test]
fn a_deterministic_run_repeats_itself() {
    let arguments = ["--example", "smp", "--vcpus", "4", "--deterministic", "--seed", "42"];
    let (first, _, _) = run(&arguments);
    let (second, _, _) = run(&arguments);
    assert_eq!(first, second);
    assert!(first["trace_hash"].as_str().is_some_and(|hash| hash.len() == 64));
    let (other, _, _) = run(&["--example", "smp", "--vcpus", "5", "--deterministic", "--seed", "42"]);
    assert_ne!(first["trace_hash"], other["trace_hash"]);
}

/// What each mode of `probe` prints. The sources of the expectations:
/// - unvalidated: AMD 24593 (APM volume 2), "RMP and VMPL Access Checks", "Validation": #VC, error code 0x404.
/// - validated-twice: AMD 24594 (APM volume 3), "PVALIDATE": CF is set if the RMP entry was not changed.
/// - private-access: Linux 7.3, arch/x86/kvm/mmu/mmu.c, `kvm_mmu_faultin_pfn`: KVM_EXIT_MEMORY_FAULT; QEMU makes the page private
///   (accel/kvm/kvm-all.c, `kvm_convert_memory`); then as unvalidated.
/// - rmpadjust: AMD 24594, "RMPADJUST": FAIL_PERMISSION (2) if the target VMPL is not below the current one.
/// - vmsa-2mib, foreign-apic-id: Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_snp_ap_creation`: EINVAL, which `sev_handle_vmgexit`
///   answers with malformed input (2), invalid input (5).
/// - page-state: Linux 7.3, arch/x86/kvm/svm/sev.c, `snp_begin_psc`: VMGEXIT_PSC_ERROR_INVALID_ENTRY; AMD 56421, "SNP Page State
///   Change": the entries before the bad one are done.
#[test]
fn probes_see_what_specification_and_kvm_say() {
    for (mode, expected) in [
        ("unvalidated", "read of a page that is not validated: exception 29, error code 0x404\n"),
        ("validated-twice", "PVALIDATE: EAX 0x0, CF 0x0\nPVALIDATE again: EAX 0x0, CF 0x1\n"),
        ("private-access", "private read of a shared page: exception 29, error code 0x404\n"),
        ("rmpadjust", "RMPADJUST of VMPL 0 at VMPL 0: EAX 0x2\n"),
        ("vmsa-2mib", "AP creation with a 2 MiB-aligned VMSA: SW_EXITINFO1 0x2, SW_EXITINFO2 0x5\n"),
        ("foreign-apic-id", "AP creation with a foreign APIC ID: SW_EXITINFO1 0x2, SW_EXITINFO2 0x5\n"),
        (
            "page-state",
            "page-state change with a bad entry: SW_EXITINFO1 0x0, SW_EXITINFO2 0x100000002\nstopped at entry 0x1\n",
        ),
    ] {
        let (report, printed, code) = run(&["--example", &format!("probe:{mode}")]);
        assert_eq!((code, printed.as_str()), (0, expected), "{mode}: {report}");
    }
}

/// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_handle_vmgexit`: a GHCB that is not the registered one is EINVAL from KVM_RUN.
#[test]
fn an_unregistered_ghcb_ends_the_guest() {
    let (report, printed, code) = run(&["--example", "probe:unregistered-ghcb"]);
    assert_eq!((code, printed.as_str()), (1, "request through a GHCB that is not registered\n"), "{report}");
    assert_eq!((&report["end"]["kind"], &report["end"]["errno"]), (&"run-failed".into(), &"EINVAL".into()));
}

/// AMD 24593, "RMP and VMPL Access Checks": a write to a VMSA that a processor runs from is an RMP violation. Linux 7.3,
/// arch/x86/kvm/svm/sev.c, `sev_handle_rmp_fault`, has no answer to it: it maps the page again, and the guest faults again.
#[test]
fn a_write_to_a_vmsa_in_use_gets_nowhere() {
    let (report, printed, code) = run(&["--example", "probe:vmsa-write"]);
    assert_eq!((code, printed.as_str()), (1, "write to the VMSA in use\n"), "{report}");
    assert_eq!(&report["end"]["kind"], "stuck");
}

/// The report comes from the firmware by a sealed message: its measurement is the launch digest, its report data the guest's. The
/// certificates are ARK, ASK and VCEK, which `snp run` gives for KVM_EXIT_SNP_REQ_CERTS.
#[test]
fn a_report_tells_the_launch() {
    let (report, printed, code) = run(&["--example", "report"]);
    let data: String = (0..64).map(|byte| format!("{byte:02x}")).collect();
    let expected =
        format!("\nmeasurement {}\nreport data {data}\n3 certificates came with it\n", launch_digest(&report));
    assert_eq!(code, 0, "{printed}{report}");
    assert!(printed.starts_with("attestation report, version ") && printed.ends_with(&expected), "{printed}");
}

#[test]
fn limits_end_a_run() {
    let (report, _, code) = run(&["--example", "hello", "--max-insns", "100"]);
    assert_eq!((code, &report["end"]["kind"], &report["instructions"]), (1, &"max-insns".into(), &100.into()));
}

#[test]
fn traces_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = |kind: &str| directory.path().join(kind).display().to_string();
    let targets = ["exits", "ghcb", "rmp", "insns"].map(|kind| format!("{kind}={}", file(kind)));
    let mut arguments = vec!["--example", "probe:validated-twice"];
    targets.iter().for_each(|target| arguments.extend(["--trace", target]));
    let (_, _, code) = run(&arguments);
    assert_eq!(code, 0);
    let trace = |kind: &str| std::fs::read_to_string(file(kind)).unwrap();
    assert!(trace("exits").contains("vmgexit msr="), "{}", trace("exits"));
    assert!(trace("exits").lines().last().unwrap().contains("user system-event type=6 0x100"), "{}", trace("exits"));
    assert!(trace("ghcb").contains(" -> "));
    let validated =
        "pvalidate validate=1 GuestInvalid[f,0,0,0] -> GuestValid[f,0,0,0] answer=Success { changed: true }";
    assert!(trace("rmp").contains(validated), "{}", trace("rmp"));
    assert!(trace("insns").starts_with("insns vcpu=0 n=0 rip=0x106000 mov rbx, 0x40112000\n"), "{}", trace("insns"));
}

/// `hello` with other bytes for its first instruction.
fn broken(directory: &std::path::Path, bytes: &[u8]) -> String {
    // mov rax, the page-state change that it begins with.
    const FIRST: [u8; 10] = [0x48, 0xb8, 0x14, 0xa0, 0x10, 0, 0, 0, 0x20, 0];
    let path = directory.join("broken.igvm").display().to_string();
    assert!(snp(&["example", "hello", "-o", &path]).status.success());
    let mut image = std::fs::read(&path).unwrap();
    let at = image.windows(FIRST.len()).position(|window| window == FIRST).expect("hello begins so");
    image[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(&path, image).unwrap();
    path
}

#[test]
fn a_triple_fault_comes_with_the_instructions_before_it() {
    let directory = tempfile::tempdir().unwrap();
    // NOP, UD2: hello has no descriptor table for exceptions.
    let path = broken(directory.path(), &[0x90, 0x0f, 0x0b]);
    let (report, _, code) = run(&["--igvm", &path]);
    assert_eq!((code, &report["end"]["kind"]), (1, &"triple-fault".into()));
    assert_eq!(report["end"]["last_instructions"], serde_json::json!(["0x105000  nop", "0x105001  ud2"]));
    let text = snp(&["run", "--igvm", &path]);
    let said = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(said.contains("triple fault of vCPU 0 at 0x105001, last 2 instructions:\n  0x105000  nop"), "{said}");
}

#[test]
fn a_guest_that_waits_for_ever_ends() {
    let directory = tempfile::tempdir().unwrap();
    // NOP, HLT: with interrupts off.
    let path = broken(directory.path(), &[0x90, 0xf4]);
    let (report, printed, code) = run(&["--igvm", &path]);
    assert_eq!((code, &report["end"]["kind"]), (1, &"nothing-runs".into()), "{printed}{report}");
}
