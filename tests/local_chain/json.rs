//! `--json` speaks one dialect, whoever is asked, and says all that a record's seal is made of. Lists
//! say when they are cut, names that are not there are refused, and exit 3 says that somebody should look.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::binary::{edit, refused, text, topupd};
use super::support::*;

/// Two credits of one transaction, and one more.
async fn paid() -> (Net, Vec<String>) {
    let mut net = Net::new().await;
    let mut daemon = net.daemon(&Wants { confirmations: 1, ..Wants::default() }).await;
    let mut hashes = Vec::new();
    for amount in [12_500_000, 1] {
        let tx = net.pay(0, net.tokens.usdc, net.addresses[0], amount).await;
        hashes.push(tx.to_string());
    }
    net.dev.mine(2).await.unwrap();
    let store = net.store().await;
    until_credited(&store, 2).await;
    tokio::select! {
        () = daemon.failed() => panic!("it ended"),
        () = tokio::task::yield_now() => {}
    }
    daemon.shutdown().await;
    store.close().await;
    (net, hashes)
}

fn json(net: &Net, arguments: &[&str]) -> (Value, Option<i32>, String) {
    let out = topupd(net, &[arguments, &["--json"]].concat());
    let value = serde_json::from_slice(&out.stdout);
    let error = text(&out.stderr);
    (value.unwrap_or_else(|e| panic!("{arguments:?}: {e} {error}")), out.status.code(), error)
}

