//! TCB versions, which every product line packs in its own way.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A product line with SEV-SNP whose endorsement keys AMD certifies under a root of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProductLine {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 97x4 and 8004: Siena and Bergamo are certified as Genoa.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl ProductLine {
    /// Every product line, in order of their appearance.
    pub const ALL: &'static [Self] = &[Self::Milan, Self::Genoa, Self::Turin];

    /// The name in AMD's certificates and in the addresses of its key distribution service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product line of a combined family and model, if it is known.
    ///
    /// # Source
    /// AMD 57230 (VCEK Certificate and KDS Interface), "Product Name"; the ranges of models are those that virtee/sev and
    /// snpguest use.
    pub const fn of_processor(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// Bytes of the hardware ID at the start of CHIP_ID; the rest of the field is zero.
    ///
    /// # Source
    /// AMD 57230, "HWID": 64 bytes, and 8 bytes for Turin.
    pub const fn hwid_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

/// A part of a TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcbComponent {
    /// FMC, the first mutable code; Turin and later.
    Fmc,
    /// BOOT_LOADER.
    Bootloader,
    /// TEE.
    Tee,
    /// SNP.
    Snp,
    /// MICROCODE.
    Microcode,
}

impl TcbComponent {
    /// The name in lower case, as options and documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fmc => "fmc",
            Self::Bootloader => "bootloader",
            Self::Tee => "tee",
            Self::Snp => "snp",
            Self::Microcode => "microcode",
        }
    }
}

/// A TCB version: the security patch levels of the firmware's parts, packed as the product line packs them.
///
/// Two of them do not compare as numbers: a high part would hide a low one. Compare [`TcbParts`] with
/// [`TcbParts::below`].
///
/// # Source
/// AMD 56860, "TCB_VERSION": one structure for Milan and Genoa, another for Turin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct TcbVersion(pub u64);

/// The parts of a TCB version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcbParts {
    /// FMC; 0 where the product line has none.
    pub fmc: u8,
    /// BOOT_LOADER.
    pub bootloader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP.
    pub snp: u8,
    /// MICROCODE.
    pub microcode: u8,
}

impl TcbVersion {
    /// The parts, and nothing of the reserved bytes.
    pub const fn parts(self, line: ProductLine) -> TcbParts {
        let bytes = self.0.to_le_bytes();
        match line {
            ProductLine::Milan | ProductLine::Genoa => {
                TcbParts { fmc: 0, bootloader: bytes[0], tee: bytes[1], snp: bytes[6], microcode: bytes[7] }
            }
            ProductLine::Turin => {
                TcbParts { fmc: bytes[0], bootloader: bytes[1], tee: bytes[2], snp: bytes[3], microcode: bytes[7] }
            }
        }
    }

    /// The bits of the reserved bytes, zero in every TCB version of the product line.
    pub const fn reserved(self, line: ProductLine) -> u64 {
        self.0 & !TcbParts { fmc: 0xff, bootloader: 0xff, tee: 0xff, snp: 0xff, microcode: 0xff }.pack(line).0
    }
}

impl TcbParts {
    /// The TCB version of the product line. FMC is left out where the product line has none.
    pub const fn pack(self, line: ProductLine) -> TcbVersion {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        TcbVersion(u64::from_le_bytes(match line {
            ProductLine::Milan | ProductLine::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            ProductLine::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        }))
    }

    /// One part.
    pub const fn get(self, component: TcbComponent) -> u8 {
        match component {
            TcbComponent::Fmc => self.fmc,
            TcbComponent::Bootloader => self.bootloader,
            TcbComponent::Tee => self.tee,
            TcbComponent::Snp => self.snp,
            TcbComponent::Microcode => self.microcode,
        }
    }

    /// The first part that is lower here than in `least`.
    pub fn below(self, least: Self) -> Option<TcbComponent> {
        TcbParts::COMPONENTS.iter().copied().find(|component| self.get(*component) < least.get(*component))
    }

    /// Every part, in the order in which they are loaded.
    pub const COMPONENTS: &'static [TcbComponent] =
        &[TcbComponent::Fmc, TcbComponent::Bootloader, TcbComponent::Tee, TcbComponent::Snp, TcbComponent::Microcode];
}

impl ProductLine {
    /// The parts that the product line's TCB versions have.
    pub fn tcb_components(self) -> &'static [TcbComponent] {
        match self {
            Self::Milan | Self::Genoa => &TcbParts::COMPONENTS[1..],
            Self::Turin => TcbParts::COMPONENTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: TcbParts = TcbParts { fmc: 5, bootloader: 1, tee: 2, snp: 3, microcode: 4 };

    /// AMD 56860, "TCB_VERSION".
    #[test]
    fn each_product_line_packs_in_its_own_way() {
        assert_eq!(PARTS.pack(ProductLine::Milan), TcbVersion(0x0403_0000_0000_0201));
        assert_eq!(PARTS.pack(ProductLine::Genoa), TcbVersion(0x0403_0000_0000_0201));
        assert_eq!(PARTS.pack(ProductLine::Turin), TcbVersion(0x0400_0000_0302_0105));
        assert_eq!(TcbVersion(u64::MAX).reserved(ProductLine::Milan), 0x0000_ffff_ffff_0000);
        assert_eq!(TcbVersion(u64::MAX).reserved(ProductLine::Turin), 0x00ff_ffff_0000_0000);
        for &line in ProductLine::ALL {
            let parts = TcbParts { fmc: if line == ProductLine::Turin { 5 } else { 0 }, ..PARTS };
            assert_eq!(PARTS.pack(line).parts(line), parts);
        }
    }

    #[test]
    fn one_lower_part_is_below() {
        assert_eq!(PARTS.below(PARTS), None);
        for &component in TcbParts::COMPONENTS {
            let mut least = PARTS;
            match component {
                TcbComponent::Fmc => least.fmc += 1,
                TcbComponent::Bootloader => least.bootloader += 1,
                TcbComponent::Tee => least.tee += 1,
                TcbComponent::Snp => least.snp += 1,
                TcbComponent::Microcode => least.microcode += 1,
            }
            assert_eq!(PARTS.below(least), Some(component));
            assert_eq!(least.below(PARTS), None);
        }
    }
}
