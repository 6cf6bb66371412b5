//! The mark of a SQLite file that a daemon has: a copy without its `-wal` file is known by it, and so is a file that is put
//! beside the `-wal` file of another one. What ends in order has none.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use crate::database::Sql;
use crate::elsewhere::older;
use crate::files::{COMMANDS, Scene};
use crate::local_chain::binary::{edit, text, topupd};
use crate::local_chain::support::*;

/// The first byte of `user_version`, in the header.
fn is_marked(scene: &Scene) -> bool {
    fs::read(&scene.path).unwrap()[60] == b't'
}

/// Ends it in order.
async fn stop(scene: &mut Scene) {
    let mut daemon = scene.daemon.take().unwrap();
    daemon.tell("-TERM");
    until("stopped", async || match daemon.0.try_wait().unwrap() {
        Some(code) if code.success() => Ok(()),
        other => Err((other, scene.said())),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_file_alone_of_a_running_daemon_is_refused() {
    let mut scene = Scene::running().await;
    let (copy, later) =
        (scene.path.with_file_name("copy.db"), scene.path.with_file_name("later.db"));
    fs::copy(&scene.path, &copy).unwrap();
    assert!(is_marked(&scene));
    stop(&mut scene).await;
    assert!(!is_marked(&scene));
    fs::copy(&scene.path, &later).unwrap();

    let url = scene.net.database.url().to_owned();
    let (copied, after) =
        (format!("sqlite:{}", copy.display()), format!("sqlite:{}", later.display()));
    edit(&scene.net, &url, &copied);
    for command in COMMANDS {
        scene.refuses(command, &["its -wal file is missing", "topupd db restored"]);
    }
    let backup = format!("sqlite:{}", scene.path.with_file_name("backup.db").display());
    scene.refuses(&["db", "backup", "--to", &backup], &["its -wal file is missing"]);
    // Whoever knows that it is a copy says so.
    scene.works(&["db", "restored"]);
    scene.verifies();
    assert!(!topupd(&scene.net, &["address", "new", "acme"]).status.success());
    // One that was made when nobody had it open is whole.
    edit(&scene.net, &copied, &after);
    scene.works(&["address", "new", "acme"]);
    edit(&scene.net, &after, &url);
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_or_a_start_that_failed_nobody_is_refused() {
    let mut scene = Scene::running().await;
    scene.daemon.take().unwrap().kill();
    assert!(is_marked(&scene));
    // It closes the file as the last one, and its -wal file goes.
    scene.works(&["namespace", "list"]);
    assert!(!is_marked(&scene) && !scene.beside("-wal").exists());
    scene.goes_on().await;

    // Killed while a command has it open.
    scene.start();
    scene.pay().await;
    let to = format!("sqlite:{}", scene.path.with_file_name("backup.db").display());
    let mut backup = Running(
        Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(["db", "backup", "--to", &to, "--config"])
            .arg(scene.net.config_path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    scene.daemon.take().unwrap().kill();
    assert!(backup.0.wait().unwrap().success());
    scene.works(&["namespace", "list"]);
    scene.goes_on().await;

    // Told to stop while it starts, and refused by its chain.
    for _ in 0..3 {
        scene.works(&["namespace", "list"]);
        scene.start();
        until("begun", async || if is_marked(&scene) { Ok(()) } else { Err(scene.said()) }).await;
        stop(&mut scene).await;
        scene.works(&["namespace", "list"]);
    }
    edit(&scene.net, "chain_id = 31337", "chain_id = 424242");
    let out = topupd(&scene.net, &["run"]);
    assert!(!out.status.success());
    assert!(!is_marked(&scene) && !scene.beside("-wal").exists(), "{}", text(&out.stderr));
    edit(&scene.net, "chain_id = 424242", "chain_id = 31337");
    scene.works(&["namespace", "list"]);
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_put_beside_the_journal_of_another_one_is_left_as_it_is() {
    let mut scene = Scene::running().await;
    let backup = older(&scene, "backup.db");
    scene.pay().await;
    scene.daemon.take().unwrap().kill();
    fs::copy(&backup, &scene.path).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["topupd.db-wal belongs to the file that was here before"]);
    }
    assert!(fs::read(&scene.path).unwrap() == fs::read(&backup).unwrap());
    // As it says.
    for end in ["-wal", "-shm"] {
        fs::remove_file(scene.beside(end)).unwrap();
    }
    scene.verifies();
    scene.credits_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_sqlite_changed_is_no_damage() {
    let mut scene = Scene::running().await;
    let mut sql = Sql::connect(scene.net.database.url()).await;
    sql.execute("PRAGMA user_version = 7").await.unwrap();
    sql.rows("PRAGMA wal_checkpoint").await;
    let last = scene.ended().await;
    assert!(last.contains("(user_version) was changed by another program"), "{last}");
    drop(sql);
    scene.refuses(&["run"], &["PRAGMA user_version", "topupd.db.lost"]);
    fs::remove_file(scene.beside(".lost")).unwrap();
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_may_do_with_the_file_is_no_alarm() {
    let mut scene = Scene::running().await;
    let mut sql = Sql::connect(scene.net.database.url()).await;
    let copy = scene.path.with_file_name("copy.db");
    let into = format!("VACUUM INTO '{}'", copy.display());
    for statement in [
        "VACUUM",
        "REINDEX",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "ANALYZE",
        &into,
        "PRAGMA wal_checkpoint(RESTART)",
        "PRAGMA journal_size_limit = 0",
    ] {
        sql.rows(statement).await;
        scene.pay().await;
    }
    let (path, second) = (scene.path.display().to_string(), scene.path.with_file_name("second.db"));
    for arguments in
        [&["touch", &path][..], &["chmod", "640", &path], &["flock", "-n", &path, "true"]]
    {
        assert!(Command::new(arguments[0]).args(&arguments[1..]).status().unwrap().success());
    }
    fs::hard_link(&scene.path, &second).unwrap();
    scene.pay().await;
    fs::remove_file(&second).unwrap();
    scene.pay().await;
    assert!(scene.daemon.as_mut().unwrap().0.try_wait().unwrap().is_none(), "{}", scene.said());
    drop(sql);
    stop(&mut scene).await;
    scene.goes_on().await;
}
