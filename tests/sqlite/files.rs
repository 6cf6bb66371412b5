//! SQLite's files, moved, deleted and replaced by somebody who does not know what they are: while a daemon runs,
//! and before one starts. Nothing that was committed is lost, and nothing is begun unasked.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::local_chain::binary::{edit, refused, text, topupd};
use crate::local_chain::support::*;

/// A chain, a database with an address, and a daemon as an operator starts it.
pub struct Scene {
    pub net: Net,
    pub path: PathBuf,
    pub log: PathBuf,
    pub paid: usize,
    pub daemon: Option<Running>,
}

impl Scene {
    pub async fn new() -> Self {
        let mut net = Net::new().await;
        net.fill_purses().await;
        let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
        net.register(&config).await;
        let (path, log) = (net.database.path(), net.dir.path().join("log"));
        Self { net, path, log, paid: 0, daemon: None }
    }

    /// Gives its log a key.
    pub fn with_log_key(&self) -> PathBuf {
        let key = self.net.dir.path().join("log.key");
        let keygen = ["log", "keygen", "--name", "test.invalid/log", "--out"];
        let made =
            Command::new(env!("CARGO_BIN_EXE_topupd")).args(keygen).arg(&key).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let config = std::fs::read_to_string(self.net.config_path()).unwrap();
        let config = format!("{config}\n[log]\nkey_file = {key:?}\n");
        std::fs::write(self.net.config_path(), config).unwrap();
        key
    }

    /// Stops the daemon in good order.
    pub async fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.tell("-TERM");
        until("stopped", async || match daemon.0.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err(()),
        })
        .await;
    }

    /// With a daemon that has credited something that lies in the -wal file.
    pub async fn running() -> Self {
        let mut this = Self::new().await;
        this.start();
        this.pay().await;
        this
    }

    pub fn beside(&self, end: &str) -> PathBuf {
        self.path.with_extension(format!("db{end}"))
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, more: &[&str]) {
        let child = Command::new(env!("CARGO_BIN_EXE_topupd"))
            .arg("run")
            .args(more)
            .arg("--config")
            .arg(self.net.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&self.log).unwrap())
            .spawn();
        self.daemon = Some(Running(child.unwrap()));
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub async fn pay(&mut self) {
        self.net.pay(0, self.net.tokens.usdc, self.net.addresses[0], 1_000_000).await;
        self.paid += 1;
        self.net.dev.mine(2).await.unwrap();
        self.credited().await;
    }

    /// Asked by another process: this one must not close files that the daemon has open.
    pub async fn credited(&self) {
        let wanted = format!("{} credits", self.paid * 1_000);
        until("credited", async || {
            let out = topupd(&self.net, &["ledger", "balance", "acme"]);
            let now = text(&out.stdout);
            if now.trim() == wanted { Ok(()) } else { Err((now, text(&out.stderr), self.said())) }
        })
        .await;
    }

    /// Waits until the daemon has ended by itself; the last line that it said.
    pub async fn ended(&mut self) -> String {
        let mut daemon = self.daemon.take().unwrap();
        until("ended", async || match daemon.0.try_wait().unwrap() {
            Some(code) if code.code() == Some(1) => Ok(()),
            other => Err((other, self.said())),
        })
        .await;
        let said = self.said();
        let last = said.trim_end().lines().last().unwrap().to_owned();
        assert!(last.starts_with("topupd: "), "{said}");
        last
    }

    /// What a command prints.
    pub fn works(&self, arguments: &[&str]) -> String {
        let out = topupd(&self.net, arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
        text(&out.stdout)
    }

    /// What is there holds. The log may wait for somebody: it is not the newest.
    pub fn verifies(&self) {
        let out = topupd(&self.net, &["ledger", "verify", "--json"]);
        let said = text(&out.stdout);
        assert!(matches!(out.status.code(), Some(0 | 3)), "{said}{}", text(&out.stderr));
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["holds"], true, "{said}");
    }

    /// Starts on an older state, and credits again what the chain has.
    pub async fn credits_again(&mut self) {
        self.start();
        self.credited().await;
        self.daemon.take().unwrap().kill();
    }

    /// Starts again, and sees that everything is as it was, and goes on.
    pub async fn goes_on(&mut self) {
        self.works(&["ledger", "verify"]);
        let out = topupd(&self.net, &["ledger", "balance", "acme"]);
        assert_eq!(text(&out.stdout).trim(), format!("{} credits", self.paid * 1_000));
        self.start();
        self.pay().await;
        self.daemon.take().unwrap().kill();
    }

    pub fn files(&self) -> Vec<(String, u64)> {
        let folder = self.path.parent().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap())
            .filter(|file| !file.path().is_dir())
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    pub fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let (code, error) = refused(&topupd(&self.net, arguments));
        assert_eq!(code, 2, "{arguments:?}: {error}");
        for word in words {
            assert!(error.contains(word), "{arguments:?}: {word} in {error}");
        }
    }
}

