//! The CPUID page at SNP_LAUNCH_UPDATE: checked function by function, corrected when refused.

use snp_abi::{CPUID_FUNCTION_LIMIT, CpuidFunction, FwStatus};
use zerocopy::IntoBytes;

use crate::{RefusedPage, SealedPage, launch};

/// How a register of a function may differ from the host's.
#[derive(Clone, Copy)]
enum Rule {
    /// Not checked.
    Any,
    /// Equal to the host's.
    Equal,
    /// Equal to the host's in these bits.
    EqualIn {
        /// Bits that are checked.
        mask: u32,
    },
    /// Not greater than the host's.
    AtMost,
    /// No bit that the host lacks, these bits aside.
    Subset {
        /// Bits that are not checked.
        ignored: u32,
    },
}

/// The rules of one function, for EAX, EBX, ECX, EDX.
struct Function {
    leaf: u32,
    /// `None`: for every subleaf.
    subleaf: Option<u32>,
    rules: [Rule; 4],
}

const ANY: Rule = Rule::Any;
const EQUAL: Rule = Rule::Equal;
const AT_MOST: Rule = Rule::AtMost;
const SUBSET: Rule = Rule::Subset { ignored: 0 };
/// Fn1 ECX: OSXSAVE follows CR4 and HYPERVISOR is the hypervisor's own.
const FN1_ECX: Rule = Rule::Subset { ignored: 1 << 27 | 1 << 31 };

/// Fn8000_001F EBX: the position of the C-bit. VMMs leave the rest to the guest's model.
const C_BIT_POSITION: Rule = Rule::EqualIn { mask: 0x3f };

/// The functions that are checked. A function that is not in this table is accepted as it is.
///
/// # Source
/// The kinds of rules are those of AMD's processor programming references, "CPUID Policy Enforcement" (strict, bitmask,
/// greater than or equal). The assignment below is this model's, made so that what QEMU and OVMF put into the page for the
/// EPYC models is accepted and a feature that the host lacks is refused; it is **not** AMD's table
/// (docs/limitations.md).
const FUNCTIONS: &[Function] = &[
    Function { leaf: 0, subleaf: None, rules: [AT_MOST, EQUAL, EQUAL, EQUAL] },
    Function { leaf: 1, subleaf: None, rules: [ANY, ANY, FN1_ECX, SUBSET] },
    Function { leaf: 7, subleaf: Some(0), rules: [AT_MOST, SUBSET, SUBSET, SUBSET] },
    Function { leaf: 7, subleaf: Some(1), rules: [SUBSET, ANY, ANY, ANY] },
    Function { leaf: 0xd, subleaf: Some(0), rules: [SUBSET, ANY, AT_MOST, SUBSET] },
    Function { leaf: 0xd, subleaf: Some(1), rules: [SUBSET, ANY, SUBSET, SUBSET] },
    Function { leaf: 0x8000_0000, subleaf: None, rules: [AT_MOST, EQUAL, EQUAL, EQUAL] },
    Function { leaf: 0x8000_0001, subleaf: None, rules: [ANY, ANY, SUBSET, SUBSET] },
    Function { leaf: 0x8000_0008, subleaf: None, rules: [ANY, SUBSET, ANY, ANY] },
    Function { leaf: 0x8000_000a, subleaf: None, rules: [ANY, ANY, ANY, SUBSET] },
    Function { leaf: 0x8000_001f, subleaf: None, rules: [SUBSET, C_BIT_POSITION, ANY, ANY] },
    Function { leaf: 0x8000_0021, subleaf: None, rules: [SUBSET, ANY, ANY, ANY] },
];

/// Accepts the page, or gives it back with what would be accepted.
///
/// # Errors
/// INVALID_PARAM: a function claims what the platform does not support, more than 64 functions, or reserved fields set.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "CPUID Page".
pub(crate) fn check(host: &[CpuidFunction], page: SealedPage) -> Result<SealedPage, RefusedPage> {
    let given = launch::cpuid_page(&page);
    let mut accepted = given.clone();
    accepted.reserved_0x4 = 0;
    accepted.reserved_0x8 = 0;
    accepted.reserved_0xc10.fill(0);
    accepted.count = given.count.min(CPUID_FUNCTION_LIMIT as u32);
    for function in &mut accepted.functions[..given.count.min(CPUID_FUNCTION_LIMIT as u32) as usize] {
        correct(function, host);
    }
    if accepted == given {
        return Ok(page);
    }
    let page = SealedPage::copy_of(accepted.as_bytes().try_into().expect("a CPUID page is a page"));
    Err(RefusedPage { status: FwStatus::INVALID_PARAM, page })
}

