//! The extensions by which AMD's certificates say for which chip, product and TCB version they are.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use der::Decode;
use der::asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef};
use snp_abi::{ProductLine, TcbComponent, TcbParts};

use crate::certificate::Certificate;
use crate::error::{Failure, Role};

/// An extension of AMD's, by its OID.
///
/// # Source
/// AMD 57230, "VCEK Certificate Format" and "VLEK Certificate Format": 1.3.6.1.4.1.3704.1.*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) oid: ObjectIdentifier,
}

const fn known(name: &'static str, oid: &str) -> Known {
    Known { name, oid: ObjectIdentifier::new_unwrap(oid) }
}

pub(crate) const STRUCT_VERSION: Known = known("structVersion", "1.3.6.1.4.1.3704.1.1");
pub(crate) const PRODUCT_NAME: Known = known("productName", "1.3.6.1.4.1.3704.1.2");
pub(crate) const BL_SPL: Known = known("blSPL", "1.3.6.1.4.1.3704.1.3.1");
pub(crate) const TEE_SPL: Known = known("teeSPL", "1.3.6.1.4.1.3704.1.3.2");
pub(crate) const SNP_SPL: Known = known("snpSPL", "1.3.6.1.4.1.3704.1.3.3");
pub(crate) const SPL_4: Known = known("spl4", "1.3.6.1.4.1.3704.1.3.4");
pub(crate) const SPL_5: Known = known("spl5", "1.3.6.1.4.1.3704.1.3.5");
pub(crate) const SPL_6: Known = known("spl6", "1.3.6.1.4.1.3704.1.3.6");
pub(crate) const SPL_7: Known = known("spl7", "1.3.6.1.4.1.3704.1.3.7");
pub(crate) const UCODE_SPL: Known = known("ucodeSPL", "1.3.6.1.4.1.3704.1.3.8");
pub(crate) const FMC_SPL: Known = known("fmcSPL", "1.3.6.1.4.1.3704.1.3.9");
pub(crate) const HWID: Known = known("hwID", "1.3.6.1.4.1.3704.1.4");
pub(crate) const CSP_ID: Known = known("cspID", "1.3.6.1.4.1.3704.1.5");

pub(crate) const ALL: [Known; 13] = [
    STRUCT_VERSION,
    PRODUCT_NAME,
    BL_SPL,
    TEE_SPL,
    SNP_SPL,
    SPL_4,
    SPL_5,
    SPL_6,
    SPL_7,
    UCODE_SPL,
    FMC_SPL,
    HWID,
    CSP_ID,
];

/// What an endorsement key's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementExtensions {
    /// structVersion.
    pub struct_version: u8,
    /// productName, with or without a stepping: `Milan-B0`, `Genoa`.
    pub product_name: String,
    /// The security patch levels for which the key was derived.
    pub tcb: TcbParts,
    /// hwID of a VCEK: the start of CHIP_ID.
    pub hwid: Option<Vec<u8>>,
    /// cspID of a VLEK: the cloud provider.
    pub csp_id: Option<String>,
}

impl EndorsementExtensions {
    /// The product line of productName, `None` if it is none that is known.
    pub fn product_line(&self) -> Option<ProductLine> {
        let name = self.product_name.split('-').next()?;
        // Siena and Bergamo are certified under Genoa's root.
        let name = if matches!(name, "Siena" | "Bergamo") { "Genoa" } else { name };
        ProductLine::ALL.iter().copied().find(|line| line.name() == name)
    }

    /// Reads the extensions of a VCEK's or VLEK's certificate in a chain of `line`.
    pub(crate) fn read(certificate: &Certificate, role: Role, line: ProductLine) -> Result<Self, Failure> {
        let source = Source { certificate, role };
        let fmc = match line {
            ProductLine::Turin => source.level(FMC_SPL)?,
            ProductLine::Milan | ProductLine::Genoa => source.absent(FMC_SPL).map(|()| 0)?,
        };
        let tcb = TcbParts {
            fmc,
            bootloader: source.level(BL_SPL)?,
            tee: source.level(TEE_SPL)?,
            snp: source.level(SNP_SPL)?,
            microcode: source.level(UCODE_SPL)?,
        };
        for reserved in [SPL_4, SPL_5, SPL_6, SPL_7] {
            if source.find(reserved)?.is_some() && source.level(reserved)? != 0 {
                return Err(Failure::ExtensionMalformed { role, name: reserved.name });
            }
        }
        let (hwid, csp_id) = match role {
            Role::Vlek => {
                source.absent(HWID)?;
                (None, Some(source.text(CSP_ID)?))
            }
            _ => {
                source.absent(CSP_ID)?;
                (Some(source.hwid(line.hwid_len())?), None)
            }
        };
        Ok(Self {
            struct_version: source.level(STRUCT_VERSION)?,
            product_name: source.text(PRODUCT_NAME)?,
            tcb,
            hwid,
            csp_id,
        })
    }
}

/// The parts of a TCB version, by the extension that certifies each.
pub(crate) const fn component(component: TcbComponent) -> Known {
    match component {
        TcbComponent::Fmc => FMC_SPL,
        TcbComponent::Bootloader => BL_SPL,
        TcbComponent::Tee => TEE_SPL,
        TcbComponent::Snp => SNP_SPL,
        TcbComponent::Microcode => UCODE_SPL,
    }
}

struct Source<'a> {
    certificate: &'a Certificate,
    role: Role,
}

impl<'a> Source<'a> {
    fn find(&self, known: Known) -> Result<Option<&'a [u8]>, Failure> {
        let mut found = self.certificate.extensions().iter().filter(|extension| extension.extn_id == known.oid);
        let first = found.next().map(|extension| extension.extn_value.as_bytes());
        match found.next() {
            None => Ok(first),
            Some(_) => Err(Failure::ExtensionTwice { role: self.role, name: known.name.to_string() }),
        }
    }

    fn get(&self, known: Known) -> Result<&'a [u8], Failure> {
        self.find(known)?.ok_or(Failure::ExtensionMissing { role: self.role, name: known.name })
    }

    fn absent(&self, known: Known) -> Result<(), Failure> {
        match self.find(known)? {
            None => Ok(()),
            Some(_) => Err(Failure::ExtensionUnexpected { role: self.role, name: known.name }),
        }
    }

    fn malformed(&self, known: Known) -> Failure {
        Failure::ExtensionMalformed { role: self.role, name: known.name }
    }

    fn level(&self, known: Known) -> Result<u8, Failure> {
        u8::from_der(self.get(known)?).map_err(|_| self.malformed(known))
    }

    fn text(&self, known: Known) -> Result<String, Failure> {
        let text = Ia5StringRef::from_der(self.get(known)?).map_err(|_| self.malformed(known))?;
        Ok(text.as_str().to_string())
    }

    /// AMD writes the hardware ID without a type; certificates since 2023 have it as an OCTET STRING, too.
    fn hwid(&self, len: usize) -> Result<Vec<u8>, Failure> {
        let value = self.get(HWID)?;
        if value.len() == len {
            return Ok(value.to_vec());
        }
        match <&OctetStringRef>::from_der(value) {
            Ok(octets) if octets.as_bytes().len() == len => Ok(octets.as_bytes().to_vec()),
            _ => Err(self.malformed(HWID)),
        }
    }
}
