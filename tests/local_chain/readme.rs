//! Commands of the README and the book, as they stand there, in their order.
#![cfg(unix)]

use std::process::{Command, Stdio};

use alloy::primitives::Address;

use super::binary::text;
use super::support::*;

/// The first block for a shell below a heading.
fn block(page: &str, heading: &str) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    let (_, section) = text.split_once(heading).unwrap();
    section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// A shell where topupd.toml is: it is what a command takes that names no other file.
fn shell(net: &Net, command: &str) -> Command {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_topupd"));
    let folder = program.parent().unwrap().display().to_string();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(net.dir.path()).stdin(Stdio::null());
    shell.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
    shell
}

/// How it exits, and what it says.
fn said(net: &Net, command: &str) -> (Option<i32>, String, String) {
    let output = shell(net, command).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Waits until the chain and the log are followed.
async fn until_all_is_well(net: &Net) {
    until("followed", async || match said(net, "topupd status") {
        (Some(0), ..) => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ten_commands_of_the_readme() {
    let block = block("README.md", "## Ten commands");
    let commands: Vec<&str> = block.lines().map(|l| l.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands.len(), 10, "{commands:?}");
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let mut daemon = None;
    let mut outputs: Vec<(&str, String)> = Vec::new();
    for command in commands {
        if let Some(run) = command.strip_suffix(" &") {
            let log = std::fs::File::create(net.dir.path().join("run.log")).unwrap();
            let mut run = shell(&net, &format!("exec {run}"));
            daemon = Some(Running(run.stdout(Stdio::null()).stderr(log).spawn().unwrap()));
            until_all_is_well(&net).await;
            continue;
        }
        let (code, out, error) = said(&net, command);
        assert_eq!(code, Some(0), "{command}\n{out}\n{error}");
        if command == "topupd status" {
            let given = outputs.iter().find(|(command, _)| command.contains("address new"));
            let address: Address = given.unwrap().1.trim().parse().unwrap();
            net.pay(0, net.tokens.usdc, address, 5_000_000).await;
            net.dev.mine(3).await.unwrap();
            let store = net.store().await;
            until_credited(&store, 1).await;
            store.close().await;
        }
        outputs.push((command, out));
    }
    let of = |part: &str| &outputs.iter().find(|(command, _)| command.contains(part)).unwrap().1;
    assert!(of("deposits list").contains("credited"), "{}", of("deposits list"));
    assert_eq!(of("ledger balance").trim(), "5000 credits");
    assert!(of("ledger verify").contains("the ledger holds"), "{}", of("ledger verify"));
    daemon.unwrap().kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restore_drill_of_the_book() {
    let block = block("docs/databases.md", "### A restore drill").replace("NAMESPACE", "acme");
    let mut net = Net::new().await;
    let config = net.write_config(&Wants::default());
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 5_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    until_all_is_well(&net).await;
    let (_, out, error) = said(&net, &block);
    for part in ["the ledger holds", "is its beginning", "5000 credits", "the log is paused"] {
        assert!(out.contains(part) || error.contains(part), "{part}: {out}\n{error}");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_ledger.py");
    let (code, out, error) = said(&net, &format!("python3 {script} drill.db"));
    assert_eq!(code, Some(0), "{out}\n{error}");
    daemon.shutdown().await;
    store.close().await;
}
