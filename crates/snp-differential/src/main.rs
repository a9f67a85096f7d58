//! `cargo xtask differential` runs this, built for release.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> anyhow::Result<std::process::ExitCode> {
    command::main()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    println!("skipped: sequences run on x86-64 under Linux only");
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod command {
    use std::process::ExitCode;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use anyhow::{Result, bail};
    use clap::Parser;
    use snp_differential::generate::Catalogue;
    use snp_differential::native::Native;
    use snp_differential::run::{Comparison, Summary};

    /// Runs random instruction sequences here and in the processor model, and compares
    #[derive(Parser)]
    struct Arguments {
        /// How many sequences
        #[arg(long, default_value_t = 1_000_000)]
        sequences: u64,
        /// The seed; random, and printed, if it is not given
        #[arg(long, value_parser = number)]
        seed: Option<u64>,
        /// Only instructions with this mnemonic, code or CPUID feature; may be repeated
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Differences that are shrunk and shown
        #[arg(long, default_value_t = 8)]
        show: usize,
    }

    fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        }
    }

    pub(crate) fn main() -> Result<ExitCode> {
        let arguments = Arguments::parse();
        if let Some(reason) = Native::unsupported() {
            println!("skipped: {reason}");
            return Ok(ExitCode::SUCCESS);
        }
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = arguments.seed.unwrap_or(clock.as_nanos() as u64);
        let mut catalogue = Catalogue::of_this_machine();
        for feature in &catalogue.missing {
            println!("left out: instructions of {feature}, which this processor lacks");
        }
        if !arguments.only.is_empty() {
            catalogue = catalogue.only(&arguments.only);
        }
        if catalogue.is_empty() {
            bail!("no instruction is called {}", arguments.only.join(" or "));
        }
        println!("{} sequences of {} instructions, seed {seed:#x}", arguments.sequences, catalogue.len());
        let began = Instant::now();
        let mut comparison = Comparison::new(&catalogue, seed)?;
        comparison.most_shown = arguments.show;
        let mut summary = Summary::default();
        comparison.run(seed, 0..arguments.sequences, &mut summary)?;
        for difference in &summary.differences {
            println!("{}", comparison.describe(difference));
        }
        println!("{summary}; {:.1} s", began.elapsed().as_secs_f64());
        Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
