//! The binary as people use it: what it prints, what it refuses, how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::support::*;
use crate::database::Engine;

pub fn topupd(net: &Net, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(arguments)
        .arg("--config")
        .arg(net.config_path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A copy of the program in a folder, made by another process: a file that this one writes to, a test that forks
/// beside it would keep busy.
pub fn copy_program(folder: &Path) -> PathBuf {
    let program = folder.join("topupd");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_topupd")).arg(&program).status();
    assert!(copied.unwrap().success());
    program
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code and the one line on stderr.
pub fn refused(output: &Output) -> (i32, String) {
    let error = text(&output.stderr);
    assert_eq!(error.trim_end().lines().count(), 1, "one line: {error}");
    (output.status.code().unwrap(), error)
}

pub fn edit(net: &Net, from: &str, to: &str) {
    let text = std::fs::read_to_string(net.config_path()).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(net.config_path(), text.replacen(from, to, 1)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_run_compare_the_live_chain_with_the_configuration() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    assert!(topupd(&net, &["migrate"]).status.success());
    let fine = topupd(&net, &["check"]);
    assert!(fine.status.success(), "{}", text(&fine.stderr));
    let out = text(&fine.stdout);
    for line in [
        "ok     local: local: chain id: 31337",
        "ok     local: local: token USDC decimals: 6",
        "ok     local: local: token RTITY symbol: RTITY",
        "ok     local: local: finalized tag: block",
        "ok     local: local: websocket: answers",
        "network = testnet",
    ] {
        assert!(out.contains(line), "{line} in\n{out}");
    }
    assert!(!out.contains("xpub6"), "the account key links all addresses: {out}");

    let usdc = format!(r#"symbol = "USDC", address = "{}", decimals = 6"#, net.tokens.usdc);
    let wrong = |decimals: &str| usdc.replace("decimals = 6", decimals);
    let cases = [
        (
            usdc.clone(),
            wrong("decimals = 18"),
            "token USDC decimals: the chain says 6, the configuration says decimals = 18",
        ),
        (
            "chain_id = 31337".to_owned(),
            "chain_id = 1".to_owned(),
            "chain id: the chain says 31337, the configuration says chain_id = 1",
        ),
        (
            usdc.clone(),
            usdc.replace(r#"symbol = "USDC""#, r#"symbol = "USDX", asset = "USDC""#),
            "token USDX symbol: the chain says USDC",
        ),
        (
            usdc.clone(),
            usdc.replace(
                &net.tokens.usdc.to_string(),
                "0x00000000000000000000000000000000000000aa",
            ),
            "there is no contract at",
        ),
    ];
    for (from, to, expected) in cases {
        net.write_config(&Wants::default());
        edit(&net, &from, &to);
        let check = topupd(&net, &["check"]);
        assert!(text(&check.stdout).contains("WRONG"), "{expected}");
        assert!(text(&check.stdout).contains(expected), "{expected} in {}", text(&check.stdout));
        assert_eq!(check.status.code(), Some(2), "{expected}");
        let (code, error) = refused(&topupd(&net, &["run"]));
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(expected), "{expected} in {error}");
    }
    // What may become right, `run` waits for; `check` says that it could not be asked.
    for (from, to, expected) in [
        (net.dev.anvil.ws().to_string(), "ws://127.0.0.1:1".to_owned(), "websocket: "),
        (
            "start_block = 0".to_owned(),
            "start_block = 70000000".to_owned(),
            "start_block = 70000000: nothing would be seen",
        ),
    ] {
        net.write_config(&Wants::default());
        edit(&net, &from, &to);
        let check = topupd(&net, &["check"]);
        let out = text(&check.stdout);
        assert!(out.contains("FAIL ") && out.contains(expected), "{out}");
        assert_eq!(check.status.code(), Some(1), "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_never_leave() {
    let net = Net::new().await;
    net.write_config(&Wants { ws: None, ..Wants::default() });
    // A provider that is not there, with a key in every place where keys are put.
    edit(
        &net,
        net.dev.anvil.http().as_str(),
        "http://user:hunter2@127.0.0.1:1/v3/SECRET?key=SECRET",
    );
    let output = topupd(&net, &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let log = net.dir.path().join("run.log");
    let mut run = super::start::run(&net, &log);
    until("said", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("waits for a provider") { Ok(()) } else { Err(said) }
    })
    .await;
    run.kill();
    for all in
        [text(&output.stdout) + &text(&output.stderr), std::fs::read_to_string(&log).unwrap()]
    {
        assert!(!all.contains("hunter2") && !all.contains("SECRET"), "{all}");
        assert!(all.contains("local did not answer eth_chainId"), "{all}");
    }
    // The same if the key stands in a place where it is not understood.
    net.write_config(&Wants::default());
    edit(&net, net.dev.anvil.http().as_str(), "htp://user:hunter2@SECRET");
    let (code, error) = refused(&topupd(&net, &["check"]));
    assert_eq!(code, 2);
    assert!(!error.contains("hunter2") && !error.contains("SECRET"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_and_reading() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let (code, error) = refused(&topupd(&net, &["namespace", "add", "acme"]));
    assert!(code != 0 && error.contains("topupd migrate"), "{error}");
    assert!(topupd(&net, &["migrate"]).status.success());
    for name in ["acme", "bolt"] {
        assert!(topupd(&net, &["namespace", "add", name]).status.success());
    }
    let (code, error) = refused(&topupd(&net, &["namespace", "add", "acme"]));
    assert_eq!((code, error.contains("exists already")), (2, true), "{error}");
    // The first addresses of the BIP-39 test mnemonic, as every wallet shows them.
    let first = text(&topupd(&net, &["address", "new", "acme"]).stdout);
    assert_eq!(first.trim(), "0x9858EfFD232B4033E47d90003D41EC34EcaEda94");
    let second = text(&topupd(&net, &["address", "new", "bolt"]).stdout);
    assert_eq!(second.trim(), "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0");
    let imported = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    assert!(topupd(&net, &["address", "import", "acme", imported]).status.success());
    for (arguments, expected) in [
        (["address", "import", "bolt", imported], "registered already"),
        (["address", "import", "bolt", "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"], "EIP-55"),
        (
            ["address", "import", "nobody", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"],
            "no namespace is called nobody",
        ),
    ] {
        let (code, error) = refused(&topupd(&net, &arguments));
        assert_eq!(code, 2);
        assert!(error.contains(expected), "{error}");
    }
    let list = topupd(&net, &["address", "list", "--json", "--namespace", "acme"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let list = list["addresses"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(
        (&list[0]["derivation_index"], &list[0]["address"]),
        (&0.into(), &first.trim().into())
    );
    assert_eq!(list[1]["origin"], "imported");

    let mut daemon = start(&net);
    net.pay(0, net.tokens.usdc, first.trim().parse().unwrap(), 12_500_000).await;
    net.dev.mine(3).await.unwrap();
    let store = net.store().await;
    until_credited(&store, 1).await;
    let balance = text(&topupd(&net, &["ledger", "balance", "acme"]).stdout);
    assert_eq!(balance.trim(), "12500 credits");
    let list = topupd(&net, &["deposits", "list", "--stage", "credited", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let listed = &list["deposits"][0];
    assert_eq!((&listed["amount"], &listed["chain"]), (&"12.5".into(), &"eip155:31337".into()));
    let id = listed["deposit_id"].as_str().unwrap();
    let shown = text(&topupd(&net, &["deposits", "show", id]).stdout);
    for part in [
        "seen",
        "canonical",
        "confirmed",
        "3 confirmations",
        "priced",
        "12500 credits",
        "credited",
        "record 4",
        "\"rounding\":\"down\"",
        "\"raw_amount\":\"12500000\"",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    let history = topupd(&net, &["ledger", "history", "acme", "--json"]);
    let history: Value = serde_json::from_slice(&history.stdout).unwrap();
    let credit = history["records"].as_array().unwrap().last().unwrap();
    assert_eq!((&credit["balance"], &credit["change"]), (&"12500".into(), &"12500".into()));
    assert_eq!(credit["cause"]["epoch"], "one");

    // A second daemon on the same file is refused; tests/several has two on one server.
    if crate::ENGINE == Engine::Sqlite {
        let (code, error) = refused(&topupd(&net, &["run"]));
        assert_eq!((code, error.contains("another topupd daemon")), (1, true), "{error}");
    }

    // It stops when it is told to.
    Command::new("kill").args(["-TERM", &daemon.0.id().to_string()]).status().unwrap();
    assert!(daemon.0.wait().unwrap().success());

    // A changed row is found, named, and answered with exit 3 and what to do.
    store.close().await;
    let sql = "UPDATE journals SET posted_nano = posted_nano + 1 WHERE posted_nano > 0";
    assert_eq!(net.database.sql().await.execute(sql).await.unwrap(), 1);
    let verified = topupd(&net, &["ledger", "verify"]);
    let said = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(3));
    assert!(
        said.contains("journals, acme: posted_nano") && said.contains("what to do: "),
        "{said}"
    );
    let verified = topupd(&net, &["ledger", "verify", "--json"]);
    let said: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((verified.status.code(), &said["holds"]), (Some(3), &false.into()));
    assert_eq!(said["findings"][0]["table"], "journals");
}

fn start(net: &Net) -> Running {
    let child = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(net.config_path())
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_configuration_is_named() {
    let net = Net::new().await;
    let cases: &[(&str, &str, &[&str])] = &[
        ("network = \"testnet\"", "network = \"devnet\"", &["network", "mainnet"]),
        ("poll_ms = 50", "pol_ms = 50", &["chains.local", "pol_ms", "poll_ms"]),
        ("poll_ms = 50", "poll_ms = \"soon\"", &["chains.local.poll_ms"]),
        ("poll_ms = 50", "poll_ms = 1", &["chains.local.poll_ms", "allowed: 10 to 3600000"]),
        ("confirmations = 3", "confirmations = 0", &["chains.local.finality", "at least 1"]),
        ("confirmations = 3", "confirmations = 1000", &["confirmations", "reorg_window"]),
        ("{ confirmations = 3 }", "{ up_to_usd = \"1\" }", &["chains.local.finality[0]", "tag"]),
        ("credits_per_usd = \"1000\"", "credits_per_usd = 0.1", &["credits_per_usd"]),
        (
            "credits_per_usd = \"1000\"",
            "credits_per_usd = \"1e3\"",
            &["credits_per_usd", "decimal number"],
        ),
        (
            "credits_per_usd = \"1000\"",
            "credits_per_token = \"1\"",
            &["accept.USDT", "credits_per_usd"],
        ),
        (
            "starts_at = \"2020-01-01T00:00:00Z\"",
            "starts_at = \"January\"",
            &["epochs[0].starts_at", "RFC 3339"],
        ),
        ("phase = \"testnet\"", "phase = \"post_tge\"", &["accept.USDC.valuation", "convert"]),
        ("lease_ms = 1000", "lease_ms = 1", &["daemon.lease_ms", "allowed: 500 to 600000"]),
        ("[database]\nurl", "[database]\nconnections = 1\nurl", &["database.connections"]),
        ("[database]\nurl = \"", "[database]\nurl = \"my", &["database.url", "sqlite"]),
        ("network = \"testnet\"", "network = \"mainnet\"", &["epochs[0].phase", "mainnet"]),
        ("[database]", "[database", &["is not TOML"]),
        ("[chains.local]", "[chains.Local]", &["chains.Local", "a-z"]),
        (
            "verify = \"same-provider\"",
            "",
            &["chains.local.verify", "nobody else can confirm", "same-provider"],
        ),
        ("\"same-provider\"", "\"second-provider\"", &["chains.local.verify", "add a second one"]),
        ("\"same-provider\"", "\"trust\"", &["chains.local.verify", "receipts-root"]),
        ("\"same-provider\"", "[]", &["chains.local.verify", "empty"]),
        ("\"same-provider\"", "7", &["chains.local.verify", "neither a word"]),
        (
            "\"same-provider\"",
            "[\"receipts-root\", \"second-provider\"]",
            &["chains.local.verify", "no second one to fall back on"],
        ),
        (
            "providers = [",
            "providers = [{ name = \"local\", http = \"http://h\" }, ",
            &["providers[1].name", "two providers"],
        ),
        ("chain_id = 31337", "preset = \"sepolai\"", &["chains.local.preset", "sepolia"]),
        ("chain_id = 31337", "preset = \"sepolia\"\nchain_id = 1", &["chain_id", "chain 11155111"]),
        ("chain_id = 31337", "", &["chains.local.chain_id", "preset"]),
        ("tokens = [\n", "tokens = [ \"USDC\",\n", &["tokens[0]", "no preset"]),
        ("tokens = [\n", "preset = \"sepolia\"\ntokens = [ \"USDX\",\n", &["chain_id"]),
    ];
    for (from, to, expected) in cases {
        net.write_config(&Wants::default());
        edit(&net, from, to);
        let (code, error) = refused(&topupd(&net, &["namespace", "list"]));
        assert_eq!(code, 2, "{to}: {error}");
        for part in *expected {
            assert!(error.contains(part), "{to}: {part} in {error}");
        }
    }
    // A key that could move money is refused and not repeated.
    let secret = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi";
    net.write_config(&Wants::default());
    edit(&net, XPUB, secret);
    let (code, error) = refused(&topupd(&net, &["address", "list"]));
    assert_eq!(code, 2);
    assert!(
        error.contains("wallet.account_xpub: this is a private key") && !error.contains("xprv9s"),
        "{error}"
    );

    // A password that stands where it should not is not repeated either.
    let secret = "postgres://me:s3cret@127.0.0.1/topupd";
    let misplaced = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["status", "--config"])
        .arg(net.config_path())
        .env("TOPUPD_DATABASE", secret)
        .output()
        .unwrap();
    let (code, error) = refused(&misplaced);
    assert_eq!((code, error.contains("database.url")), (2, true), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
    let copy = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["db", "copy", "--from", "postgres://me:s3cret@127.0.0.1", "--to", "sqlite:x.db"])
        .output()
        .unwrap();
    let (code, error) = refused(&copy);
    assert_eq!((code, error.contains("--from: names no database")), (2, true), "{error}");
    assert!(!error.contains("s3cret"), "{error}");

    // The environment overrides a key, and a misspelt one is named.
    net.write_config(&Wants::default());
    let with = |name: &str, value: &str| {
        Command::new(env!("CARGO_BIN_EXE_topupd"))
            .args(["check", "--config"])
            .arg(net.config_path())
            .env(name, value)
            .output()
            .unwrap()
    };
    let out = with("TOPUPD_CHAINS__LOCAL__POLL_MS", "77");
    assert!(text(&out.stdout).contains("chains.local.poll_ms = 77"));
    let (code, error) = refused(&with("TOPUPD_CHAINS__LOCAL__POL_MS", "77"));
    assert_eq!((code, error.contains("pol_ms")), (2, true), "{error}");

    let out = with("TOPUPD_EPOCHS__0__ACCEPT__USDC__MINIMUM", "2");
    assert!(text(&out.stdout).contains("accept.USDC = par, 1000 credits a token, minimum 2"));
    // Money that anybody can have is no payment on mainnet.
    edit(&net, "network = \"testnet\"", "network = \"mainnet\"");
    edit(&net, "phase = \"testnet\"", "phase = \"pre_tge\"");
    edit(
        &net,
        "{ valuation = \"fixed\", credits_per_token = \"50\" }",
        "{ valuation = \"par\", credits_per_usd = \"1\" }",
    );
    let (code, error) = refused(&topupd(&net, &["check"]));
    assert_eq!((code, error.contains("31337 is a test chain")), (2, true), "{error}");

    // The file itself.
    let missing = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["check", "--config", "/nowhere/topupd.toml"])
        .output()
        .unwrap();
    let (code, error) = refused(&missing);
    assert_eq!((code, error.contains("/nowhere/topupd.toml")), (2, true), "{error}");
}
