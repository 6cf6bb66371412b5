//! Logs that only resemble payments, and payments that do not look like ones.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};
use topupd::devnet::{Adversary, Relay, TestNFT, TestToken, TestUSDT};
use topupd::domain::transfer::TRANSFER_TOPIC;

use super::support::*;

fn word(address: Address) -> B256 {
    address.into_word()
}

fn dirty(address: Address, byte: usize) -> B256 {
    let mut word = word(address);
    word[byte] = 0x80;
    word
}

/// Number of deposits by token and stage.
async fn tally(
    store: &topupd::store::Store,
    names: &BTreeMap<Address, &'static str>,
) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for deposit in deposits(store).await {
        let token = names.get(&deposit.token).copied().unwrap_or("?");
        *tally.entry(format!("{token} {}", deposit.stage)).or_default() += 1;
    }
    tally
}

fn expected(lines: &[(&str, usize)]) -> BTreeMap<String, usize> {
    lines.iter().map(|(line, n)| ((*line).to_owned(), *n)).collect()
}

async fn story(filter: &'static str) -> (BTreeMap<String, usize>, String, String) {
    let mut net = Net::new().await;
    let dev = &net.dev;
    let odd = dev.deploy(Adversary::BYTECODE.clone()).await.unwrap();
    let fake = dev.deploy_token("USD Coin", "USDC", 6).await.unwrap();
    let nft = dev.deploy(TestNFT::BYTECODE.clone()).await.unwrap();
    let relay = dev.deploy(Relay::BYTECODE.clone()).await.unwrap();
    let names = BTreeMap::from([
        (net.tokens.usdc, "USDC"),
        (net.tokens.usdt, "USDT"),
        (net.tokens.rtity, "RTITY"),
        (odd, "ODD"),
        (fake, "FAKE"),
        (nft, "NFT"),
    ]);
    let wants =
        Wants { confirmations: 2, filter, tokens: vec![("ODD", odd, 6)], ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    let (dev, us) = (&net.dev, net.addresses[0]);
    let them = dev.payer();
    let usdc = net.tokens.usdc;
    let usdt = net.tokens.usdt;

    // Odd logs of a listed token: none is credited, each is recorded with its reason.
    let amount = U256::from(5_000_000).to_be_bytes_vec();
    let three = [word(them).as_slice(), word(us).as_slice(), &amount].concat();
    let (from, to, data): (B256, B256, &[u8]) = (word(them), word(us), &amount);
    let t = TRANSFER_TOPIC;
    let logs: Vec<(Vec<B256>, Vec<u8>)> = vec![
        (vec![t], three.clone()),
        (vec![t, from], three[32..].to_vec()),
        (vec![t, from, to, B256::with_last_byte(7)], vec![]),
        (vec![t, from, to, B256::with_last_byte(7)], data.to_vec()),
        (vec![t, from, to], vec![]),
        (vec![t, from, to], data[..31].to_vec()),
        (vec![t, from, to], [data, &[0]].concat()),
        (vec![t, from, to], [data, data].concat()),
        (vec![t, from, dirty(us, 0)], data.to_vec()),
        (vec![t, dirty(them, 11), to], data.to_vec()),
        (vec![t, to, to], data.to_vec()), // from == to
        (vec![t, from, to], vec![0; 32]), // nothing
        (vec![t, from, to], U256::MAX.to_be_bytes_vec()), // more than can be credited
        (vec![B256::ZERO, from, to], data.to_vec()), // another event
    ];
    let many = Adversary::emitManyCall {
        topics: logs.iter().map(|(topics, _)| topics.clone()).collect(),
        data: logs.iter().map(|(_, data)| Bytes::from(data.clone())).collect(),
    };
    dev.transact(odd, many).await.unwrap();

    // A fake token with the symbol of a real one, and an NFT.
    for token in [fake, nft] {
        let value = U256::from(9_000_000);
        dev.transact(token, TestToken::mintCall { to: us, value }).await.unwrap();
    }
    // Fifty zero-value transfers of a real token in one transaction.
    let spoof =
        Adversary::zeroTransferFromCall { token: usdc, from: them, to: us, times: U256::from(50) };
    dev.transact(odd, spoof).await.unwrap();

    // And now real money, in every way that money moves. 1: minted.
    let value = U256::from(1_000_000);
    dev.transact(usdc, TestToken::mintCall { to: us, value }).await.unwrap();
    // 2: out of a constructor.
    let call = Relay::deployAndPayCall { token: usdc, to: us, amount: U256::from(2_000_000) };
    dev.transact(relay, call).await.unwrap();
    // 3 and more: through a relay contract that holds tokens of both kinds.
    for token in [usdc, usdt] {
        let value = U256::from(1_000_000_000);
        dev.transact(token, TestToken::mintCall { to: relay, value }).await.unwrap();
    }
    let call = Relay::payCall { token: usdt, to: us, amount: U256::from(3_000_000) };
    dev.transact(relay, call).await.unwrap();
    // An inner call that reverts pays nothing; the rest of the transaction does.
    let call = Relay::payWithInnerRevertCall {
        token: usdc,
        to: us,
        amountReverted: U256::from(500_000_000),
        amountOk: U256::from(4_000_000),
    };
    dev.transact(relay, call).await.unwrap();
    // One transaction: the same address twice, another of ours, a stranger, another token.
    let other = net.addresses[1];
    let stranger = Address::repeat_byte(0x99);
    let call = Relay::payAssortedCall {
        tokens: vec![usdc, usdc, usdc, usdc, usdt],
        to: vec![us, us, other, stranger, other],
        amounts: [5, 5, 6, 7, 8].map(|n| U256::from(n * 1_000_000)).to_vec(),
    };
    dev.transact(relay, call).await.unwrap();
    // A fee on transfer: what arrives is credited, not what was sent.
    let fee = TestUSDT::setParamsCall { bps: U256::from(100), maxFee: U256::MAX };
    dev.transact(usdt, fee).await.unwrap();
    let call = TestToken::transferCall { to: us, value: U256::from(10_000_000) };
    dev.transact(usdt, call).await.unwrap();
    dev.mine(3).await.unwrap();

    let store = net.store().await;
    until_credited(&store, 9).await;
    let height = net.dev.height().await.unwrap();
    until("scanned", async || {
        let at = store
            .cursor(topupd::domain::ids::ChainId(31_337))
            .await
            .unwrap()
            .map(|(block, _)| block.number);
        if at == Some(height) { Ok(()) } else { Err(at) }
    })
    .await;
    until("nothing is under way", async || {
        let open: Vec<String> = deposits(&store)
            .await
            .iter()
            .map(|d| d.stage.to_string())
            .filter(|s| ["pending", "confirmed", "priced"].contains(&s.as_str()))
            .collect();
        if open.is_empty() { Ok(()) } else { Err(open) }
    })
    .await;
    verify(&store).await;
    let result =
        (tally(&store, &names).await, balance(&store, "acme").await, balance(&store, "bolt").await);
    daemon.shutdown().await;
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_by_token_every_odd_log_of_a_listed_token_is_recorded_and_none_credited() {
    let (tally, acme, bolt) = story("tokens").await;
    assert_eq!(
        tally,
        expected(&[
            ("ODD ignored (malformed_data_length)", 4),
            ("ODD ignored (malformed_dirty_topic)", 2),
            ("ODD ignored (malformed_topic_count)", 4),
            ("ODD ignored (self_transfer)", 1),
            ("ODD ignored (zero_value)", 1),
            ("ODD held (overflow)", 1),
            ("USDC ignored (zero_value)", 50),
            ("USDC credited", 6),
            ("USDT credited", 3),
        ])
    );
    // 1 + 2 + 3 + 4 + 5 + 5 + 9.9 tokens; 6 + 8 tokens.
    assert_eq!((acme.as_str(), bolt.as_str()), ("29900", "14000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_by_recipient_unlisted_tokens_are_recorded_too() {
    let (tally, acme, bolt) = story("recipients").await;
    assert_eq!(tally.get("FAKE ignored (unlisted_token)"), Some(&1));
    assert_eq!(tally.get("NFT ignored (unlisted_token)"), Some(&1));
    assert_eq!(tally.get("ODD held (overflow)"), Some(&1));
    assert_eq!(tally.get("USDC ignored (zero_value)"), Some(&50));
    assert_eq!((acme.as_str(), bolt.as_str()), ("29900", "14000"));
}
