//! Payments are asked about before they are credited; what is not answered is not credited.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog, ScriptedTx};
use topupd::clock::Clock;
use topupd::devnet::WebServer;
use topupd::domain::screening::Question;
use topupd::domain::screening_rules::{ScreeningRules, SecretHeaders};
use topupd::domain::waiting::Wait;
use topupd::planted::{Fault, plant};
use topupd::store::Act;

use super::support::*;

pub const GOOD: Address = Address::repeat_byte(0xaa);
/// On a list, so that it is one.
pub const NOBODY: Address = Address::repeat_byte(0xe6);
pub const HELD: &str = "held (screening)";

pub fn from(id: u64, sender: Address) -> ScriptedTx {
    tx(id, vec![ScriptedLog::transfer(USDC, sender, address(0), 1_000_000)])
}

pub fn screen(
    list: Option<&Path>,
    question: Option<Question>,
    patience_s: u64,
) -> Option<Arc<ScreeningRules>> {
    let key = vec![("x-key".to_owned(), "open sesame".to_owned())];
    Some(Arc::new(ScreeningRules {
        list: list.map(Path::to_path_buf),
        question,
        timeout: Duration::from_secs(5),
        patience: Duration::from_secs(patience_s),
        headers: SecretHeaders(key),
    }))
}

pub async fn house(list: Option<&Path>, question: Option<Question>, patience_s: u64) -> House {
    let mut rules = rules(1);
    rules.screening = screen(list, question, patience_s);
    House::new(rules).await
}

/// A list with this text, in a folder that is gone with what it is given with.
pub fn listed(text: impl std::fmt::Display) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list.txt");
    std::fs::write(&list, format!("{text}\n")).unwrap();
    (dir, list)
}

pub async fn answers(house: &House) -> i64 {
    house.sql("SELECT COUNT(*) FROM screenings").await[0][0]
}

#[tokio::test]
async fn a_sender_on_the_list_waits_for_two_people() {
    let (_dir, list) = listed(format!("# bad\n{PAYER:#x}"));
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 300).await;
    chain.mine(vec![from(1, PAYER), from(2, GOOD)]);
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", HELD]);
    assert_eq!(answers(&house).await, 2);
    house.verify().await;

    let held = house.deposits().await.into_iter().find(|d| d.stage.to_string() == HELD).unwrap();
    let proposal = house.act(held.id, &Act::ProposeRelease, "alice").await.unwrap();
    let approve = approval(&house.store, proposal).await;
    assert!(house.act(held.id, &approve, "alice").await.is_err());
    house.act(held.id, &approve, "bob").await.unwrap();
    // Whatever the list says by now: people have decided.
    std::fs::write(&list, "broken").unwrap();
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 2]);
    assert_eq!(answers(&house).await, 2);
    house.verify().await;
}

/// Whoever writes what was said of a payer does not take him off the list.
#[tokio::test]
async fn a_hit_that_is_written_over_is_one_as_long_as_the_list_says_so() {
    let (_dir, list) = listed(format!("{PAYER:#x}"));
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 300).await;
    chain.mine(vec![from(1, PAYER)]);
    house.quiesce(&chain).await;
    let mut sql = house.database.sql().await;
    sql.drop_guards().await;
    sql.execute("UPDATE screenings SET outcome = 'clear'").await.unwrap();
    sql.execute("UPDATE deposits SET stage = 'confirmed', reason = NULL").await.unwrap();
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD]);
    assert_eq!(house.sql("SELECT COUNT(*) FROM credits").await, [[0]]);
}