/// Makes a function what the firmware would accept.
fn correct(function: &mut CpuidFunction, host: &[CpuidFunction]) {
    function.reserved_0x28 = 0;
    let Some(checked) = FUNCTIONS.iter().find(|checked| {
        checked.leaf == function.eax_in && checked.subleaf.is_none_or(|subleaf| subleaf == function.ecx_in)
    }) else {
        return;
    };
    // A function that the host does not have: all its registers read zero.
    let host = host
        .iter()
        .find(|known| known.eax_in == checked.leaf && checked.subleaf.is_none_or(|subleaf| known.ecx_in == subleaf))
        .copied()
        .unwrap_or_default();
    let registers = [
        (&mut function.eax, host.eax),
        (&mut function.ebx, host.ebx),
        (&mut function.ecx, host.ecx),
        (&mut function.edx, host.edx),
    ];
    for ((register, host), rule) in registers.into_iter().zip(checked.rules) {
        *register = match rule {
            Rule::Any => *register,
            Rule::Equal => host,
            Rule::EqualIn { mask } => (*register & !mask) | (host & mask),
            Rule::AtMost => (*register).min(host),
            Rule::Subset { ignored } => *register & (host | ignored),
        };
    }
}

#[cfg(test)]
mod tests {
    use snp_abi::CpuidPage;

    use super::*;
    use crate::PlatformConfig;

    fn sealed(page: &CpuidPage) -> SealedPage {
        SealedPage::copy_of(page.as_bytes().try_into().unwrap())
    }

    fn page(functions: &[CpuidFunction]) -> CpuidPage {
        let mut page = CpuidPage { count: functions.len() as u32, ..CpuidPage::default() };
        page.functions[..functions.len()].copy_from_slice(functions);
        page
    }

    #[test]
    fn every_platform_accepts_its_own_functions() {
        for config in [PlatformConfig::milan(), PlatformConfig::genoa(), PlatformConfig::turin()] {
            let own = page(&config.cpuid);
            assert_eq!(check(&config.cpuid, sealed(&own)).unwrap(), sealed(&own));
        }
    }

    /// One violation of each rule; what comes back is accepted and differs in nothing else.
    #[test]
    fn a_refused_page_comes_back_corrected() {
        let config = PlatformConfig::genoa();
        type Case = (&'static str, u32, u32, fn(&mut CpuidFunction));
        let violate: [Case; 6] = [
            ("a greater leaf limit", 0, 0, |f| f.eax += 1),
            ("another vendor", 0, 0, |f| f.ebx ^= 1),
            ("a feature in Fn1 EDX", 1, 0, |f| f.edx |= 1 << 10),
            ("a feature in Fn7 ECX", 7, 0, |f| f.ecx |= 1 << 24),
            ("the C-bit elsewhere", 0x8000_001f, 0, |f| f.ebx ^= 1),
            ("reserved bytes", 2, 0, |f| f.reserved_0x28 = 1),
        ];
        for (name, leaf, subleaf, change) in violate {
            let mut own = page(&config.cpuid);
            let known = own
                .functions
                .iter_mut()
                .find(|f| (f.eax_in, f.ecx_in) == (leaf, subleaf) && f.eax | f.ebx | f.edx != 0);
            let function = match known {
                Some(function) => function,
                None => &mut own.functions[own.count as usize - 1],
            };
            let good = *function;
            change(function);
            let bad = *function;
            let refused = check(&config.cpuid, sealed(&own)).expect_err(name);
            assert_eq!(refused.status, FwStatus::INVALID_PARAM, "{name}");
            let corrected = launch::cpuid_page(&refused.page);
            let differing: Vec<_> = corrected.functions.iter().zip(&own.functions).filter(|(a, b)| a != b).collect();
            assert_eq!(differing, vec![(&good, &bad)], "{name}");
            assert!(check(&config.cpuid, refused.page).is_ok(), "{name}");
        }
    }

    #[test]
    fn too_many_functions_are_refused() {
        let config = PlatformConfig::genoa();
        let mut own = page(&config.cpuid);
        own.count = 65;
        let refused = check(&config.cpuid, sealed(&own)).unwrap_err();
        assert_eq!(launch::cpuid_page(&refused.page).count, 64);
        own.count = u32::MAX;
        assert!(check(&config.cpuid, sealed(&own)).is_err());
    }

    #[test]
    fn what_is_not_in_the_table_is_accepted() {
        let config = PlatformConfig::genoa();
        let unknown = CpuidFunction { eax_in: 0x4000_0000, eax: 0x1234_5678, ..CpuidFunction::default() };
        assert!(check(&config.cpuid, sealed(&page(&[unknown]))).is_ok());
    }
}
