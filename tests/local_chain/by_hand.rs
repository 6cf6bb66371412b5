//! What two operators decide, by the real binary: prices by hand from proposal to credit.

use topupd::store::Act;

use super::binary::{refused, text, topupd};
use super::json::spoken as json;
use super::market_cli::{USDC, configured, has, is_refused, said};
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_resolved_by_two_operators() {
    // Nobody listens on port 1.
    let silent = r#"[oracle]
sample_s = 1
[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "http", name = "silent", url = "http://127.0.0.1:1/", price = "/p", max_age_s = 1 }]
"#;
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[silent, USDC]);
    net.register(&config).await;
    has(&said(&net, &["holds", "list"]), &["no deposit is on hold"]);
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_held(&store).await;

    let missing =
        "0 of 1 wanted sources answer for RTITY/USD; silent: missing: no sample within 1 s";
    let out = said(&net, &["holds", "list"]);
    has(&out, &["acme", "10 USDC", "no_price", missing]);
    let list = json(&net, &["holds", "list"]);
    let list = &list["holds"];
    let id = list[0]["deposit_id"].as_str().unwrap();
    assert!(list[0]["missing"][0].as_str().unwrap().starts_with(missing));
    has(
        &said(&net, &["holds", "show", id]),
        &[
            "held (no_price)",
            "needs      USDC/USD, RTITY/USD",
            "silent  -  missing: no sample",
            &format!("topupd holds resolve {id} --retry"),
            &format!("topupd holds resolve {id} --price RTITY/USD=PRICE"),
        ],
    );

    let resolve = |who: &str, how: &[&str]| {
        let start = ["holds", "resolve", id, "--operator", who, "--reason", "by hand"];
        let all: Vec<String> = start.iter().chain(how).map(|s| (*s).to_owned()).collect();
        all
    };
    let run = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        topupd(&net, &arguments)
    };
    for how in [&[][..], &["--retry", "--accept-market"], &["--retry", "--approve", "1"]] {
        assert_eq!(run(&resolve("alice", how)).status.code(), Some(2), "{how:?}");
    }
    for (how, part) in [
        (["--price", "ETH/USD=1"], "needs the price of USDC/USD and of RTITY/USD"),
        (["--price", "RTITY/USD=cheap"], "not a decimal number"),
        // Nobody ever said a price of it.
        (["--price", "RTITY/USD=0.02"], "compared with nothing, because the pair has no price yet"),
    ] {
        let (code, error) = refused(&run(&resolve("alice", &how)));
        assert_eq!(code, 2, "{error}");
        has(&error, &[part]);
    }
    assert_eq!(run(&resolve("alice", &["--approve", "9"])).status.code(), Some(2), "no hash");
    let zero = format!("0x{}", "0".repeat(64));
    let (_, error) = refused(&run(&resolve("alice", &["--approve", "9", "--hash", &zero])));
    has(&error, &["there is no proposal 9"]);
    let out = run(&resolve("alice", &["--retry"]));
    has(&text(&out.stdout), &["act 1 is written down", "at its next look"]);
    let twice = ["--beyond-the-bound", "0.02"];
    let out = run(&resolve("alice", &[&["--price", "RTITY/USD=0.02"][..], &twice].concat()));
    let hash = json(&net, &["holds", "show", "2"])["act"]["hash"].as_str().unwrap().to_owned();
    let approve = format!("topupd holds resolve {id} --approve 2 --hash {hash}");
    has(&text(&out.stdout), &["act 2", "proposed by alice", "another operator", &approve]);
    let shown = said(&net, &["holds", "show", id]);
    has(&shown, &["2  ", "alice  propose_price RTITY/USD=0.02  by hand"]);
    // Whether the number must be said twice, the act says.
    has(&shown, &["act 2, proposed by alice", "topupd holds show 2"]);
    has(&said(&net, &["holds", "show", "2"]), &[&approve]);
    has(&shown, &[&format!("waits for another operator, hash {hash}")]);
    // One that nobody decides about before the payment is credited.
    has(&text(&run(&resolve("alice", &["--price", "USDC/USD=1"])).stdout), &["act 3"]);
    has(&said(&net, &["holds", "show", "3"]), &["stands     waits for another operator"]);
    let approve = [&["--approve", "2", "--hash", &hash][..], &twice].concat();
    let (code, error) = refused(&run(&resolve("alice", &approve)));
    assert_eq!(code, 2, "{error}");
    has(&error, &["alice proposed this price: another operator must approve it"]);
    assert_eq!(credited(&store).await, 0);
    assert!(run(&resolve("bob", &approve)).status.success());
    until_credited(&store, 1).await;
    assert_eq!(balance(&store, "acme").await, "25000");
    verify(&store).await;

    has(&said(&net, &["prices", "history"]), &["RTITY/USD  0.02   0/0", "alice, bob"]);
    assert_eq!(json(&net, &["prices", "history", "--limit", "1"])["truncated"], true);
    json(&net, &["conversions", "list"]);
    // It is a price of this payment, and none of the market.
    let at = said(&net, &["prices", "at", "2099-01-01T00:00:00Z"]);
    has(&at, &["RTITY/USD: no price was accepted", "USDC/USD = 1", "ok (fixed)"]);
    let at = said(&net, &["prices", "at", "2020-01-01T00:00:00Z", "--pair", "RTITY/USD"]);
    has(&at, &["RTITY/USD: no price was accepted at or before 2020-01-01T00:00:00Z"]);
    let (code, error) = refused(&run(&resolve("alice", &["--retry"])));
    assert_eq!((code, error.contains("only one on hold")), (2, true), "{error}");
    let over = "cannot be approved any more: its deposit is credited";
    let shown = said(&net, &["holds", "show", id]);
    has(&shown, &["it is credited: nothing has to be done", &format!("{over}, hash ")]);
    has(&said(&net, &["holds", "show", "3"]), &[&format!("stands     {over}")]);
    let acts = [
        json(&net, &["holds", "show", id])["acts"][2].clone(),
        json(&net, &["holds", "show", "3"])["act"].clone(),
    ];
    for act in acts {
        assert_eq!((&act["act_id"], &act["standing"]), (&3.into(), &"over".into()));
        assert_eq!(act["standing_because"], "its deposit is credited");
    }
    let later =
        ["epochs", "preview", "--asset", "USDC", "--amount", "2", "--at", "2099-01-01T00:00:00Z"];
    is_refused(&net, &later, 2, &["no price of RTITY/USD was accepted"]);
    store.close().await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_by_hand_is_seen_repeated_replaced_and_withdrawn() {
    let one_of_two = r#"[oracle]
sample_s = 1
[oracle.pairs."RTITY/USD"]
quorum = 2
sources = [
  { kind = "fixed", name = "listed", price = "0.02" },
  { kind = "http", name = "silent", url = "http://127.0.0.1:1/", price = "/p", max_age_s = 1 },
]
"#;
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[one_of_two, USDC]);
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_held(&store).await;
    let id = deposits(&store).await[0].id.to_string();
    let decide = |who: &str, how: &[&str]| {
        let start = ["holds", "resolve", &id, "--operator", who, "--reason", "by hand"];
        topupd(&net, &[&start[..], how].concat())
    };
    let refuses = |who: &str, how: &[&str], part: &str| {
        let start = ["holds", "resolve", &id, "--operator", who, "--reason", "by hand"];
        is_refused(&net, &[&start[..], how].concat(), 2, &[part])
    };
    let hash_of =
        |act: &str| json(&net, &["holds", "show", act])["act"]["hash"].as_str().unwrap().to_owned();
    let cheap = ["--price", "RTITY/USD=0.0001"];
    let comes_to = [
        "10 USDC",
        "listed  0.02  ok (fixed)",
        "RTITY/USD = 0.0001: 99.50 % below 0.02, the median of the quotes at its block",
        "at most 25.00 % go without saying it twice",
        "price      USDC/USD = 1 (accepted at its block)",
        "credits    5000000, rounded down",
    ];
    has(&refuses("alice", &cheap, "repeat the number: --beyond-the-bound 0.0001"), &comes_to);
    let typo = [&cheap[..], &["--beyond-the-bound", "0.001"]].concat();
    refuses("alice", &typo, "does not repeat the price, 0.0001");
    assert_eq!(json(&net, &["holds", "show", &id])["acts"], serde_json::json!([]));
    let twice = [&cheap[..], &["--beyond-the-bound", "0.0001"]].concat();
    let out = text(&decide("alice", &twice).stdout);
    has(&out, &comes_to);
    let first = hash_of("1");
    has(&out, &[&format!("--approve 1 --hash {first} --beyond-the-bound 0.0001")]);

    // Near the market it is said once, and takes the place of the other.
    let out = text(&decide("alice", &["--price", "RTITY/USD=0.0201"]).stdout);
    has(&out, &["0.50 % above 0.02", "it takes the place of act 1, which cannot be approved"]);
    has(&said(&net, &["holds", "show", "1"]), &["stands     replaced by act 2", &first]);
    let shown = said(&net, &["holds", "show", "2"]);
    has(&shown, &["stands     waits for another operator", &hash_of("2"), "holds withdraw 2"]);
    let seen = json(&net, &["holds", "show", "2"])["preview"].clone();
    assert_eq!(seen["by_hand"]["deviation_percent"], "0.50");
    assert_eq!(seen["by_hand"]["beyond_the_bound"], false);
    assert_eq!(seen["credits"], "24875.621890547");
    refuses("bob", &["--approve", "1", "--hash", &first, "--beyond-the-bound", "0.0001"], "act 2");
    refuses("bob", &["--approve", "2", "--hash", &first], "is not what was named");
    let withdraw = ["holds", "withdraw", "2", "--operator", "bob", "--reason", "not yet"];
    has(&said(&net, &withdraw), &["act 3 is written down", "act 2 is withdrawn"]);
    refuses("bob", &["--approve", "2", "--hash", &hash_of("2")], "was withdrawn, by act 3");
    is_refused(&net, &withdraw, 2, &["was withdrawn, by act 3"]);

    // The second operator sees it and repeats it too.
    let propose = ["holds", "resolve", &id, "--operator", "alice", "--reason", "by hand"];
    let proposed = json(&net, &[&propose[..], &twice].concat());
    assert_eq!(proposed["preview"]["by_hand"]["compared_with"]["price"], "0.02");
    let hash = proposed["act"]["hash"].as_str().unwrap();
    let approve = ["--approve", "4", "--hash", hash];
    has(&refuses("bob", &approve, "repeat the number"), &comes_to);
    let out = decide("bob", &[&approve[..], &["--beyond-the-bound", "0.0001"]].concat());
    has(&text(&out.stdout), &comes_to);
    until_credited(&store, 1).await;
    assert_eq!(balance(&store, "acme").await, "5000000");
    verify(&store).await;
    store.close().await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_by_hand_is_written_once_while_another_is_missing() {
    let silent = |pair: &str, stable: &str| {
        let url = "http://127.0.0.1:1/";
        format!(
            "[oracle.pairs.\"{pair}/USD\"]\nquorum = 1\n{stable}\nsources = [{{ kind = \"http\", name = \"s\", url = \"{url}\", price = \"/p\", max_age_s = 1 }}]\n"
        )
    };
    let tables = [silent("USDC", "stablecoin = true"), silent("RTITY", "")];
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[&tables[0], &tables[1]]);
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_held(&store).await;
    let id = deposits(&store).await[0].id;
    for (pair, first) in [("RTITY/USD", 1), ("USDC/USD", 3)] {
        let (price, oracle) = ("0.5".parse().unwrap(), &config.oracle.oracle);
        let act = Act::ProposePrice { pair: pair.into(), price, repeated: Some(price) };
        store.act(oracle, id, &act, "alice", "test").await.unwrap();
        let hash = store.act_by_id(first).await.unwrap().unwrap().hash();
        let act = Act::Approve { proposal: first, hash, repeated: Some(price) };
        store.act(oracle, id, &act, "bob", "test").await.unwrap();
        let written = async || store.market_prices(Some(pair), i64::MAX, 99).await.unwrap().len();
        until("written", async || if written().await > 0 { Ok(()) } else { Err(()) }).await;
        // It is looked at again with each block.
        for _ in 0..3 {
            net.dev.mine(1).await.unwrap();
            until_followed(&net, &store).await;
        }
        assert_eq!(written().await, 1);
    }
    until_credited(&store, 1).await;
    assert_eq!(store.market_prices(None, i64::MAX, 99).await.unwrap().len(), 2);
    verify(&store).await;
    store.close().await;
    daemon.shutdown().await;
}
