//! The options of `snp run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::input;
use crate::launch::LaunchArgs;

/// Launch a guest on the software platform and run it.
///
/// The guest's serial port (0x3f8) and debug ports (0xe9, 0x402) go to standard output. It ended well if it wrote 0 to the
/// exit port (0xf4) or asked to end by the GHCB protocol with reason code set 0, code 0. (Linux asks so too when it fails
/// early: its last words tell.)
///
/// Exit codes: 0 the guest ended well, 1 it ended otherwise or its launch was refused, 2 unusable input or options.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(super) launch: LaunchArgs,

    /// Stop after so many instructions, of all vCPUs together.
    #[arg(long, value_parser = count, value_name = "N")]
    pub(super) max_insns: Option<u64>,

    /// Stop after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(super) timeout: Option<u64>,

    /// Write down what happens, a line each: exits (#VMEXITs and exits to user space), ghcb (requests and answers), rmp (RMP
    /// entries that change), insns (every instruction). To FILE, or to standard error. Lines are described in docs/trace.md.
    #[arg(long, value_name = "KIND[=FILE]")]
    pub(super) trace: Vec<TraceTarget>,

    /// Run the vCPUs in one order that depends on nothing else, so that a run can be repeated exactly. Without it several
    /// vCPUs run on threads. Always on with one vCPU, more than eight to a core, --trace or --gdb.
    #[arg(long)]
    pub(super) deterministic: bool,

    /// Seed of the platform: of its keys, the secrets page and the guest's random numbers; up to 64 hexadecimal digits.
    /// [default: the published one]
    #[arg(long, value_parser = seed, value_name = "HEX")]
    pub(super) seed: Option<[u8; 32]>,

    /// Wait at this address for gdb (`target remote ADDR`), and let it run the guest. One thread per vCPU.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) gdb: Option<SocketAddr>,
}

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TraceKind {
    Exits,
    Ghcb,
    Rmp,
    Insns,
}

impl TraceKind {
    pub(super) const ALL: [Self; 4] = [Self::Exits, Self::Ghcb, Self::Rmp, Self::Insns];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exits => "exits",
            Self::Ghcb => "ghcb",
            Self::Rmp => "rmp",
            Self::Insns => "insns",
        }
    }
}

/// `KIND[=FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceTarget {
    pub(super) kind: TraceKind,
    pub(super) file: Option<PathBuf>,
}

impl FromStr for TraceTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("{text:?}: no file after the =")),
            Some((name, file)) => (name, Some(file.into())),
            None => (text, None),
        };
        let kind = TraceKind::ALL.into_iter().find(|kind| kind.name() == name);
        let names = || TraceKind::ALL.map(TraceKind::name).join(", ");
        let kind = kind.ok_or_else(|| format!("{name:?} is nothing to trace: want one of {}", names()))?;
        Ok(Self { kind, file })
    }
}

fn count(text: &str) -> Result<u64, String> {
    input::number(text)
}

/// Digits fill the seed from its beginning.
fn seed(text: &str) -> Result<[u8; 32], String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.is_empty() || digits.len() > 64 {
        return Err(format!("{text:?}: want 1 to 64 hexadecimal digits"));
    }
    // The error would show the digits that were put behind.
    input::hex_bytes::<32>(&format!("{digits:0<64}")).map_err(|_| format!("{text:?}: want 1 to 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_targets() {
        let target = |text: &str| text.parse::<TraceTarget>();
        assert_eq!(target("ghcb"), Ok(TraceTarget { kind: TraceKind::Ghcb, file: None }));
        assert_eq!(target("insns=a=b"), Ok(TraceTarget { kind: TraceKind::Insns, file: Some("a=b".into()) }));
        for wrong in ["", "all", "ghcb=", "=x"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds() {
        assert_eq!(seed("0x12").unwrap()[..2], [0x12, 0]);
        assert_eq!(seed("1").unwrap()[..2], [0x10, 0]);
        for wrong in ["", "0x", "xy", &"0".repeat(65)] {
            assert!(seed(wrong).is_err(), "{wrong}");
        }
    }
}
