//! Where a database is begun and where not, and what a file is said to be that is not one of ours.
#![cfg(target_os = "linux")]

use std::path::Path;

use crate::files::{COMMANDS, Scene};
use crate::local_chain::binary::{edit, text, topupd};
use crate::local_chain::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_run_and_migrate_begin_a_database_and_only_where_none_was() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let path = net.database.path();
    let scene = Scene { log: net.dir.path().join("log"), net, path, paid: 0, daemon: None };
    for command in &COMMANDS[..4] {
        scene.refuses(command, &["there is no such file", "topupd migrate"]);
    }
    assert_eq!(scene.files(), []);
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let places: [Case<'_>; 9] = [
        ("-wal alone", &|p| write(p, "-wal", b"x"), "topupd.db-wal"),
        ("an empty -wal alone", &|p| write(p, "-wal", b""), "topupd.db-wal"),
        ("-shm alone", &|p| write(p, "-shm", b"x"), "topupd.db-shm"),
        ("empty", &|p| write(p, "", b""), "it is an empty file"),
        (
            "empty, with a -wal",
            &|p| {
                write(p, "", b"");
                write(p, "-wal", b"x");
            },
            "put the right file in its place",
        ),
        ("no database", &|p| write(p, "", b"hello"), "no SQLite database"),
        ("a folder", &|p| std::fs::create_dir(p).unwrap(), "it is a folder"),
        (
            "a link to nothing",
            &|p| std::os::unix::fs::symlink("nowhere.db", p).unwrap(),
            "nowhere.db, where there is no file",
        ),
        ("a device", &|p| std::os::unix::fs::symlink("/dev/null", p).unwrap(), "no regular file"),
    ];
    for (what, make, words) in places {
        make(&scene.path);
        let before = scene.files();
        for command in COMMANDS {
            scene.refuses(command, &[words]);
            assert_eq!(scene.files(), before, "{what}: {command:?}");
        }
        let check = topupd(&scene.net, &["check"]);
        assert_eq!(check.status.code(), Some(2), "{what}: {}", text(&check.stdout));
        for end in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(scene.beside(end)));
        }
        drop(std::fs::remove_dir(&scene.path));
    }
    write(&scene.path, "", b"");
    scene.refuses(&["migrate"], &["--create"]);
    let migrated = topupd(&scene.net, &["migrate", "--create"]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    assert!(topupd(&scene.net, &["namespace", "add", "acme"]).status.success());
    // What a command commits is in the file when it is done.
    assert_eq!(scene.files().len(), 1, "{:?}", scene.files());
    let made = std::fs::read(&scene.path).unwrap();
    assert_eq!(made[68..72], *b"topu");

    std::fs::remove_file(&scene.path).unwrap();
    let migrated = text(&topupd(&scene.net, &["migrate"]).stdout);
    assert!(migrated.contains("created a new one"), "{migrated}");
    assert_eq!(scene.files().len(), 1, "{:?}", scene.files());
    std::fs::remove_file(&scene.path).unwrap();
    std::fs::remove_dir(scene.path.parent().unwrap()).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["is not there: create the folder first"]);
    }
}

fn write(path: &Path, end: &str, bytes: &[u8]) {
    std::fs::write(path.with_extension(format!("db{end}")), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_somebody_else_is_named_and_left_as_it_is() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let path = net.database.path();
    let scene = Scene { log: net.dir.path().join("log"), net, path, paid: 0, daemon: None };
    let cases: [(&[&str], &str); 5] = [
        (&["CREATE TABLE t (n INTEGER)"], "another program: it has 1 tables"),
        (&["CREATE TABLE t (n INTEGER)", "PRAGMA journal_mode = WAL"], "another program"),
        (&["CREATE TABLE _sqlx_migrations (version INTEGER)"], "another program"),
        (
            &["PRAGMA application_id = 7", "CREATE TABLE installation (n INTEGER)"],
            "application_id is 7",
        ),
        (&["CREATE TABLE t (n INTEGER)", "DROP TABLE t"], "without a table"),
    ];
    for (statements, words) in cases {
        std::fs::File::create(&scene.path).unwrap();
        let mut sql = scene.net.database.sql().await;
        for statement in statements {
            sql.execute(statement).await.unwrap();
        }
        drop(sql);
        until(
            "closed",
            async || if scene.files().len() == 1 { Ok(()) } else { Err(scene.files()) },
        )
        .await;
        let before = std::fs::read(&scene.path).unwrap();
        for command in COMMANDS {
            scene.refuses(command, &[words]);
        }
        if words != "without a table" {
            scene.refuses(&["run", "--create"], &[words]);
        }
        assert!(std::fs::read(&scene.path).unwrap() == before, "{statements:?} was changed");
        std::fs::remove_file(&scene.path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_alone_is_named_as_what_it_is() {
    let scene = Scene::new().await;
    let copy = scene.path.with_file_name("copy.db");
    let url = scene.net.database.url().to_owned();
    edit(&scene.net, &url, &format!("sqlite:{}", copy.display()));
    // As older builds left it for hours: everything is in the -wal file.
    std::fs::File::create(&copy).unwrap();
    let mut sql = crate::database::Sql::connect(&format!("sqlite:{}", copy.display())).await;
    sql.execute("PRAGMA journal_mode = WAL").await.unwrap();
    drop(sql);
    let wal = scene.path.with_file_name("copy.db-wal");
    until("closed", async || if wal.exists() { Err(()) } else { Ok(()) }).await;
    assert_eq!(copy.metadata().unwrap().len(), 4_096);
    for command in COMMANDS {
        scene.refuses(command, &["its -wal file is missing", "copy.db-wal"]);
    }
    // One that was cut off.
    let bytes = std::fs::read(&scene.path).unwrap();
    std::fs::write(&copy, &bytes[..bytes.len() / 2]).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["cut off, or copied while it was written"]);
    }
    // With its -shm file and without its -wal file.
    std::fs::write(&copy, &bytes).unwrap();
    std::fs::write(scene.path.with_file_name("copy.db-shm"), b"").unwrap();
    scene.refuses(&["status"], &["its -wal file is missing, with what was committed last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_wal_gets_into_the_database_in_a_minute() {
    let scene = Scene::running().await;
    // The file alone, as somebody copies it who does not know better. topupd says what it is; SQLite does not.
    until("there", async || {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        std::fs::copy(&scene.path, &copy).unwrap();
        let mut sql = crate::database::Sql::connect(&format!("sqlite:{}", copy.display())).await;
        let now = sql.rows("SELECT 1 FROM credits").await.len();
        if now == 1 { Ok(()) } else { Err(now) }
    })
    .await;
    assert!(scene.beside("-wal").metadata().unwrap().len() > 0);
}
