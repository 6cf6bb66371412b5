//! Commands of the README and the book, as they stand there, in their order.
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Stdio};

use alloy::primitives::Address;

use super::binary::text;
use super::support::*;

/// The blocks for a shell between a heading and the next one.
fn blocks(page: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The commands of a block, without what is said of them.
fn commands(block: &str) -> Vec<&str> {
    block.lines().map(|line| line.split('#').next().unwrap().trim()).collect()
}

/// A shell in a folder. topupd.toml there is what a command takes that names no other file.
fn shell(folder: &Path, command: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_topupd")).parent().unwrap().display().to_string();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", command]).current_dir(folder).stdin(Stdio::null());
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    shell
}

/// How it exits, and what it says.
fn said(net: &Net, command: &str) -> (Option<i32>, String, String) {
    let output = shell(net.dir.path(), command).output().unwrap();
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
    let blocks = blocks("README.md", "## Ten commands");
    let commands = commands(&blocks[0]);
    assert_eq!(commands.len(), 10, "{commands:?}");
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let mut daemon = None;
    let mut outputs: Vec<(&str, String)> = Vec::new();
    for command in commands {
        if let Some(run) = command.strip_suffix(" &") {
            let log = std::fs::File::create(net.dir.path().join("run.log")).unwrap();
            let mut run = shell(net.dir.path(), &format!("exec {run}"));
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
    for block in self::blocks("docs/operations.md", "## Every day") {
        for command in self::commands(&block) {
            let (code, out, error) = said(&net, command);
            assert_eq!(code, Some(0), "{command}\n{out}\n{error}");
        }
    }
    daemon.unwrap().kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restore_drill_of_the_book() {
    let drill = blocks("docs/databases.md", "### A restore drill");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_ledger.py");
    let mut net = Net::new().await;
    let config = net.write_config(&Wants::default());
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 5_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    until_all_is_well(&net).await;
    // What it exports counts for the lines after it. Only the log of the copy is not as it should be.
    let mut before = String::new();
    for line in drill[0].lines().map(|line| line.replace("NAMESPACE", "acme")) {
        if line.contains("export") || line.contains("unset") {
            before.push_str(&format!("{line}\n"));
            continue;
        }
        let (code, out, error) = said(&net, &format!("{before}{line}"));
        let (wanted, parts): (i32, &[&str]) = match line.contains("ledger verify") {
            true => (3, &["the ledger holds", "is its beginning", "the log is paused"]),
            false => (0, &[]),
        };
        assert_eq!(code, Some(wanted), "{line}\n{out}\n{error}");
        assert!(parts.iter().all(|part| out.contains(part)), "{line}\n{out}\n{error}");
        assert!(!line.contains("balance") || out.contains("5000 credits"), "{out}");
    }
    let audit = drill[1].replace("docs/verify_ledger.py", script);
    let (code, out, error) = said(&net, &audit);
    assert_eq!(code, Some(0), "{out}\n{error}");
    daemon.shutdown().await;
    store.close().await;
}

#[test]
fn a_demo_leaves_something_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let output = shell(dir.path(), &blocks("docs/scenarios.md", "## Look around")[0]).output();
    let output = output.unwrap();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    for part in ["all 20 payments were credited exactly once", "the ledger holds", "demo.invalid"] {
        assert!(out.contains(part), "{part}: {out}\n{error}");
    }
}
