//! How two launches differ, and what to change.

use snp_image::IgvmLoader;
use snp_image::loader::DatalessPages;
use snp_vmsa::reset::ResetRdx;

use crate::{Kernel, Launch, Uapi};

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
            Uapi::Mainline => format!(
                "the host's kernel measured a VMSA for every vCPU: it has no direct VMSA, or the VMM did not use it; such a launch \
                 is --profile mainline --vcpus {}{}",
                happened.vcpus,
                signature_option(expected, happened)
            ),
            Uapi::Direct => "the boot VMSA was supplied by user space: expect --profile direct-vmsa".to_owned(),
        },
    );
    if happened.loader.is_none() && happened.uapi == expected.uapi {
        let name = |launch: &Launch| launch.profile.name.to_owned();
        tell(
            "vmsa-profile",
            name(expected),
            name(happened),
            format!(
                "the VMM is {} ({}): expect --vmsa-profile {}{}",
                happened.profile.vmm,
                happened.profile.era,
                happened.profile.name,
                signature_option(expected, happened)
            ),
        );
    }
    let loader = |launch: &Launch| launch.loader.map_or("none", |loader| loader.name).to_owned();
    tell(
        "loader",
        loader(expected),
        loader(happened),
        happened.loader.map_or(String::new(), |loader| loader_advice(expected.loader, loader)),
    );
    // Of what does not enter a launch's digest, nobody expected anything.
    if happened.uapi == Uapi::Mainline && expected.uapi == Uapi::Mainline {
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
    if shows_signature(happened) && shows_signature(expected) {
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

/// What another loader does differently, and what to do about it.
fn loader_advice(expected: Option<&IgvmLoader>, happened: &IgvmLoader) -> String {
    let mut advice = format!("the file was measured as {} does it ({}", happened.name, happened.summary);
    let dataless = |pages| match pages {
        DatalessPages::Normal => "as normal pages of zeros",
        DatalessPages::Zero => "as ZERO pages",
    };
    if expected.is_some_and(|expected| expected.dataless != happened.dataless) {
        advice += &format!("; pages without data are measured {}", dataless(happened.dataless));
    }
    advice
        + &format!(
            "): expect --loader {}, or see `snp igvm lint` for what makes loaders disagree on this file",
            happened.name
        )
}

/// The CPU model where only the launch that happened has one: nothing was expected of it, and it is needed to expect that launch.
fn signature_option(expected: &Launch, happened: &Launch) -> String {
    if shows_signature(happened) && !shows_signature(expected) {
        format!(" --vcpu-sig {:#x}", happened.cpu_signature)
    } else {
        String::new()
    }
}

/// Whether the digest depends on the CPU model. With a boot VMSA from user space it is part of the launch only where a VMSA was
/// made for it.
fn shows_signature(launch: &Launch) -> bool {
    launch.profile.rdx == ResetRdx::Signature
        && launch.vmsa.is_none()
        && (launch.uapi == Uapi::Mainline || launch.loader.is_none())
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
            Some(kernel) => format!("kernel hashes were measured: expect {}", options(kernel)),
        },
    );
    if let (Some(expected), Some(happened)) = (&expected.kernel, &happened.kernel) {
        let disk = |present| if present { "measured" } else { "none" }.to_owned();
        tell(
            "initrd",
            disk(expected.initrd),
            disk(happened.initrd),
            if happened.initrd {
                "an initial RAM disk was measured: expect --initrd, or start the guest without it".to_owned()
            } else {
                "no initial RAM disk was measured: start the guest with it, or expect no --initrd".to_owned()
            },
        );
        tell(
            "append",
            format!("{:?}", expected.cmdline),
            format!("{:?}", happened.cmdline),
            append_advice(&expected.cmdline, &happened.cmdline),
        );
    }
}

/// What `snp measure` takes for a kernel.
fn options(kernel: &Kernel) -> String {
    let initrd = if kernel.initrd { " and --initrd" } else { "" };
    let append =
        if kernel.cmdline.is_empty() { String::new() } else { format!(", with --append {:?}", kernel.cmdline) };
    format!("--kernel{initrd}{append}")
}

fn append_advice(expected: &str, happened: &str) -> String {
    if happened.is_empty() {
        return "no command line was measured: start the guest with it, or expect no --append".to_owned();
    }
    let instead = format!("expect --append {happened:?}, or start the guest with the other");
    if expected.is_empty() {
        return format!("a command line was measured: {instead}");
    }
    format!("the command lines differ in the white space, quotes or line end shown here: {instead}")
}
