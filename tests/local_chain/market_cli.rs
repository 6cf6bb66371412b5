//! The commands around market prices, by the real binary: epochs, prices, the treasury.

use std::io::{Read, Write};
use std::net::TcpListener;

use alloy::primitives::{Address, Bytes, TxHash, U256};
use alloy::sol_types::SolCall;
use serde_json::Value;
use topupd::config::Config;
use topupd::devnet::{Relay, TestToken};

use super::binary::{edit, refused, text, topupd};
use super::json::spoken as json;
use super::support::*;

pub const USDC: &str = r#"[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "fixed", name = "one", price = "1" }]
"#;
const RTITY: &str = r#"[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "fixed", name = "listed", price = "0.02" }]
"#;

/// USDC is converted into RTITY; with these tables at the end.
pub fn configured(net: &Net, wants: &Wants, tables: &[&str]) -> Config {
    let par = "USDC = { valuation = \"par\", credits_per_usd = \"1000\" }";
    let convert = "USDC = { valuation = \"convert\", into = \"RTITY\" }";
    let text = net.config_text(wants);
    assert!(text.contains(par));
    let text = format!("{}\n{}", text.replace(par, convert), tables.join("\n"));
    std::fs::write(net.config_path(), text).unwrap();
    Config::load(&net.config_path(), []).unwrap()
}