pub const COMMANDS: [&[&str]; 6] = [
    &["namespace", "add", "new"],
    &["address", "new", "acme"],
    &["status"],
    &["ledger", "verify"],
    &["migrate"],
    &["run"],
];

#[tokio::test(flavor = "multi_thread")]
async fn moved_away_while_a_daemon_runs_nothing_is_created_and_all_is_kept() {
    let mut scene = Scene::running().await;
    // Stopped, it notices nothing: what the commands do is theirs alone.
    let pid = scene.daemon.as_ref().unwrap().0.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(signal("-STOP").success());
    let old = scene.path.parent().unwrap().join("old");
    std::fs::create_dir(&old).unwrap();
    let moved = old.join("topupd.db");
    std::fs::rename(&scene.path, &moved).unwrap();
    let before = scene.files();
    assert!(before.iter().any(|(name, len)| name == "topupd.db-wal" && *len > 0), "{before:?}");
    for command in COMMANDS {
        scene.refuses(
            command,
            &["topupd.db-wal", "moved", "a daemon still runs", "Nothing was created"],
        );
        assert_eq!(scene.files(), before, "{command:?}");
    }
    scene.refuses(&["check"], &["WRONG"][..0]);
    // Under its new name, its -wal file is not the one that the daemon writes.
    let url = scene.net.database.url().to_owned();
    let elsewhere = format!("sqlite:{}", moved.display());
    edit(&scene.net, &url, &elsewhere);
    for command in COMMANDS {
        scene.refuses(command, &["another name", &format!("process {pid}")]);
    }
    assert_eq!(std::fs::read_dir(&old).unwrap().count(), 1);
    edit(&scene.net, &elsewhere, &url);

    assert!(signal("-CONT").success());
    let last = scene.ended().await;
    assert!(last.contains(&format!("was moved to {}", moved.display())), "{last}");
    assert!(last.contains("All that was committed is in"), "{last}");
    scene.refuses(
        &["run"],
        &["there is no such file", &format!("was moved to {}", moved.display())],
    );
    // What was saved is whole, there and here.
    edit(&scene.net, &url, &elsewhere);
    let out = topupd(&scene.net, &["ledger", "balance", "acme"]);
    assert_eq!(text(&out.stdout).trim(), "1000 credits", "{}", text(&out.stderr));
    edit(&scene.net, &elsewhere, &url);
    std::fs::rename(&moved, &scene.path).unwrap();
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_with_all_its_files_or_its_folder_it_is_not_begun_anew() {
    let mut scene = Scene::running().await;
    let folder = scene.path.parent().unwrap().to_owned();
    let old = folder.with_extension("old");
    std::fs::rename(&folder, &old).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("was moved to") && last.contains("All that was committed is"), "{last}");
    scene.refuses(&["run"], &["create the folder first"]);
    // As somebody does who wants the daemon to start.
    std::fs::create_dir(&folder).unwrap();
    scene.start();
    let names = ["topupd.db", "topupd.db-wal", "topupd.db-shm", "topupd.db.lock"];
    until("begun", async || {
        if names.iter().all(|name| folder.join(name).exists()) { Ok(()) } else { Err(scene.said()) }
    })
    .await;
    assert!(scene.said().contains("created a new one"), "{}", scene.said());
    scene.daemon.take().unwrap().kill();
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&old, &folder).unwrap();
    scene.goes_on().await;

    scene.start();
    scene.pay().await;
    std::fs::create_dir(&old).unwrap();
    for name in names {
        std::fs::rename(folder.join(name), old.join(name)).unwrap();
    }
    let last = scene.ended().await;
    assert!(last.contains("was moved to") && last.contains("All that was committed is"), "{last}");
    for command in COMMANDS {
        scene.refuses(command, &["there is no such file", "was moved to"]);
    }
    for name in ["topupd.db", "topupd.db-wal", "topupd.db-shm"] {
        std::fs::rename(old.join(name), folder.join(name)).unwrap();
    }
    std::fs::remove_dir_all(&old).unwrap();
    scene.goes_on().await;
    assert!(!scene.beside(".lost").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_wal_is_noticed_and_what_was_in_it_saved() {
    let mut scene = Scene::running().await;
    let pid = scene.daemon.as_ref().unwrap().0.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(signal("-STOP").success());
    std::fs::remove_file(scene.beside("-wal")).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["-wal file was deleted", &format!("process {pid}")]);
    }
    assert!(!scene.beside("-wal").exists());
    assert!(signal("-CONT").success());
    let last = scene.ended().await;
    assert!(last.contains("topupd.db-wal was deleted while the daemon"), "{last}");
    assert!(last.contains("All that was committed is in"), "{last}");
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_index_or_lock_is_noticed() {
    for end in ["-shm", ".lock"] {
        let mut scene = Scene::running().await;
        std::fs::remove_file(scene.beside(end)).unwrap();
        let last = scene.ended().await;
        assert!(last.contains(&format!("topupd.db{end} was deleted while the daemon")), "{last}");
        scene.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_tasks_watches_too() {
    let mut scene = Scene::new().await;
    scene.start_with(&["--no-tasks"]);
    until(
        "started",
        async || {
            if scene.said().contains("no tasks") { Ok(()) } else { Err(scene.said()) }
        },
    )
    .await;
    std::fs::remove_file(scene.beside("-wal")).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("topupd.db-wal was deleted while the daemon"), "{last}");
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_database_is_saved_in_a_new_file() {
    let mut scene = Scene::running().await;
    for end in ["", "-wal", "-shm", ".lock"] {
        std::fs::remove_file(scene.beside(end)).unwrap();
    }
    let last = scene.ended().await;
    assert!(
        last.contains("topupd.db was deleted while") && last.contains("topupd.db.kept"),
        "{last}"
    );
    // A supervisor that starts it again must not begin an empty one.
    for command in COMMANDS {
        scene.refuses(command, &["topupd.db.kept"]);
    }
    assert!(!scene.path.exists());
    std::fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_put_in_its_place_is_never_written() {
    let mut scene = Scene::running().await;
    let backup = scene.path.with_extension("backup");
    let to = format!("sqlite:{}", backup.display());
    assert!(topupd(&scene.net, &["db", "backup", "--to", &to]).status.success());
    let bytes = std::fs::read(&backup).unwrap();
    scene.pay().await;
    let pid = scene.daemon.as_ref().unwrap().0.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(signal("-STOP").success());
    std::fs::rename(&backup, &scene.path).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["was replaced", &format!("process {pid}")]);
    }
    assert!(signal("-CONT").success());
    let last = scene.ended().await;
    assert!(last.contains("was deleted and another file put in its place"), "{last}");
    assert!(std::fs::read(&scene.path).unwrap() == bytes, "it was written");
    // It is what it was, and what was left behind does not get into it.
    let out = topupd(&scene.net, &["ledger", "balance", "acme"]);
    assert_eq!(text(&out.stdout).trim(), "1000 credits", "{}", text(&out.stderr));
    std::fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    for end in ["-wal", "-shm"] {
        drop(std::fs::remove_file(scene.beside(end)));
    }
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_of_one_file_have_one_daemon() {
    let scene = Scene::running().await;
    let url = scene.net.database.url().to_owned();
    let link = scene.path.with_file_name("link.db");
    std::os::unix::fs::symlink(&scene.path, &link).unwrap();
    let linked = format!("sqlite:{}", link.display());
    edit(&scene.net, &url, &linked);
    let out = topupd(&scene.net, &["ledger", "balance", "acme"]);
    assert_eq!(text(&out.stdout).trim(), "1000 credits", "{}", text(&out.stderr));
    let (code, error) = refused(&topupd(&scene.net, &["run"]));
    assert_eq!((code, error.contains("another topupd daemon")), (1, true), "{error}");
    std::fs::remove_file(&link).unwrap();
    std::fs::hard_link(&scene.path, &link).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["another name"]);
    }
    drop(scene.daemon);
    // A crash leaves the -wal beside the other name.
    let (code, error) = refused(&topupd(&scene.net, &["status"]));
    assert_eq!((code, error.contains("hard links")), (2, true), "{error}");
    let left = ["link.db-wal", "link.db-shm", "link.db.lock"];
    assert!(left.iter().all(|name| !scene.path.with_file_name(name).exists()));
}

/// Closing any handle of a file takes away all locks that this process has on it. Another one then takes
/// itself for the last that has the database open, and removes its -wal file.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_begins_a_database_and_opens_it_again_keeps_its_locks() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let store = net.store().await;
    let again = net.store().await;
    let name: topupd::domain::ids::NamespaceName = "acme".parse().unwrap();
    store.add_namespace(&name, 0).await.unwrap();
    again.close().await;
    let wal = net.database.path().with_extension("db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    let out = topupd(&net, &["namespace", "list"]);
    assert!(text(&out.stdout).contains("acme"), "{}", text(&out.stderr));
    assert!(wal.exists(), "the command took itself for the last one");
    assert!(topupd(&net, &["namespace", "add", "bolt"]).status.success());
    assert!(wal.exists());
    assert!(store.has_namespace(&"bolt".parse().unwrap()).await.unwrap());
}
