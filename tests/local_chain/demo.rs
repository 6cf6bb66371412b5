//! The demo, as a newcomer starts it: on SQLite, or on a PostgreSQL of its own.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Lines};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use super::support::*;
use crate::database::Engine;

/// With a seed whose first reorg once took the payers' tokens away.
const SEEDS: [u64; 3] = [1_795_631_372_333, 3, 7];

fn demo(program: impl AsRef<Path>, arguments: &[&str]) -> Command {
    // Whoever runs the tests under nohup has them ignore what a closed terminal sends.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(program.as_ref());
    command.args(["demo", "--block-ms", "50"]).args(arguments).stdin(Stdio::null());
    if crate::ENGINE == Engine::Postgres {
        command.args(["--database", "postgres"]);
    }
    command
}

fn started(arguments: &[&str]) -> (Running, Lines<BufReader<ChildStdout>>) {
    start(&mut demo(env!("CARGO_BIN_EXE_topupd"), arguments))
}

fn start(command: &mut Command) -> (Running, Lines<BufReader<ChildStdout>>) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut demo = Running(child.unwrap());
    let lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    (demo, lines)
}

/// The port after the host, in what was printed or written.
fn port_in(out: &str) -> u16 {
    let port = out.split("127.0.0.1:").nth(1).unwrap();
    port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

async fn until_closed(port: u16) {
    until("closed", async || match TcpStream::connect(("127.0.0.1", port)) {
        Ok(_) => Err(port),
        Err(_) => Ok(()),
    })
    .await;
}

/// `DEMO_SEEDS=200` plays so many.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_seed_every_payment_is_credited_exactly_once() {
    let seeds: Vec<u64> = match std::env::var("DEMO_SEEDS") {
        Ok(n) => (1..=n.parse().unwrap()).collect(),
        Err(_) if crate::ENGINE == Engine::Postgres => vec![SEEDS[0]],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        let seed = seed.to_string();
        let arguments = ["--payments", "60", "--seed", &seed];
        let demo = demo(env!("CARGO_BIN_EXE_topupd"), &arguments).output().unwrap();
        let out = String::from_utf8(demo.stdout).unwrap();
        let said = String::from_utf8(demo.stderr).unwrap();
        assert!(demo.status.success(), "seed {seed}:\n{out}\n{said}");
        for part in
            ["all 60 payments were credited exactly once", "ledger verify: holds; 60 credits given"]
        {
            assert!(out.contains(part), "{part} in\n{out}");
        }
        let port = port_in(&out);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "anvil still listens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_leaves_nothing_behind() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let (mut demo, lines) = started(&[]);
        let (mut port, mut told) = (0, false);
        for line in lines.map_while(Result::ok) {
            if line.contains("127.0.0.1:") && port == 0 {
                port = port_in(&line);
            }
            if line.starts_with("credited") && !told {
                demo.tell(signal);
                told = true;
            }
        }
        assert!(told && demo.0.wait().unwrap().success(), "{signal}");
        let left = TcpStream::connect(("127.0.0.1", port));
        assert!(left.is_err(), "{signal}: anvil still listens on {port}");
    }
}

