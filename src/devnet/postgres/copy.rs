//! Copies of a cluster: standbys, and backups. Nothing here speaks SQL: who copies a running server says
//! so to it (`pg_backup_start`), and promotes a standby.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Postgres, free_port};
use crate::devnet::postgres::home::{Home, PostgresError};

impl Postgres {
    /// Another cluster with a copy of this one's files, which has not been started yet. This one must be stopped,
    /// or be in a backup (`pg_backup_start`), whose label is then written into the copy
    /// ([`Postgres::write`]).
    pub fn copy(&self) -> Result<Self, PostgresError> {
        let failed = |e: std::io::Error| PostgresError::Init(format!("it was not copied: {e}"));
        let home = Home::new().map_err(failed)?;
        copy_tree(&self.home.data(), &home.data(), &home).map_err(failed)?;
        let port = free_port()?;
        let (bin, described) = (self.bin.clone(), self.described.clone());
        let (password, options) = (self.password.clone(), self.options.clone());
        let pid = String::new();
        Ok(Self { home, server: None, pid, bin, described, port, password, options })
    }

    /// Adds lines to a file in its data directory, such as `standby.signal`.
    pub fn write(&self, file: &str, lines: &str) -> Result<(), PostgresError> {
        let path = self.home.data().join(file);
        let mut options = File::options();
        options
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .and_then(|()| self.home.give(&path))
            .map_err(|e| PostgresError::Init(format!("{}: {e}", path.display())))
    }

    /// What a standby of this server needs to know in its settings.
    pub fn conninfo(&self) -> String {
        let (port, password) = (self.port, &self.password);
        format!("host=127.0.0.1 port={port} user=topupd password={password}")
    }
}

/// Copies a cluster's files for the user of another home. What the server removes meanwhile is not needed.
fn copy_tree(from: &Path, to: &Path, home: &Home) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, Permissions::from_mode(0o700))?;
    home.give(to)?;
    for entry in std::fs::read_dir(from)? {
        let (from, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if from.ends_with("postmaster.pid") {
            continue;
        }
        let copied = match from.is_dir() {
            true => copy_tree(&from, &to, home),
            false => std::fs::copy(&from, &to).and_then(|_| home.give(&to)),
        };
        match copied {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