/// The answer of a command that did what it was asked.
pub fn spoken(net: &Net, arguments: &[&str]) -> Value {
    let (value, code, error) = json(net, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    speaks(&arguments.join("/"), &value);
    value
}

/// What no value may be; see docs/json.md.
fn speaks(at: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                // Below `accept` and `deposits`, keys are names.
                let is_name = at.ends_with("/accept") || at == "status/deposits";
                assert!(is_name || key.chars().all(plain), "{at}: {key}");
                assert!(!key.ends_with("_ms") || key == "latency_ms", "{at}: {key}");
                let at = format!("{at}/{key}");
                if let (true, Value::String(time)) = (key.ends_with("_at"), value) {
                    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{at}: {time}");
                }
                if ["chain", "chain_id"].contains(&key.as_str()) && !value.is_null() {
                    assert!(value.as_str().is_some_and(|c| c.starts_with("eip155:")), "{at}");
                }
                assert!(!["id", "seq", "since", "instant", "at"].contains(&key.as_str()), "{at}");
                assert!(!key.ends_with("_nano") || value.is_string(), "{at}: {value}");
                speaks(&at, value);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| speaks(at, item)),
        Value::Number(number) => {
            assert!(number.as_i64().is_some_and(|n| n.unsigned_abs() <= 1 << 53), "{at}: {number}");
        }
        Value::String(text) if text.starts_with("0x") && text.len() == 42 => {
            assert!(alloy::primitives::Address::parse_checksummed(text, None).is_ok(), "{at}");
        }
        Value::String(_) | Value::Bool(_) | Value::Null => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_speaks_one_dialect_and_a_record_says_what_its_seal_is_made_of() {
    let (net, hashes) = paid().await;
    let first = net.addresses[0].to_string();
    let id = json(&net, &["deposits", "list"]).0["deposits"][0]["deposit_id"].clone();
    let id = id.as_str().unwrap();
    let commands: [&[&str]; 22] = [
        &["status"],
        &["scans"],
        &["findings", "--all"],
        &["namespace", "list"],
        &["address", "list"],
        &["deposits", "list"],
        &["deposits", "show", id],
        &["deposits", "show", &hashes[0]],
        &["deposits", "show", &first],
        &["conversions", "list"],
        &["conversions", "verify"],
        &["epochs", "list"],
        &["epochs", "preview", "--asset", "USDC", "--amount", "1.5"],
        &["prices", "now"],
        &["prices", "at", "2030-01-01T00:00:00Z"],
        &["prices", "history"],
        &["treasury", "obligations"],
        &["ledger", "balance", "acme"],
        &["ledger", "history", "acme"],
        &["ledger", "history", "house"],
        &["ledger", "show", "house/1"],
        &["ledger", "verify"],
    ];
    for command in commands {
        let (value, code, error) = json(&net, command);
        assert!(value.is_object(), "{command:?} is one object: {value}");
        assert!(matches!(code, Some(0 | 3)), "{command:?}: {error}");
        speaks(&command.join("/"), &value);
        // The same as a table: each entry of a list is a row, under names that JSON has too.
        let out = topupd(&net, &[command, &["--output", "csv"]].concat());
        let table = text(&out.stdout);
        assert!(matches!(out.status.code(), Some(0 | 3)), "{command:?}: {}", text(&out.stderr));
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let names = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
        if command == ["deposits", "list"] {
            let listed = value["deposits"].as_array().unwrap();
            assert_eq!(rows.len(), listed.len());
            let column = names.iter().position(|name| name == "deposit_id").unwrap();
            for (row, deposit) in rows.iter().zip(listed) {
                assert_eq!(&row[column], deposit["deposit_id"].as_str().unwrap());
            }
        }
    }
    let same = topupd(&net, &["deposits", "list", "--output", "json"]);
    assert_eq!(same.stdout, topupd(&net, &["deposits", "list", "--json"]).stdout);
    let both = topupd(&net, &["deposits", "list", "--json", "--output", "csv"]);
    assert_eq!(both.status.code(), Some(2));
    // The seals follow from what is printed alone, and each from the one before; the first from the genesis.
    let (history, ..) = json(&net, &["ledger", "history", "acme"]);
    let records = history["records"].as_array().unwrap();
    let kinds: Vec<&str> = records.iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds[0], kinds[kinds.len() - 2..].to_vec()),
        ("namespace_opened", vec!["deposit_credited"; 2])
    );
    let mut before = &history["journal"]["genesis"];
    for (record, seq) in records.iter().zip(1..) {
        assert_eq!((&record["previous_seal"], &record["record_seq"]), (before, &Value::from(seq)));
        assert_eq!(sealed(record), record["seal"], "{record}");
        for name in [&record["record"], &record["record_id"]] {
            let shown = json(&net, &["ledger", "show", name.as_str().unwrap()]).0;
            assert_eq!((&shown["seal"], sealed(&shown)), (&record["seal"], sealed(record)));
        }
        before = &record["seal"];
    }
    let last = records.last().unwrap();
    let verified = json(&net, &["ledger", "verify"]).0;
    assert_eq!((&verified["holds"], &verified["credits_given"]), (&true.into(), &2.into()));
    let shown = json(&net, &["deposits", "show", id]).0;
    assert_eq!(sealed(&shown["record"]), shown["record"]["seal"]);
    // The text is what is hashed, and the object beside it is what it says.
    let cause: Value = serde_json::from_str(last["cause_text"].as_str().unwrap()).unwrap();
    assert_eq!(cause["tx_hash"], last["cause"]["tx_hash"]);
    // An owner verifies the journal as it is printed; and no other one, nor a part of it.
    let file = net.dir.path().join("acme.json");
    std::fs::write(&file, history.to_string()).unwrap();
    let (code, said) = script(&file);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with(&format!("holds: {} records in 1 journals, ", records.len())),
        "{said}"
    );
    // Each of its fields counts.
    let said = refuses_changes("docs/verify_ledger.py", &file, 700, &["@"]);
    assert!(said.contains("changes were refused"), "{said}");
    let changes: [fn(&mut Value); 3] = [
        |h| h["journal"]["salt"] = h["journal"]["genesis"].clone(),
        |h| drop(h["records"].as_array_mut().unwrap().remove(1)),
        |h| {
            h["records"].as_array_mut().unwrap().last_mut().unwrap()["entries"] =
                Value::Array(vec![])
        },
    ];
    for change in changes {
        let mut changed = history.clone();
        change(&mut changed);
        std::fs::write(&file, changed.to_string()).unwrap();
        assert_eq!(script(&file).0, Some(1), "{changed}");
    }
}

