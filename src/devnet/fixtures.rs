//! Files of the npm packages pinned in `anvil-fixtures/`, which are installed on first use.
//!
//! It knows nothing of what is in them: `anvil` and `market` ask for theirs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::output::note;

/// A package, by how its name begins, and a file in it.
#[derive(Clone, Copy)]
pub(super) struct Fixture {
    pub(super) package: &'static str,
    pub(super) file: &'static str,
}

/// The platform's binary, not the wrapper script: killing a wrapper leaves anvil running. The
/// package's name ends with the platform.
pub(super) const ANVIL: Fixture = Fixture { package: "@foundry-rs/anvil-", file: "bin/anvil" };

impl Fixture {
    /// Where it is. All packages are installed when it is missing.
    pub(super) fn path(self) -> Result<PathBuf, String> {
        let fixtures = fixtures()?;
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

/// `anvil-fixtures/` of the checkout: below the working directory, or where cargo runs us from.
fn fixtures() -> Result<PathBuf, String> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    [std::env::current_dir().ok(), manifest]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("anvil-fixtures"))
        .find(|dir| dir.join("package-lock.json").is_file())
        .ok_or_else(|| "anvil-fixtures/ is not here".into())
}
