//! The secrets page, which the firmware fills at launch.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

/// The secrets page: the keys by which the guest speaks to the firmware.
///
/// # Source
/// AMD 56860, SNP_LAUNCH_UPDATE, "Secrets Page Format"; AMD 56421 (GHCB), "SEV-SNP Secrets Page Layout" for the
/// guest's own areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SecretsPage {
    /// VERSION of this structure.
    pub version: u32,
    /// Bit 0: IMI_EN.
    pub flags: u32,
    /// FMS: family, model and stepping as CPUID Fn0000_0001_EAX gives them.
    pub fms: u32,
    /// Reserved, zero.
    pub reserved_0xc: u32,
    /// GOSVW: guest OS-visible workarounds, as the hypervisor gave them at launch.
    pub gosvw: [u8; 16],
    /// VMPCK0: the VM platform communication key of VMPL0.
    pub vmpck0: [u8; 32],
    /// VMPCK1.
    pub vmpck1: [u8; 32],
    /// VMPCK2.
    pub vmpck2: [u8; 32],
    /// VMPCK3.
    pub vmpck3: [u8; 32],
    /// Area for the guest's use; the firmware writes zeros.
    pub guest_area_0xa0: [u8; 96],
    /// VMSA_TWEAK_BITMAP: which VMSA quadwords are tweaked.
    pub vmsa_tweak_bitmap: [u8; 64],
    /// Area for the guest's use (an SVSM describes itself here); the firmware writes zeros.
    pub guest_area_0x140: [u8; 32],
    /// TSC_FACTOR: correction of the guest TSC frequency.
    pub tsc_factor: u32,
    /// Reserved, zero.
    pub reserved_0x164: [u8; 0xe9c],
}

abi_layout!(SecretsPage, 4096, {
    version: 0, flags: 4, fms: 8, reserved_0xc: 0xc, gosvw: 0x10, vmpck0: 0x20, vmpck1: 0x40, vmpck2: 0x60,
    vmpck3: 0x80, guest_area_0xa0: 0xa0, vmsa_tweak_bitmap: 0x100, guest_area_0x140: 0x140, tsc_factor: 0x160,
    reserved_0x164: 0x164,
});

impl Default for SecretsPage {
    fn default() -> Self {
        Self::new_zeroed()
    }
}
