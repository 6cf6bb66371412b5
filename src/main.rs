//! Parses the command line, calls it, and maps an error to an exit code: 0 done, 1 failed, 2 bad
//! input, 3 done and somebody should look. Everything else is in the library.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;
use topupd::cli::Cli;
use topupd::output::{finish, note};

fn main() -> ExitCode {
    private();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(instead) => return told(&instead),
    };
    let code = match cli.run() {
        Ok(code) => code,
        Err(error) => {
            note(&format!("topupd: {error}"));
            error.exit_code()
        }
    };
    finish();
    code
}

/// What this process writes, ledgers, copies and chains of the demo, only its user reads.
fn private() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Prints help or the version, to stdout, or what is wrong with the command line, to stderr.
fn told(instead: &clap::Error) -> ExitCode {
    match instead.print() {
        Err(e) if !instead.use_stderr() && e.kind() != ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::from(u8::try_from(instead.exit_code()).unwrap_or(2)),
    }
}
