//! Who only reads the database needs neither the screening's list nor anybody's key.

use std::process::{Command, Output, Stdio};

use super::binary::{refused, text};
use super::support::*;

const KEY: &str = "an-open-sesame-7";

/// Runs it with one of the keys that it is configured with.
fn topupd(net: &Net, arguments: &[&str]) -> Output {
    command(net, arguments).output().unwrap()
}

fn command(net: &Net, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command
        .args(arguments)
        .arg("--config")
        .arg(net.config_path())
        .env("THE_SET_KEY", KEY)
        .stdin(Stdio::null());
    command
}

const TICKER: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
[[oracle.pairs."USDC/USD".sources]]
kind = "http"
name = "ticker"
url = "http://127.0.0.1:1/{base}"
price = "/price"
headers = { x-one = "env:THE_SET_KEY", x-two = "env:A" }
"#;
const HTTP: &str = r#"
[screening.http]
url = "http://127.0.0.1:1/{address}"
verdict = "/risk"
hit = "high"
headers = { x-one = "env:THE_SET_KEY", x-two = "env:A" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_needs_neither_a_list_nor_a_key() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let wants = Wants { confirmations: 1, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    let tx = net.pay(1, net.tokens.usdc, net.addresses[0], 1_000_000).await.to_string();
    net.dev.mine(2).await.unwrap();
    until_credited(&store, 1).await;
    let paid = deposits(&store).await.remove(0).id.to_string();
    daemon.shutdown().await;

    let plain = net.config_text(&wants);
    let write = |more: &str| std::fs::write(net.config_path(), format!("{plain}\n{more}")).unwrap();
    let place = |name: &str| net.dir.path().join(name);
    std::fs::write(place("empty"), "").unwrap();
    std::fs::write(place("latin-1"), b"# caf\xe9\n").unwrap();
    std::fs::create_dir(place("folder")).unwrap();
    let list = |name: &str| format!("[screening]\nlist = {:?}\n", place(name));

    // Whoever would ask others is refused, with what is missing.
    for (more, what) in [
        (list("nowhere"), "screening.list: "),
        (list("empty"), "has no address"),
        (list("latin-1"), "valid UTF-8"),
        (list("folder"), "is no regular file"),
        (HTTP.to_owned(), "screening.http.headers.x-two: the environment variable A is not set"),
        (TICKER.to_owned(), "headers.x-two: the environment variable A is not set"),
    ] {
        write(&more);
        for command in [&["check"][..], &["run"], &["run", "--no-tasks"]] {
            let (code, error) = refused(&topupd(&net, command));
            assert!(code == 2 && error.contains("configuration: "), "{command:?}: {error}");
            assert!(error.contains(what) && !error.contains(KEY), "{command:?}: {error}");
        }
    }
    let (code, error) = refused(&topupd(&net, &["prices", "now"]));
    assert!(code == 2 && error.contains("variable A is not set"), "{error}");

    write(&[TICKER, &list("nowhere"), HTTP].concat());
    let held = &paid;
    let (ann, why) = (["--operator", "ann"], ["--reason", "why"]);
    let by = [ann, why].concat();
    let copy = format!("sqlite:{}", place("copy").display());
    let commands: Vec<Vec<&str>> = [
        "status",
        "migrate",
        "scans",
        "findings",
        "namespace list",
        "namespace add carl",
        "address list",
        "address new acme",
        "address import acme 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "deposits list",
        "conversions list",
        "conversions verify",
        "conversions verify --online",
        "holds list",
        "epochs list",
        "epochs preview --asset RTITY --amount 1",
        "prices history",
        "treasury obligations",
        "ledger balance acme",
        "ledger history acme",
        "ledger show acme/1",
        "ledger verify",
    ]
    .iter()
    .map(|line| line.split(' ').collect())
    .chain([
        vec!["deposits", "show", held],
        vec!["deposits", "show", &tx],
        vec!["holds", "show", held],
        vec!["db", "backup", "--to", &copy],
    ])
    .collect();
    for command in &commands {
        let output = topupd(&net, command);
        let code = output.status.code().unwrap();
        let said = text(&output.stderr);
        assert!([0, 3].contains(&code), "{command:?}: {code}, {said}");
        assert!(!said.contains("screening") && !said.contains("variable"), "{command:?}: {said}");
    }
    // Nor whoever asks the chain alone, or decides.
    for command in [
        vec!["rescan", "--chain", "local", "--from", "0", "--to", "1"],
        [&["findings", "explain", "7"][..], &by].concat(),
        [&["holds", "resolve", held, "--retry"][..], &by].concat(),
        [&["holds", "withdraw", "7"][..], &by].concat(),
        [&["prices", "resume", "USDC/USD"][..], &by].concat(),
    ] {
        let said = text(&topupd(&net, &command).stderr);
        assert!(!said.contains("configuration"), "{command:?}: {said}");
    }
    // Nor the certificates that HTTPS needs.
    write(&HTTP.replace(", x-two = \"env:A\"", ""));
    let without = |arguments: &[&str]| {
        let mut command = command(&net, arguments);
        command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere").output().unwrap()
    };
    let output = without(&["ledger", "verify"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let said = text(&without(&["check"]).stderr);
    assert!(said.contains("configuration: screening.http: nobody can be asked: "), "{said}");
    // The key that is there is hidden.
    let said = text(&topupd(&net, &["deposits", "list", "--namespace", KEY]).stderr);
    assert!(said.contains("[hidden]") && !said.contains(KEY), "{said}");
}
