//! CPUID as the platform answers it, in the program itself.
//!
//! A VMM asks the processor, not KVM, where the C-bit is. Where the processor cannot be told to trap CPUID, its
//! instructions are replaced by undefined ones ([`patch`]) that are found by decoding the program's functions ([`scan`]), and
//! the SIGILL of each is answered here.

mod handler;
mod patch;
mod scan;

use std::arch::x86_64::__cpuid_count;

use snp_abi::CpuidFunction;
use snp_asp::PlatformConfig;

pub(crate) use handler::{exchange_handler, owns_sigill};

/// Replaces the program's CPUID instructions, once per process.
///
/// # Errors
/// Why none could be replaced.
pub(crate) fn replace(config: &PlatformConfig) -> Result<(), String> {
    if handler::owns_sigill() {
        // A forked child: its program is replaced already.
        return Ok(());
    }
    let program = patch::program().ok_or("the program's own headers were not found")?;
    let places = scan::places(&program)?;
    if places.is_empty() {
        // It does not ask.
        return Ok(());
    }
    handler::install(config.clone(), &places)?;
    patch::replace(&program, &places)
}

/// The platform's answer to a leaf, or the processor's own for what says which instructions the *program* may use: it runs
/// on this machine, not on the platform.
fn answer(config: &PlatformConfig, leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY-free: CPUID exists on every x86-64 processor.
    let own = __cpuid_count(leaf, subleaf);
    let own = [own.eax, own.ebx, own.ecx, own.edx];
    let of = |leaf: u32| config.cpuid.iter().find(|function| function.eax_in == leaf && function.ecx_in == 0);
    let values = |function: &CpuidFunction| [function.eax, function.ebx, function.ecx, function.edx];
    match (leaf, of(leaf)) {
        // The vendor, not the highest leaf.
        (0, Some(function)) => [own[0], function.ebx, function.ecx, function.edx],
        (0x8000_0000, Some(function)) => [own[0].max(function.eax), function.ebx, function.ecx, function.edx],
        // Family, model and stepping; not the features beside them.
        (1 | 0x8000_0001, Some(function)) => [function.eax, own[1], own[2], own[3]],
        (0x8000_0008 | 0x8000_000a | 0x8000_001f | 0x8000_0021, Some(function)) => values(function),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_bit_is_the_platforms_and_avx_is_this_machines() {
        let config = PlatformConfig::genoa();
        let [eax, ebx, ..] = answer(&config, 0x8000_001f, 0);
        assert_eq!((eax & 0x1f, ebx & 0x3f), (0x1f, 51));
        let own = __cpuid_count(7, 0);
        assert_eq!(answer(&config, 7, 0), [own.eax, own.ebx, own.ecx, own.edx]);
    }
}
