//! The keys that endorse the platform: VCEK and VLEK.

use p384::ecdsa;
use p384::ecdsa::signature::Signer;
use snp_abi::{CURVE_P384, EcdsaPublicKey, EcdsaSignature, FwStatus, KeySelect, ProductLine, SigningKey, TcbVersion};

use crate::Firmware;
use crate::context::GuestContext;

/// A key that signs attestation reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndorsementKey {
    /// The versioned chip endorsement key, of this chip.
    Vcek,
    /// The versioned loaded endorsement key, of a cloud provider.
    Vlek,
}

impl EndorsementKey {
    const fn purpose(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// SIGNING_KEY of an attestation report.
    pub const fn signing_key(self) -> SigningKey {
        match self {
            Self::Vcek => SigningKey::VCEK,
            Self::Vlek => SigningKey::VLEK,
        }
    }
}

/// What the certificates of a platform's endorsement keys are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The product line.
    pub product: ProductLine,
    /// The chip's ID, also where reports have it masked.
    pub chip_id: [u8; 64],
    /// REPORTED_TCB, from which the keys are derived.
    pub reported_tcb: TcbVersion,
    /// The VCEK.
    pub vcek: EcdsaPublicKey,
    /// The VLEK, if one is installed.
    pub vlek: Option<EcdsaPublicKey>,
}

impl Firmware {
    /// What to certify.
    pub fn endorsement(&self) -> Endorsement {
        Endorsement {
            product: self.config.product.line(),
            chip_id: self.chip_id(),
            reported_tcb: self.reported_tcb(),
            vcek: self.endorsement_key(EndorsementKey::Vcek),
            vlek: self.reporting.vlek.then(|| self.endorsement_key(EndorsementKey::Vlek)),
        }
    }

    /// The public key of an endorsement key at the reported TCB, for whoever makes its certificate.
    pub fn endorsement_key(&self, key: EndorsementKey) -> EcdsaPublicKey {
        let secret = self.signing_key(key);
        let point = secret.verifying_key().to_encoded_point(false);
        let coordinate = |big_endian: Option<&p384::FieldBytes>| {
            little_endian(big_endian.expect("an uncompressed point that is not the identity has both"))
        };
        EcdsaPublicKey {
            curve: CURVE_P384,
            qx: coordinate(point.x()),
            qy: coordinate(point.y()),
            reserved_0x94: [0; 880],
        }
    }

    /// The private key, from the seed, the product line and the reported TCB; the VCEK's also from the chip's ID.
    ///
    /// # Source
    /// AMD 56860, "Attestation", for what the keys depend on. How they do is not public; here it is a hash.
    pub(crate) fn signing_key(&self, key: EndorsementKey) -> ecdsa::SigningKey {
        let chip_id = self.chip_id();
        let chip_id: &[u8] = if key == EndorsementKey::Vcek { &chip_id } else { &[] };
        // A hash that is no scalar of the curve is one in 2^190: the loop is there so that nothing has to be assumed.
        (0_u64..)
            .find_map(|attempt| {
                let message = [
                    b"snpkit test secret: ",
                    self.config.seed.as_slice(),
                    key.purpose().as_bytes(),
                    self.config.product.line().name().as_bytes(),
                    chip_id,
                    &self.reported_tcb().0.to_le_bytes(),
                    &attempt.to_le_bytes(),
                ];
                ecdsa::SigningKey::from_slice(&snp_sha384::sha384(&message.concat())).ok()
            })
            .expect("some hash is a scalar")
    }

    /// Signs with an endorsement key at the reported TCB; deterministic (RFC 6979).
    pub(crate) fn sign(&self, key: EndorsementKey, message: &[u8]) -> EcdsaSignature {
        let signature: ecdsa::Signature = self.signing_key(key).sign(message);
        let (r, s) = signature.split_bytes();
        EcdsaSignature { r: little_endian(&r), s: little_endian(&s), reserved_0x90: [0; 368] }
    }

    /// The endorsement key that a guest selects.
    ///
    /// # Errors
    /// INVALID_PARAM: a selection that there is not. INVALID_KEY: the VLEK is not installed, or the guest was launched with
    /// VCEK_DIS and selects the VCEK.
    ///
    /// # Source
    /// AMD 56860, MSG_REPORT_REQ, KEY_SEL; SNP_LAUNCH_FINISH, VCEK_DIS.
    pub(crate) fn select_key(&self, context: &GuestContext, select: KeySelect) -> Result<EndorsementKey, FwStatus> {
        let vlek = self.reporting.vlek;
        match select {
            KeySelect::DEFAULT | KeySelect::VLEK if vlek => Ok(EndorsementKey::Vlek),
            KeySelect::VLEK => Err(FwStatus::INVALID_KEY),
            KeySelect::DEFAULT | KeySelect::VCEK if context.identity.vcek_disabled => Err(FwStatus::INVALID_KEY),
            KeySelect::DEFAULT | KeySelect::VCEK => Ok(EndorsementKey::Vcek),
            _ => Err(FwStatus::INVALID_PARAM),
        }
    }
}

/// A big-endian number as the firmware stores it: little-endian, padded with zeros to 72 bytes.
fn little_endian(number: &[u8]) -> [u8; 72] {
    let mut field = [0; 72];
    field.iter_mut().zip(number.iter().rev()).for_each(|(to, from)| *to = *from);
    field
}
