//! The log as people use it: the commands of its document as they stand there, and what a real daemon does with a key.

use std::process::{Command, Output, Stdio};

use super::json::refuses_changes;
use super::support::*;
use crate::database::TestDatabase;

fn with_the_program_on_the_path(command: &mut Command) -> &mut Command {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_topupd"));
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_document() {
    let document = std::fs::read_to_string("docs/log.md").unwrap();
    let section = document.split_once("## See it").unwrap().1;
    let commands = section.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let docs = std::path::absolute("docs").unwrap();
    std::os::unix::fs::symlink(docs, dir.path().join("docs")).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-e", "-c", commands]).current_dir(dir.path()).stdin(Stdio::null());
    bash.env("PYTHONDONTWRITEBYTECODE", "1");
    let out = with_the_program_on_the_path(&mut bash).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success());
    for said in [
        "records of demo.invalid/topupd\n",
        "the record is sealed, and the log has it: leaf ",
        "the log holds: ",
        "is its beginning; 0 are newer",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

/// A net whose configuration names a log key.
struct Logged {
    net: Net,
}

impl Logged {
    async fn new() -> Self {
        let mut net = Net::new().await;
        net.fill_purses().await;
        let config = net.write_config(&Wants::default());
        net.register(&config).await;
        let this = Self { net };
        this.topupd(&["log", "keygen", "--name", "example.com/log", "--out"], &["log.key"]);
        this.configure("log.key");
        this
    }

    /// One whose daemon has credited a payment, and is gone.
    async fn with_a_payment() -> Self {
        let this = Self::new().await;
        let daemon = daemon(&this.net, "a", |_| {});
        this.paid(1).await;
        stop(daemon);
        this
    }

    fn path(&self, name: &str) -> String {
        self.net.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn configure(&self, key: &str) {
        let mut text = self.net.config_text(&Wants::default());
        text.push_str(&format!("\n[log]\nkey_file = {:?}\n", self.path(key)));
        std::fs::write(self.net.config_path(), text).unwrap();
    }

    /// A command, some of whose arguments are files of this test.
    fn run(&self, arguments: &[&str], files: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(arguments)
            .args(files.iter().map(|file| self.path(file)))
            .arg("--config")
            .arg(self.net.config_path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// One that must do; what it says.
    fn topupd(&self, arguments: &[&str], files: &[&str]) -> String {
        let out = self.run(arguments, files);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{arguments:?}: {said}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// Waits until nothing waits for a place in the log.
    async fn logged(&self) {
        let store = self.net.store().await;
        until("logged", async || {
            let state = store.log_state().await.unwrap();
            match store.log_waiting().await.unwrap() {
                (0, 0) if state.checkpoint.is_some() => Ok(()),
                waiting => Err((waiting, state)),
            }
        })
        .await;
        store.close().await;
    }

    async fn paid(&self, payments: u64) {
        let store = self.net.store().await;
        let before = credited(&store).await;
        for i in 0..payments {
            let amount = 1_000_000 + i;
            self.net.pay(1, self.net.tokens.usdc, self.net.addresses[0], amount).await;
        }
        self.net.dev.mine(3).await.unwrap();
        until_credited(&store, before + usize::try_from(payments).unwrap()).await;
        store.close().await;
        self.logged().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_backup_goes_on_under_a_new_name() {
    let mut here = Logged::new().await;
    let daemon = daemon(&here.net, "a", |_| {});
    here.paid(3).await;
    let key = here.topupd(&["log", "key"], &[]);
    std::fs::write(here.path("early"), here.topupd(&["log", "checkpoint"], &[])).unwrap();
    let backup = TestDatabase::new(crate::ENGINE).await;
    here.topupd(&["db", "backup", "--to", backup.url()], &[]);
    here.paid(2).await;
    std::fs::write(here.path("late"), here.topupd(&["log", "checkpoint"], &[])).unwrap();
    let proof = here.topupd(&["log", "consistency"], &["early", "late"]);
    std::fs::write(here.path("consistency"), proof).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_log.py");
    let held = Command::new("python3")
        .args(["-B", script, "consistency", &here.path("consistency"), &here.path("early")])
        .args(["--key", key.trim()])
        .output()
        .unwrap();
    assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));
    let text = here.topupd(&["ledger", "verify", "--expect"], &["early"]);
    assert!(text.contains("is its beginning"), "{text}");
    let text = here.topupd(&["ledger", "verify", "--since"], &["early"]);
    assert!(text.contains("were looked at"), "{text}");
    stop(daemon);

    here.net.database = backup;
    here.configure("log.key");
    let daemon = super::support::daemon(&here.net, "b", |_| {});
    // Credited again by itself, and not logged.
    let store = here.net.store().await;
    until_credited(&store, 5).await;
    until("paused", async || match store.log_state().await.unwrap().paused {
        Some(_) => Ok(()),
        None => Err(()),
    })
    .await;
    for command in [&["log", "status"][..], &["log", "checkpoint"], &["status"]] {
        let out = here.run(command, &[]);
        assert_eq!(out.status.code(), Some(3), "{command:?}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("paused"), "{said}");
    }
    let out = here.run(&["ledger", "verify", "--expect"], &["late"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("are missing"), "{said}");
    let resume = ["log", "resume", "--restored", "--operator", "alice", "--reason", "a test"];
    let said = here.topupd(&resume, &[]);
    assert!(said.contains("goes on as example.com/log/2"), "{said}");
    here.logged().await;
    let out = here.run(&["ledger", "verify", "--expect"], &["late"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("are not in it"), "{said}");
    verify(&store).await;
    store.close().await;
    drop(daemon);
}

/// Each command that tells of the log, or hands out of it, says the same and exits with 3.
fn all_look(here: &Logged, why: &str) {
    for command in [
        &["log", "status"][..],
        &["status"],
        &["log", "checkpoint"],
        &["log", "prove", "house/1"],
        &["ledger", "prove", "house/1"],
        &["ledger", "verify"],
        &["check"],
    ] {
        let out = here.run(command, &[]);
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(out.status.code(), Some(3), "{command:?}: {said}");
        assert!(said.contains(why), "{command:?}: {said}");
    }
    let out = here.run(&["log", "status", "--json"], &[]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(json["look_at"][0].as_str().unwrap().contains(why), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_commands_say_the_same_of_a_log_that_does_not_stand_well() {
    let here = Logged::with_a_payment().await;
    for command in [&["log", "status"][..], &["log", "checkpoint"], &["ledger", "verify"]] {
        here.topupd(command, &[]);
    }
    let text = here.topupd(&["check"], &[]);
    assert!(text.contains("log.key_file has its registered key"), "{text}");
    std::fs::write(here.path("early"), here.topupd(&["log", "checkpoint"], &[])).unwrap();
    let mut sql = here.net.database.sql().await;
    sql.drop_guards().await;
    sql.execute("UPDATE log_state SET checkpoint = NULL").await.unwrap();
    all_look(&here, "is not signed");
    let second = daemon(&here.net, "b", |_| {});
    here.paid(1).await;
    here.topupd(&["log", "status"], &[]);
    // It stands still: a record waits that is not there.
    sql.execute("INSERT INTO unlogged (journal_id, seq) VALUES (1, 500)").await.unwrap();
    let store = here.net.store().await;
    until("stopped", async || {
        let findings = store.findings(10).await.unwrap();
        if findings.iter().any(|f| f.kind == "log_stopped") { Ok(()) } else { Err(findings) }
    })
    .await;
    all_look(&here, "a record is missing");
    sql.execute("DELETE FROM unlogged WHERE seq = 500").await.unwrap();
    until("gone on", async || match store.log_health(None).await.unwrap() {
        reasons if reasons.is_empty() => Ok(()),
        reasons => Err(reasons),
    })
    .await;
    here.topupd(&["log", "status"], &[]);
    // Another key is configured than the registered one.
    here.topupd(&["log", "keygen", "--name", "example.com/log", "--out"], &["other.key"]);
    here.configure("other.key");
    all_look(&here, "the log is signed with the key");
    here.configure("gone.key");
    for (command, code) in [
        (&["log", "status"][..], 3),
        (&["status"], 3),
        (&["log", "checkpoint"], 3),
        (&["ledger", "verify"], 3),
        (&["check"], 2),
    ] {
        let out = here.run(command, &[]);
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert_eq!(out.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.contains("gone.key cannot be read"), "{command:?}: {said}");
    }
    here.configure("log.key");
    stop(second);
    store.close().await;
    // What a proof needs is gone, or the checkpoint cannot be read.
    sql.execute("CREATE TABLE kept AS SELECT * FROM log_tiles").await.unwrap();
    for (damage, repair) in [
        ("DELETE FROM log_tiles", "INSERT INTO log_tiles SELECT * FROM kept"),
        (
            "UPDATE log_state SET checkpoint = 'x' || checkpoint",
            "UPDATE log_state SET checkpoint = substr(checkpoint, 2)",
        ),
    ] {
        sql.execute(damage).await.unwrap();
        all_look(&here, "See topupd ledger verify");
        let out = here.run(&["log", "consistency", "1", "2"], &[]);
        assert_eq!(out.status.code(), Some(3), "{out:?}");
        sql.execute(repair).await.unwrap();
    }
    sql.execute("UPDATE log_state SET paused = 'a test'").await.unwrap();
    refused_files(&here);
    sql.execute("UPDATE log_state SET paused = NULL").await.unwrap();
    for sizes in [["2", "1"], ["1", "99"], ["99", "100"]] {
        let out = here.run(&[&["log", "consistency"][..], &sizes].concat(), &[]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{sizes:?}: {said}");
        assert!(!said.contains("damaged"), "{said}");
    }
    here.topupd(&["log", "consistency", "1", "2"], &[]);
    here.topupd(&["log", "consistency"], &["early"]);
}

/// Files that are no checkpoint of this log, or cannot be what they are given for.
fn refused_files(here: &Logged) {
    let early = std::fs::read_to_string(here.path("early")).unwrap();
    let unsigned = early.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let forged = unsigned.clone() + "\n— example.com/log AAAAAAAA\n";
    for (name, text) in [("unsigned", unsigned), ("forged", forged)] {
        std::fs::write(here.path(name), text).unwrap();
        let resume = ["log", "resume", "--restored", "--operator", "a", "--reason", "b"];
        let resume = [&resume[..], &["--checkpoint"]].concat();
        for (command, code) in [
            (&["ledger", "verify", "--since"][..], 2),
            (&resume[..], 2),
            (&["ledger", "verify", "--expect"], 3),
            (&["log", "consistency"], 3),
        ] {
            let out = here.run(command, &[name]);
            assert_eq!(out.status.code(), Some(code), "{command:?}");
            let said = [out.stdout, out.stderr].map(|t| String::from_utf8(t).unwrap()).concat();
            assert!(said.contains("not signed"), "{command:?}: {said}");
        }
    }
}

/// The line of crontab, as the document and the help have it: what topupd says by its exit status is not lost.
#[cfg(unix)]
#[test]
fn the_line_of_crontab_keeps_the_exit_status() {
    use std::os::unix::fs::PermissionsExt;
    let document = std::fs::read_to_string("docs/log.md").unwrap();
    let line = document.lines().find(|line| line.starts_with("5 0 * * *")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["log", "checkpoint", "--help"])
        .output()
        .unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains(line));
    // cron reads \% as %.
    let command = line.trim_start_matches("5 0 * * *").replace("\\%", "%");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let note = "example.com/log\n3\nAAAA=\n\n— example.com/log AAAA\n";
    file("ssh", "#!/bin/sh\ncat > sent\n");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    for code in [0, 3, 1] {
        file(
            "topupd",
            &format!("#!/bin/sh\nprintf '{}'\nexit {code}\n", note.replace('\n', "\\n")),
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", command.trim()]).current_dir(dir.path()).env("PATH", &path);
        assert_eq!(shell.status().unwrap().code(), Some(code));
        let sent = std::fs::read_to_string(dir.path().join("sent")).ok();
        assert_eq!(sent.as_deref(), (code == 0).then_some(note), "{code}");
        let _ = std::fs::remove_file(dir.path().join("sent"));
    }
}

/// A daemon without the registered key credits, and leaves the log to others; it says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_another_key_leaves_the_log_alone() {
    let here = Logged::with_a_payment().await;
    here.topupd(&["log", "keygen", "--name", "example.com/log", "--out"], &["new.key"]);
    here.configure("new.key");
    let second = daemon(&here.net, "b", |_| {});
    let store = here.net.store().await;
    here.net.pay(1, here.net.tokens.usdc, here.net.addresses[0], 7_000_000).await;
    here.net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    let log = || std::fs::read_to_string(here.path("b.log")).unwrap();
    until("said", async || {
        if log().contains("the log is signed with the key") { Ok(()) } else { Err(log()) }
    })
    .await;
    let leases = store.leases().await.unwrap();
    let holds =
        leases.iter().any(|l| l.lease.task.contains("log") && l.lease.holder.starts_with("b-"));
    assert!(!holds, "{leases:?}");
    assert!(store.log_waiting().await.unwrap().0 > 0);
    store.close().await;
    // Replaced by its holder, it goes on: without a new start.
    here.configure("log.key");
    here.topupd(&["log", "rotate", "--operator", "alice", "--to"], &["new.key"]);
    here.logged().await;
    drop(second);
}

/// A key that others can read is refused at the start, with a sentence.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let here = Logged::new().await;
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(here.path("log.key"), mode(0o640)).unwrap();
    let out = here.run(&["run"], &[]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("log.key_file") && said.contains("chmod 600"), "{said}");
    assert!(!said.contains("PRIVATE"));
    // Whoever does not sign does not need it.
    assert!(here.run(&["log", "status"], &[]).status.code() != Some(2));
    let twice = here.run(&["log", "keygen", "--name", "a", "--out"], &["log.key"]);
    assert_eq!(twice.status.code(), Some(2));
}

fn stop(mut daemon: Running) {
    daemon.tell("-TERM");
    assert!(daemon.0.wait().unwrap().success());
}

/// Runs a script of the documents; its exit code and what it said.
fn python(script: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let out = Command::new("python3").arg("-B").arg(script).args(arguments).output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code(), said)
}

/// One command checks journals, log and signature; each field of a proved record counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_scripts_verify_the_log_and_refuse_what_was_changed() {
    let here = Logged::new().await;
    let daemon = daemon(&here.net, "a", |_| {});
    here.paid(2).await;
    stop(daemon);
    let key = here.topupd(&["log", "key"], &[]);
    let key = key.trim();
    std::fs::write(here.path("record"), here.topupd(&["ledger", "prove", "acme/1"], &[])).unwrap();
    let record = here.path("record");
    let (code, said) = python("docs/verify_log.py", &["record", &record, "--key", key]);
    assert_eq!(code, Some(0), "{said}");
    let arguments = ["record", "@", "--key", key];
    let said = refuses_changes("docs/verify_log.py", record.as_ref(), 1_000, &arguments);
    assert!(said.contains("changes were refused"), "{said}");
    let (code, said) = python("docs/verify_log.py", &["record", "/not/there", "--key", key]);
    assert!(code == Some(2) && !said.contains("Traceback"), "{said}");

    std::fs::write(here.path("kept"), here.topupd(&["log", "checkpoint"], &[])).unwrap();
    let (file, kept) = (here.path("backup.db"), here.path("kept"));
    here.topupd(&["db", "backup", "--to", &format!("sqlite:{file}")], &[]);
    let script = |arguments: &[&str]| python("docs/verify_ledger.py", arguments);
    let (code, said) = script(&[&file, "--key", key, "--expect", &kept]);
    let holds = "signed by the key that was given; 1 checkpoints kept elsewhere are its beginning";
    assert!(code == Some(0) && said.contains(holds), "{said}");
    let (code, said) = script(&[&file]);
    assert!(code == Some(0) && said.contains("signed by the key that this file names"), "{said}");
    let other =
        here.topupd(&["log", "keygen", "--name", "example.com/else", "--out"], &["else.key"]);
    let (code, said) = script(&[&file, "--key", other.trim()]);
    assert_eq!(code, Some(1), "{said}");

    let changed = here.path("changed.db");
    let change = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
    for sql in [
        "UPDATE log_state SET root = zeroblob(32)",
        "UPDATE log_state SET edge = zeroblob(length(edge))",
        "UPDATE log_state SET size = size - 1",
        "UPDATE log_state SET checkpoint = NULL",
        "UPDATE log_state SET checkpoint = replace(checkpoint, '— ', '— x')",
        "UPDATE log_state SET checkpoint = replace(checkpoint, 'example.com/log' || char(10), 'x' || char(10))",
        "UPDATE log_state SET public_key = NULL",
        "UPDATE log_state SET origin = 'example.com/else'",
        "UPDATE log_tiles SET hashes = zeroblob(length(hashes))",
        "DELETE FROM log_tiles",
        "INSERT INTO log_tiles VALUES (1, 0, zeroblob(32))",
        "DROP TRIGGER log_leaves_are_not_deleted; DELETE FROM log_leaves WHERE leaf_index = 3",
        "DROP TRIGGER log_leaves_are_not_updated;
         UPDATE log_leaves SET leaf_index = leaf_index + 1000 WHERE leaf_index >= 4;
         UPDATE log_leaves SET leaf_index = 1009 - leaf_index WHERE leaf_index IN (1004, 1005);
         UPDATE log_leaves SET leaf_index = leaf_index - 1000 WHERE leaf_index >= 1000",
        "INSERT INTO unlogged (journal_id, seq) VALUES (1, 500)",
        "INSERT INTO unlogged (journal_id, seq) VALUES (1, 1)",
    ] {
        std::fs::copy(&file, &changed).unwrap();
        let done = Command::new("python3").args(["-c", change, &changed, sql]).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        let (code, said) = script(&[&changed, "--key", key]);
        assert!(code == Some(1) && said.starts_with("does not hold: "), "{sql}: {said}");
    }
}
