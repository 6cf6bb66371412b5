//! What all commands print with: text, JSON or CSV on stdout, and the exit code that goes with it.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::error::{CliError, LOOK};
use crate::cli::{csv, dialect};
use crate::output;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// How the answer is printed. csv has a row for each entry of a list, and one for everything else.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// What an answer is printed as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: docs/json.md.
    Json,
    /// For spreadsheets: the same names as in JSON.
    Csv,
}

impl Output {
    /// True for programs, false for people.
    pub(super) fn is_data(self) -> bool {
        self.json || self.output != Format::Text
    }
}

/// Prints a whole answer. A reader that went away (`| head`) is not an error.
pub(super) fn print(text: &str) -> Result<ExitCode, CliError> {
    output::answer(text).map_err(|e| {
        CliError::Failed(format!(
            "cannot print: {e}. The command itself was done before: whatever it changes is changed"
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints an answer for programs, in the one dialect.
pub(super) fn print_data(output: Output, value: serde_json::Value) -> Result<ExitCode, CliError> {
    print_view(output, &dialect::dialect(value))
}

/// Prints a view, which is in the dialect already, for programs.
pub(super) fn print_view(
    output: Output,
    view: &impl serde::Serialize,
) -> Result<ExitCode, CliError> {
    let failed = |e: &dyn std::fmt::Display| CliError::Failed(format!("cannot write it: {e}"));
    if output.output == Format::Csv {
        let value = serde_json::to_value(view).map_err(|e| failed(&e))?;
        return print(&csv::csv(&value).map_err(|e| failed(&e))?);
    }
    print(&serde_json::to_string_pretty(view).map_err(|e| failed(&e))?)
}

/// Done, and whether somebody should look.
pub(super) fn look_if(somebody_should: bool) -> ExitCode {
    if somebody_should { ExitCode::from(LOOK) } else { ExitCode::SUCCESS }
}
