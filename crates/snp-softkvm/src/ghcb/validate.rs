//! What KVM checks of a GHCB before it looks at the event.

use snp_abi::PAGE_SIZE;
use snp_abi::ghcb::{GhcbError, GhcbExit, IoioInfo, ap_creation};

use super::Config;
use super::page::{Field, Page};

const PAGE: u64 = PAGE_SIZE as u64;

/// The checks in KVM's order.
///
/// # Errors
/// What the guest is told; nothing was done.
///
/// # Source
/// Linux 7.3, arch/x86/kvm/svm/sev.c, `sev_es_validate_vmgexit`.
pub(super) fn validate(page: &Page, config: &Config) -> Result<(), GhcbError> {
    if page.usage() != 0 {
        return Err(GhcbError::INVALID_USAGE);
    }
    let has = |fields: &[Field]| fields.iter().all(|field| page.has(*field));
    if !has(&[Field::EXIT_CODE, Field::EXIT_INFO_1, Field::EXIT_INFO_2]) {
        return Err(GhcbError::MISSING_INPUT);
    }
    let good = match page.exit_code() {
        GhcbExit::READ_DR7
        | GhcbExit::RDTSC
        | GhcbExit::INVD
        | GhcbExit::RDTSCP
        | GhcbExit::WBINVD
        | GhcbExit::NMI_COMPLETE
        | GhcbExit::AP_RESET_HOLD
        | GhcbExit::AP_JUMP_TABLE
        | GhcbExit::UNSUPPORTED_EVENT
        | GhcbExit::HV_FEATURES
        | GhcbExit::TERM_REQUEST => true,
        GhcbExit::WRITE_DR7 => has(&[Field::RAX]),
        GhcbExit::RDPMC => has(&[Field::RCX]),
        // Function 0xd depends on XCR0.
        GhcbExit::CPUID => has(&[Field::RAX, Field::RCX]) && (page.registers.rax != 0xd || has(&[Field::XCR0])),
        GhcbExit::IOIO => match IoioInfo(page.exit_info_1()) {
            io if io.string() => has(&[Field::SCRATCH]),
            io => io.input() || has(&[Field::RAX]),
        },
        GhcbExit::MSR => has(&[Field::RCX]) && (page.exit_info_1() == 0 || has(&[Field::RAX, Field::RDX])),
        GhcbExit::VMMCALL => has(&[Field::RAX, Field::CPL]),
        GhcbExit::MONITOR => has(&[Field::RAX, Field::RCX, Field::RDX]),
        GhcbExit::MWAIT => has(&[Field::RAX, Field::RCX]),
        GhcbExit::MMIO_READ | GhcbExit::MMIO_WRITE => has(&[Field::SCRATCH]),
        GhcbExit::AP_CREATION => {
            config.snp && (page.exit_info_1() as u32 == ap_creation::DESTROY || has(&[Field::RAX]))
        }
        GhcbExit::PSC => config.snp && has(&[Field::SCRATCH]),
        GhcbExit::GUEST_REQUEST | GhcbExit::EXT_GUEST_REQUEST => {
            let (request, response) = (page.exit_info_1(), page.exit_info_2());
            config.snp && request.is_multiple_of(PAGE) && response.is_multiple_of(PAGE) && request != response
        }
        GhcbExit::GET_APIC_IDS if config.apic_id_list => has(&[Field::RAX]),
        _ => return Err(GhcbError::INVALID_EVENT),
    };
    if good { Ok(()) } else { Err(GhcbError::MISSING_INPUT) }
}
