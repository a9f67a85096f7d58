//! The roots that are built in: AMD's, and the TEST roots of the software platform.
//!
//! # Source
//! `roots/README.md`: where the certificates come from, and their fingerprints.

use snp_abi::ProductLine;

use crate::certificate::Certificate;

/// Stands at the end of every name in a TEST certificate.
pub const TEST_MARK: &str = " (TEST, not AMD)";

/// A root, and the two intermediate certificates under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The product line.
    pub line: ProductLine,
    /// A TEST root: its private keys are published.
    pub test: bool,
    /// The ARK in DER.
    pub ark: &'static [u8],
    /// The ASK in DER.
    pub ask: &'static [u8],
    /// The ASVK in DER.
    pub asvk: &'static [u8],
}

macro_rules! root {
    ($line:ident, $test:literal, $directory:literal, $name:literal) => {
        Root {
            line: ProductLine::$line,
            test: $test,
            ark: include_bytes!(concat!("roots/", $directory, "/", $name, "-ark.der")),
            ask: include_bytes!(concat!("roots/", $directory, "/", $name, "-ask.der")),
            asvk: include_bytes!(concat!("roots/", $directory, "/", $name, "-asvk.der")),
        }
    };
}

/// AMD's roots, then the TEST roots.
pub const ROOTS: [Root; 6] = [
    root!(Milan, false, "amd", "milan"),
    root!(Genoa, false, "amd", "genoa"),
    root!(Turin, false, "amd", "turin"),
    root!(Milan, true, "test", "milan"),
    root!(Genoa, true, "test", "genoa"),
    root!(Turin, true, "test", "turin"),
];

impl Root {
    /// The root of a product line.
    pub fn of(line: ProductLine, test: bool) -> &'static Self {
        ROOTS.iter().find(|root| root.line == line && root.test == test).expect("every product line has both")
    }

    /// The common name of a certificate of this root.
    pub(crate) fn common_name(&self, role: crate::error::Role) -> alloc::string::String {
        use crate::error::Role;
        let line = self.line.name();
        let name = match role {
            Role::Ark => alloc::format!("ARK-{line}"),
            Role::Ask => alloc::format!("SEV-{line}"),
            Role::Asvk => alloc::format!("SEV-VLEK-{line}"),
            Role::Vcek => "SEV-VCEK".into(),
            Role::Vlek => "SEV-VLEK".into(),
        };
        if self.test { name + TEST_MARK } else { name }
    }

    pub(crate) fn certificate(der: &'static [u8]) -> Certificate {
        Certificate::built_in(der)
    }
}
