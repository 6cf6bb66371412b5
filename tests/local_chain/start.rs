//! What is wrong with one chain's provider at the start keeps no other chain from its work, and
//! nothing from starting; and when it is right, that chain is followed too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy::primitives::U256;
use topupd::devnet::{AnvilOptions, Devnet, TestToken};

use crate::database::Engine;

use super::binary::{text, topupd};
use super::lying::Scene;
use super::proxy::{FINALIZED, Fault, Proxy, Rule, SAFE};
use super::support::*;

/// The daemon as a process of its own; what it says is in a file.
pub fn run(net: &Net, log: &Path) -> Running {
    let file = std::fs::File::create(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command.arg("run").arg("--config").arg(net.config_path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    Running(command.spawn().unwrap())
}

/// A second chain behind a proxy, with a configuration that asks for everything.
struct Second {
    dev: Devnet,
    usdc: alloy::primitives::Address,
    proxy: Proxy,
}

impl Second {
    async fn new() -> Self {
        let options = AnvilOptions { chain_id: 31_338, ..AnvilOptions::default() };
        let dev = Devnet::start(options).await.unwrap();
        let usdc = dev.deploy_token("USD Coin", "USDC", 6).await.unwrap();
        let proxy = Proxy::to(&dev.http).await.unwrap();
        Self { dev, usdc, proxy }
    }

    /// Its price feed is not there, which concerns nobody who pays in dollars.
    fn text(&self, websocket: &str) -> String {
        let (http, usdc) = (self.proxy.http(), self.usdc);
        format!(
            r#"
[chains.second]
chain_id = 31338
start_block = 0
poll_ms = 50
safety_poll_ms = 200
verify = "receipts-root"
providers = [{{ name = "far", http = "{http}", {websocket} timeout_ms = 1000 }}]
finality = [{{ up_to_usd = "100", confirmations = 2 }}, {{ tag = "finalized" }}]
tokens = [{{ symbol = "USDC", address = "{usdc}", decimals = 6 }}]
[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{{ kind = "chainlink", name = "gone", chain = "second", address = "0x00000000000000000000000000000000000000aa", description = "RTITY / USD", heartbeat_s = 3600 }}]
"#
        )
    }

    async fn pay(&self, to: alloy::primitives::Address) {
        let call = TestToken::mintCall { to, value: U256::from(1_000_000) };
        self.dev.transact(self.usdc, call).await.unwrap();
        self.dev.mine(3).await.unwrap();
    }
}

/// What is wrong: its name, the fault, and whether the chain waits for its end.
fn faults() -> Vec<(&'static str, Rule, bool)> {
    let error = |code, message| Fault::Error(code, message);
    vec![
        ("nobody is there", Fault::Drop.into(), true),
        ("silence", Fault::Delay(Duration::from_secs(3_600)).into(), true),
        ("a gateway's page", Fault::Html(502).into(), true),
        ("one 429", Fault::TooMany { retry_after: 0 }.times(1), false),
        ("429", Fault::TooMany { retry_after: 0 }.into(), true),
        ("finalized is null", Fault::Says("null").on(FINALIZED), false),
        ("finalized is an error", error(-32_000, "finalized block not found").on(FINALIZED), false),
        ("safe is a page", Fault::Html(500).on(SAFE), false),
        ("header not found", error(-32_000, "header not found").on("eth_call"), true),
        ("no backend", error(-32_000, "no backend is currently healthy").on("eth_call"), true),
        ("a call is refused", error(3, "execution reverted").on("eth_call"), true),
        ("calls answer nothing", Fault::Says("\"0x\"").on("eth_call"), true),
        ("receipts are null", Fault::Says("null").on("eth_getBlockReceipts"), true),
        ("no WebSocket", Fault::NoWebSocket.into(), false),
        ("a silent WebSocket", Fault::Silence.into(), false),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chains_trouble_at_the_start_keeps_nobody_else_waiting() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let second = Second::new().await;
    let websocket = format!(r#"ws = "{}","#, second.proxy.ws());
    let more = second.text(&websocket);
    let wants = Wants::default();
    let config = net.write_config(&wants);
    net.register(&config).await;
    let (chains, epochs) = net
        .config_text(&wants)
        .split_once("[[epochs]]")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    std::fs::write(net.config_path(), format!("{chains}{more}[[epochs]]{epochs}")).unwrap();
    let store = net.store().await;
    let to = net.addresses[0];
    let mut wanted = 0;
    for (what, fault, waits) in faults() {
        eprintln!("{what}");
        second.proxy.set(fault);
        let log = net.dir.path().join("run.log");
        let mut daemon = run(&net, &log);
        second.pay(to).await;
        net.pay(0, net.tokens.usdc, to, 1_000_000).await;
        net.dev.mine(4).await.unwrap();
        wanted += if waits { 1 } else { 2 };
        until_credited(&store, wanted).await;
        second.proxy.heal();
        wanted += usize::from(waits);
        until_credited(&store, wanted).await;
        assert!(daemon.0.try_wait().unwrap().is_none(), "{what}: it runs");
        daemon.kill();
    }
    verify(&store).await;
}

/// A token is no feed: it has other decimals, and no description.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_source_that_is_another_one_stops_neither_the_start_nor_who_needs_no_price() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let second = Second::new().await;
    let feed = format!("{:#x}", second.usdc);
    let more = second.text("").replace("0x00000000000000000000000000000000000000aa", &feed);
    let more = format!(
        "{more}[oracle.pairs.\"ETH/USD\"]\nquorum = 1\nsources = [{{ kind = \"fixed\", name = \"fixed\", price = \"3000\" }}]\n"
    );
    let wants = Wants::default();
    net.register(&net.write_config(&wants)).await;
    let text_of = net.config_text(&wants);
    let (chains, epochs) = text_of.split_once("[[epochs]]").unwrap();
    std::fs::write(net.config_path(), format!("{chains}{more}[[epochs]]{epochs}")).unwrap();
    let store = net.store().await;
    let log = net.dir.path().join("run.log");
    let mut daemon = run(&net, &log);
    second.pay(net.addresses[0]).await;
    until_credited(&store, 1).await;
    let prices = topupd(&net, &["prices", "now"]);
    daemon.kill();
    let said = std::fs::read_to_string(&log).unwrap();
    let why = "price source gone decimals: the chain says 6, the configuration says decimals = 8";
    assert_eq!(said.matches(why).count(), 1, "{said}");
    assert!(said.contains("RTITY/USD: 0 of its sources can be used, and 1 must agree"), "{said}");
    let prices = text(&prices.stdout);
    assert!(prices.contains(why) && prices.contains("ETH/USD = 3000"), "{prices}");
    // Whoever looks before starting is told the same.
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(2), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains(&format!("WRONG  second: far: {why}")));
}

/// What a provider repeats, colours and forges reaches no terminal and no log as it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_is_shown_harmless_and_without_the_keys_that_it_was_sent() {
    const SAID: &str = "no \u{1b}[31mcredit\u{9b}2J left for k3yA or s3cr\nERROR forged";
    let net = Net::new().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let url = proxy.http().join("v2/k3yA?token=s3cr").unwrap();
    let providers = format!(r#"{{ name = "near", http = "{url}" }}"#);
    net.write_config(&Wants { providers: Some(providers), ..Wants::default() });
    proxy.set(Fault::Error(-32_000, SAID));
    let log = net.dir.path().join("run.log");
    let mut daemon = run(&net, &log);
    until("said by the daemon", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("left for") { Ok(()) } else { Err(said) }
    })
    .await;
    let check = topupd(&net, &["check"]);
    daemon.kill();
    let log = std::fs::read_to_string(&log).unwrap();
    let check = format!("{}{}", text(&check.stdout), text(&check.stderr));
    assert!(check.contains("no \\u001b[31mcredit\\u009b2J left for"), "{check}");
    let written_out = ["no \\u001b[31mcredit\\u009b2J left", "no \\u{1b}[31mcredit\\u{9b}2J left"];
    assert!(written_out.iter().any(|said| log.contains(said)), "{log}");
    for shown in [log, check] {
        for harm in ["\u{1b}", "\u{9b}", "k3yA", "s3cr", "\nERROR forged"] {
            assert!(!shown.contains(harm), "{harm:?} in {shown}");
        }
    }
}

/// Nobody else on the machine reads the ledger.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_database_are_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    if crate::ENGINE != Engine::Sqlite {
        return;
    }
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let path = net.dir.path().join("private.db");
    // Somebody made it beforehand, for everybody to read.
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let url = format!("sqlite:{}", path.display());
    let done = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["migrate", "--create", "--config"])
        .arg(net.config_path())
        .env("TOPUPD_DATABASE__URL", url)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let mut seen = 0;
    for file in net.dir.path().read_dir().unwrap().map(Result::unwrap) {
        if file.file_name().to_str().unwrap().starts_with("private.db") {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syncing_node_is_waited_for_and_what_waits_is_said() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let proxy = Proxy::to(&net.dev.http).await.unwrap();
    let providers = format!(r#"{{ name = "near", http = "{}" }}"#, proxy.http());
    let config = net.write_config(&Wants { providers: Some(providers), ..Wants::default() });
    net.register(&config).await;
    let store = net.store().await;
    // It has no code yet, and it says so itself.
    proxy.set(Fault::Says("\"0x\"").on("eth_getCode"));
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(2), "{}", text(&check.stdout));
    proxy.set(Fault::Says(r#"{ "currentBlock": "0x1", "highestBlock": "0x9" }"#).on("eth_syncing"));
    let check = topupd(&net, &["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", text(&check.stdout));
    let log = net.dir.path().join("run.log");
    let mut daemon = run(&net, &log);
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    net.dev.mine(4).await.unwrap();
    until("shown by status", async || {
        let status = text(&topupd(&net, &["status"]).stdout);
        let said = "not admitted: token USDT code: there is no contract";
        if status.contains(said) { Ok(()) } else { Err(status) }
    })
    .await;
    proxy.heal();
    until_credited(&store, 1).await;
    daemon.kill();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("the chain waits for a provider").count(), 1, "{said}");
    assert_eq!(said.matches("it is asked from now on").count(), 1, "{said}");
}

/// Eighteen, as a word.
const EIGHTEEN: &str = r#""0x0000000000000000000000000000000000000000000000000000000000000012""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_comes_back_is_checked_as_at_the_start() {
    let mut scene = Scene::new(3).await;
    scene.proxies[0].set(Fault::Drop);
    scene.start().await;
    scene.proxies[0].heal();
    scene.proxies[0].set(Fault::Says(EIGHTEEN).on("eth_call"));
    let stands = async |scene: &Scene, wanted: &str| {
        until(wanted, async || {
            let state = scene.state(0);
            if state.starts_with(wanted) { Ok(()) } else { Err(state) }
        })
        .await;
    };
    stands(&scene, "not admitted: token USDT decimals: the chain says 18").await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    assert_eq!(scene.proxies[0].requests("eth_getLogs"), 0);
    scene.proxies[0].heal();
    stands(&scene, "ok").await;
    // It goes away, and what comes back under its address is another chain.
    scene.proxies[0].set(Fault::Drop);
    stands(&scene, "not admitted: chain id: ").await;
    scene.proxies[0].heal();
    scene.proxies[0].set(Fault::WrongChain(1));
    stands(&scene, "not admitted: chain id: the chain says 1,").await;
    let before = scene.proxies[0].requests("eth_getLogs");
    scene.pay(1).await;
    scene.mine(4).await;
    until_credited(&scene.store, 2).await;
    assert_eq!(scene.proxies[0].requests("eth_getLogs"), before);
    scene.proxies[0].heal();
    stands(&scene, "ok").await;
    scene.ends_with("2000").await;
}
