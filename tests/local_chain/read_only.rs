//! A database that may only be read: commands that read do, those that write say what to do.
//!
//! On SQLite the command runs as a user who may write neither the file nor its folder (root may write
//! whatever its mode is, so it becomes somebody else); on PostgreSQL the database takes no writes.
#![cfg(unix)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::binary::{copy_program, refused, text};
use super::support::*;
use crate::database::{Engine, Sql};

/// The user and the group that have no rights anywhere.
const NOBODY: u32 = 65_534;

/// What a reader is given; it is taken back at the end, or nobody could remove the folders.
struct Reader<'a> {
    net: &'a Net,
    binary: PathBuf,
    out: tempfile::TempDir,
    is_root: bool,
}

impl<'a> Reader<'a> {
    fn new(net: &'a Net) -> Self {
        let is_root = net.dir.path().metadata().unwrap().uid() == 0;
        let out = tempfile::tempdir().unwrap();
        // The build may lie where nobody else may look.
        let binary = copy_program(out.path());
        set_mode(out.path(), 0o777);
        set_mode(net.dir.path(), 0o755);
        set_mode(&net.config_path(), 0o644);
        Self { net, binary, out, is_root }
    }

    async fn only_reads(net: &'a Net) -> Self {
        let this = Self::new(net);
        this.set_writable(false).await;
        this
    }

    async fn set_writable(&self, yes: bool) {
        if crate::ENGINE == Engine::Sqlite {
            let file = self.net.database.path();
            let folder = file.parent().unwrap();
            for entry in std::fs::read_dir(folder).unwrap() {
                set_mode(&entry.unwrap().path(), if yes { 0o644 } else { 0o444 });
            }
            set_mode(folder, if yes { 0o755 } else { 0o555 });
            return;
        }
        let name = self.net.database.url().rsplit('/').next().unwrap();
        let how = if yes { "off" } else { "on" };
        let change = format!("ALTER DATABASE {name} SET default_transaction_read_only = {how}");
        let mut sql = Sql::connect(self.net.database.url()).await;
        sql.execute("SET default_transaction_read_only = off").await.unwrap();
        sql.execute(&change).await.unwrap();
    }

    fn topupd(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.net.config_path()).stdin(Stdio::null());
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    }

    fn backup(&self, name: &str) -> String {
        format!("sqlite:{}", self.out.path().join(name).display())
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if crate::ENGINE == Engine::Sqlite {
            set_mode(self.net.database.path().parent().unwrap(), 0o755);
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A chain with one payment credited, and the payment's id.
async fn paid(net: &mut Net, wants: &Wants) -> String {
    let config = net.write_config(wants);
    net.register(&config).await;
    let daemon = start(&config).await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 12_500_000).await;
    let store = net.store().await;
    until_credited(&store, 1).await;
    daemon.shutdown().await;
    let id = deposits(&store).await[0].id.to_string();
    store.close().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_read_do_and_those_that_write_say_what_to_do() {
    let mut net = Net::new().await;
    let id = paid(&mut net, &Wants { confirmations: 1, ..Wants::default() }).await;
    let reader = Reader::only_reads(&net).await;
    let reads: [&[&str]; 16] = [
        &["status"],
        &["migrate", "--check"],
        &["migrate"],
        &["check"],
        &["scans", "--chain", "local"],
        &["findings"],
        &["namespace", "list"],
        &["address", "list"],
        &["deposits", "list"],
        &["deposits", "show", &id],
        &["holds", "list"],
        &["conversions", "list"],
        &["treasury", "obligations"],
        &["epochs", "list"],
        &["ledger", "history", "acme"],
        &["ledger", "verify"],
    ];
    for arguments in reads {
        let out = reader.topupd(arguments);
        // Nobody follows the chain, or something was found: 3.
        let code = out.status.code();
        assert!(matches!(code, Some(0 | 3)), "{arguments:?}: {}", text(&out.stderr));
    }
    assert_eq!(text(&reader.topupd(&["ledger", "balance", "acme"]).stdout).trim(), "12500 credits");
    let backup = reader.topupd(&["db", "backup", "--to", &reader.backup("backup.db")]);
    assert!(text(&backup.stdout).contains("ledger verify: holds"), "{}", text(&backup.stderr));
    let from = net.database.url();
    let copy = reader.topupd(&["db", "copy", "--from", from, "--to", &reader.backup("copy.db")]);
    if crate::ENGINE == Engine::Sqlite {
        assert!(text(&copy.stdout).contains("the same in both"), "{}", text(&copy.stderr));
    } else {
        // It would have to keep others from writing, which it cannot here.
        assert_eq!(copy.status.code(), Some(2), "{}", text(&copy.stderr));
    }

    let writes: [&[&str]; 5] = [
        &["namespace", "add", "new"],
        &["address", "new", "acme"],
        &["address", "import", "acme", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
        &["findings", "explain", "1", "--operator", "a", "--reason", "b"],
        &["rescan", "--chain", "local", "--from", "1", "--to", "2"],
    ];
    for arguments in writes {
        let (code, error) = refused(&reader.topupd(arguments));
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains("can be read but not written"), "{arguments:?}: {error}");
    }
    if crate::ENGINE == Engine::Sqlite {
        let (code, error) = refused(&reader.topupd(&["run"]));
        assert_eq!((code, error.contains("needs a file and a folder")), (2, true), "{error}");
        let left: Vec<_> =
            std::fs::read_dir(net.database.path().parent().unwrap()).unwrap().collect();
        assert!(left.iter().flatten().all(|f| !f.path().ends_with("topupd.db-shm")), "{left:?}");
    }
    reader.set_writable(true).await;
    verify(&net.store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_daemon_writes_can_be_read_by_others() {
    if crate::ENGINE != Engine::Sqlite {
        return; // there it is a right that the server gives: see several::read_only
    }
    let mut net = Net::new().await;
    let wants = Wants { confirmations: 1, ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let mut daemon = Running(
        Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(["run", "--config"])
            .arg(net.config_path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    net.pay(0, net.tokens.usdc, net.addresses[0], 12_500_000).await;
    {
        let store = net.store().await;
        until_credited(&store, 1).await;
        store.close().await;
    }
    // The rights as the daemon made them, in a folder of somebody else.
    let reader = Reader::new(&net);
    set_mode(net.database.path().parent().unwrap(), 0o755);
    let balance = || {
        let out = reader.topupd(&["ledger", "balance", "acme"]);
        (text(&out.stdout).trim().to_owned(), text(&out.stderr))
    };
    let credited = ("12500 credits".to_owned(), String::new());
    if reader.is_root {
        assert_eq!(balance(), credited);
        let (code, error) = refused(&reader.topupd(&["namespace", "add", "new"]));
        assert_eq!((code, error.contains("can be read but not written")), (2, true), "{error}");
    }
    // What was committed last lies in the -wal file after a crash.
    daemon.kill();
    reader.set_writable(false).await;
    let wal = net.database.path().with_extension("db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    assert_eq!(balance(), credited);
    // Without its -shm file nobody can read it safely here.
    set_mode(net.database.path().parent().unwrap(), 0o755);
    std::fs::remove_file(net.database.path().with_extension("db-shm")).unwrap();
    reader.set_writable(false).await;
    let (code, error) = refused(&reader.topupd(&["status"]));
    assert_eq!((code, error.contains("copy the database and its -wal file")), (2, true), "{error}");
}
