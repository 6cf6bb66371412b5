//! Somebody who pays, as a wallet does: nonces are counted by the payer, and what is not mined after a
//! while is sent again, the same bytes, so that it can be mined only once.
//!
//! A node forgets transactions: after a reorg anvil drops those whose nonce comes too early, and what
//! it then gives out as the next nonce would take the place of a payment that is lost for good.

use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes, TxHash, U64};

use super::Devnet;
use crate::chain::source::SourceError;
use crate::devnet::error::DevnetError;

/// How often a payment may be found not to be mined before it is sent again.
const PATIENCE: u32 = 3;

/// A transaction that was sent.
#[derive(Debug)]
struct Sent {
    raw: Bytes,
    /// How often it was found not to be mined since it was sent last.
    missed: u32,
}

/// Pays from some unlocked accounts, from which nobody else pays.
#[derive(Debug)]
pub struct Payer {
    /// Each account's payments by nonce, without a gap from the first.
    sent: BTreeMap<Address, BTreeMap<u64, Sent>>,
    /// Each account's next nonce.
    next: BTreeMap<Address, u64>,
}

impl Payer {
    /// Begins after what is mined.
    pub async fn new(net: &Devnet, accounts: &[Address]) -> Result<Self, DevnetError> {
        let (mut sent, mut next) = (BTreeMap::new(), BTreeMap::new());
        for account in accounts {
            sent.insert(*account, BTreeMap::new());
            next.insert(*account, mined(net, *account).await?);
        }
        Ok(Self { sent, next })
    }

    /// Puts a payment into the pool; its hash, and the bytes that anybody may send again.
    pub async fn pay(
        &mut self,
        net: &Devnet,
        from: Address,
        to: Address,
        data: Bytes,
    ) -> Result<(TxHash, Bytes), DevnetError> {
        let nonce = self.next.get(&from).copied().unwrap_or(0);
        let tx = net.send_at(nonce, from, to, data).await?;
        let raw = net.raw(tx).await?;
        self.next.insert(from, nonce.saturating_add(1));
        let sent = Sent { raw: raw.clone(), missed: 0 };
        self.sent.entry(from).or_default().insert(nonce, sent);
        Ok((tx, raw))
    }

    /// Sends again what has not been mined for a while; at once when told so.
    pub async fn send_again(&mut self, net: &Devnet, at_once: bool) -> Result<(), DevnetError> {
        for (account, sent) in &mut self.sent {
            let from = mined(net, *account).await?;
            // In the order of their nonces, which leaves no gap.
            for one in sent.range_mut(from..).map(|(_, one)| one) {
                one.missed = one.missed.saturating_add(1);
                if one.missed < PATIENCE && !at_once {
                    continue;
                }
                one.missed = 0;
                match net.send_raw(&one.raw).await {
                    // It is in the pool, or was mined this moment: the next look tells.
                    Ok(_) | Err(DevnetError::Source(SourceError::Refused { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// How many transactions of an account the canonical chain has.
async fn mined(net: &Devnet, account: Address) -> Result<u64, DevnetError> {
    let count: U64 = net.rpc.ask("eth_getTransactionCount", (account, "latest")).await?;
    Ok(count.saturating_to())
}