/// Changes a JSON file in very many ways, at most so many of them, and has a script look at each; `@` stands for
/// the file in its arguments. Says how many were refused, or which one was not.
pub fn refuses_changes(
    script: &str,
    file: &std::path::Path,
    at_most: u32,
    arguments: &[&str],
) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new("python3")
        .arg("-B")
        .args([root.join("tests/support/changed.py"), root.join(script), file.to_owned()])
        .arg(at_most.to_string())
        .args(arguments)
        .output()
        .unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

/// The script's exit code and what it said.
fn script(file: &std::path::Path) -> (Option<i32>, String) {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_ledger.py");
    let output = std::process::Command::new("python3").arg(script).arg(file).output().unwrap();
    (output.status.code(), text(&output.stdout))
}

/// The seal of a record, as docs/json.md says.
fn sealed(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bytes = |key: &str| alloy::primitives::hex::decode(text(&record[key])).unwrap();
    let word = |key: &str| text(&record[key]).into_bytes();
    let ms = |key: &str| {
        let time: jiff::Timestamp = record[key].as_str().unwrap().parse().unwrap();
        time.as_millisecond().to_be_bytes().to_vec()
    };
    let entries = record["entries"].as_array().unwrap();
    let mut fields = vec![
        b"topupd/record-seal/v1".to_vec(),
        bytes("previous_seal"),
        record["record_seq"].as_i64().unwrap().to_be_bytes().to_vec(),
        bytes("record_id"),
        word("kind"),
        word("subject"),
        ms("effective_at"),
        ms("recorded_at"),
        word("operator"),
        word("key_id"),
        word("cause_text"),
        word("outcome_text"),
        (entries.len() as u64).to_be_bytes().to_vec(),
    ];
    for entry in entries {
        let amount = text(&entry["amount"]);
        let (whole, part) = amount.split_once('.').unwrap_or((&amount, ""));
        let nano: i64 = format!("{whole}{part:0<9}").parse().unwrap();
        for key in ["account", "unit", "side"] {
            fields.push(text(&entry[key]).into_bytes());
        }
        fields.push(nano.to_be_bytes().to_vec());
    }
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    alloy::primitives::hex::encode_prefixed(hash.finalize())
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_found_by_what_people_have_and_lists_say_when_they_are_cut() {
    let (net, hashes) = paid().await;
    let [first, second] = [net.addresses[0].to_string(), net.addresses[1].to_string()];
    // By its transaction, by the address that was paid, and by both.
    let shown = text(&topupd(&net, &["deposits", "show", &hashes[0]]).stdout);
    assert!(shown.contains("12.5 USDC") && shown.contains("12500 credits"), "{shown}");
    let (by_address, code, error) = json(&net, &["deposits", "show", &first]);
    assert_eq!((by_address["deposits"].as_array().unwrap().len(), code), (2, Some(0)), "{error}");
    assert_eq!(by_address["truncated"], false);
    let listed = |more: &[&str]| json(&net, &[&["deposits", "list"], more].concat());
    for (more, wanted) in [
        (&["--tx", &hashes[1]][..], 1),
        (&["--address", &first], 2),
        (&["--address", &first, "--tx", &hashes[0]], 1),
        (&["--address", &second], 0),
        (&["--address", &first, "--namespace", "bolt"], 0),
        (&["--tx", &hashes[0], "--stage", "held"], 0),
    ] {
        let (value, _, error) = listed(more);
        assert_eq!(value["deposits"].as_array().unwrap().len(), wanted, "{more:?}: {error}");
    }
    let (value, _, error) = listed(&["--limit", "1"]);
    assert_eq!(
        (&value["truncated"], value["deposits"].as_array().unwrap().len()),
        (&true.into(), 1)
    );
    assert!(error.contains("there are more than these 1"), "{error}");
    assert!(listed(&["--limit", "2"]).2.is_empty());
    // What is not there is not an empty list.
    let nothing = "0x00000000000000000000000000000000000000000000000000000000000000aa";
    let stranger = net.dev.accounts[4].to_string();
    for (command, part) in [
        (&["deposits", "show", nothing][..], "there is no deposit"),
        (&["deposits", "show", &second], "nothing was paid to"),
        (&["deposits", "show", &stranger], "is no deposit address"),
        (&["deposits", "show", "0x12"], "is neither"),
        (&["deposits", "list", "--address", &stranger], "is no deposit address"),
        (&["deposits", "list", "--tx", "0x12"], "--tx"),
        (&["deposits", "list", "--namespace", "nobody"], "no namespace is called nobody"),
        (&["address", "list", "--namespace", "nobody"], "no namespace is called nobody"),
        (&["ledger", "history", "nobody"], "no namespace is called nobody"),
        (&["ledger", "show", "acme/900"], "there is no record acme/900"),
        (&["ledger", "show", "nobody/1"], "no namespace is called nobody"),
        (&["ledger", "show", "3"], "3 is neither NAMESPACE/NUMBER"),
        (&["ledger", "show", nothing], "there is no record"),
        (&["scans", "--chain", "moon"], "no chain is called \"moon\""),
        (&["conversions", "show", nothing], "there is no deposit"),
        (&["prices", "history", "--pair", "X/USD"], "no pair is called \"X/USD\""),
        (&["prices", "at", "2030-01-01T00:00:00Z", "--pair", "X/USD"], "no pair is called"),
        (
            &["prices", "resume", "X/USD", "--operator", "a", "--reason", "b"],
            "no pair is called \"X/USD\"; the configuration has: none",
        ),
    ] {
        let (code, error) = refused(&topupd(&net, command));
        assert!(code == 2 && error.contains(part), "{command:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_3_says_that_somebody_should_look() {
    let (net, _) = paid().await;
    let code = |command: &[&str]| topupd(&net, command).status.code();
    assert_eq!((code(&["scans"]), code(&["findings"])), (Some(0), Some(0)));
    // No daemon, until there is one.
    let (status, was, _) = json(&net, &["status"]);
    assert_eq!(was, Some(3));
    assert!(status["look_at"][0].as_str().unwrap().contains("no daemon follows it"), "{status}");
    assert!(text(&topupd(&net, &["status"]).stderr).contains("local: no daemon follows it"));
    let mut daemon = super::start::run(&net, &net.dir.path().join("run.log"));
    until("followed", async || match code(&["status"]) {
        Some(0) => Ok(()),
        other => Err(other),
    })
    .await;
    daemon.kill();
    // A finding, until it is explained; a gap.
    let mut sql = net.database.sql().await;
    for id in [1, 2] {
        let values = format!("({id}, 'look_still', 's{id}', 'warning', 'open', '{{}}', 0)");
        let columns = "finding_id, kind, subject, severity, state, detail, found_at_ms";
        let insert = format!("INSERT INTO findings ({columns}) VALUES {values}");
        sql.execute(&insert).await.unwrap();
    }
    let (cut, was, error) = json(&net, &["findings", "--limit", "1"]);
    assert_eq!(
        (&cut["truncated"], was, cut["findings"][0]["finding_id"].as_i64()),
        (&true.into(), Some(3), Some(2))
    );
    assert!(error.contains("there are more than these 1"), "{error}");
    assert_eq!((code(&["findings"]), code(&["findings", "--json"])), (Some(3), Some(3)));
    for id in ["1", "2"] {
        assert_eq!(code(&["findings"]), Some(3), "before {id} is explained");
        let explain = ["findings", "explain", id, "--operator", "a", "--reason", "b"];
        assert_eq!(code(&explain), Some(0));
    }
    assert_eq!(code(&["findings"]), Some(0));
    sql.execute("DELETE FROM scans WHERE scan_id = (SELECT MAX(scan_id) FROM scans)")
        .await
        .unwrap();
    assert_eq!((code(&["scans"]), code(&["scans", "--json"])), (Some(3), Some(3)));
    let help = text(&topupd(&net, &["--help"]).stdout);
    assert!(help.contains("Exit codes:") && help.contains("3  done, and somebody should look"));
    // What is wrong wins.
    edit(&net, "confirmations = 1", "confirmations = 0");
    assert_eq!(code(&["status"]), Some(2));
}
