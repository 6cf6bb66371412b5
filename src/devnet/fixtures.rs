//! Files of the npm packages pinned in `anvil-fixtures/`, which are installed on first use: in the
//! checkout, or where there is none, in the user's cache, from the package files that this program
//! carries.
//!
//! It knows nothing of what is in them: `anvil`, `market` and `postgres` ask for theirs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloy::primitives::{hex, keccak256};
use serde_json::Value;

use crate::output::note;

/// What npm installs together, by its folder in the checkout, and the two files that say what.
pub(super) struct Packages {
    folder: &'static str,
    manifest: &'static str,
    lock: &'static str,
}

const LOCAL_CHAIN: Packages = Packages {
    folder: "anvil-fixtures",
    manifest: include_str!("../../anvil-fixtures/package.json"),
    lock: include_str!("../../anvil-fixtures/package-lock.json"),
};
#[cfg(unix)]
pub(super) const POSTGRES: Packages = Packages {
    folder: "anvil-fixtures/postgres",
    manifest: include_str!("../../anvil-fixtures/postgres/package.json"),
    lock: include_str!("../../anvil-fixtures/postgres/package-lock.json"),
};

/// A package, by how its name begins, and a file in it.
#[derive(Clone, Copy)]
pub(super) struct Fixture {
    pub(super) package: &'static str,
    pub(super) file: &'static str,
}

/// The platform's binary, not the wrapper script: killing a wrapper leaves anvil running. The
/// package's name ends with the platform.
pub(super) const ANVIL: Fixture = Fixture { package: "@foundry-rs/anvil-", file: "bin/anvil" };

impl Packages {
    /// The checkout's folder (below the working directory, or where cargo runs us from), else one in
    /// the user's cache.
    pub(super) fn folder(&self) -> Result<PathBuf, String> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let checkout = [std::env::current_dir().ok(), manifest]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(self.folder))
            .find(|dir| dir.join("package-lock.json").is_file());
        match checkout {
            Some(dir) => Ok(dir),
            None => self.brought(),
        }
    }

    /// Other packages have another folder, so that an older program and a newer one do not undo
    /// each other's work.
    fn brought(&self) -> Result<PathBuf, String> {
        let which = keccak256([self.manifest, self.lock].concat());
        let which = hex::encode(which.get(..6).unwrap_or_default());
        let name = format!("{}-{which}", self.folder.replace('/', "-"));
        let dir = cache().ok_or("HOME is not set")?.join("topupd").join(name);
        let put = |file: &str, text: &str| {
            if std::fs::read_to_string(dir.join(file)).is_ok_and(|there| there == text) {
                return Ok(());
            }
            std::fs::create_dir_all(&dir)?;
            // Complete before it is there: somebody else may be about to read it.
            let unfinished = tempfile::NamedTempFile::new_in(&dir)?;
            std::fs::write(unfinished.path(), text)?;
            unfinished.persist(dir.join(file)).map(drop).map_err(|e| e.error)
        };
        put("package.json", self.manifest)
            .and_then(|()| put("package-lock.json", self.lock))
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(dir)
    }
}

/// Where programs keep what they can fetch again.
fn cache() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || std::env::home_dir().filter(|home| home.is_absolute());
    set.or_else(|| Some(home()?.join(".cache")))
}

impl Fixture {
    /// Where it is. All packages are installed when it is missing.
    pub(super) fn path(self) -> Result<PathBuf, String> {
        let fixtures = LOCAL_CHAIN.folder()?;
        if let Some(path) = self.installed(&fixtures) {
            return Ok(path);
        }
        // Many tests may find it missing at once; one installs, the others wait.
        let lock = File::create(fixtures.join(".install.lock")).map_err(|e| e.to_string())?;
        lock.lock().map_err(|e| e.to_string())?;
        if let Some(path) = self.installed(&fixtures) {
            return Ok(path);
        }
        // `npm ci` begins by deleting what is there, also what it is about to install again. Other
        // tests may be running that anvil, so where there is one, what is missing is only added:
        // from the same lock file, which stays as it is, and without removing the compiler.
        let how: &[&str] = match ANVIL.installed(&fixtures) {
            None => &["ci", "--omit=dev"],
            Some(_) => &["install", "--no-save"],
        };
        note(&format!("installing npm packages into {} (once)", fixtures.display()));
        let output = Command::new("npm")
            .args(how)
            .args(["--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&fixtures)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("npm: {e}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().rfind(|l| l.contains("error")).unwrap_or("npm failed");
            return Err(last.to_owned());
        }
        let nothing = || format!("no {}* with {} for this platform", self.package, self.file);
        self.installed(&fixtures).ok_or_else(nothing)
    }

    fn installed(self, fixtures: &Path) -> Option<PathBuf> {
        // npm writes this list last: a package that is not in it may be half there.
        let list = std::fs::read(fixtures.join("node_modules/.package-lock.json")).ok()?;
        let list: Value = serde_json::from_slice(&list).ok()?;
        list.get("packages")?
            .as_object()?
            .keys()
            .filter(|key| {
                key.strip_prefix("node_modules/").is_some_and(|name| name.starts_with(self.package))
            })
            .map(|key| fixtures.join(key).join(self.file))
            .find(|path| path.is_file())
    }
}