#[tokio::test]
async fn a_list_is_read_again_and_one_that_cannot_be_read_is_no_answer() {
    let (_dir, list) = listed(NOBODY);
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 60).await;
    chain.mine(vec![from(1, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    // It was asked about before.
    std::fs::write(&list, format!("{PAYER}\n")).unwrap();
    chain.mine(vec![from(2, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", HELD]);

    std::fs::write(&list, "0x12 # mistyped\n").unwrap();
    chain.mine(vec![from(3, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", HELD, "pending"]);
    let id = house.deposits().await[2].id;
    let waits = house.store.waits_of([id]).await.unwrap();
    assert!(waits[&id].1.contains("line 1: "), "{waits:?}");
    house.clock.advance_ms(60_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", HELD, HELD]);
    // It is mended.
    std::fs::write(&list, format!("{PAYER}\n\n")).unwrap();
    house.clock.advance_ms(60_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", HELD, "credited"]);
    house.verify().await;
}

/// A service that is in trouble and repeats what it was sent.
#[tokio::test]
async fn the_key_that_a_service_repeats_is_not_stored() {
    let says = Arc::new(Mutex::new((500, "oops x-key: open sesame; open%20sesame".to_owned())));
    let (server, _asked) = server(Arc::clone(&says)).await;
    let question = Question {
        url: format!("{}/{{address}}", server.url()),
        verdict: "/v".into(),
        hit: Some("bad".into()),
        clear: None,
    };
    let mut house = house(None, Some(question), 0).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.mine(vec![from(1, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD]);
    let clean =
        "SELECT COUNT(*) FROM screenings WHERE answer LIKE '%oops x-key: [hidden]; [hidden]%'";
    assert_eq!(house.sql(clean).await[0][0], 1);
    assert_eq!(answers(&house).await, 1);
}

/// A server that answers with what is in the cell, and counts.
pub async fn server(says: Arc<Mutex<(u16, String)>>) -> (WebServer, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let server = WebServer::start(Arc::new(move |head: &str| {
        heads.lock().unwrap().push(head.to_owned());
        says.lock().unwrap().clone()
    }));
    (server.await.unwrap(), asked)
}

pub fn question(server: &WebServer) -> Question {
    low_risk(format!("{}/{{address}}?chain={{chain}}&tx={{tx}}", server.url()))
}

fn low_risk(url: String) -> Question {
    Question { url, verdict: "/risk".into(), hit: Some("high".into()), clear: Some("low".into()) }
}

#[tokio::test]
async fn somebody_over_http_is_asked_once_and_nonsense_is_no_answer() {
    let says = Arc::new(Mutex::new((200, r#"{"risk":"low"}"#.to_owned())));
    let (server, asked) = server(Arc::clone(&says)).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(None, Some(question(&server)), 60).await;
    chain.mine(vec![from(1, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    let heads = asked.lock().unwrap().clone();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].contains(&format!("/{PAYER}?chain=31337&tx={}", tx_hash(1))), "{}", heads[0]);
    assert!(heads[0].contains("x-key: open sesame"), "{}", heads[0]);

    let mut wanted = vec!["credited"];
    for (id, (status, body)) in (2..).zip([
        (200, r#"{"risk":"medium"}"#),
        (500, r#"{"risk":"low"}"#),
        (429, "slower"),
        (200, "<html>"),
        (200, "{}"),
    ]) {
        *says.lock().unwrap() = (status, body.to_owned());
        chain.mine(vec![from(id, PAYER)]);
        house.clock.advance_ms(5_000);
        house.quiesce(&chain).await;
        wanted.push("pending");
        assert_eq!(house.stages().await, wanted, "{body}");
        house.clock.advance_ms(60_000);
        house.quiesce(&chain).await;
        *wanted.last_mut().unwrap() = HELD;
        assert_eq!(house.stages().await, wanted, "{body}");
    }
    // Those without an answer go on when there is one, and a hit stays.
    *says.lock().unwrap() = (200, r#"{"risk":"low"}"#.to_owned());
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 6]);
    *says.lock().unwrap() = (200, r#"{"risk":"high"}"#.to_owned());
    chain.mine(vec![from(9, PAYER)]);
    house.quiesce(&chain).await;
    *says.lock().unwrap() = (200, r#"{"risk":"low"}"#.to_owned());
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await[6], HELD);
    house.verify().await;

    // Whoever changes what was answered is found out.
    let mut sql = house.database.sql().await;
    sql.drop_guards().await;
    sql.execute("UPDATE screenings SET answer = '{\"risk\":\"low\"}'").await.unwrap();
    let found = house.store.verify().await.unwrap().unwrap_err();
    assert!(found.to_string().contains("or was changed"), "{found}");
}

#[tokio::test]
async fn patience_does_not_begin_anew_with_a_restart() {
    let says = Arc::new(Mutex::new((500, String::new())));
    let (server, _) = server(Arc::clone(&says)).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(None, Some(question(&server)), 60).await;
    chain.mine(vec![from(1, PAYER)]);
    for _ in 0..4 {
        house.quiesce(&chain).await;
        assert_eq!(house.stages().await, ["pending"]);
        house.clock.advance_ms(15_000);
        house.rules.screening = screen(None, Some(question(&server)), 60);
    }
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD]);
    // It waits for an answer since it was asked for one, however long it waited for others before.
    chain.mine(vec![from(2, PAYER)]);
    house.quiesce(&chain).await;
    house.clock.advance_ms(45_000);
    let id = house.deposits().await[1].id;
    let waits = [(id, (Wait::Witness, String::new()))].into();
    house.store.commit_waits(CHAIN, &waits, house.clock.now_ms()).await.unwrap();
    for (stage, pause_ms) in [("pending", 45_000), ("pending", 15_000), (HELD, 0)] {
        house.quiesce(&chain).await;
        assert_eq!(house.stages().await, [HELD, stage]);
        house.clock.advance_ms(pause_ms);
    }
    house.verify().await;
}

#[tokio::test]
async fn payments_that_are_the_same_question_share_its_answer() {
    let says = Arc::new(Mutex::new((200, r#"{"risk":"low"}"#.to_owned())));
    let (server, asked) = server(Arc::clone(&says)).await;
    let requests = || asked.lock().unwrap().len();
    let chain = ScriptedChain::new(GENESIS_MS);
    let of_sender = low_risk(format!("{}/{{address}}", server.url()));
    let mut house = house(None, Some(of_sender), 60).await;
    chain.mine(vec![from(1, PAYER), from(2, PAYER), from(3, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 3]);
    assert_eq!((requests(), answers(&house).await), (2, 3));
    // Later, it is another question: what was clear may be a hit by now.
    *says.lock().unwrap() = (200, r#"{"risk":"high"}"#.to_owned());
    chain.mine(vec![from(4, PAYER), from(5, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await[3..], [HELD, HELD]);
    assert_eq!((requests(), answers(&house).await), (3, 5));
    // And so are two transactions, where the question names them.
    house.rules.screening = screen(None, Some(question(&server)), 60);
    chain.mine(vec![from(6, GOOD), from(7, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!((requests(), answers(&house).await), (5, 7));
    house.verify().await;
}

#[tokio::test]
async fn an_answer_counts_only_for_the_check_that_gave_it() {
    let (_dir, list) = listed(NOBODY);
    let says = Arc::new(Mutex::new((500, String::new())));
    let (server, asked) = server(Arc::clone(&says)).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), Some(question(&server)), 60).await;
    chain.mine(vec![from(1, PAYER), from(2, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!((house.stages().await, answers(&house).await), (vec!["pending".into(); 2], 2));
    // The list has said that nothing speaks against it, and is another one now.
    std::fs::write(&list, format!("{PAYER}\n")).unwrap();
    house.quiesce(&chain).await;
    let hits = "SELECT COUNT(*) FROM screenings WHERE outcome = 'hit'";
    assert_eq!((answers(&house).await, house.sql(hits).await), (4, vec![vec![1]]));
    // One of the two has no answer for too long; another service is asked in place of the first.
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD, HELD]);
    *says.lock().unwrap() = (200, r#"{"risk":"low","score":9}"#.to_owned());
    let before = asked.lock().unwrap().len();
    let other = Question {
        verdict: "/score".into(),
        hit: Some("10".into()),
        clear: None,
        ..question(&server)
    };
    house.rules.screening = screen(Some(&list), Some(other.clone()), 60);
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", HELD]);
    assert_eq!(asked.lock().unwrap().len(), before + 1, "a hit is asked about no more");

    // What the first service lets pass, the second is asked about all the same.
    *says.lock().unwrap() = (200, r#"{"risk":"low","score":10}"#.to_owned());
    house.rules.screening = screen(Some(&list), Some(question(&server)), 60);
    std::fs::write(&list, "broken").unwrap();
    chain.mine(vec![from(3, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await[2], "pending");
    std::fs::write(&list, format!("{NOBODY}\n")).unwrap();
    house.rules.screening = screen(Some(&list), Some(other), 60);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await[2], HELD);
    // A hit stays one, also when nobody is asked any more.
    house.rules.screening = None;
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await[2], HELD);
    house.verify().await;
}

#[tokio::test]
async fn a_daemon_that_does_not_heed_the_answer_is_found_out() {
    let (_dir, list) = listed(PAYER);
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 60).await;
    chain.mine(vec![from(1, PAYER)]);
    plant(Some(Fault::Unscreened));
    house.quiesce(&chain).await;
    plant(None);
    assert_eq!(house.stages().await, ["credited"]);
    let found = house.store.verify().await.unwrap().unwrap_err();
    assert!(found.to_string().contains("though nobody released it"), "{found}");
}

/// A server that hangs up on questions about some addresses, and clears the others. It keeps what it was
/// asked.
async fn hangs_up(on: Vec<Address>) -> (String, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let head = String::from_utf8(head).unwrap();
            heads.lock().unwrap().push(head.clone());
            if !on.iter().any(|address| head.contains(&address.to_checksum(None))) {
                let body = r#"{"risk":"low"}"#;
                let text = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    });
    (url, asked, task)
}

/// Of each of these, whether it was asked about.
fn were_asked(asked: &Mutex<Vec<String>>, senders: &[Address]) -> Vec<bool> {
    let heads = asked.lock().unwrap();
    let about = |s: &Address| heads.iter().any(|head| head.contains(&s.to_checksum(None)));
    senders.iter().map(about).collect()
}

#[tokio::test]
async fn who_is_not_answered_about_holds_up_nobody_else() {
    let senders: Vec<Address> = (1..=44).map(|i| Address::left_padding_from(&[1, i])).collect();
    let (lost, good) = senders.split_at(36);
    let (url, asked, _task) = hangs_up(lost.to_vec()).await;
    let question = low_risk(format!("{url}/{{address}}"));
    let mut house = house(None, Some(question), 60).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.mine((1..).zip(&senders).map(|(id, sender)| from(id, *sender)).collect());
    // Those that are not answered about come first, and again, if they may.
    for _ in 0..5 {
        house.quiesce(&chain).await;
        house.clock.advance_ms(5_000);
    }
    assert_eq!(were_asked(&asked, &senders), [true; 44]);
    let stages = house.stages().await;
    assert_eq!(stages.iter().filter(|s| *s == "credited").count(), good.len(), "{stages:?}");
    assert_eq!(stages.iter().filter(|s| *s == "pending").count(), lost.len(), "{stages:?}");
    assert_eq!(answers(&house).await, 8);
    house.clock.advance_ms(60_000);
    for _ in 0..5 {
        house.quiesce(&chain).await;
        house.clock.advance_ms(60_000);
    }
    let stages = house.stages().await;
    assert_eq!(stages.iter().filter(|s| *s == HELD).count(), lost.len(), "{stages:?}");
    house.verify().await;
}

#[tokio::test]
async fn nothing_is_said_of_a_payment_that_nobody_was_asked_about() {
    let senders: Vec<Address> = (1..=40).map(|i| Address::left_padding_from(&[1, i])).collect();
    let (url, asked, _task) = hangs_up(senders.clone()).await;
    let question = low_risk(format!("{url}/{{address}}"));
    let mut house = house(None, Some(question), 0).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.mine((1..).zip(&senders).map(|(id, sender)| from(id, *sender)).collect());
    let mut rounds = 0;
    loop {
        house.quiesce(&chain).await;
        let were = were_asked(&asked, &senders).into_iter().filter(|asked| *asked).count();
        let stages = house.stages().await;
        assert_eq!(stages.iter().filter(|s| *s == HELD).count(), were, "{stages:?}");
        assert_eq!(usize::try_from(answers(&house).await).unwrap(), were);
        if were == senders.len() {
            break;
        }
        let id = house.deposits().await.into_iter().find(|d| d.stage.to_string() == "pending");
        let id = id.unwrap().id;
        let waits = house.store.waits_of([id]).await.unwrap();
        assert!(waits[&id].1.contains("not asked yet: "), "{waits:?}");
        rounds += 1;
        assert!(rounds < 40);
        house.clock.advance_ms(5_000);
    }
    assert!(rounds > 1);
    house.verify().await;
}
