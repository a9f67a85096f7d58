//! The commands that README.md tells people to run, run.

use anyhow::{Result, bail};

use crate::process::{self, Outcome};
use crate::workspace;

/// Runs every command of README.md but `cargo xtask ci` itself.
pub(crate) fn run() -> Result<Outcome> {
    let text = std::fs::read_to_string(workspace::root().join("README.md"))?;
    let commands = commands(&text);
    if !commands.iter().any(|command| command == "cargo xtask ci") {
        bail!("README.md does not name the test command `cargo xtask ci`");
    }
    for line in commands.iter().filter(|command| *command != "cargo xtask ci") {
        println!("$ {line}");
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("cargo"), "commands() keeps only these");
        process::run(process::cargo().args(words))?;
    }
    Ok(Outcome::Passed)
}

/// The lines of code blocks, indented or fenced, that start with `cargo`; a prompt before it is left out.
fn commands(markdown: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let code = line.strip_prefix("    ").or(fenced.then_some(line)).unwrap_or_default();
        let command = code.strip_prefix("$ ").unwrap_or(code).trim_end();
        if command.starts_with("cargo ") && !found.iter().any(|known| known == command) {
            found.push(command.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn commands_are_found_in_both_kinds_of_block_and_nowhere_else() {
        let text = "cargo no\n\n    cargo run -- x\n    cargo run -- x\n```sh\n$ cargo test\nls\n```\n  cargo no\n";
        assert_eq!(commands(text), ["cargo run -- x", "cargo test"]);
    }
}
