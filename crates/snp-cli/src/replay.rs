//! `snp replay`: a transcript performed again on the software platform.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use snp_transcript::{Departure, Line, Replay};

use crate::launch::{PlatformName, ProfileName};
use crate::{input, output};

/// Options of `snp replay`.
#[derive(Args, Debug)]
#[command(
    about = "Perform a transcript again on the software platform and say where its answers depart",
    after_help = "Exit codes: 0 every answer is the recorded one, 1 some depart, 2 unusable input or options."
)]
pub(crate) struct ReplayArgs {
    /// A transcript of `snp exec --transcript` or `snp record`.
    file: PathBuf,

    /// The uAPI of the platform's KVM. [default: the recorded one, or mainline]
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,

    /// The product line. [default: the recorded one, or genoa]
    #[arg(long, value_name = "NAME")]
    platform: Option<PlatformName>,

    /// Print JSON (docs/json.md) instead of text.
    #[arg(long)]
    json: bool,
}

const DEPARTS: u8 = 1;
/// Departures that the terminal shows; JSON has all.
const SHOWN: usize = 20;

/// What came of it.
struct Outcome {
    lines: usize,
    departures: Vec<Departure>,
    digests: Vec<String>,
    unmodelled: Vec<String>,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let file = input::read(&args.file, "transcript", input::IMAGE_LIMIT)?;
    let outcome = perform(args, &file).with_context(|| format!("transcript {}", args.file.display()))?;
    let text = if args.json { outcome.json()? } else { outcome.text() };
    output::print(text)?;
    Ok(if outcome.departures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DEPARTS) })
}

fn perform(args: &ReplayArgs, file: &[u8]) -> Result<Outcome> {
    let mut replay: Option<Replay> = None;
    let mut departures = Vec::new();
    let mut lines = 0;
    for (number, text) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        if text.is_empty() {
            continue;
        }
        let line = Line::parse(number, text)?;
        let replay = replay.get_or_insert_with(|| platform(args, &line));
        departures.extend(replay.perform(number, &line)?);
        lines += 1;
    }
    let replay = replay.filter(|_| lines != 0);
    ensure!(replay.is_some(), "no lines: not a transcript");
    let digests = replay.iter().flat_map(Replay::digests).map(|digest| digest.to_string()).collect();
    let unmodelled = replay.iter().flat_map(Replay::unmodelled).collect();
    Ok(Outcome { lines, departures, digests, unmodelled })
}

/// The platform that was asked for, or else the one that the first line names.
fn platform(args: &ReplayArgs, first: &Line) -> Replay {
    let call = first.call.as_ref();
    let recorded = |name: Option<&String>| name.map(String::as_str).unwrap_or_default().to_owned();
    let profile = args.profile.or_else(|| by_name(&recorded(call.and_then(|call| call.profile.as_ref()))));
    let platform = args.platform.or_else(|| by_name(&recorded(call.and_then(|call| call.platform.as_ref()))));
    let profile = profile.unwrap_or(ProfileName::Mainline).profile();
    Replay::new(platform.unwrap_or(PlatformName::Genoa).config(), profile)
}

fn by_name<T: ValueEnum>(name: &str) -> Option<T> {
    T::from_str(name, false).ok()
}

impl Outcome {
    fn text(&self) -> String {
        let mut out = String::new();
        for departure in self.departures.iter().take(SHOWN) {
            let Departure { line, command, what, recorded, replayed } = departure;
            out += &format!("line {line}: {command}: {what} was {recorded}, is {replayed} here\n");
        }
        if self.departures.len() > SHOWN {
            out += &format!("and {} more; --json has all\n", self.departures.len() - SHOWN);
        }
        for what in &self.unmodelled {
            out += &format!("not modelled: {what}\n");
        }
        let verdict = match self.departures.len() {
            0 => "every answer is the recorded one".to_owned(),
            1 => "1 answer departs".to_owned(),
            count => format!("{count} answers depart"),
        };
        out += &format!("{} ioctls performed: {verdict}\n", self.lines);
        for digest in &self.digests {
            out += &format!("launch digest {digest}\n");
        }
        out
    }

    fn json(&self) -> Result<String> {
        let departure = |departure: &Departure| {
            json!({
                "line": departure.line,
                "command": departure.command,
                "what": departure.what,
                "recorded": departure.recorded,
                "replayed": departure.replayed,
            })
        };
        let document = json!({
            "same": self.departures.is_empty(),
            "ioctls": self.lines,
            "launch_digests": self.digests,
            "departures": self.departures.iter().map(departure).collect::<Vec<_>>(),
            "unmodelled": self.unmodelled,
        });
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }
}
