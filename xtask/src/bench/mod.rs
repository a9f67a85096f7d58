//! Runs the benchmarks and prints what the project promises about them.

mod peers;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::metadata;
use crate::process::{self, Outcome};
use crate::{artifacts, workspace};

/// A promise: the median time of one benchmark in those of another, by criterion's full names.
struct Ratio {
    promise: &'static str,
    measured: &'static str,
    baseline: &'static str,
    at_most: f64,
}

const LAUNCH: Ratio = Ratio {
    promise: "platform's launch of 256 MiB / hashing the same pages on all cores",
    measured: "launch/platform, MiB/256",
    baseline: "launch/hash pages on all cores, MiB/256",
    at_most: 1.25,
};

/// An example of this name in any crate launches 256 MiB and prints `MEMORY_LINE` and bytes.
const MEMORY_EXAMPLE: &str = "peak_memory";
const MEMORY_LINE: &str = "peak memory beyond the image:";
const MEMORY_AT_MOST: u64 = 64 << 20;

/// Compiles all benchmarks and runs none. They are named, because `--benches` would compile every crate and its unit tests, too.
pub(crate) fn compile() -> Result<Outcome> {
    let mut command = process::cargo();
    command.args(["bench", "--workspace", "--no-run"]);
    for (_, bench) in metadata::targets("Cargo.toml", "bench")? {
        command.args(["--bench", &bench]);
    }
    process::run(&mut command)?;
    Ok(Outcome::Passed)
}

/// Runs all benchmarks and prints a table of the promises.
///
/// # Errors
/// A promise is broken.
pub(crate) fn run(processes_only: bool) -> Result<Outcome> {
    let mut rows = if processes_only { Vec::new() } else { benchmarks()? };
    rows.extend(peers::rows(&artifacts::fetch()?)?);
    let width = rows.iter().map(|row| row.promise.len()).max().unwrap_or_default();
    println!("\n{:width$}  {:>14}  {:>14}", "", "measured", "promised");
    for row in &rows {
        let verdict = if row.kept { "" } else { "  BROKEN" };
        println!("{:width$}  {:>14}  {:>14}{verdict}", row.promise, row.measured, row.promised);
    }
    if rows.iter().any(|row| !row.kept) {
        bail!("a promise is broken");
    }
    Ok(Outcome::Passed)
}

/// What criterion measures, and the memory of a launch.
fn benchmarks() -> Result<Vec<Row>> {
    for (package, bench) in metadata::targets("Cargo.toml", "bench")? {
        process::run(process::cargo().args(["bench", "--package", &package, "--bench", &bench]))?;
    }
    let times = read(&workspace::target().join("criterion"))?;
    let mut rows = vec![launch()?, memory()?];
    rows.extend(rates(&times));
    rows.push(hashing()?);
    Ok(rows)
}

/// What is set against something else takes turns with it, this often: what else a machine does changes from one minute to the
/// next. The median counts.
const TURNS: usize = 5;

/// The median of `ratio` over short runs of one bench's benchmarks that `filter`, a regular expression, lets pass; `None` where
/// `ratio` found nothing to compare.
fn in_turns(
    (package, bench): (&str, &str),
    filter: &str,
    ratio: impl Fn(&[Estimated]) -> Result<Option<f64>>,
) -> Result<Option<f64>> {
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let short = ["--warm-up-time", "1", "--measurement-time", "2", filter];
        process::run(process::cargo().args(["bench", "--package", package, "--bench", bench, "--"]).args(short))?;
        match ratio(&read(&workspace::target().join("criterion"))?)? {
            Some(ratio) => ratios.push(ratio),
            None => return Ok(None),
        }
    }
    ratios.sort_by(f64::total_cmp);
    Ok(Some(ratios[TURNS / 2]))
}

/// Our hashing against openssl's.
fn hashing() -> Result<Row> {
    const OURS: &str = "sha384 of 16 MiB in pages/one core";
    let promise = "hashing pages on one core / openssl speed -evp sha384 -bytes 4096";
    let ratio = in_turns(("snp-sha384", "pages"), OURS, |times| {
        let ours = times.iter().find(|time| time.name == OURS).and_then(Estimated::per_second);
        Ok(ours.zip(peers::openssl()?).map(|(ours, theirs)| ours / theirs))
    })?;
    Ok(match ratio {
        Some(ratio) => Row::at_least(promise, ratio, 1.4),
        None => Row::not_measured(promise, "no openssl"),
    })
}

/// A launch against hashing its pages.
fn launch() -> Result<Row> {
    let both = "launch/(platform|hash pages on all cores), MiB/256";
    let ratio = in_turns(("snp-softkvm", "launch"), both, |times| Ok(LAUNCH.of(times)))?;
    Ok(LAUNCH.row(ratio))
}

/// One line of the table.
struct Row {
    promise: String,
    measured: String,
    promised: String,
    kept: bool,
}

impl Row {
    /// A ratio that is to be at least `promised`.
    fn at_least(promise: impl Into<String>, ratio: f64, promised: f64) -> Self {
        Self {
            promise: promise.into(),
            measured: format!("{ratio:.2}"),
            promised: format!("at least {promised}"),
            kept: ratio >= promised,
        }
    }

    /// A figure that is to be at most `promised`.
    fn at_most(promise: impl Into<String>, figure: f64, promised: f64) -> Self {
        Self {
            promise: promise.into(),
            measured: format!("{figure:.2}"),
            promised: format!("at most {promised}"),
            kept: figure <= promised,
        }
    }

