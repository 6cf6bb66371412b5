//! A file that is put back or taken away while no daemon runs: what lies beside it, and beside the log's key, shows it.
#![cfg(target_os = "linux")]

use crate::files::Scene;
use crate::local_chain::binary::{refused, text, topupd};
use crate::local_chain::support::*;

/// A power cut, while somebody was moving the files: nobody is left who could say that it was moved.
#[tokio::test(flavor = "multi_thread")]
async fn moved_while_the_daemon_was_killed_it_is_not_begun_anew() {
    let mut scene = Scene::running().await;
    scene.daemon.take().unwrap().kill();
    let folder = scene.path.parent().unwrap().to_owned();
    let old = folder.join("old");
    std::fs::create_dir(&old).unwrap();
    let names = ["topupd.db", "topupd.db-wal", "topupd.db-shm"];
    let there: Vec<_> = names.iter().filter(|name| folder.join(name).exists()).collect();
    for name in &there {
        std::fs::rename(folder.join(name), old.join(name)).unwrap();
    }
    for command in [&["run"][..], &["migrate"], &["namespace", "add", "late"]] {
        scene.refuses(command, &["topupd.db.lock says that a daemon ran on it and was killed"]);
    }
    assert!(names.iter().all(|name| !folder.join(name).exists()));
    for name in &there {
        std::fs::rename(old.join(name), folder.join(name)).unwrap();
    }
    scene.goes_on().await;
}

/// An older copy, put back while nothing runs, beside the key of its log.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_gives_no_address_to_a_second_customer() {
    let mut scene = Scene::new().await;
    scene.with_log_key();
    let copy = scene.net.dir.path().join("copy.db");
    std::fs::copy(&scene.path, &copy).unwrap();
    let done = |net: &Net, arguments: &[&str]| {
        let out = topupd(net, arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    // No daemon runs: the command keeps what it has seen by itself.
    done(&scene.net, &["namespace", "add", "first"]);
    let given = done(&scene.net, &["address", "new", "first"]);
    std::fs::copy(&copy, &scene.path).unwrap();
    for command in [&["namespace", "add", "second"][..], &["address", "new", "acme"]] {
        let (code, error) = refused(&topupd(&scene.net, command));
        assert_eq!((code, error.contains("is not as it was left")), (3, true), "{error}");
    }
    scene.start();
    until("noted", async || {
        let findings = text(&topupd(&scene.net, &["findings"]).stdout);
        if findings.contains("database_went_back") { Ok(()) } else { Err(findings) }
    })
    .await;
    // What was noted is kept a moment after its commit.
    until("added", async || {
        let added = topupd(&scene.net, &["namespace", "add", "second"]);
        if added.status.success() { Ok(()) } else { Err(text(&added.stderr)) }
    })
    .await;
    scene.refuses(&["address", "new", "second"], &["no address is derived now"]);
    let ids = topupd(&scene.net, &["findings", "--json"]).stdout;
    let ids: serde_json::Value = serde_json::from_slice(&ids).unwrap();
    for finding in
        ids["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == "database_went_back")
    {
        let id = finding["finding_id"].to_string();
        let why = ["--operator", "alice", "--reason", "a copy was put back"];
        done(&scene.net, &[&["findings", "explain", &id][..], &why].concat());
    }
    let next = done(&scene.net, &["address", "new", "second"]);
    assert_ne!(next, given);
}

/// The memory is gone, and the last checkpoint says all the same that the copy is older.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_alone_shows_that_a_copy_is_older() {
    let mut scene = Scene::new().await;
    let key = scene.with_log_key();
    let done = |net: &Net, arguments: &[&str]| {
        let out = topupd(net, arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
    };
    scene.start();
    let seen = key.with_extension("key.seen");
    let kept = key.with_extension("key.checkpoint");
    until("signed", async || if kept.exists() && seen.exists() { Ok(()) } else { Err(()) }).await;
    let copy = scene.net.dir.path().join("copy.db");
    scene.stop().await;
    std::fs::copy(&scene.path, &copy).unwrap();
    let signed = std::fs::read(&kept).unwrap();
    scene.start();
    done(&scene.net, &["namespace", "add", "bob"]);
    done(&scene.net, &["address", "new", "bob"]);
    until("signed", async || {
        let now = std::fs::read(&kept).unwrap();
        if now == signed { Err(()) } else { Ok(()) }
    })
    .await;
    scene.stop().await;
    std::fs::copy(&copy, &scene.path).unwrap();
    std::fs::remove_file(&seen).unwrap();
    let (code, error) = refused(&topupd(&scene.net, &["address", "new", "acme"]));
    assert_eq!((code, error.contains("and a checkpoint of")), (3, true), "{error}");
    scene.start();
    until("noted", async || {
        let findings = text(&topupd(&scene.net, &["findings"]).stdout);
        if findings.contains("database_went_back") { Ok(()) } else { Err(findings) }
    })
    .await;
    scene.refuses(&["address", "new", "acme"], &["no address is derived now"]);
}

/// After a stop in good order nothing is in the lock file, and it shows nevertheless that there was a database.
#[tokio::test(flavor = "multi_thread")]
async fn moved_after_a_stop_it_is_begun_anew_only_where_somebody_says_so() {
    let mut scene = Scene::running().await;
    scene.daemon.take().unwrap().kill();
    // Whoever opens it tidies up after the one that was killed.
    assert!(topupd(&scene.net, &["ledger", "balance", "acme"]).status.success());
    let moved = scene.beside(".moved");
    std::fs::rename(&scene.path, &moved).unwrap();
    for command in [&["run"][..], &["migrate"]] {
        scene.refuses(command, &["topupd.db.lock says that a daemon ran on one here", "--create"]);
    }
    assert!(!scene.path.exists());
    let begun = topupd(&scene.net, &["migrate", "--create"]);
    assert!(begun.status.success(), "{}", text(&begun.stderr));
    for end in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(scene.beside(end)));
    }
    std::fs::rename(&moved, &scene.path).unwrap();
    scene.goes_on().await;
}
