//! A credit that two people correct, by the real binary: the commands of docs/two-people.md as they stand there, and what they answer
//! to programs.

use std::process::Command;

use topupd::store::Store;

use super::binary::{text, topupd};
use super::json::spoken as json;
use super::market_cli::{USDC, configured, has, is_refused, said};
use super::support::*;

const RTITY: &str = r#"[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "fixed", name = "listed", price = "0.02" }]
"#;

/// 353 USDC of acme, converted at 2 cents.
async fn credited() -> (Net, Store) {
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[RTITY, USDC]);
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 353_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    daemon.shutdown().await;
    (net, store)
}

/// A command and what it prints, as a page has them below a heading.
fn examples(page: &str, heading: &str) -> Vec<(String, Vec<String>)> {
    let section = page.split(heading).nth(1).unwrap();
    let block = section.split("```").nth(1).unwrap();
    let mut examples: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("$ ") {
            Some(command) => examples.push((command.to_owned(), Vec::new())),
            None => examples.last_mut().into_iter().for_each(|(_, said)| said.push(line.into())),
        }
    }
    examples
}

/// Without what is another one each time: hashes, which the page shortens, and times.
fn alike(line: &str) -> String {
    let word = |word: &str| -> String {
        let bare = word.trim_end_matches([',', ':']);
        let rest = &word[bare.len()..];
        let is_time = bare.len() > 19 && bare.starts_with("20") && bare.ends_with('Z');
        match bare {
            _ if bare.starts_with("0x") && (bare.len() == 66 || bare.contains('…')) => {
                format!("0x…{rest}")
            }
            _ if is_time => format!("TIME{rest}"),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// True when these are the lines; an ellipsis on a line of its own stands for any that are left out.
fn is_said(expected: &[String], lines: &[String]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            (0..=lines.len()).any(|left_out| is_said(rest, &lines[left_out..]))
        }
        (Some((first, rest)), Some((line, more))) => first == line && is_said(rest, more),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_book_correct_a_credit() {
    let (net, store) = credited().await;
    let page = std::fs::read_to_string("docs/two-people.md").unwrap();
    let examples = examples(&page, "## Undo, after the credit");
    assert_eq!(examples.len(), 4, "{examples:?}");
    let topupd = format!(
        "topupd() {{ '{}' --config '{}' \"$@\"; }}\n",
        env!("CARGO_BIN_EXE_topupd"),
        net.config_path().display()
    );
    for (command, expected) in examples {
        // What is shortened is the hash of the act that it approves.
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        if let Some(at) = words.iter().position(|word| word == "--hash") {
            let act = words[words.iter().position(|word| word == "--approve").unwrap() + 1].clone();
            words[at + 1] =
                json(&net, &["holds", "show", &act])["act"]["hash"].as_str().unwrap().into();
        }
        let command = words.join(" ");
        let script = format!("{topupd}{command}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let out = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let lines: Vec<String> = out.lines().filter(|l| !l.is_empty()).map(alike).collect();
        let expected: Vec<String> = expected.iter().map(|line| alike(line)).collect();
        assert!(is_said(&expected, &lines), "{command}\n{expected:#?}\n{out}");
    }
    verify(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_shown_refused_and_answered_to_programs() {
    let (net, store) = credited().await;
    let id = deposits(&store).await[0].id.to_string();
    let history = json(&net, &["ledger", "history", "acme"]);
    let credit = history["records"].as_array().unwrap().last().unwrap()["record"].clone();
    let credit = credit.as_str().unwrap();
    let who = ["--operator", "alice", "--reason", "misread"];
    let correct = |what: &[&str], of: &str| -> Vec<String> {
        ["ledger", "correct", of].iter().chain(what).chain(&who).map(|s| (*s).to_owned()).collect()
    };
    let run = |arguments: &[String]| {
        topupd(&net, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let cases: &[(&[&str], &str, &str)] = &[
        (&["--price", "RTITY/USD=0.0201"], credit, "--evidence"),
        (&["--evidence", "ticket"], credit, "required"),
        (&["--price", "ETH/USD=1", "--evidence", "ticket"], credit, "needs the price of"),
        (&["--epoch", "later", "--evidence", "ticket"], credit, "there is no epoch later"),
        (&["--epoch", "one", "--evidence", "ticket"], "acme/1", "acme/1 is no credit"),
        (&["--epoch", "one", "--evidence", "ticket"], "acme/99", "acme/99 is no credit"),
        (&["--epoch", "one", "--evidence", "ticket"], credit, "gave already"),
        (&["--approve", "1"], credit, "--hash"),
    ];
    for (what, of, part) in cases {
        let output = run(&correct(what, of));
        assert_eq!(output.status.code(), Some(2), "{what:?}");
        has(&text(&output.stderr), &[part]);
    }
    // Far from the market it is said twice; what it comes to is shown all the same.
    let far = ["--price", "RTITY/USD=0.04", "--evidence", "ticket"];
    let far: Vec<&str> = ["ledger", "correct", credit].into_iter().chain(far).chain(who).collect();
    let shown = is_refused(&net, &far, 2, &["repeat the number: --beyond-the-bound 0.04"]);
    has(&shown, &["credits    882500 before; 441250 instead"]);
    assert_eq!(json(&net, &["holds", "show", &id])["acts"], serde_json::json!([]));

    let near = ["--price", "RTITY/USD=0.0201", "--evidence", "ticket 4711"];
    let near: Vec<&str> = ["ledger", "correct", &id].into_iter().chain(near).chain(who).collect();
    let proposed = json(&net, &near);
    assert_eq!(proposed["act"]["act_id"], 1);
    assert_eq!(proposed["act"]["standing"], "waits");
    assert_eq!(proposed["act"]["correction"]["evidence"], "ticket 4711");
    let preview = &proposed["preview"];
    assert_eq!(preview["corrects"], credit);
    assert_eq!(
        (&preview["credited"]["credits"], &preview["prices"][1]["from"]),
        (&"882500".into(), &"this".into())
    );
    let instead = preview["instead"]["credits"].clone();
    assert_eq!(preview["balance_after"]["credits"], instead);
    assert_eq!(json(&net, &["holds", "show", "1"])["preview"], *preview);
    let hash = proposed["act"]["hash"].as_str().unwrap();
    let approve =
        ["ledger", "correct", credit, "--approve", "1", "--hash", hash, "--reason", "seen"];
    // Whoever is to be the second person finds it, with the commands.
    let approves =
        format!("topupd ledger correct {credit} --approve 1 --hash {hash} --operator NAME");
    let waits = said(&net, &["holds", "list"]);
    has(
        &waits,
        &["no deposit is on hold", "wait for a second person", "alice", "propose_correction"],
    );
    has(&waits, &["topupd holds show 1", &approves]);
    let waits = json(&net, &["holds", "list"])["proposals"].clone();
    assert_eq!((waits.as_array().unwrap().len(), &waits[0]["act_id"]), (1, &1.into()));
    assert!(waits[0]["approved_by"].as_str().unwrap().starts_with(&approves), "{waits}");
    assert_eq!((&waits[0]["standing"], &waits[0]["namespace"]), (&"waits".into(), &"acme".into()));
    let alice: Vec<&str> = approve.into_iter().chain(["--operator", "alice"]).collect();
    is_refused(&net, &alice, 2, &["another operator must approve it"]);
    let bob: Vec<&str> = approve.into_iter().chain(["--operator", "bob"]).collect();
    let done = json(&net, &bob);
    assert_eq!((&done["before"], &done["act"]["act_id"]), (&false.into(), &2.into()));
    assert_eq!(json(&net, &["holds", "list"])["proposals"], serde_json::json!([]));
    let again = json(&net, &bob);
    assert_eq!((&again["before"], &again["record"]), (&true.into(), &done["record"]));
    assert_eq!(again["preview"], serde_json::Value::Null);
    let record = done["record"].as_str().unwrap();
    has(&said(&net, &["ledger", "show", record]), &["deposit_corrected", "operator   bob"]);
    assert_eq!(json(&net, &["ledger", "balance", "acme"])["credits"], instead);
    has(&said(&net, &["holds", "show", "1"]), &["approved by act 2", "evidence   ticket 4711"]);
    has(&said(&net, &["holds", "show", "2"]), &["approve_correction of act 1"]);
    has(&said(&net, &["deposits", "list"]), &[instead.as_str().unwrap()]);
    // The one that was corrected is not corrected again.
    let stale: Vec<&str> =
        ["ledger", "correct", credit].into_iter().chain(near[3..].iter().copied()).collect();
    is_refused(&net, &stale, 2, &["was corrected already, by record", record]);
    verify(&store).await;
    store.close().await;
}