    /// Nothing was measured, for this reason: said, and no promise is broken by it.
    fn not_measured(promise: impl Into<String>, reason: &str) -> Self {
        Self { promise: promise.into(), measured: "not measured".into(), promised: reason.into(), kept: true }
    }
}

impl Ratio {
    fn of(&self, times: &[Estimated]) -> Option<f64> {
        let time = |wanted: &str| times.iter().find(|time| time.name == wanted).map(|time| time.nanoseconds);
        time(self.measured).zip(time(self.baseline)).map(|(measured, baseline)| measured / baseline)
    }

    fn row(&self, ratio: Option<f64>) -> Row {
        Row {
            promise: self.promise.into(),
            measured: ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.3}")),
            promised: format!("at most {:.2}", self.at_most),
            kept: ratio.is_none_or(|ratio| ratio <= self.at_most),
        }
    }
}

fn memory() -> Result<Row> {
    let examples = metadata::targets("Cargo.toml", "example")?;
    let bytes = match examples.iter().find(|(_, name)| name == MEMORY_EXAMPLE) {
        Some((package, name)) => {
            let mut command = process::cargo();
            command.args(["run", "--quiet", "--release", "--package", package, "--example", name]);
            Some(memory_line(&process::capture(&mut command)?)?)
        }
        None => None,
    };
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(Row {
        promise: "peak memory of a launch of 256 MiB, less the image".into(),
        measured: bytes.map_or_else(|| "not measured".to_owned(), mib),
        promised: format!("at most {}", mib(MEMORY_AT_MOST)),
        kept: bytes.is_none_or(|bytes| bytes <= MEMORY_AT_MOST),
    })
}

/// Rates of single benchmarks.
fn rates(times: &[Estimated]) -> Vec<Row> {
    let rate = |wanted: &str| times.iter().find(|time| time.name == wanted).and_then(Estimated::per_second);
    let candidates = "explain: million candidates per second on one core";
    let interpreter = |kind: &str, promised: f64| {
        let promise = format!("interpreter: million instructions per second, {kind} loop");
        match rate(&format!("interpreter/{kind}")) {
            Some(rate) => Row::at_least(promise, rate / 1e6, promised),
            None => Row::not_measured(promise, "no benchmark"),
        }
    };
    let reports = "verify: reports of one chip per second and core, chain cached";
    let one = "verify: milliseconds for one report with its chain";
    vec![
        match times.iter().find(|time| time.name == "verify/one report with its chain, from bytes") {
            Some(time) => Row::at_most(one, time.nanoseconds / 1e6, 2.0),
            None => Row::not_measured(one, "no benchmark"),
        },
        match rate("verify/1000 reports of one chip, chain and tables included") {
            Some(rate) => Row::at_least(reports, rate, 3000.0),
            None => Row::not_measured(reports, "no benchmark"),
        },
        interpreter("registers", 80.0),
        interpreter("memory", 60.0),
        match rate("explain/candidates on one core") {
            Some(rate) => Row::at_least(candidates, rate / 1e6, 0.5),
            None => Row::not_measured(candidates, "no benchmark"),
        },
    ]
}

fn memory_line(output: &str) -> Result<u64> {
    let value = output.lines().find_map(|line| line.strip_prefix(MEMORY_LINE));
    let number = value.and_then(|value| value.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("the example {MEMORY_EXAMPLE} did not print `{MEMORY_LINE} BYTES`"))
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Bytes(f64),
    Elements(f64),
    #[serde(other)]
    Other,
}

/// A benchmark's result.
struct Estimated {
    name: String,
    /// Median time of one run.
    nanoseconds: f64,
    /// What one run gets through: bytes or elements.
    amount: Option<f64>,
}

impl Estimated {
    fn per_second(&self) -> Option<f64> {
        self.amount.map(|amount| amount / self.nanoseconds * 1e9)
    }
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Full name and median time in nanoseconds of every result that criterion left below `directory`.
fn read(directory: &Path) -> Result<Vec<Estimated>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return Ok(found) };
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "new") && path.join("benchmark.json").is_file() {
            let benchmark: Benchmark = json(&path.join("benchmark.json"))?;
            let estimates: Estimates = json(&path.join("estimates.json"))?;
            let amount = match benchmark.throughput {
                Some(Throughput::Bytes(amount) | Throughput::Elements(amount)) => Some(amount),
                _ => None,
            };
            found.push(Estimated { name: benchmark.full_id, nanoseconds: estimates.median.point_estimate, amount });
        } else if path.is_dir() {
            found.extend(read(&path)?);
        }
    }
    Ok(found)
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{Estimated, LAUNCH, memory_line};

    #[test]
    fn ratios_are_kept_broken_or_not_measured() {
        let time = |name: &str, nanoseconds| Estimated { name: name.to_owned(), nanoseconds, amount: None };
        let row = |measured| LAUNCH.row(LAUNCH.of(&[time(LAUNCH.measured, measured), time(LAUNCH.baseline, 100.0)]));
        assert!(row(124.0).kept);
        assert!(!row(126.0).kept);
        assert_eq!(LAUNCH.row(LAUNCH.of(&[])).measured, "not measured");
    }

    #[test]
    fn the_memory_line_is_read() {
        assert_eq!(memory_line("x\npeak memory beyond the image: 4096 bytes\n").unwrap(), 4096);
        assert!(memory_line("nothing").is_err());
    }
}
