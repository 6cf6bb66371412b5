//! The proxy does what it says, in front of a real node; and the daemon gets through.
//!
//! What a daemon with several providers makes of each fault is not tested here.

mod websocket;

use std::time::{Duration, Instant};

use alloy::primitives::{Address, TxHash, U64, U256};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use topupd::chain::source::SourceError;
use topupd::devnet::{AnvilOptions, Devnet, LocalChain, TestToken, Tokens};

use super::proxy::{Fault, Invention, LOGS_BY_HASH, LOGS_BY_RANGE, Lie, Proxy};
use super::support::*;

const TIP: (&str, bool) = ("latest", false);

/// A node, a proxy in front of it, and the daemon's client through it.
struct Scene {
    dev: Devnet,
    tokens: Tokens,
    proxy: Proxy,
    through: LocalChain,
}

impl Scene {
    async fn new() -> Self {
        let dev = Devnet::start(AnvilOptions::default()).await.unwrap();
        let tokens = dev.deploy_tokens().await.unwrap();
        let proxy = Proxy::to(&dev.http).await.unwrap();
        let through = LocalChain::at(proxy.http(), proxy.ws()).await.unwrap();
        Self { dev, tokens, proxy, through }
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, SourceError> {
        self.through.rpc.ask(method, params).await
    }

    /// Past the daemon's client, for what that hides.
    async fn post(&self, body: &Value) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = client.post(self.proxy.http()).header(CONTENT_TYPE, "application/json");
        post.body(body.to_string()).send().await.unwrap()
    }

    /// A block with a payment to each of these.
    async fn pay(&self, to: &[Address]) -> Vec<TxHash> {
        self.dev.automine(false).await.unwrap();
        let mut txs = Vec::new();
        for to in to {
            let call = TestToken::transferCall { to: *to, value: U256::from(5) };
            txs.push(self.dev.send(self.tokens.usdc, call).await.unwrap());
        }
        self.dev.mine(1).await.unwrap();
        self.dev.automine(true).await.unwrap();
        txs
    }

    /// The logs of the newest block, by hash and by range.
    async fn logs(&self) -> (Vec<Value>, Vec<Value>) {
        let tip: Value = self.dev.rpc.ask("eth_getBlockByNumber", TIP).await.unwrap();
        let ask = async |filter| match self.ask("eth_getLogs", json!([filter])).await.unwrap() {
            Value::Array(logs) => logs,
            other => panic!("{other}"),
        };
        let by_hash = ask(json!({ "blockHash": tip["hash"] })).await;
        let number = &tip["number"];
        (by_hash, ask(json!({ "fromBlock": number, "toBlock": number })).await)
    }

    async fn receipt(&self, tx: TxHash) -> Value {
        self.ask("eth_getTransactionReceipt", json!([tx])).await.unwrap()
    }
}

fn request(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params })
}

fn amount(log: &Value) -> U256 {
    log["data"].as_str().unwrap().parse().unwrap()
}

