//! Loaders of IGVM files, and the tools that measure for them: they disagree, and each row says how.

/// What a loader makes of pages without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatalessPages {
    /// Normal pages of zeros, as the format demands.
    Normal,
    /// ZERO pages.
    Zero,
}

/// In which order pages are launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOrder {
    /// In file order, as the format demands.
    File,
    /// In file order, but a run of adjacent pages of one kind is launched when it ends, and parameter areas at once: an area
    /// that is inserted in the middle of a run, or right after it, comes before the run.
    Runs,
    /// By address; pages at one address in file order.
    Address,
}

/// How processors get the state that the file has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDelivery {
    /// The VMSA is launched as the page that it is.
    Page,
    /// QEMU replays it into registers, of which KVM makes a VMSA of its own, which is measured last.
    QemuRegisters,
    /// Cloud Hypervisor replays fewer registers.
    CloudHypervisorRegisters,
}

/// What becomes of the VP contexts of processors other than the boot processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherContexts {
    /// They are left out.
    LeftOut,
    /// They are VMSA pages too.
    Measured,
    /// They are VMSA pages, but without contents: all zeros are measured.
    Blank,
}

/// How much of a parameter area is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterPages {
    /// All of it.
    All,
    /// Its first page.
    First,
}

/// What becomes of pages that are marked as shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedPages {
    /// They are no part of the launch.
    LeftOut,
    /// The mark is not looked at.
    Launched,
}

/// What becomes of 2 MiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargePages {
    /// They are launched as 512 pages of 4 KiB.
    Split,
    /// The mark is not looked at: a page without data is one page of 4 KiB, and the loader fails on one with data.
    Ignored,
}

/// One loader, or one tool that measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgvmLoader {
    /// Its name, lower case.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    /// Pages without data.
    pub dataless: DatalessPages,
    /// The order of pages.
    pub order: PageOrder,
    /// The boot processor's state.
    pub state: StateDelivery,
    /// The other processors' state.
    pub other_contexts: OtherContexts,
    /// Parameter areas.
    pub parameters: ParameterPages,
    /// Shared pages.
    pub shared: SharedPages,
    /// 2 MiB pages.
    pub large: LargePages,
    /// TSC_SCALE and TSC_OFFSET of a VMSA are hashed as they are. The firmware zeroes them: only tools get this wrong.
    pub verbatim_tsc: bool,
    /// Where the row comes from.
    pub source: &'static str,
}

/// The format as its documentation has it, and a VMM that delivers the VMSA as a page: the row that the others are told
/// from.
const FORMAT: IgvmLoader = IgvmLoader {
    name: "qemu-direct",
    summary: "QEMU with the direct-VMSA uAPI: the file as it is, the boot processor's VMSA as a page in its place",
    dataless: DatalessPages::Normal,
    order: PageOrder::File,
    state: StateDelivery::Page,
    other_contexts: OtherContexts::LeftOut,
    parameters: ParameterPages::All,
    shared: SharedPages::LeftOut,
    large: LargePages::Split,
    verbatim_tsc: false,
    source: "igvm_defs 0.5, documentation of each structure; the proposed uAPI of June 2026. No QEMU does so yet",
};

const IGVMMEASURE: IgvmLoader = IgvmLoader {
    name: "igvmmeasure",
    summary: "COCONUT-SVSM's measuring tool",
    other_contexts: OtherContexts::Measured,
    parameters: ParameterPages::First,
    shared: SharedPages::Launched,
    verbatim_tsc: true,
    source: "coconut-svsm/svsm, tools/igvmmeasure/src/igvm_measure.rs, August 2026",
    ..FORMAT
};

/// Every known loader and tool.
pub const LOADERS: &[IgvmLoader] = &[
    FORMAT,
    IgvmLoader {
        name: "qemu-replay",
        summary: "QEMU as released (10.1 and later): the VMSA is replayed into registers and KVM measures its own, last",
        order: PageOrder::Runs,
        state: StateDelivery::QemuRegisters,
        source: "QEMU 11.1, backends/igvm.c and target/i386/sev.c. Not verified by a run",
        ..FORMAT
    },
    IGVMMEASURE,
    IgvmLoader {
        name: "igvmmeasure-native-zero",
        summary: "COCONUT-SVSM's measuring tool with --native-zero",
        dataless: DatalessPages::Zero,
        ..IGVMMEASURE
    },
    IgvmLoader {
        name: "igvm-crate",
        summary: "the measurement of Microsoft's igvm crate, which igvmfilegen signs",
        other_contexts: OtherContexts::Measured,
        large: LargePages::Ignored,
        verbatim_tsc: true,
        source: "microsoft/igvm 0.5.0, igvm/src/measurement/snp.rs",
        ..FORMAT
    },
    IgvmLoader {
        name: "cloud-hypervisor-kvm",
        summary: "Cloud Hypervisor on KVM: pages without data are ZERO pages, the VMSA is replayed into registers",
        dataless: DatalessPages::Zero,
        state: StateDelivery::CloudHypervisorRegisters,
        shared: SharedPages::Launched,
        large: LargePages::Ignored,
        source: "cloud-hypervisor, vmm/src/igvm/igvm_loader.rs and hypervisor/src/kvm/mod.rs, August 2026. Not verified by a run",
        ..FORMAT
    },
    IgvmLoader {
        name: "cloud-hypervisor-mshv",
        summary: "Cloud Hypervisor on MSHV: pages sorted by address, one page of each parameter area",
        order: PageOrder::Address,
        other_contexts: OtherContexts::Blank,
        parameters: ParameterPages::First,
        shared: SharedPages::Launched,
        large: LargePages::Ignored,
        source: "cloud-hypervisor, vmm/src/igvm/igvm_loader.rs, August 2026. Not verified by a run",
        ..FORMAT
    },
    IgvmLoader {
        name: "openvmm",
        summary: "OpenVMM on MSHV: the file as it is, every VMSA as a page",
        other_contexts: OtherContexts::Measured,
        large: LargePages::Ignored,
        source: "openvmm, openvmm_core/src/worker/vm_loaders/igvm.rs, and vm/loader/igvmfilegen, which measures with the igvm \
                 crate. Not verified by a run",
        ..FORMAT
    },
];

impl IgvmLoader {
    /// The loader called `name` (upper and lower case alike).
    pub fn find(name: &str) -> Option<&'static Self> {
        LOADERS.iter().find(|loader| loader.name.eq_ignore_ascii_case(name))
    }

    /// QEMU with the direct-VMSA uAPI.
    pub fn qemu_direct() -> &'static Self {
        &LOADERS[0]
    }

    /// QEMU as released.
    pub fn qemu_replay() -> &'static Self {
        &LOADERS[1]
    }

    /// Whether the VMSA is a page of the launch, and not made by KVM from registers.
    pub fn is_direct(&self) -> bool {
        self.state == StateDelivery::Page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_are_found_by_their_names() {
        for (index, loader) in LOADERS.iter().enumerate() {
            assert_eq!(IgvmLoader::find(&loader.name.to_uppercase()), Some(&LOADERS[index]));
        }
        assert_eq!(IgvmLoader::qemu_direct().name, "qemu-direct");
        assert_eq!(IgvmLoader::qemu_replay().name, "qemu-replay");
        assert!(IgvmLoader::find("xen").is_none());
    }
}
