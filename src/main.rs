//! Parses the command line, calls it, and maps an error to an exit code: 0 done, 1 failed, 2 bad
//! input. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use topupd::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("topupd: {error}");
            error.exit_code()
        }
    }
}
