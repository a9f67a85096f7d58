//! What a relying party asks of a report that is genuine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use snp_abi::{
    AttestationReport, GuestPolicy, LaunchDigest, ProductLine, SignerInfo, TcbComponent, TcbParts, TcbVersion,
};

use crate::chain::Chain;
use crate::error::{Failure, Hex};
use crate::flags;
pub use crate::flags::Flags;
use crate::verdict::Checks;

/// What a report must say. What is left out is not checked, and the verdict says so.
///
/// Two things are refused unless they are allowed: a guest that can be debugged, and a report of an unknown version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Any of these launch digests.
    pub measurements: Vec<LaunchDigest>,
    /// At least these levels, of REPORTED_TCB and LAUNCH_TCB.
    pub min_tcb: MinTcb,
    /// The VMPL that asked for the report.
    pub vmpl: Option<u32>,
    /// Bits of the [`GuestPolicy`].
    pub guest_policy: Flags,
    /// Bits of [`PlatformInfo`](snp_abi::PlatformInfo).
    pub platform: Flags,
    /// Bits that LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR must both have: mitigations, by the numbers of AMD's bulletins.
    pub mitigations: u64,
    /// Believe a guest whose policy allows DEBUG.
    pub allow_debug: bool,
    /// Believe a report of a version that is not known. Its unknown fields are not looked at.
    pub allow_unknown_version: bool,
    /// HOST_DATA.
    pub host_data: Option<[u8; 32]>,
    /// REPORT_DATA.
    pub report_data: Option<[u8; 64]>,
    /// ID_KEY_DIGEST.
    pub id_key_digest: Option<[u8; 48]>,
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: Option<[u8; 48]>,
    /// FAMILY_ID.
    pub family_id: Option<[u8; 16]>,
    /// IMAGE_ID.
    pub image_id: Option<[u8; 16]>,
    /// GUEST_SVN, at least.
    pub min_svn: Option<u32>,
    /// CHIP_ID.
    pub chip_id: Option<[u8; 64]>,
    /// The cloud provider whose VLEK signed the report: the certificate's cspID. A report that a VCEK signed has none.
    pub provider: Option<String>,
}

/// Lower bounds of a TCB version's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinTcb {
    /// FMC.
    pub fmc: Option<u8>,
    /// BOOT_LOADER.
    pub bootloader: Option<u8>,
    /// TEE.
    pub tee: Option<u8>,
    /// SNP.
    pub snp: Option<u8>,
    /// MICROCODE.
    pub microcode: Option<u8>,
}

impl MinTcb {
    /// The bounds that are set.
    pub fn bounds(&self) -> impl Iterator<Item = (TcbComponent, u8)> {
        let bounds = [
            (TcbComponent::Fmc, self.fmc),
            (TcbComponent::Bootloader, self.bootloader),
            (TcbComponent::Tee, self.tee),
            (TcbComponent::Snp, self.snp),
            (TcbComponent::Microcode, self.microcode),
        ];
        bounds.into_iter().filter_map(|(component, least)| Some((component, least?)))
    }

    /// The bound of a part.
    pub fn slot(&mut self, component: TcbComponent) -> &mut Option<u8> {
        match component {
            TcbComponent::Fmc => &mut self.fmc,
            TcbComponent::Bootloader => &mut self.bootloader,
            TcbComponent::Tee => &mut self.tee,
            TcbComponent::Snp => &mut self.snp,
            TcbComponent::Microcode => &mut self.microcode,
        }
    }

    /// All parts of a TCB version as lower bounds.
    pub fn at_least(version: TcbVersion, line: ProductLine) -> Self {
        let TcbParts { fmc, bootloader, tee, snp, microcode } = version.parts(line);
        let fmc = line.tcb_components().contains(&TcbComponent::Fmc).then_some(fmc);
        Self { fmc, bootloader: Some(bootloader), tee: Some(tee), snp: Some(snp), microcode: Some(microcode) }
    }
}

pub(crate) const NOT_ASKED: &str = "not asked for";

impl Policy {
    /// Makes every check of the policy. `line` is `None` if it could not be found out.
    pub(crate) fn check(
        &self,
        report: &AttestationReport,
        line: Option<ProductLine>,
        chain: &Chain,
        checks: &mut Checks,
    ) {
        checks.check("debug", self.check_debug(report));
        flags::GUEST_POLICY.check(self.guest_policy, report.policy.0, checks);
        flags::PLATFORM.check(self.platform, report.platform_info.0, checks);
        match self.mitigations {
            0 => checks.skip("mitigations", NOT_ASKED),
            wanted => checks.check("mitigations", check_mitigations(report, wanted)),
        }
        if self.measurements.is_empty() {
            checks.skip("measurement", NOT_ASKED);
        } else {
            checks.check("measurement", self.check_measurement(report));
        }
        match line {
            _ if self.min_tcb == MinTcb::default() => checks.skip("min-tcb", NOT_ASKED),
            Some(line) => checks.check("min-tcb", self.check_tcb(report, line)),
            None => checks.skip("min-tcb", "the product line is not known"),
        }
        exact(
            checks,
            "vmpl",
            self.vmpl,
            report.vmpl,
            |got| format!("VMPL {got}"),
            |expected, got| Failure::Vmpl { expected, got },
        );
        bytes(checks, "host-data", self.host_data, report.host_data, |expected, got| Failure::HostData {
            expected,
            got,
        });
        let failure = |expected, got| Failure::ReportData { expected, got };
        bytes(checks, "report-data", self.report_data, report.report_data, failure);
        bytes(checks, "id-key", self.id_key_digest, report.id_key_digest, |expected, got| Failure::IdKey {
            expected,
            got,
        });
        self.check_author_key(report, checks);
        bytes(checks, "family-id", self.family_id, report.family_id, |expected, got| Failure::FamilyId {
            expected,
            got,
        });
        bytes(checks, "image-id", self.image_id, report.image_id, |expected, got| Failure::ImageId { expected, got });
        match self.min_svn {
            None => checks.skip("min-svn", NOT_ASKED),
            Some(least) if report.guest_svn < least => {
                checks.check("min-svn", Err(Failure::MinSvn { least, got: report.guest_svn }));
            }
            Some(_) => checks.check("min-svn", Ok(format!("GUEST_SVN {}", report.guest_svn))),
        }
        bytes(checks, "chip-id", self.chip_id, report.chip_id, |expected, got| Failure::ChipId { expected, got });
        self.check_provider(chain, checks);
    }

