//! SQLite's file is not where the configuration leads any more, or is not whole: nothing is written to what is there
//! instead, and nothing is said to be saved that is not.
#![cfg(target_os = "linux")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use topupd::domain::ids::Network;
use topupd::store::{Begin, Store};

use crate::files::{COMMANDS, Scene};
use crate::local_chain::binary::{text, topupd};

/// Those that write.
pub const WRITERS: [&[&str]; 4] =
    [&["namespace", "add", "new"], &["address", "new", "acme"], &["migrate"], &["run"]];

/// What lies in place of the database is read, and not written.
pub fn only_reads(scene: &Scene, words: &[&str]) {
    let before = fs::read(&scene.path).unwrap();
    for command in WRITERS {
        scene.refuses(command, words);
    }
    scene.verifies();
    assert!(fs::read(&scene.path).unwrap() == before, "it was written");
}

/// A whole database that lacks what is credited later.
pub fn older(scene: &Scene, name: &str) -> PathBuf {
    let copy = scene.path.with_file_name(name);
    let to = format!("sqlite:{}", copy.display());
    scene.works(&["db", "backup", "--to", &to]);
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_elsewhere_is_no_moved_file() {
    let mut scene = Scene::new().await;
    let real = scene.path.with_file_name("real.db");
    let other = older(&scene, "other.db");
    fs::rename(&scene.path, &real).unwrap();
    symlink(&real, &scene.path).unwrap();
    scene.start();
    scene.pay().await;
    fs::remove_file(&scene.path).unwrap();
    let last = scene.ended().await;
    let words = format!("no longer leads to {}", real.display());
    assert!(last.contains(&words) && !last.contains("was moved"), "{last}");
    for command in COMMANDS {
        scene.refuses(command, &[&words]);
    }
    assert!(!scene.path.exists());
    symlink(&real, &scene.path).unwrap();
    scene.goes_on().await;
    assert!(!scene.beside(".lost").exists());

    scene.start();
    scene.pay().await;
    fs::remove_file(&scene.path).unwrap();
    symlink(&other, &scene.path).unwrap();
    let last = scene.ended().await;
    assert!(last.contains(&words), "{last}");
    only_reads(&scene, &[&words, ".lost"]);
    fs::remove_file(&scene.path).unwrap();
    symlink(&real, &scene.path).unwrap();
    scene.goes_on().await;
    assert!(!scene.beside(".lost").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_folder_that_leads_elsewhere_begins_nothing() {
    let mut scene = Scene::new().await;
    let folder = scene.path.parent().unwrap().to_owned();
    let (first, second) = (folder.with_extension("v1"), folder.with_extension("v2"));
    fs::rename(&folder, &first).unwrap();
    fs::create_dir(&second).unwrap();
    symlink(&first, &folder).unwrap();
    scene.start();
    scene.pay().await;
    fs::remove_file(&folder).unwrap();
    symlink(&second, &folder).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("no longer leads to"), "{last}");
    for command in COMMANDS {
        scene.refuses(command, &["no longer leads to"]);
    }
    assert!(!scene.path.exists());
    fs::remove_file(&folder).unwrap();
    symlink(&first, &folder).unwrap();
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_in_its_place_is_not_gone_on_with() {
    let mut scene = Scene::running().await;
    let other = older(&scene, "other.db");
    scene.pay().await;
    fs::rename(&other, &scene.path).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("topupd.db.kept"), "{last}");
    only_reads(&scene, &["topupd.db.kept", "topupd.db.lost"]);
    // Nothing of the old one lies in the way of the right one.
    fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    scene.goes_on().await;
    assert!(!scene.beside(".lost").exists());

    // Moved away, a copy put there, and told to stop, in one go.
    let other = older(&scene, "other.db");
    scene.start();
    scene.pay().await;
    let pid = scene.daemon.as_ref().unwrap().0.id().to_string();
    let away = scene.path.with_file_name("away.db");
    fs::rename(&scene.path, &away).unwrap();
    fs::copy(&other, &scene.path).unwrap();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let last = scene.ended().await;
    assert!(last.contains("away.db"), "{last}");
    only_reads(&scene, &["away.db", "topupd.db.lost"]);
    fs::rename(&away, &scene.path).unwrap();
    scene.goes_on().await;

    // Another folder in place of its own.
    scene.start();
    scene.pay().await;
    let folder = scene.path.parent().unwrap().to_owned();
    let (old, new) = (folder.with_extension("old"), folder.with_extension("new"));
    fs::create_dir(&new).unwrap();
    fs::copy(scene.path.with_file_name("other.db"), new.join("topupd.db")).unwrap();
    fs::rename(&folder, &old).unwrap();
    fs::rename(&new, &folder).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("another file put in its place"), "{last}");
    only_reads(&scene, &["topupd.db.lost"]);
    // Who wants the other one says so.
    fs::remove_file(scene.beside(".lost")).unwrap();
    scene.works(&["namespace", "add", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_or_written_over_is_not_said_to_be_saved() {
    type Harm<'a> = (&'a str, &'a dyn Fn(&Scene));
    let cut = |scene: &Scene, part: u64| {
        let file = OpenOptions::new().write(true).open(&scene.path).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len * part / 2).unwrap();
    };
    let harms: [Harm<'_>; 4] = [
        ("emptied", &|scene| cut(scene, 0)),
        ("cut", &|scene| cut(scene, 1)),
        ("copied over", &|scene| {
            fs::copy(scene.path.with_file_name("other.db"), &scene.path).unwrap();
        }),
        ("no database", &|scene| {
            let len = usize::try_from(scene.path.metadata().unwrap().len()).unwrap();
            let mut file = OpenOptions::new().write(true).open(&scene.path).unwrap();
            std::io::Write::write_all(&mut file, &vec![0xa5; len]).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let mut scene = Scene::new().await;
        let other = older(&scene, "other.db");
        scene.start();
        scene.pay().await;
        assert!(scene.beside("-wal").metadata().unwrap().len() > 0);
        harm(&scene);
        let last = scene.ended().await;
        assert!(last.contains("restore a backup"), "{what}: {last}");
        assert!(!last.contains("All that was committed"), "{what}: {last}");
        assert!(scene.beside("-wal").metadata().unwrap().len() > 0, "{what}");
        for command in COMMANDS {
            scene.refuses(command, &["topupd.db.lost", "restore a backup"]);
        }
        assert!(scene.beside("-wal").metadata().unwrap().len() > 0, "{what}");
        // As it says.
        for end in ["", "-wal", "-shm", ".lost"] {
            fs::remove_file(scene.beside(end)).unwrap();
        }
        fs::rename(&other, &scene.path).unwrap();
        scene.credits_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_young_database_is_whole_in_its_file() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let young = folder.path().join("young.db");
    let url = |path: &PathBuf| format!("sqlite:{}", path.display()).parse().unwrap();
    let store = Store::open(&url(&young), Network::Testnet, 0).await.unwrap();
    let copy = folder.path().join("copy.db");
    // By another program: closing it here would take away the locks of this one.
    assert!(Command::new("cp").args([&young, &copy]).status().unwrap().success());
    let copied = Store::open_existing(&url(&copy), Network::Testnet).await.unwrap();
    assert_eq!(copied.verify().await.unwrap().unwrap().records, 0);
    copied.close().await;
    store.close().await;

    // As older builds left it: the tables, and all rows in the -wal file.
    fs::remove_file(&scene.path).unwrap();
    let bare = Store::connect(&url(&scene.path), Network::Testnet, Begin::Anywhere).await.unwrap();
    bare.migrate().await.unwrap();
    bare.close().await;
    let before = fs::read(&scene.path).unwrap();
    for command in COMMANDS {
        scene.refuses(command, &["its -wal file is missing"]);
    }
    assert!(fs::read(&scene.path).unwrap() == before);
    assert!(topupd(&scene.net, &["migrate", "--create"]).status.success());
    assert!(topupd(&scene.net, &["namespace", "add", "acme"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_refused_leaves_nothing_behind() {
    let scene = Scene::running().await;
    let new = scene.path.with_file_name("new.db");
    let (from, to) =
        (format!("sqlite:{}", scene.path.display()), format!("sqlite:{}", new.display()));
    let out = topupd(&scene.net, &["db", "copy", "--from", &from, "--to", &to]);
    assert!(!out.status.success(), "{}", text(&out.stdout));
    assert!(
        scene.files().iter().all(|(name, _)| !name.starts_with("new.db")),
        "{:?}",
        scene.files()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_of_a_file_that_nobody_has_open_does_not_matter() {
    let scene = Scene::new().await;
    fs::hard_link(&scene.path, scene.path.with_file_name("snapshot.db")).unwrap();
    scene.works(&["namespace", "add", "new"]);
}

/// Another program that writes makes the daemon read again what it had in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_damaged_under_a_daemon_ends_it() {
    let mut scene = Scene::running().await;
    let len = usize::try_from(scene.path.metadata().unwrap().len()).unwrap();
    let file = OpenOptions::new().write(true).open(&scene.path).unwrap();
    let zero = vec![0xa5; len - 4_096];
    std::os::unix::fs::FileExt::write_all_at(&file, &zero, 4_096).unwrap();
    let path = scene.path.display().to_string();
    let write = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                 c.execute('PRAGMA application_id = 1953460341'); c.commit()";
    drop(Command::new("python3").args(["-c", write, &path]).output());
    let token = scene.net.tokens.usdc;
    scene.net.pay(0, token, scene.net.addresses[0], 1_000_000).await;
    scene.net.dev.mine(2).await.unwrap();
    let last = scene.ended().await;
    assert!(last.contains("is damaged") && last.contains("restore a backup"), "{last}");
    scene.refuses(&["run"], &["topupd.db.lost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_deleted_database_is_not_in_the_way_of_the_saved_one() {
    let mut scene = Scene::running().await;
    fs::remove_file(&scene.path).unwrap();
    fs::remove_file(scene.beside("-wal")).unwrap();
    let last = scene.ended().await;
    assert!(last.contains("topupd.db.kept"), "{last}");
    let left: Vec<String> = scene.files().into_iter().map(|(name, _)| name).collect();
    assert!(!left.iter().any(|n| n.ends_with("-wal") || n.ends_with("-shm")), "{left:?}");
    fs::rename(scene.beside(".kept"), &scene.path).unwrap();
    scene.goes_on().await;
    // Who wants nothing of it deletes one file, and says that another one is to be begun.
    scene.start();
    scene.pay().await;
    fs::remove_file(&scene.path).unwrap();
    scene.ended().await;
    fs::remove_file(scene.beside(".kept")).unwrap();
    scene.refuses(&["migrate"], &["topupd.db.lost"]);
    fs::remove_file(scene.beside(".lost")).unwrap();
    scene.refuses(&["migrate"], &["--create"]);
    assert!(topupd(&scene.net, &["migrate", "--create"]).status.success());
}
