//! Requests and answers in words, for who watches.

use snp_abi::ghcb::GhcbExit;

use super::Ghcb;

impl Ghcb {
    /// The request of the page that is mapped.
    pub(crate) fn request(&self) -> Option<String> {
        let page = self.page.as_ref()?;
        let code = page.exit_code();
        let name = name(code).unwrap_or("unknown");
        let (info_1, info_2) = (page.exit_info_1(), page.exit_info_2());
        Some(format!("GHCB {:#x}: {name} ({:#x}) {info_1:#x} {info_2:#x}", page.gpa(), code.0))
    }

    /// The answer that lies ready in it.
    pub(crate) fn answer_in_words(&self) -> Option<String> {
        let page = self.page.as_ref()?;
        let (info_1, info_2) = page.answer()?;
        Some(format!("SW_EXITINFO1 {info_1:#x} SW_EXITINFO2 {info_2:#x}"))
    }
}

/// AMD 56421 (GHCB), "List of Supported Non-Automatic Exits".
fn name(code: GhcbExit) -> Option<&'static str> {
    Some(match code {
        GhcbExit::READ_DR7 => "DR7 read",
        GhcbExit::WRITE_DR7 => "DR7 write",
        GhcbExit::RDTSC => "RDTSC",
        GhcbExit::RDPMC => "RDPMC",
        GhcbExit::CPUID => "CPUID",
        GhcbExit::INVD => "INVD",
        GhcbExit::IOIO => "IOIO",
        GhcbExit::MSR => "MSR",
        GhcbExit::VMMCALL => "VMMCALL",
        GhcbExit::RDTSCP => "RDTSCP",
        GhcbExit::WBINVD => "WBINVD",
        GhcbExit::MONITOR => "MONITOR",
        GhcbExit::MWAIT => "MWAIT",
        GhcbExit::MMIO_READ => "MMIO read",
        GhcbExit::MMIO_WRITE => "MMIO write",
        GhcbExit::NMI_COMPLETE => "NMI complete",
        GhcbExit::AP_RESET_HOLD => "AP reset hold",
        GhcbExit::AP_JUMP_TABLE => "AP jump table",
        GhcbExit::PSC => "SNP page state change",
        GhcbExit::GUEST_REQUEST => "SNP guest request",
        GhcbExit::EXT_GUEST_REQUEST => "SNP extended guest request",
        GhcbExit::AP_CREATION => "SNP AP creation",
        GhcbExit::GET_APIC_IDS => "get APIC IDs",
        GhcbExit::SNP_RUN_VMPL => "SNP run VMPL",
        GhcbExit::HV_FEATURES => "hypervisor feature support",
        GhcbExit::TERM_REQUEST => "termination",
        GhcbExit::UNSUPPORTED_EVENT => "unsupported event",
        _ => return None,
    })
}
