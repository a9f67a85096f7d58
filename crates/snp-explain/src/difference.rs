//! How two launches differ, and what to change.

use crate::{Launch, Uapi};

/// One thing in which the launch that happened differs from the one that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs, as the option that names it.
    pub option: &'static str,
    /// What was expected.
    pub expected: String,
    /// What happened.
    pub happened: String,
    /// What to change.
    pub advice: String,
}

/// Everything in which `happened` differs from `expected` and that the digest depends on.
pub fn differences(expected: &Launch, happened: &Launch) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut tell = |option, expected: String, happened: String, advice: String| {
        if expected != happened {
            all.push(Difference { option, expected, happened, advice });
        }
    };
    let uapi = |launch: &Launch| launch.uapi.to_string();
    tell(
        "profile",
        uapi(expected),
        uapi(happened),
        match happened.uapi {
            Uapi::Mainline => {
                "the host's kernel measured a VMSA for every vCPU: it has no direct VMSA, or the VMM did not use \
                           it"
                .to_owned()
            }
            Uapi::Direct => "the boot VMSA was supplied by user space: expect --profile direct-vmsa".to_owned(),
        },
    );
    if happened.loader.is_none() {
        let name = |launch: &Launch| launch.profile.name.to_owned();
        tell(
            "vmsa-profile",
            name(expected),
            name(happened),
            format!(
                "the VMM is {} ({}): expect --vmsa-profile {}",
                happened.profile.vmm, happened.profile.era, happened.profile.name
            ),
        );
    }
    let loader = |launch: &Launch| launch.loader.map_or("none", |loader| loader.name).to_owned();
    tell(
        "loader",
        loader(expected),
        loader(happened),
        happened.loader.map_or(String::new(), |loader| {
            format!("the file was measured as {} does it: {}", loader.name, loader.summary)
        }),
    );
    if happened.uapi == Uapi::Mainline {
        tell(
            "vcpus",
            expected.vcpus.to_string(),
            happened.vcpus.to_string(),
            format!(
                "the guest has {} vCPUs, each with a measured VMSA: expect --vcpus {}, or launch with a direct VMSA, whose digest \
             does not depend on the number",
                happened.vcpus, happened.vcpus
            ),
        );
    }
    if matches!(happened.profile.rdx, snp_vmsa::reset::ResetRdx::Signature) && shows_signature(happened) {
        tell(
            "vcpu-sig",
            expected.processor(),
            happened.processor(),
            format!(
                "RDX holds the signature of the processor that the VMM models: expect --vcpu-sig {:#x}, or change the VMM's CPU \
             model",
                happened.cpu_signature
            ),
        );
    }
    let features = |launch: &Launch| format!("{:?}", launch.features);
    tell(
        "guest-features",
        features(expected),
        features(happened),
        format!(
            "expect --guest-features {:#x}, or change what the host enables (DebugSwap: kvm_amd.debug_swap, or the VMM's option)",
            happened.features.0
        ),
    );
    kernels(expected, happened, &mut tell);
    let pages = |launch: &Launch| format!("CPUID page {:?}, SEC_MEM {:?}", launch.cpuid, launch.sec_mem);
    let own = (happened.cpuid, happened.sec_mem) == (happened.profile.cpuid, happened.profile.sec_mem);
    if !own {
        tell(
            "pages",
            pages(expected),
            pages(happened),
            "the VMM measures the firmware's metadata in its own way".to_owned(),
        );
    }
    all
}

/// With a boot VMSA from user space the signature is part of the launch only where a VMSA was made for it.
fn shows_signature(launch: &Launch) -> bool {
    launch.vmsa.is_none() && (launch.uapi == Uapi::Mainline || launch.loader.is_none())
}

fn kernels(expected: &Launch, happened: &Launch, tell: &mut impl FnMut(&'static str, String, String, String)) {
    let hashes = |launch: &Launch| if launch.kernel.is_some() { "measured" } else { "not measured" }.to_owned();
    tell(
        "kernel",
        hashes(expected),
        hashes(happened),
        match &happened.kernel {
            None => {
                "no kernel hashes were measured: start QEMU with kernel-hashes=on, or expect no --kernel".to_owned()
            }
            Some(_) => "kernel hashes were measured: expect --kernel, --initrd and --append".to_owned(),
        },
    );
    if let (Some(expected), Some(happened)) = (&expected.kernel, &happened.kernel) {
        let disk = |present| if present { "measured" } else { "none" }.to_owned();
        tell(
            "initrd",
            disk(expected.initrd),
            disk(happened.initrd),
            "the initial RAM disk was left out or added".to_owned(),
        );
        tell(
            "append",
            format!("{:?}", expected.cmdline),
            format!("{:?}", happened.cmdline),
            "the command line differs in the white space, quotes or line end shown here".to_owned(),
        );
    }
}
