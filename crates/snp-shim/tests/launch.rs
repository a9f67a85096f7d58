//! A C program that speaks the raw uAPI launches with a VMSA of its own, under every profile; its transcript can be
//! performed again, and is the same when it is recorded from outside.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{compile, library, snp, text};
use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PageBytes};
use zerocopy::IntoBytes;

/// The profiles with a VMSA of user space's, and the answers to KVM_CHECK_EXTENSION of both proposals.
const DIRECT: [(&str, &str); 3] = [
    ("direct-vmsa", "capabilities 1 0"),
    ("vcpu-state", "capabilities 0 1"),
    ("vcpu-state-explicit", "capabilities 1 1"),
];

struct Bench {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Bench {
    /// `None` where the headers of a kernel with SEV-SNP are missing.
    fn new() -> Option<Self> {
        let include = headers()?;
        let directory = tempfile::tempdir().unwrap();
        let options = include.iter().flat_map(|path| ["-isystem", path.to_str().unwrap()]).collect::<Vec<_>>();
        let program = compile(directory.path(), "direct_vmsa", &options);
        std::fs::write(directory.path().join("vmsa"), vmsa().as_bytes()).unwrap();
        Some(Self { directory, program })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program for a profile, under `snp exec` with that profile.
    fn launch(&self, profile: &str, options: &[&str], before: &[&Path]) -> Output {
        let mut command = snp();
        command.args(["exec", "--vcpu-run", "stop", "--profile", profile]).args(options).arg("--").args(before);
        command.arg(&self.program).arg(profile).arg(self.file("vmsa")).output().unwrap()
    }

    fn replay(&self, transcript: &Path) -> Output {
        snp().arg("replay").arg(transcript).output().unwrap()
    }
}

/// The artefacts' headers, or the system's if they are new enough.
fn headers() -> Option<Vec<PathBuf>> {
    let ours = std::env::var_os("SNPKIT_TESTDATA").map(|data| Path::new(&data).join("trixie-backports/usr/include"));
    if let Some(ours) = ours.filter(|path| path.is_dir()) {
        return Some(vec![ours.clone(), ours.join("x86_64-linux-gnu")]);
    }
    let system = Path::new("/usr/include/x86_64-linux-gnu/asm/kvm.h");
    if std::fs::read_to_string(system).is_ok_and(|text| text.contains("KVM_SEV_SNP_LAUNCH_UPDATE")) {
        return Some(Vec::new());
    }
    eprintln!("skipped: the kernel's headers know no SEV-SNP; `cargo xtask artifacts` brings newer ones");
    None
}

fn vmsa() -> Vmsa {
    let state = snp_vmsa::reset::find("direct").unwrap();
    Vmsa { rbx: 0x1234_5678_9abc, ..state.vmsa(0xffff_fff0, 0x00a1_0f11, SevFeatures(1)) }
}

/// What the program launches.
fn plan() -> LaunchPlan {
    let contents: Vec<u8> = (0..3 * 4096_u64).map(|i| (i / 4096 + i * 7) as u8).collect();
    LaunchPlan {
        policy: GuestPolicy(0x30000),
        gosvw: [0; 16],
        features: SevFeatures(1),
        memory: vec![MemoryRegion { gpa: Gpa(0), len: 2 << 20 }],
        pages: vec![
            LaunchPage::Normal { gpa: Gpa(0x10000), data: PageBytes::new(contents.into()).unwrap() },
            LaunchPage::Zero { gpa: Gpa(0x20000), len: 0x2000 },
            LaunchPage::Secrets { gpa: Gpa(0x30000) },
            LaunchPage::Vmsa { gpa: Gpa(0x40000), vmsa: Box::new(vmsa()) },
        ],
        boot: BootState::Direct { vmsa_gpa: Gpa(0x40000) },
        vcpus: 2,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    }
}

fn digest(output: &Output) -> Option<String> {
    text(&output.stderr).lines().find_map(|line| line.strip_prefix("launch digest ").map(str::to_owned))
}

#[test]
fn every_profile_launches_what_the_digest_engine_predicts() {
    let Some(bench) = Bench::new() else { return };
    let expected = snp_launch::predict(&plan()).to_string();
    for (profile, capabilities) in DIRECT {
        let output = bench.launch(profile, &[], &[]);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(text(&output.stdout), format!("{capabilities}\nlaunched\n"), "{profile}: {said}");
        assert_eq!(output.status.code(), Some(0), "{profile}: {said}");
        assert_eq!(digest(&output).as_deref(), Some(expected.as_str()), "{profile}");
    }
}

#[test]
fn mainline_takes_no_vmsa() {
    let Some(bench) = Bench::new() else { return };
    let output = bench.launch("mainline", &[], &[]);
    assert_eq!(text(&output.stdout), "capabilities 0 0\nVMSA: EINVAL, firmware 0\n");
    assert_eq!((output.status.code(), digest(&output)), (Some(1), None));
}

#[test]
fn a_vmsa_that_kvm_refuses() {
    let Some(bench) = Bench::new() else { return };
    let wrong = Vmsa { sev_features: SevFeatures(0x21), ..vmsa() };
    std::fs::write(bench.file("vmsa"), wrong.as_bytes()).unwrap();
    for (profile, errno) in [("direct-vmsa", "EIO"), ("vcpu-state", "EINVAL")] {
        let transcript = bench.file("transcript");
        let output = bench.launch(profile, &["--transcript", transcript.to_str().unwrap()], &[]);
        assert!(text(&output.stdout).ends_with(&format!("VMSA: {errno}, firmware 0\n")), "{}", text(&output.stdout));
        // The refusal is in the transcript, with the page that was refused, and happens again.
        let replay = bench.replay(&transcript);
        assert!(text(&replay.stdout).contains("every answer is the recorded one"), "{}", text(&replay.stdout));
        assert!(std::fs::read_to_string(&transcript).unwrap().lines().last().unwrap().contains("\"next\""));
    }
}

#[test]
fn a_transcript_is_performed_again_and_a_changed_one_departs() {
    let Some(bench) = Bench::new() else { return };
    for (profile, _) in DIRECT {
        let transcript = bench.file("transcript");
        let output = bench.launch(profile, &["--transcript", transcript.to_str().unwrap()], &[]);
        let replay = bench.replay(&transcript);
        assert_eq!(replay.status.code(), Some(0), "{}", text(&replay.stdout));
        assert!(text(&replay.stdout).ends_with(&format!("launch digest {}\n", digest(&output).unwrap())));

        let changed = std::fs::read_to_string(&transcript).unwrap().replacen("\"contents\":\"", "\"contents\":\"ff", 1);
        let at = changed.find("\"contents\":\"ff").unwrap() + 14 + 96 - 2;
        let changed = format!("{}{}", &changed[..at], &changed[at + 2..]);
        std::fs::write(&transcript, changed).unwrap();
        let replay = bench.replay(&transcript);
        assert_eq!(replay.status.code(), Some(1), "{}", text(&replay.stderr));
        assert!(text(&replay.stdout).contains("KVM_SEV_SNP_LAUNCH_UPDATE: digest was "), "{}", text(&replay.stdout));
    }
}

/// The recorder passes everything through, here to another copy of the library, which stands in for the devices.
#[test]
fn a_recording_from_outside_is_the_platforms_own_transcript() {
    let Some(bench) = Bench::new() else { return };
    let copy = bench.file("librecorder.so");
    std::fs::copy(library(), &copy).unwrap();
    let (inside, outside) = (bench.file("inside"), bench.file("outside"));
    let variable = PathBuf::from(format!("SNPKIT_SHIM={}", copy.display()));
    let snp = common::target().join("snp");
    let before: [&Path; 7] =
        [Path::new("env"), &variable, &snp, Path::new("record"), Path::new("--transcript"), &outside, Path::new("--")];
    let output = bench.launch("direct-vmsa", &["--transcript", inside.to_str().unwrap()], &before);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let replay = bench.replay(&outside);
    // Nobody told the recorder which KVM it was.
    assert_eq!(replay.status.code(), Some(1), "{}", text(&replay.stdout));
    let replay = common::snp().args(["replay", "--profile", "direct-vmsa"]).arg(&outside).output().unwrap();
    assert_eq!(replay.status.code(), Some(0), "{}{}", text(&replay.stdout), text(&replay.stderr));
    assert!(text(&replay.stdout).ends_with(&format!("launch digest {}\n", digest(&output).unwrap())));
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(&inside), lines(&outside), "{stderr}");
    let diff = common::snp().arg("diff").args([&inside, &outside]).output().unwrap();
    assert_eq!(text(&diff.stdout), "the same\n");
}

#[test]
fn unusable_transcripts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("transcript");
    let call = |rest: &str| format!("{{\"seq\":0,\"command\":\"KVM_RUN\",\"call\":{{\"process\":1,{rest}}}}}");
    let cases = [
        (String::new(), "no lines"),
        ("{".to_owned(), "line 1: not a line of a transcript"),
        ("{}".to_owned(), "missing field `seq`"),
        ("{\"seq\":0,\"command\":\"KVM_CREATE_VM\"}".to_owned(), "KVM_CREATE_VM has no `call`"),
        (
            call("\"on\":{\"vm\":7},\"request\":\"0xae80\",\"argument\":\"0x0\",\"returned\":0"),
            "KVM_RUN on a VM that no line before it made",
        ),
        (call("\"on\":\"kvm\",\"request\":\"ae80\",\"argument\":\"0x0\",\"returned\":0"), "`request` is \"ae80\""),
        (
            call(
                "\"on\":\"kvm\",\"request\":\"0xae80\",\"argument\":\"0x0\",\"returned\":0,\
                 \"memory\":[{\"at\":\"0x0\",\"data\":\"0\"}]",
            ),
            "`data` is \"0\": want hexadecimal digits",
        ),
    ];
    for (text_of_file, expected) in cases {
        std::fs::write(&file, &text_of_file).unwrap();
        let output = snp().arg("replay").arg(&file).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text_of_file}: {stderr}");
        assert!(stderr.contains(expected) && stderr.contains("transcript"), "{text_of_file}: {stderr}");
    }
}