    fn check_provider(&self, chain: &Chain, checks: &mut Checks) {
        const NAME: &str = "provider";
        let extensions = chain.endorsement.as_ref().and_then(|endorsement| endorsement.extensions.as_ref());
        let got = extensions.map(|extensions| extensions.csp_id.clone());
        match (self.provider.clone(), got) {
            (None, _) => checks.skip(NAME, NOT_ASKED),
            (Some(_), None) => checks.skip(NAME, "no trusted certificate to compare with"),
            (Some(expected), Some(None)) => checks.check(NAME, Err(Failure::NoProvider { expected, role: chain.role })),
            (Some(expected), Some(Some(got))) if expected == got => checks.check(NAME, Ok(got)),
            (Some(expected), Some(Some(got))) => checks.check(NAME, Err(Failure::Provider { expected, got })),
        }
    }

    fn check_debug(&self, report: &AttestationReport) -> Result<String, Failure> {
        match (report.policy.has(GuestPolicy::DEBUG), self.allow_debug) {
            (false, _) => Ok("the policy does not allow DEBUG".into()),
            (true, true) => Ok("the policy allows DEBUG, as permitted".into()),
            (true, false) => Err(Failure::Debug),
        }
    }

    fn check_measurement(&self, report: &AttestationReport) -> Result<String, Failure> {
        if self.measurements.contains(&report.measurement) {
            return Ok(report.measurement.to_string());
        }
        let expected: Vec<_> = self.measurements.iter().map(ToString::to_string).collect();
        Err(Failure::Measurement { expected: expected.join(" or "), got: Hex::of(&report.measurement.0) })
    }

    fn check_tcb(&self, report: &AttestationReport, line: ProductLine) -> Result<String, Failure> {
        for (component, least) in self.min_tcb.bounds() {
            if !line.tcb_components().contains(&component) {
                return Err(Failure::MinTcbPart { component, least, line });
            }
            for (field, version) in [("REPORTED_TCB", report.reported_tcb), ("LAUNCH_TCB", report.launch_tcb)] {
                let got = version.parts(line).get(component);
                if got < least {
                    return Err(Failure::MinTcb { field, component, least, got });
                }
            }
        }
        let bounds: Vec<_> = self.min_tcb.bounds().map(|(part, least)| format!("{} {least}", part.name())).collect();
        Ok(format!("at least {}", bounds.join(", ")))
    }

    fn check_author_key(&self, report: &AttestationReport, checks: &mut Checks) {
        const NAME: &str = "author-key";
        match self.author_key_digest {
            Some(expected) if !report.signer_info.has(SignerInfo::AUTHOR_KEY_EN) => {
                checks.check(NAME, Err(Failure::NoAuthorKey { expected: Hex::of(&expected) }));
            }
            expected => {
                let failure = |expected, got| Failure::AuthorKey { expected, got };
                bytes(checks, NAME, expected, report.author_key_digest, failure);
            }
        }
    }
}

fn check_mitigations(report: &AttestationReport, wanted: u64) -> Result<String, Failure> {
    let version = report.version.0;
    let vectors = report.mitigation_vectors().ok_or(Failure::NoMitigationVectors { wanted, version })?;
    for (field, vector) in [("LAUNCH_MIT_VECTOR", vectors.launch), ("CURRENT_MIT_VECTOR", vectors.current)] {
        let missing = wanted & !vector;
        if missing != 0 {
            return Err(Failure::Mitigations { field, missing });
        }
    }
    Ok(format!("with {wanted:#x}, at launch and now"))
}

fn exact<T: PartialEq + Copy>(
    checks: &mut Checks,
    name: &'static str,
    expected: Option<T>,
    got: T,
    found: impl FnOnce(T) -> String,
    failure: impl FnOnce(T, T) -> Failure,
) {
    match expected {
        None => checks.skip(name, NOT_ASKED),
        Some(expected) if expected == got => checks.check(name, Ok(found(got))),
        Some(expected) => checks.check(name, Err(failure(expected, got))),
    }
}

fn bytes<const N: usize>(
    checks: &mut Checks,
    name: &'static str,
    expected: Option<[u8; N]>,
    got: [u8; N],
    failure: impl FnOnce(Hex, Hex) -> Failure,
) {
    let failure = |expected: [u8; N], got: [u8; N]| failure(Hex::of(&expected), Hex::of(&got));
    exact(checks, name, expected, got, |got| Hex::of(&got).to_string(), failure);
}