fn index(log: &Value) -> u64 {
    log["logIndex"].as_str().unwrap().parse::<U64>().unwrap().to()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_nothing_is_changed() {
    let scene = Scene::new().await;
    let tx = scene.pay(&[Address::repeat_byte(1)]).await[0];
    let tip: Value = scene.dev.rpc.ask("eth_getBlockByNumber", TIP).await.unwrap();
    let before = (scene.proxy.requests_in_all(), scene.proxy.bytes_sent());
    let questions = [
        ("eth_chainId", json!([])),
        ("eth_getBlockByNumber", json!(["latest", false])),
        ("eth_getBlockByNumber", json!(["finalized", false])),
        ("eth_getBlockByHash", json!([tip["hash"], true])),
        ("eth_getTransactionReceipt", json!([tx])),
        ("eth_getLogs", json!([{ "blockHash": tip["hash"] }])),
        ("eth_getLogs", json!([{ "fromBlock": "0x0" }])),
    ];
    let (mut batch, mut answers) = (Vec::new(), Vec::new());
    for (method, params) in questions {
        let direct: Value = scene.dev.rpc.ask(method, params.clone()).await.unwrap();
        assert_eq!(scene.ask(method, params.clone()).await.unwrap(), direct, "{method}");
        batch.push(request(method, params));
        answers.push(json!({ "jsonrpc": "2.0", "id": 7, "result": direct }));
    }
    let unknown = scene.ask("eth_nonsense", json!([])).await.unwrap_err();
    assert!(unknown.to_string().contains("-32601"), "{unknown}");
    let batch = scene.post(&Value::from(batch)).await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&batch).unwrap(), answers);

    assert_eq!(scene.proxy.requests_in_all() - before.0, 7 + 1 + 7);
    assert_eq!(scene.proxy.requests("eth_getLogs"), 4);
    assert_eq!(scene.proxy.requests(LOGS_BY_HASH), 2);
    assert_eq!(scene.proxy.requests(LOGS_BY_RANGE), 2);
    assert!(scene.proxy.bytes_sent() - before.1 > 2 * u64::try_from(batch.len()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_late_broken_or_somebody_elses() {
    let scene = Scene::new().await;
    let chain_id = request("eth_chainId", json!([]));
    let slow = scene.proxy.set(Fault::Delay(Duration::from_millis(300)));
    scene.proxy.set(Fault::TooMany { retry_after: 9 }.on("eth_chainId").times(1));
    let start = Instant::now();
    let limited = scene.post(&chain_id).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        (limited.status().as_u16(), &limited.headers()[RETRY_AFTER]),
        (429, &"9".parse().unwrap())
    );
    slow.lift();
    assert_eq!(slow.hits(), 1);
    assert_eq!(scene.ask("eth_chainId", json!([])).await.unwrap(), "0x7a69"); // once was once

    scene.proxy.set(Fault::Html(502).times(1));
    let page = scene.post(&chain_id).await;
    assert_eq!(
        (page.status().as_u16(), &page.headers()[CONTENT_TYPE]),
        (502, &"text/html".parse().unwrap())
    );
    assert!(page.text().await.unwrap().starts_with("<html>"));

    let cut = scene.proxy.set(Fault::Truncated);
    let answer = scene.post(&chain_id).await;
    assert!(answer.headers()[CONTENT_LENGTH].to_str().unwrap().parse::<usize>().unwrap() > 30);
    assert!(answer.bytes().await.is_err());
    let error = scene.ask("eth_chainId", json!([])).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable { .. }), "{error}");
    cut.lift();

    scene.proxy.set(Fault::Huge(3_000_000).times(1));
    let huge = scene.post(&chain_id).await.text().await.unwrap();
    assert!(huge.len() > 3_000_000 && huge.trim_end().ends_with('}'));

    let closed = scene.proxy.set(Fault::Drop);
    let error = scene.ask("eth_blockNumber", json!([])).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable { .. }), "{error}");
    assert!(closed.hits() >= 1);
    scene.proxy.heal();

    let narrow = Fault::Error(-32_005, "query returned more than 10000 results");
    let narrow = scene.proxy.set(narrow.on(LOGS_BY_RANGE));
    let error = scene.ask("eth_getLogs", json!([{ "fromBlock": "0x0" }])).await.unwrap_err();
    assert!(error.to_string().contains("more than 10000 results"), "{error}");
    let tip: Value = scene.dev.rpc.ask("eth_getBlockByNumber", TIP).await.unwrap();
    scene.ask("eth_getLogs", json!([{ "blockHash": tip["hash"] }])).await.unwrap();
    assert_eq!(narrow.hits(), 1);

    scene.proxy.set(Fault::WrongChain(1));
    assert_eq!(scene.ask("eth_chainId", json!([])).await.unwrap(), "0x1");
    assert_eq!(scene.ask("net_version", json!([])).await.unwrap(), "1");

    // A node that is not there is a gateway's 502.
    scene.proxy.heal();
    scene.proxy.switch_to(&"http://127.0.0.1:1".parse().unwrap());
    assert_eq!(scene.post(&chain_id).await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_does_not_know_what_is_above() {
    let scene = Scene::new().await;
    let old = scene.pay(&[Address::repeat_byte(1)]).await[0];
    scene.dev.mine(70).await.unwrap(); // anvil's finalized is 64 below the tip
    let new = scene.pay(&[Address::repeat_byte(1)]).await[0];
    let tip = scene.dev.height().await.unwrap();
    let paid: Value = scene.dev.rpc.ask("eth_getBlockByNumber", TIP).await.unwrap();
    let number = async |tag: Value| {
        let block = scene.ask("eth_getBlockByNumber", json!([tag, false])).await.unwrap();
        block["number"].as_str().map(|n| n.parse::<U64>().unwrap().to::<u64>())
    };
    let finalized = number(json!("finalized")).await.unwrap();

    let behind = scene.proxy.set(Fault::Behind(3));
    assert_eq!(number(json!("latest")).await, Some(tip - 3));
    assert_eq!(number(json!("finalized")).await, Some(finalized - 3));
    assert_eq!(scene.ask("eth_blockNumber", json!([])).await.unwrap(), json!(U64::from(tip - 3)));
    assert_eq!(number(json!(U64::from(tip - 3))).await, Some(tip - 3));
    assert_eq!(number(json!(U64::from(tip - 2))).await, None);
    assert_eq!(scene.receipt(new).await, Value::Null);
    assert_ne!(scene.receipt(old).await, Value::Null);
    let by_hash = scene.ask("eth_getBlockByHash", json!([paid["hash"], false])).await;
    assert_eq!(by_hash.unwrap(), Value::Null);
    let logs = async |filter: Value| scene.ask("eth_getLogs", json!([filter])).await;
    let unknown = logs(json!({ "blockHash": paid["hash"] })).await.unwrap_err();
    assert!(unknown.to_string().contains("unknown block"), "{unknown}");
    let from = |height: u64| json!({ "fromBlock": U64::from(height), "toBlock": U64::from(tip) });
    assert_eq!(logs(from(tip - 2)).await.unwrap(), json!([]));
    assert_eq!(logs(from(tip - 71)).await.unwrap().as_array().unwrap().len(), 1); // the old one
    assert_eq!(behind.hits(), 9);
    behind.lift();
    assert_eq!(number(json!("latest")).await, Some(tip));

    // Stuck, and only its index of logs: the head goes on.
    scene.proxy.set(Fault::StuckAt(tip - 1).on("eth_getLogs"));
    scene.dev.mine(1).await.unwrap();
    assert_eq!(number(json!("latest")).await, Some(tip + 1));
    assert_eq!(logs(from(tip)).await.unwrap(), json!([]));
    scene.proxy.heal();
    assert_eq!(logs(from(tip)).await.unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_missing_doubled_moved_and_made_up() {
    let scene = Scene::new().await;
    let [first, last] = scene.pay(&[Address::repeat_byte(1), Address::repeat_byte(2)]).await[..]
    else {
        panic!("two payments");
    };
    let (honest, _) = scene.logs().await;
    assert_eq!(honest.len(), 2);

    let only = scene.proxy.set(Fault::Logs(Lie::Empty).on(LOGS_BY_RANGE));
    assert_eq!(scene.logs().await, (honest.clone(), vec![]));
    only.lift();
    let only = scene.proxy.set(Fault::Logs(Lie::Empty).on(LOGS_BY_HASH));
    assert_eq!(scene.logs().await, (vec![], honest.clone()));
    only.lift();

    let lies = async |lie: Lie| {
        let lie = scene.proxy.set(Fault::Logs(lie));
        let (by_hash, by_range) = scene.logs().await;
        assert_eq!(by_hash, by_range);
        assert_eq!(lie.hits(), 2);
        lie.lift();
        by_hash
    };
    assert_eq!(lies(Lie::Empty).await, [] as [Value; 0]);
    assert_eq!(lies(Lie::LastMissing).await, honest[..1]);
    assert_eq!(lies(Lie::LastTwice).await, [&honest[0], &honest[1], &honest[1]].map(Clone::clone));
    let shifted = lies(Lie::Shifted(5)).await;
    assert_eq!(shifted.iter().map(index).collect::<Vec<_>>(), [5, 6]);
    let amounts = lies(Lie::Amount(U256::from(99))).await;
    assert_eq!(amounts.iter().map(amount).collect::<Vec<_>>(), [U256::from(99); 2]);
    let (to, tx) = (Address::repeat_byte(9), TxHash::repeat_byte(9));
    let invention = Invention { to: Some(to), amount: Some(U256::from(77)), tx: Some(tx) };
    let invented = lies(Lie::Invented(invention)).await;
    assert_eq!(invented[..2], honest);
    assert_eq!((index(&invented[2]), amount(&invented[2])), (2, U256::from(77)));
    assert_eq!(invented[2]["topics"][2], json!(to.into_word()));
    assert_eq!(invented[2]["transactionHash"], json!(tx));
    let copied = lies(Lie::Invented(Invention::default())).await;
    assert_eq!(copied[2]["data"], honest[1]["data"]);

    // Of one transaction only, and two lies at once.
    scene.proxy.set(Fault::Logs(Lie::LastMissing).of(first));
    scene.proxy.set(Fault::Logs(Lie::Amount(U256::from(3))).of(last).times(1));
    let (by_hash, by_range) = scene.logs().await;
    assert_eq!((by_hash.len(), amount(&by_hash[0])), (1, U256::from(3)));
    assert_eq!(by_range, honest[1..]);
    // Receipts are not logs.
    assert_eq!(scene.receipt(first).await["logs"][0], honest[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_hidden_and_altered() {
    let scene = Scene::new().await;
    let [first, last] = scene.pay(&[Address::repeat_byte(1), Address::repeat_byte(2)]).await[..]
    else {
        panic!("two payments");
    };
    let of_block = async || {
        let all = scene.ask("eth_getBlockReceipts", json!(["latest"])).await.unwrap();
        all.as_array().unwrap().clone()
    };
    let (honest, all) = (scene.receipt(last).await, of_block().await);
    assert_eq!(all.len(), 2);

    let hidden = scene.proxy.set(Fault::NoReceipt.of(first));
    assert_eq!(scene.receipt(first).await, Value::Null);
    assert_eq!(scene.receipt(last).await, honest);
    assert_eq!(of_block().await, all[1..]);
    assert_eq!(hidden.hits(), 2);
    scene.proxy.heal();

    scene.proxy.set(Fault::Receipt(Lie::Amount(U256::from(8))).of(last));
    assert_eq!(amount(&scene.receipt(last).await["logs"][0]), U256::from(8));
    assert_eq!(amount(&of_block().await[1]["logs"][0]), U256::from(8));
    assert_eq!(amount(&scene.receipt(first).await["logs"][0]), U256::from(5));
    let (logs, _) = scene.logs().await;
    assert_eq!(amount(&logs[1]), U256::from(5)); // logs are not receipts
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_have_one_history_and_two_futures() {
    let scene = Scene::new().await;
    scene.dev.mine(5).await.unwrap();
    let twin = scene.dev.twin().await.unwrap();
    let height = scene.dev.height().await.unwrap();
    let hash = async |height: u64| {
        let block = scene.ask("eth_getBlockByNumber", json!([U64::from(height), false])).await;
        block.unwrap()["hash"].clone()
    };
    for height in 0..=height {
        scene.proxy.switch_to(&scene.dev.http);
        let ours = hash(height).await;
        scene.proxy.switch_to(&twin.http);
        assert_eq!(hash(height).await, ours, "{height}");
    }
    // One branch has the payment, the other one does not; each goes on.
    let tx = scene.pay(&[Address::repeat_byte(1)]).await[0];
    twin.mine(2).await.unwrap();
    assert_eq!(scene.receipt(tx).await, Value::Null);
    let theirs = hash(height + 1).await;
    scene.proxy.switch_to(&scene.dev.http);
    assert_ne!(hash(height + 1).await, theirs);
    assert_ne!(scene.receipt(tx).await, Value::Null);
    // The payment on both branches, in different blocks; and a reorg below the dump's tip.
    let raw = scene.dev.raw(tx).await.unwrap();
    twin.send_raw(&raw).await.unwrap();
    let (here, there) = (scene.dev.mined(tx).await.unwrap(), twin.mined(tx).await.unwrap());
    assert_ne!(here.block_hash, there.block_hash);
    twin.reorg(6, &[]).await.unwrap();
    assert!(twin.receipt(tx).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_gets_through_a_bad_day() {
    let mut net = Net::new().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let (http, ws) = (proxy.http(), proxy.ws());
    let provider = format!(r#"{{ name = "proxied", http = "{http}", ws = "{ws}" }}"#);
    let daemon = net.daemon(&Wants { providers: Some(provider), ..Wants::default() }).await;
    let store = net.store().await;
    until("subscribed", async || match proxy.subscriptions("newHeads") {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    let bad = [
        Fault::Drop,
        Fault::Html(502),
        Fault::TooMany { retry_after: 1 },
        Fault::Truncated,
        Fault::Error(-32_000, "header not found"),
        Fault::Behind(2),
    ];
    let faults = bad.map(|fault| proxy.set(fault.times(1)));
    for _ in 0..3 {
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        net.dev.mine(3).await.unwrap();
    }
    until_credited(&store, 3).await;
    until("all of it happened", async || {
        let hits = faults.each_ref().map(|fault| fault.hits());
        if hits == [1; 6] { Ok(()) } else { Err(hits) }
    })
    .await;
    assert_eq!(balance(&store, "acme").await, "3000");
    verify(&store).await;
    daemon.shutdown().await;
}
