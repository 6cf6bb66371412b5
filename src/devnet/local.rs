//! What the demo and the tests do on a local chain, through any node that has unlocked accounts.
//!
//! Only methods that every development node has: what anvil can do besides is in
//! [`Devnet`](super::Devnet). It knows nothing of the process behind the URLs.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxHash};
use alloy::sol_types::SolCall;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::chain::rpc::node::{ProviderOptions, RpcSource};
use crate::chain::source::{ChainSource, SourceError};
use crate::devnet::error::DevnetError;

/// Gas given to every transaction: more than any of ours needs, so that none asks for an estimate.
const GAS: u64 = 5_000_000;
/// Gas given to what creates large contracts, such as Uniswap's.
pub(super) const GAS_TO_CREATE: u64 = 15_000_000;
/// Long: thousands of blocks are mined in one request, on a machine that is busy with other things.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A receipt, as far as the demo and the tests read it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevReceipt {
    /// Where it was mined.
    pub block_hash: B256,
    /// How high that is.
    pub block_number: alloy::primitives::U64,
    /// 1 for success.
    pub status: alloy::primitives::U64,
    /// What it created.
    pub contract_address: Option<Address>,
    /// How many logs it has.
    pub logs: Vec<Value>,
}

/// A local chain, seen through one node.
#[derive(Debug)]
pub struct LocalChain {
    /// Where the node answers over HTTP.
    pub http: Url,
    /// Where it answers over WebSocket.
    pub ws: Url,
    /// A way to ask it.
    pub rpc: RpcSource,
    /// Unlocked accounts with ether.
    pub accounts: Vec<Address>,
}

impl LocalChain {
    /// The chain of a node that is there already.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn at(http: Url, ws: Url) -> Result<Self, DevnetError> {
        let rpc = RpcSource::new(ProviderOptions {
            name: "local".into(),
            http: http.clone(),
            ws: None,
            timeout: TIMEOUT,
            per_second: None,
            range_max: u64::MAX,
        })?;
        let accounts = rpc.ask("eth_accounts", ()).await?;
        Ok(Self { http, ws, rpc, accounts })
    }

    /// The account that deploys and pays, unless another is named.
    pub fn payer(&self) -> Address {
        self.accounts.first().copied().unwrap_or_default()
    }

    /// Puts a transaction into the pool.
    pub async fn send_data(
        &self,
        from: Address,
        to: Option<Address>,
        data: Bytes,
    ) -> Result<TxHash, DevnetError> {
        self.send_with(GAS, from, to, data).await
    }

    /// The same with a nonce of the sender's choice.
    pub(super) async fn send_at(
        &self,
        nonce: u64,
        from: Address,
        to: Address,
        data: Bytes,
    ) -> Result<TxHash, DevnetError> {
        let (gas, nonce) = (format!("{GAS:#x}"), format!("{nonce:#x}"));
        let tx = json!({ "from": from, "to": to, "data": data, "gas": gas, "nonce": nonce });
        Ok(self.rpc.ask("eth_sendTransaction", (tx,)).await?)
    }

    /// The same with more gas.
    pub(super) async fn send_with(
        &self,
        gas: u64,
        from: Address,
        to: Option<Address>,
        data: Bytes,
    ) -> Result<TxHash, DevnetError> {
        let mut tx = json!({ "from": from, "data": data, "gas": format!("{gas:#x}") });
        if let (Some(to), Some(fields)) = (to, tx.as_object_mut()) {
            fields.insert("to".into(), json!(to));
        }
        Ok(self.rpc.ask("eth_sendTransaction", (tx,)).await?)
    }

    /// Puts a call into the pool, from the payer.
    pub async fn send<C: SolCall>(&self, to: Address, call: C) -> Result<TxHash, DevnetError> {
        self.send_data(self.payer(), Some(to), call.abi_encode().into()).await
    }

    /// A receipt, or `None` while the transaction is not mined.
    pub async fn receipt(&self, tx: TxHash) -> Result<Option<DevReceipt>, DevnetError> {
        Ok(self.rpc.ask("eth_getTransactionReceipt", (tx,)).await?)
    }

    /// Sends a call and waits until it is mined and has succeeded. Mines a block if nobody does.
    ///
    /// # Errors
    /// When it fails.
    pub async fn transact<C: SolCall>(
        &self,
        to: Address,
        call: C,
    ) -> Result<(TxHash, DevReceipt), DevnetError> {
        let tx = self.send(to, call).await?;
        Ok((tx, self.mined(tx).await?))
    }

    /// Waits for a transaction that was sent.
    ///
    /// # Errors
    /// When it fails or does not get mined.
    pub async fn mined(&self, tx: TxHash) -> Result<DevReceipt, DevnetError> {
        for attempt in 0u32..20_000 {
            if let Some(receipt) = self.receipt(tx).await? {
                if receipt.status != alloy::primitives::U64::from(1) {
                    return Err(DevnetError::Transaction { tx, why: "it was reverted" });
                }
                return Ok(receipt);
            }
            if attempt % 20 == 19 {
                self.mine(1).await?;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(DevnetError::Transaction { tx, why: "it is not mined" })
    }

    /// Deploys a contract from its creation code.
    ///
    /// # Errors
    /// When its constructor fails.
    pub async fn deploy(&self, code: Bytes) -> Result<Address, DevnetError> {
        let tx = self.send_with(GAS_TO_CREATE, self.payer(), None, code).await?;
        let none = DevnetError::Transaction { tx, why: "it created no contract" };
        self.mined(tx).await?.contract_address.ok_or(none)
    }

    /// Mines blocks.
    pub async fn mine(&self, blocks: u64) -> Result<(), DevnetError> {
        let mined = match self.rpc.ask::<Value>("anvil_mine", (blocks,)).await {
            // Another node. What it has instead means something else to anvil.
            Err(SourceError::Refused { .. }) => {
                self.rpc.ask("evm_mine", (json!({ "blocks": blocks }),)).await
            }
            answer => answer,
        };
        Ok(mined.map(drop)?)
    }

    /// The transactions of the canonical block of this number, in its order.
    ///
    /// # Errors
    /// When the node does not answer, or has no such block.
    pub async fn transactions(&self, number: u64) -> Result<Vec<TxHash>, DevnetError> {
        #[derive(Deserialize)]
        struct Block {
            transactions: Vec<TxHash>,
        }
        let block: Block =
            self.rpc.ask("eth_getBlockByNumber", (format!("{number:#x}"), false)).await?;
        Ok(block.transactions)
    }

    /// Height of the tip.
    pub async fn height(&self) -> Result<u64, DevnetError> {
        Ok(self.rpc.latest().await?.number)
    }

    /// The time of the tip, epoch milliseconds.
    pub async fn time_ms(&self) -> Result<i64, DevnetError> {
        Ok(self.rpc.latest().await?.time_ms)
    }

    /// Calls a view function.
    ///
    /// # Errors
    /// When it reverts or answers something else.
    pub async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<C::Return, DevnetError> {
        let request = json!({ "to": to, "data": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.rpc.ask("eth_call", (request, "latest")).await?;
        C::abi_decode_returns(&answer).map_err(|e| {
            DevnetError::Source(SourceError::Invalid {
                provider: "local".into(),
                method: "eth_call",
                why: e.to_string(),
            })
        })
    }
}
