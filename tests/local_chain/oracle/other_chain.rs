//! A source on another chain than the payment's: read at the last block there at or before it.

use topupd::devnet::{AnvilOptions, Devnet, Feed};

use super::scene::*;

struct Other {
    dev: Devnet,
    feed: Feed,
}

impl Other {
    async fn new() -> Self {
        let options = AnvilOptions {
            chain_id: 31_338,
            timestamp: Some(BASE - 20_000),
            ..AnvilOptions::default()
        };
        let dev = Devnet::start(options).await.unwrap();
        let feed = dev.deploy_feed(8, "RTITY / USD").await.unwrap();
        Self { dev, feed }
    }

    async fn answer(&self, at: u64, answer: i128) {
        let call = topupd::devnet::TestAggregator::submitCall {
            answer: alloy::primitives::I256::try_from(answer).unwrap(),
        };
        self.dev.send(self.feed.aggregator, call).await.unwrap();
        self.dev.mine_at(at).await.unwrap();
    }

    async fn text(&self) -> String {
        let usdc = self.dev.deploy_token("USD Coin", "USDC", 6).await.unwrap();
        self.dev.automine(false).await.unwrap();
        let feed = self.feed.proxy;
        let chain = format!(
            r#"
[chains.other]
chain_id = 31338
verify = "same-provider"
providers = [{{ name = "other", http = "{}" }}]
finality = [{{ confirmations = 3 }}]
tokens = [{{ symbol = "USDC", address = "{usdc}", decimals = 6 }}]
"#,
            self.dev.http
        );
        chain
            + &TWO_FEEDS.replacen(
                "chain = \"local\", address = \"{rtity}\"",
                &format!("chain = \"other\", address = \"{feed}\""),
                1,
            )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_block_of_the_other_chain_at_or_before_the_payment_counts_once_it_is_final() {
    let other = Other::new().await;
    let text = other.text().await;
    other.answer(BASE - 15_000, 1_000_000).await;
    let mut scene = Scene::new(&text).await;
    let usdc = scene.net.tokens.usdc;
    for i in 0..30 {
        other.dev.mine_at(BASE - 1_000 + 10 * i).await.unwrap();
    }
    other.answer(BASE + 5, 2_000_000).await;
    other.dev.mine_at(BASE + 28).await.unwrap();
    scene.answers(BASE + 10, 100_000_000, 9_900_000).await;
    scene.pay(BASE + 30, usdc, ONE_USDC).await;
    scene.blocks(BASE + 31, 4).await;
    scene.turn().await;
    // Its chain has no block after the payment yet: one before it could still come.
    assert_eq!(scene.stages().await, ["confirmed"]);
    other.answer(BASE + 31, 2_500_000).await;
    scene.clock_at(BASE + 40);
    scene.turn().await;
    assert_eq!(scene.stages().await, ["confirmed"], "two confirmations of three");
    other.dev.mine_at(BASE + 41).await.unwrap();
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500"]);
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_other_chain_that_is_replaced_is_read_anew() {
    let other = Other::new().await;
    let text = other.text().await;
    other.answer(BASE - 15_000, 2_000_000).await;
    let mut scene = Scene::new(&text).await;
    let usdc = scene.net.tokens.usdc;
    other.answer(BASE + 5, 2_000_000).await;
    other.answer(BASE + 20, 2_200_000).await;
    other.dev.mine_at(BASE + 31).await.unwrap();
    scene.pay(BASE + 30, usdc, ONE_USDC).await;
    scene.blocks(BASE + 31, 4).await;
    scene.turn().await;
    let block = scene.deposits().await[0].block_hash;
    assert_eq!(scene.store.quotes_of(CHAIN, block).await.unwrap().len(), 2);
    // The answer of 2.2 cents was in a block that is not there any more.
    other.dev.reorg(2, &[]).await.unwrap();
    for at in [40, 50, 60, 70] {
        other.dev.mine_at(BASE + at).await.unwrap();
    }
    for at in [50, 60, 70] {
        scene.clock_at(BASE + at);
        scene.turn().await;
    }
    // At 0.9999 dollars.
    assert_eq!(scene.stages().await, ["credited 2499.75"]);
    scene.verify().await;
}
