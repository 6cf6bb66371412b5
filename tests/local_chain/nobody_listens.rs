//! stdout and stderr that cannot be written: the daemon goes on, and commands keep their exit codes.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use super::support::*;

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader went away.
fn no_reader() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn topupd(net: &Net, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command.args(arguments).arg("--config").arg(net.config_path());
    command.env("RUST_LOG", "trace").stdin(Stdio::null());
    command
}

/// Sends a signal, and waits until the process has ended.
fn end(daemon: &mut Running, signal: &str) -> std::process::ExitStatus {
    daemon.tell(signal);
    daemon.0.wait().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_log_nobody_takes_goes_on() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
    net.register(&config).await;
    let store = net.store().await;
    let mut paid = 0;
    for stderr in [full, no_reader] {
        for format in ["text", "json"] {
            let mut run = topupd(&net, &["run", "--log-format", format]);
            let mut daemon = Running(run.stdout(stderr()).stderr(stderr()).spawn().unwrap());
            net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
            paid += 1;
            until_credited(&store, paid).await;
            assert!(end(&mut daemon, "-TERM").success());
        }
    }
}

/// A pipe that is full keeps whoever writes to it waiting, until somebody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_log_is_not_read_goes_on_and_ends() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
    net.register(&config).await;
    let store = net.store().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut run = topupd(&net, &["run"]);
    let mut daemon = Running(run.stdout(Stdio::null()).stderr(writer).spawn().unwrap());
    drop(run); // its end of the pipe
    for paid in 1..=10 {
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        until_credited(&store, paid).await;
    }
    daemon.tell("-TERM");
    // It ends though nobody reads.
    let mut ended = None;
    until("ended", async || {
        ended = daemon.0.try_wait().unwrap();
        if ended.is_some() { Ok(()) } else { Err(()) }
    })
    .await;
    assert!(ended.unwrap().success());
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert!(said.len() >= 32_768, "it was full: {}", said.len());
}

/// As under `nohup`: the log goes to a terminal that is closed, which also says so by a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_outlives_its_terminal_when_it_was_told_to() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
    net.register(&config).await;
    let store = net.store().await;
    let plain = topupd(&net, &["run"]);
    let mut nohup = Command::new("nohup");
    nohup.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    let spawned = nohup.stdout(no_reader()).stderr(no_reader()).spawn();
    let mut daemon = Running(spawned.unwrap());
    for paid in 1..=2 {
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        until_credited(&store, paid).await;
        daemon.tell("-HUP");
    }
    assert!(end(&mut daemon, "-TERM").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_their_exit_codes_and_say_when_their_answer_is_lost() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants::default());
    net.register(&config).await;
    let backup = |name: &str| format!("sqlite:{}", net.dir.path().join(name).display());
    let cases: [&[&str]; 6] = [
        &["status"],
        &["ledger", "verify"],
        &["deposits", "list", "--json"],
        &["--help"],
        &["ledger", "balance", "nobody"],
        &["no-such-command"],
    ];
    for arguments in cases {
        let run = |stdout: Stdio, stderr: Stdio| {
            let output = topupd(&net, arguments).stdout(stdout).stderr(stderr).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, _) = run(Stdio::null(), Stdio::piped());
        // Nobody follows the chain: `status` exits 3.
        let refused = !matches!(code, Some(0 | 3));
        assert_eq!(refused, arguments.concat().contains("no"), "{arguments:?}");
        for nobody in [full, no_reader] {
            assert_eq!(run(Stdio::null(), nobody()).0, code, "{arguments:?}");
        }
        assert_eq!(run(no_reader(), Stdio::piped()).0, code, "{arguments:?}");
        // A reader that has had enough is no failure; an answer that did not arrive is one.
        let (lost, said) = run(full(), Stdio::piped());
        assert_eq!(lost, if refused { code } else { Some(1) }, "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert_eq!(run(full(), full()).0, lost, "{arguments:?}");
    }
    for (name, stdout) in [("one.db", no_reader as fn() -> Stdio), ("two.db", full)] {
        let output = topupd(&net, &["db", "backup", "--to", &backup(name)])
            .stdout(stdout())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(output.status.success(), name == "one.db", "{said}");
    }
}
