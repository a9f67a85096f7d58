//! Launches a guest of 256 MiB and prints the peak memory beyond its image, for `cargo xtask bench`.

use snp_abi::{Gpa, GuestPolicy, SevFeatures, Vmsa};
use snp_asp::PlatformConfig;
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, NoObserver, PageBytes, Platform};
use snp_softkvm::{SoftPlatform, profiles};

const IMAGE: u64 = 256 << 20;

fn main() {
    let image: Vec<u8> = (0..IMAGE).map(|i| (i % 251) as u8 ^ (i >> 12) as u8).collect();
    let features = SevFeatures(SevFeatures::SNP_ACTIVE);
    let (start, vmsa_gpa) = (Gpa(0x10_0000), Gpa(0x10_0000 + IMAGE));
    let plan = LaunchPlan {
        policy: GuestPolicy::DEFAULT,
        gosvw: [0; 16],
        features,
        memory: vec![MemoryRegion { gpa: start, len: IMAGE + 0x1000 }],
        pages: vec![
            LaunchPage::Normal { gpa: start, data: PageBytes::new(image.into()).expect("whole pages") },
            LaunchPage::Vmsa { gpa: vmsa_gpa, vmsa: Box::new(Vmsa { sev_features: features, ..Vmsa::default() }) },
        ],
        boot: BootState::Direct { vmsa_gpa },
        vcpus: 1,
        id_block: None,
        host_data: [0; 32],
        vcek_disabled: false,
    };
    let platform = SoftPlatform::new(PlatformConfig::genoa(), &profiles::DIRECT_VMSA);
    let launched = platform.launch(&plan, &mut NoObserver).expect("a good plan");
    println!("launch digest {}", launched.digest.expect("the platform knows it"));
    match peak_resident_bytes() {
        Some(peak) => println!("peak memory beyond the image: {} bytes", peak.saturating_sub(IMAGE)),
        None => println!("this system does not tell the peak memory of a process"),
    }
}

/// VmHWM of /proc/self/status.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
