//! A file that is damaged, cut, another kind of file, or not to be opened: what is said names the file and what to do.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use crate::local_chain::binary::{refused, topupd};
use crate::local_chain::support::*;

async fn net() -> Net {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
    net.register(&config).await;
    net
}

/// Writes nonsense over a part of the file.
fn overwrite(file: &std::path::Path, from: u64, bytes: usize) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0xa5; bytes]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_file_is_said_with_what_to_do() {
    let net = net().await;
    let path = net.database.path();
    let whole = std::fs::read(&path).unwrap();
    let says = |arguments: &[&str], parts: &[&str]| {
        let (_, error) = refused(&topupd(&net, arguments));
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part} in {error}");
        }
    };
    let verify = &["ledger", "verify"][..];
    overwrite(&path, 4_096, whole.len() - 4_096);
    says(verify, &["malformed", "SQLite's code 11", "is damaged", "backup"]);
    std::fs::write(&path, &whole[..20_000]).unwrap();
    says(verify, &["topupd.db", "20000 bytes", "cut off", "backup"]);
    std::fs::write(&path, "This is a letter, and no database. ".repeat(300)).unwrap();
    for arguments in [verify, &["run"], &["migrate"]] {
        says(arguments, &["topupd.db", "is no SQLite database", "restore a backup"]);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    says(&["run"], &["topupd.db", "is a folder", "database.url"]);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, whole).unwrap();
    assert!(topupd(&net, verify).status.success());
}
