//! Somebody reads a SQLite file for long, cuts or replaces what lies beside it, or writes into it, while a daemon runs or
//! after it was killed: nothing half is called whole, and nothing is gone on with that lacks what was committed.
#![cfg(target_os = "linux")]

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use topupd::store::{Begin, Store, StoreError};

use crate::database::Sql;
use crate::elsewhere::{older, only_reads};
use crate::files::{COMMANDS, Scene};
use crate::local_chain::binary::{refused, text, topupd};

async fn sql(path: &Path) -> Sql {
    Sql::connect(&format!("sqlite:{}", path.display())).await
}

/// Another program that reads, until it is dropped.
async fn reader(scene: &Scene) -> Sql {
    let mut reader = sql(&scene.path).await;
    reader.execute("BEGIN").await.unwrap();
    reader.rows("SELECT COUNT(*) FROM credits").await;
    reader
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Without a backup: what the file has is gone on with, and an address waits for a person.
async fn goes_on_restored(scene: &mut Scene) {
    scene.works(&["db", "restored"]);
    scene.verifies();
    let out = topupd(&scene.net, &["address", "new", "acme"]);
    assert!(!out.status.success(), "{}", text(&out.stdout));
    scene.credits_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_reads_for_long_is_saved_whole() {
    let mut scene = Scene::running().await;
    let long = reader(&scene).await;
    scene.pay().await;
    let away = scene.path.with_file_name("away.db");
    fs::rename(&scene.path, &away).unwrap();
    let last = scene.ended().await;
    assert!(
        last.contains("All that was committed is in") && last.contains("topupd.db.kept"),
        "{last}"
    );
    // The moved one is not.
    fs::rename(&away, &scene.path).unwrap();
    scene.refuses(&["namespace", "add", "new"], &["another name"]);
    drop(long);
    scene.refuses(&["namespace", "add", "new"], &["topupd.db.kept"]);
    fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    scene.goes_on().await;
    assert!(!scene.beside(".lost").exists());

    scene.start();
    scene.pay().await;
    let long = reader(&scene).await;
    scene.pay().await;
    fs::remove_file(scene.beside("-wal")).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("topupd.db.kept"), "{last}");
    scene.refuses(&["namespace", "add", "new"], &["another name"]);
    drop(long);
    scene.refuses(&["namespace", "add", "new"], &["topupd.db.kept"]);
    fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    scene.goes_on().await;

    // With its -wal file, it is whole.
    scene.start();
    scene.pay().await;
    let long = reader(&scene).await;
    scene.pay().await;
    fs::remove_file(scene.beside(".lock")).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("topupd.db and its -wal file: start it again"), "{last}");
    drop(long);
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_cut_under_a_daemon_ends_it() {
    for parts in [0, 1] {
        let mut scene = Scene::running().await;
        scene.pay().await;
        let wal = scene.beside("-wal");
        let len = wal.metadata().unwrap().len() / 2 * parts;
        cut(&wal, len);
        let last = scene.ended().await;
        assert!(last.contains("topupd.db-wal was cut off"), "{last}");
        assert!(last.contains("topupd db restored") && !last.contains("All that was"), "{last}");
        for command in COMMANDS {
            scene.refuses(command, &["topupd.db.lost", "restore a backup"]);
        }
        for end in [".lost", "-wal", "-shm"] {
            fs::remove_file(scene.beside(end)).unwrap();
        }
        for command in COMMANDS {
            scene.refuses(command, &["its -wal file is missing", "topupd db restored"]);
        }
        goes_on_restored(&mut scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_cut_or_deleted_after_a_crash_is_not_left_out() {
    type Harm<'a> = (&'a str, &'a dyn Fn(&Scene));
    let harms: [Harm<'_>; 4] = [
        ("was cut off", &|scene| cut(&scene.beside("-wal"), 0)),
        ("was cut off", &|scene| {
            cut(&scene.beside("-wal"), scene.beside("-wal").metadata().unwrap().len() / 2);
        }),
        ("is missing", &|scene| fs::remove_file(scene.beside("-wal")).unwrap()),
        ("is missing", &|scene| {
            fs::remove_file(scene.beside("-wal")).unwrap();
            fs::remove_file(scene.beside("-shm")).unwrap();
        }),
    ];
    for (words, harm) in harms {
        let mut scene = Scene::running().await;
        scene.daemon.take().unwrap().kill();
        let before = fs::read(&scene.path).unwrap();
        harm(&scene);
        for command in COMMANDS {
            scene.refuses(command, &[words, "topupd db restored"]);
        }
        assert!(fs::read(&scene.path).unwrap() == before, "{words}: it was written");
        goes_on_restored(&mut scene).await;
    }
}

/// A command that waits until the daemon has noticed goes by what that left.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waited_reads_the_note() {
    for command in [&["namespace", "add", "new"][..], &["run"]] {
        let mut scene = Scene::running().await;
        let other = older(&scene, "other.db");
        let bytes = fs::read(&other).unwrap();
        fs::rename(&other, &scene.path).unwrap();
        let (code, error) = refused(&topupd(&scene.net, command));
        assert_eq!((code, error.contains("topupd.db.lost")), (2, true), "{error}");
        scene.ended().await;
        assert!(fs::read(&scene.path).unwrap() == bytes, "{command:?}: it was written");
        only_reads(&scene, &["topupd.db.lost"]);
        fs::rename(scene.beside(".kept"), &scene.path).unwrap();
        scene.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_appears_beside_a_running_daemon_ends_it() {
    let mut scene = Scene::running().await;
    fs::write(scene.beside(".lost"), "It was moved to x.db.\nthe right file has the number 1 2\n")
        .unwrap();
    let last = scene.ended().await;
    assert!(
        last.contains("It was moved to x.db") && last.contains("what that note says"),
        "{last}"
    );
    for command in [&["run"][..], &["namespace", "add", "new"]] {
        scene.refuses(command, &["It was moved to x.db"]);
    }
    // One that could not be written.
    File::create(scene.beside(".lost")).unwrap();
    scene
        .refuses(&["status"], &["then delete the file whose name ends in .lost", "topupd.db.lost"]);
    fs::remove_file(scene.beside(".lost")).unwrap();
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_of_a_file_have_one_lock() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir_in(scene.path.parent().unwrap()).unwrap();
    let second = folder.path().join("second.db");
    fs::hard_link(&scene.path, &second).unwrap();
    let network = topupd::domain::ids::Network::Testnet;
    let open = async |path: &Path| {
        let url = format!("sqlite:{}", path.display()).parse().unwrap();
        Store::connect(&url, network, Begin::Never).await.unwrap()
    };
    let (one, two) = (open(&scene.path).await, open(&second).await);
    let lock = one.lock_for_daemon().unwrap();
    let error = two.lock_for_daemon().unwrap_err();
    assert!(matches!(&error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("under another name"), "{error}");
    drop(lock);
    assert!(two.lock_for_daemon().unwrap().is_some());
}