/// Whoever asked for payments did not get them; whoever did not, ended it.
#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_interrupted_before_it_began_says_whether_it_did_what_was_asked() {
    for (arguments, code) in [(&["--payments", "1000000"][..], 1), (&[], 0)] {
        let (mut demo, mut lines) = started(arguments);
        lines.next().unwrap().unwrap();
        demo.tell("-INT");
        drop(lines);
        assert_eq!(demo.0.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_demo_leaves_neither_a_chain_nor_a_server() {
    let (dir, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A server does not run as root, and must get to its own folder in there.
    std::fs::set_permissions(temporary.path(), Permissions::from_mode(0o755)).unwrap();
    let mut command = demo(env!("CARGO_BIN_EXE_topupd"), &["--dir", dir.path().to_str().unwrap()]);
    let (mut demo, lines) = start(command.env("TMPDIR", temporary.path()));
    let mut chain = 0;
    for line in lines.map_while(Result::ok) {
        if line.contains("127.0.0.1:") && chain == 0 {
            chain = port_in(&line);
        }
        if line.starts_with("credited") {
            break;
        }
    }
    assert!(TcpStream::connect(("127.0.0.1", chain)).is_ok());
    demo.kill();
    until_closed(chain).await;
    if crate::ENGINE == Engine::Postgres {
        let config = std::fs::read_to_string(dir.path().join("topupd.toml")).unwrap();
        let url = config.lines().find(|line| line.starts_with("url = ")).unwrap();
        until_closed(port_in(url)).await;
    }
    until("all folders are gone", async || {
        let left: Vec<_> = temporary.path().read_dir().unwrap().flatten().collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The commands that follow in what was printed, run where nothing else leads to the files.
fn pasted(commands: &[String]) -> String {
    let run = |command: &String| {
        let done = Command::new("sh").args(["-c", command]).current_dir("/").output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{command}\n{said}");
        String::from_utf8(done.stdout).unwrap()
    };
    commands.iter().map(run).collect()
}

fn commands(lines: impl Iterator<Item = String>) -> Vec<String> {
    lines.filter(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_demo_says_to_try_next_works() {
    let dir = tempfile::tempdir().unwrap();
    let of_its_own = dir.path().join("a folder");
    let of_its_own = of_its_own.to_str().unwrap();
    let (mut demo, lines) =
        started(&["--payments", "5", "--seed", "3", "--keep", "--dir", of_its_own]);
    let mut told = Vec::new();
    for line in lines.map_while(Result::ok).skip_while(|line| !line.starts_with("while this runs"))
    {
        let last = line.contains("curl");
        told.push(line);
        if last {
            break;
        }
    }
    let told = commands(told.into_iter());
    // There may be no curl; what it sends, anybody can.
    let (ours, theirs): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|command| !command.starts_with("curl"));
    let out = pasted(&ours);
    assert!(out.contains("working") && out.contains("5 credits given"), "{out}");
    let Some(curl) = theirs.first() else { panic!("{ours:?}") };
    let url = curl.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let body = curl.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let request: serde_json::Value = serde_json::from_str(body).unwrap();
    let url: url::Url = url.parse().unwrap();
    let chain = topupd::devnet::LocalChain::at(url.clone(), url).await.unwrap();
    let _: serde_json::Value =
        chain.rpc.ask("eth_sendTransaction", request["params"].clone()).await.unwrap();
    let list: Vec<String> = ours.iter().filter(|c| c.ends_with("deposits list")).cloned().collect();
    until("credited", async || {
        let out = pasted(&list);
        let there = out.lines().any(|line| line.contains(" 25 USDT ") && line.contains("credited"));
        if there { Ok(()) } else { Err(out) }
    })
    .await;
    demo.tell("-INT");
    assert!(demo.0.wait().unwrap().success());

    if crate::ENGINE == Engine::Postgres {
        return; // its server is gone, and nothing is promised
    }
    let left = dir.path().join("left");
    let (mut demo, lines) =
        started(&["--payments", "5", "--seed", "3", "--dir", left.to_str().unwrap()]);
    let told = lines.map_while(Result::ok).skip_while(|line| !line.starts_with("its database"));
    let out = pasted(&commands(told));
    assert!(out.contains("5 credits given"), "{out}");
    assert!(demo.0.wait().unwrap().success());
}

/// A program in an empty folder, of somebody with an empty home, brings what npm is to install.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_needs_no_checkout() {
    if crate::ENGINE == Engine::Postgres {
        return; // the same
    }
    // So that npm need not fetch what this machine has fetched before.
    let cache = Command::new("npm").args(["config", "get", "cache"]).output().unwrap();
    let cache = String::from_utf8(cache.stdout).unwrap();
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = super::binary::copy_program(folder.path());
    let done = demo(&program, &["--payments", "3", "--seed", "3"])
        .current_dir(folder.path())
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("XDG_CACHE_HOME")
        .env("HOME", home.path())
        .env("npm_config_cache", cache.trim())
        .env("npm_config_prefer_offline", "true")
        .output()
        .unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{out}\n{said}");
    let there = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(there, 1, "the folder is as it was");
}