pub fn said(net: &Net, arguments: &[&str]) -> String {
    let output = topupd(net, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub fn has(out: &str, parts: &[&str]) {
    for part in parts {
        assert!(out.contains(part), "{part} in\n{out}");
    }
}

/// Returns what it printed before.
pub fn is_refused(net: &Net, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let output = topupd(net, arguments);
    let (was, error) = refused(&output);
    assert_eq!(was, code, "{arguments:?}: {error}");
    has(&error, parts);
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_listed_and_previewed() {
    let net = Net::new().await;
    configured(&net, &Wants::default(), &[USDC, RTITY]);
    edit(
        &net,
        "[[epochs]]",
        "[[epochs]]\nid = \"early\"\nstarts_at = \"2019-01-01T00:00:00Z\"\nphase = \"testnet\"\n[epochs.accept]\nUSDC = { valuation = \"par\", credits_per_usd = \"900\", minimum = \"5\", dust = \"accumulate\" }\n[[epochs]]",
    );
    let out = said(&net, &["epochs", "list"]);
    has(
        &out,
        &["*  one ", "into RTITY", "50 credits a token", "900 credits a token", "accumulate"],
    );
    let list = json(&net, &["epochs", "list"]);
    let list = &list["epochs"];
    assert_eq!((&list[0]["in_force"], &list[1]["in_force"]), (&false.into(), &true.into()));

    let hundred = ["epochs", "preview", "--asset", "USDC", "--amount", "100"];
    let with = |more: &[&'static str]| [&hundred[..], more].concat();
    let prices = ["--price", "RTITY/USD=0.02", "--price", "USDC/USD=1.01"];
    let out = said(&net, &with(&prices));
    has(
        &out,
        &[
            "one (testnet)",
            "convert, into RTITY",
            "USDC/USD = 1.01, counts as 1 (as given)",
            "RTITY/USD = 0.02 (as given)",
            "5000 RTITY",
            "50 credits a token",
            "250000, rounded down",
        ],
    );
    let value = json(&net, &with(&prices));
    assert_eq!((&value["credits"], &value["tokens"]), (&"250000".into(), &"5000".into()));
    let out = said(&net, &with(&["--price", "RTITY/USD=0.02", "--price", "USDC/USD=0.9"]));
    has(&out, &["225000", "USDC/USD is below 0.97"]);
    // Another time, another rule: no market price.
    let out = said(&net, &with(&["--at", "2019-05-01T00:00:00Z"]));
    has(&out, &["early", "par, 900 credits a token", "90000"]);
    let small = ["epochs", "preview", "--asset", "USDC", "--amount", "2", "--at"];
    has(
        &said(&net, &[&small[..], &["2019-05-01T00:00:00Z"]].concat()),
        &["it is less than 5 USDC: waits"],
    );

    // The database is asked for what is not given, and has nothing yet.
    net.store().await.close().await;
    let cases: &[(&[&'static str], &[&str])] = &[
        (&[], &["no price of USDC/USD was accepted", "--price USDC/USD=PRICE"]),
        (&["--price", "RTITY/USD"], &["there is no ="]),
        (&["--price", "RTITY/USD=1e-2"], &["not a decimal number"]),
        (&["--price", "RTITY/USD=0"], &["a price is not 0"]),
        (&["--price", "ETH/USD=1"], &["not used", "USDC/USD, RTITY/USD"]),
        (&["--at", "tomorrow"], &["--at", "RFC 3339"]),
        (&["--at", "2018-01-01T00:00:00Z"], &["no epoch is in force", "\"early\""]),
        (&["--decimals", "77"], &["--decimals 77", "at most 36"]),
    ];
    for (more, parts) in cases {
        is_refused(&net, &with(more), 2, parts);
    }
    for (asset, amount, part) in [
        ("EURC", "1", "it accepts: RTITY, USDC, USDT"),
        ("USDC", "0.0000001", "more than 6 digits"),
        ("USDC", "much", "--amount"),
    ] {
        let arguments = ["epochs", "preview", "--asset", asset, "--amount", amount];
        is_refused(&net, &arguments, 2, &[part]);
    }
    let out = said(&net, &["prices", "history"]);
    has(&out, &["no price was accepted yet"]);
}

/// Creation code that calls contracts one after the other, and creates nothing.
fn calls(calls: &[(Address, Vec<u8>)]) -> Bytes {
    // Each: codecopy(0, offset, length), call(gas, to, 0, 0, length, 0, 0), pop.
    let each = 8 + 4 + 3 + 4 + 21 + 2 + 1 + 1;
    let mut offset = each * calls.len() + 5;
    let (mut code, mut data) = (Vec::new(), Vec::new());
    let word = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    for (to, input) in calls {
        let length = word(input.len());
        code.extend([&[0x61][..], &length, &[0x61], &word(offset), &[0x60, 0, 0x39]].concat());
        code.extend([&[0x60, 0, 0x60, 0, 0x61][..], &length, &[0x60, 0, 0x60, 0]].concat());
        code.extend([&[0x73][..], to.as_slice(), &[0x5a, 0xf1, 0x50]].concat());
        data.extend_from_slice(input);
        offset += input.len();
    }
    code.extend([0x60, 0, 0x60, 0, 0xf3]);
    assert_eq!(code.len() + data.len(), offset);
    [code, data].concat().into()
}

/// In one transaction, the treasury pays USDC and receives RTITY.
async fn buy(net: &Net, treasury: Address, seller: Address, usdc: u64, rtity: u128) -> TxHash {
    let pay = |token, to, amount| Relay::payCall { token, to, amount }.abi_encode();
    let code = calls(&[
        (treasury, pay(net.tokens.usdc, seller, U256::from(usdc))),
        (seller, pay(net.tokens.rtity, treasury, U256::from(rtity))),
    ]);
    let tx = net.dev.send_data(net.dev.payer(), None, code).await.unwrap();
    assert_eq!(net.dev.mined(tx).await.unwrap().logs.len(), 2);
    tx
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_settles_what_conversions_owe() {
    const TOKEN: u128 = 1_000_000_000_000_000_000;
    let mut net = Net::new().await;
    let (treasury, seller) = (
        net.dev.deploy(Relay::BYTECODE.clone()).await,
        net.dev.deploy(Relay::BYTECODE.clone()).await,
    );
    let (treasury, seller) = (treasury.unwrap(), seller.unwrap());
    for (token, to) in [(net.tokens.usdc, treasury), (net.tokens.rtity, seller)] {
        let value = U256::from(10).pow(U256::from(24));
        net.dev.transact(token, TestToken::mintCall { to, value }).await.unwrap();
    }
    let both = ["a", "b"]
        .map(|name| format!(r#"{{ name = "{name}", http = "{}?{name}" }}"#, net.dev.http));
    let wants = Wants { providers: Some(both.join(", ")), ws: None, ..Wants::default() };
    let config = configured(&net, &wants, &[USDC, RTITY]);
    net.register(&config).await;
    let none = format!("{:#x}", TxHash::repeat_byte(7));
    is_refused(
        &net,
        &["treasury", "settle", "--chain", "local", "--tx", &none],
        2,
        &["treasury.address is not configured"],
    );
    let table = format!("[treasury]\naddress = \"{treasury}\"\n");
    let config = configured(&net, &wants, &[USDC, RTITY, &table]);
    has(&said(&net, &["treasury", "obligations"]), &["no conversion has an open obligation"]);

    let daemon = start(&config).await;
    let store = net.store().await;
    let paid = net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.pay(0, net.tokens.usdc, net.addresses[1], 20_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    let out = said(&net, &["treasury", "obligations"]);
    let row = out.split_whitespace().collect::<Vec<_>>().join(" ");
    has(
        &row,
        &["USDC 30 1500 RTITY 0.02", "10 USDC 0 10 500 RTITY 0.02", "20 USDC 0 20 1000 RTITY 0.02"],
    );
    let owed = json(&net, &["treasury", "obligations"]);
    assert_eq!(owed["sums"][0]["open"], "1500");
    assert_eq!(owed["obligations"].as_array().unwrap().len(), 2);

    // 2 % dearer than owed, and 100 more than owed.
    let tx = buy(&net, treasury, seller, 32_640_000, 1_600 * TOKEN).await;
    let tx = format!("{tx:#x}");
    let settle =
        |tx: &str| ["treasury", "settle", "--chain", "local", "--tx", tx].map(str::to_owned);
    let refused_as = |tx: &str, code: i32, parts: &[&str]| {
        let arguments = settle(tx);
        is_refused(&net, &arguments.each_ref().map(String::as_str), code, parts);
    };
    refused_as(&tx, 1, &["is not final yet (3 confirmations)", "0 of 2 wanted providers of local"]);
    net.dev.mine(3).await.unwrap();
    refused_as(&none, 1, &["a does not have it in any block", "b does not"]);
    refused_as(&format!("{paid:#x}"), 2, &["is no purchase", "received nothing and paid nothing"]);
    refused_as("0x12", 2, &["--tx", "is not a transaction"]);
    let other = ["treasury", "settle", "--chain", "moon", "--tx", &tx];
    is_refused(&net, &other, 2, &["no chain is called \"moon\""]);

    let once = said(&net, &settle(&tx).each_ref().map(String::as_str));
    has(
        &once,
        &[
            "shown by a, b",
            "32.64 USDC for 1600 RTITY",
            "price paid  0.0204",
            "price owed  0.02\n",
            "+200 bp",
            "0.6 dollars, a loss",
            "1500 RTITY of 2 obligation(s)",
            "100 RTITY\n",
            "records     5, 6",
        ],
    );
    let again = said(&net, &settle(&tx).each_ref().map(String::as_str));
    has(&again, &["+200 bp", "100 RTITY\n", "settled before, and nothing changed"]);
    has(&said(&net, &["treasury", "obligations"]), &["no conversion has an open obligation"]);
    let id = owed["obligations"][0]["deposit_id"].as_str().unwrap();
    has(&said(&net, &["deposits", "show", id]), &["credited       ", "record 3\n", "convert"]);
    let all = json(&net, &["treasury", "obligations", "--all"]);
    assert_eq!(
        (&all["sums"][0]["settled"], &all["sums"][0]["open"]),
        (&"1500".into(), &"0".into())
    );

    // What is left of it settles what comes later; a cheaper one is a gain.
    net.pay(0, net.tokens.usdc, net.addresses[0], 3_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 3).await;
    let more = said(&net, &settle(&tx).each_ref().map(String::as_str));
    has(&more, &["1600 RTITY of 3 obligation(s)", "left over   0 RTITY", "records     7\n"]);
    let cheap = buy(&net, treasury, seller, 990_000, 50 * TOKEN).await;
    net.dev.mine(3).await.unwrap();
    let cheap = said(&net, &settle(&format!("{cheap:#x}")).each_ref().map(String::as_str));
    has(&cheap, &["-100 bp", "0.01 dollars, a gain", "50 RTITY of 1 obligation(s)"]);
    verify(&store).await;
    store.close().await;
    daemon.shutdown().await;
}

/// A server that answers everything with this, until the process ends. Returns its port.
fn serve(body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_is_asked_now() {
    let net = Net::new().await;
    let feed = net.dev.deploy_feed(8, "RTITY / USD").await.unwrap();
    net.dev.answer(&feed, 2_002_000).await.unwrap();
    let port = serve(r#"{"data":{"price":"0.02"}}"#);
    let pool = "0.0199";
    let tables = format!(
        r#"{USDC}
[oracle.pairs."RTITY/USD"]
quorum = 3
sources = [
  {{ kind = "http", name = "ticker", url = "http://127.0.0.1:{port}/", price = "/data/price" }},
  {{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "RTITY / USD", heartbeat_s = 86400 }},
  {{ kind = "fixed", name = "said", price = "{pool}" }},
  {{ kind = "http", name = "silent", venue = "elsewhere", url = "http://127.0.0.1:1/", price = "/p" }},
]
"#,
        feed.proxy
    );
    configured(&net, &Wants::default(), &[&tables]);
    net.store().await.close().await;
    let out = said(&net, &["prices", "now"]);
    has(
        &out,
        &[
            "RTITY/USD  ticker  http       127.0.0.1  0.02 ",
            "RTITY/USD  feed    chainlink  chainlink  0.02002 ",
            "RTITY/USD  said    fixed      fixed      0.0199 ",
            "silent  http       elsewhere  -        -    missing: ",
            "RTITY/USD = 0.02: 3 of 4 sources count, 60 bp apart; 3 must",
            "USDC/USD = 1: 1 of 1 sources count",
        ],
    );
    let now = json(&net, &["prices", "now"]);
    assert_eq!(
        (&now["pairs"][0]["price"], &now["pairs"][0]["held"]),
        (&"0.02".into(), &Value::Null)
    );

    // Too few, and too far apart.
    edit(&net, "quorum = 3", "quorum = 4");
    let out = said(&net, &["prices", "now"]);
    has(
        &out,
        &[
            "RTITY/USD: a payment now would be held (no_price): 3 of 4 wanted sources answer",
            "silent: missing",
        ],
    );
    edit(&net, "quorum = 4", "quorum = 3\ndispersion_max_bps = 10");
    has(
        &said(&net, &["prices", "now"]),
        &["would be held (prices_disagree): sources are 60 bp apart"],
    );
    edit(&net, "dispersion_max_bps = 10", "dispersion_max_bps = 100");
    // Somebody's price moved too far.
    let open = "INSERT INTO breakers (pair, reason, chain_id, block_hash, instant_ms, price, \
                opened_at_ms) SELECT 'RTITY/USD', '0.02 is 9000 bp from 0.2', 31337, genesis_hash, \
                1800000000000, '0.02', 1800000000000 FROM (SELECT genesis AS genesis_hash FROM journals WHERE journal_id = 0) AS h";
    net.database.sql().await.execute(open).await.unwrap();
    let sentence =
        "the breaker of RTITY/USD is open since 2027-01-15T08:00:00Z: 0.02 is 9000 bp from 0.2";
    let command = "topupd prices resume RTITY/USD --operator NAME --reason TEXT";
    for arguments in [
        &["prices", "now"][..],
        &["prices", "history"],
        &["prices", "at", "2030-01-01T00:00:00Z"],
        &["holds", "list"],
    ] {
        has(&said(&net, arguments), &[sentence, command]);
    }
    has(&said(&net, &["prices", "now"]), &["sources say 0.02; a payment now would be held"]);
    assert_eq!(json(&net, &["prices", "now"])["pairs"][0]["held"], "breaker");
    let resume =
        ["prices", "resume", "RTITY/USD", "--operator", "alice", "--reason", "the listing is real"];
    is_refused(
        &net,
        &resume,
        2,
        &["RTITY/USD = 0.02 is compared with nothing", "--beyond-the-bound 0.02"],
    );
    let shown = text(&topupd(&net, &resume).stdout);
    has(
        &shown,
        &["breaker    of RTITY/USD, open since 2027-01-15T08:00:00Z: 0.02 is 9000 bp from 0.2"],
    );
    has(&shown, &["passes     RTITY/USD = 0.02: ", "payments   none of its block waits for it"]);
    let resume = [&resume[..], &["--beyond-the-bound", "0.02"]].concat();
    has(&said(&net, &resume), &["act 1 ", "the breaker of RTITY/USD is closed: 0.02 passes"]);
    is_refused(&net, &resume, 2, &["the breaker of RTITY/USD is not open"]);
    has(&said(&net, &["prices", "now"]), &["RTITY/USD = 0.02: 3 of 4 sources count"]);
    is_refused(&net, &["prices", "at", "noon"], 2, &["RFC 3339"]);

    // A chain that does not answer silences only what is on it.
    edit(&net, net.dev.http.as_str(), "http://127.0.0.1:1/");
    let out = said(&net, &["prices", "now"]);
    has(&out, &["feed    chainlink  chainlink  -", "local did not answer", "USDC/USD = 1"]);
}
