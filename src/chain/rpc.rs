//! A chain seen through one JSON-RPC provider: HTTP for every question, WebSocket as a hint.
//!
//! Polling is the truth. The WebSocket subscription to `newHeads` only says "look now", and saves
//! the request for the tip; when it dies, silently or not, nothing is lost but time. Answers are
//! checked to be answers to the question. No error carries a URL, because URLs carry keys.

mod announced;
mod failures;
mod filter;
pub mod node;
mod receipts;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy::primitives::{Address, B256, Bytes, TxHash, U64, b256, keccak256};
use serde_json::value::RawValue;
use serde_json::{Map, json};

use self::filter::criteria;
use super::BlockProof;
use super::check::check_chain;
use super::jsonrpc::{NoAnswer, Size};
use super::proof::NoProof;
use super::wire::{RpcLogs, RpcReceipt};
use crate::chain::answer::{Answer, Wanted};
use crate::chain::read::{RangeLogs, Receipt};
use crate::chain::rpc::node::{LOGS_IN_RANGE, RpcSource, SILENT_POLLS_MAX};
use crate::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use crate::domain::chain::Header;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::oracle::reading::Call;
use crate::domain::transfer::{AddressBook, RawLog};

/// Where EIP-1967 puts a proxy's implementation.
const EIP_1967: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");
/// Where ZeppelinOS put it before; USDC's proxies do still: keccak-256 of
/// `org.zeppelinos.proxy.implementation`.
const ZEPPELIN_OS: B256 = b256!("7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3");

/// Blocks for which a node is not asked that did not answer for one.
const NOT_AT_ONCE: u32 = 256;

const RECEIPT: &str = "eth_getTransactionReceipt";
const RECEIPTS: &str = "eth_getBlockReceipts";
const LOGS_IN_BLOCK: &str = "eth_getLogs";

impl ChainSource for RpcSource {
    fn provider(&self) -> &str {
        &self.options.name
    }

    async fn check(&self, wanted: &Wanted<'_>) -> Vec<Answer> {
        check_chain(self, wanted).await
    }

    fn latency_ms(&self) -> u64 {
        self.http.latency_ms()
    }

    fn range_max(&self) -> u64 {
        self.options.range_max
    }

    async fn chain_id(&self) -> Result<u64, SourceError> {
        Ok(self.ask::<U64>("eth_chainId", ()).await?.to())
    }

    fn announced(&self) -> Option<Header> {
        self.heads().fresh.take()
    }

    async fn latest(&self) -> Result<Header, SourceError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let header = self.block(METHOD, (json!("latest"), false)).await?;
        let header = header.ok_or_else(|| self.invalid(METHOD, "no latest block"))?;
        // Silent: a subscription stands, and the tip rose since the last poll without a word.
        let silent = {
            let mut heads = self.heads();
            let rose = header.number > heads.polled;
            heads.polled = heads.polled.max(header.number);
            heads.subscribed && header.number > heads.announced && rose
        };
        if silent && self.silent_polls.fetch_add(1, Ordering::Relaxed) >= SILENT_POLLS_MAX {
            self.silent_polls.store(0, Ordering::Relaxed);
            self.reconnect.notify_one();
        }
        Ok(header)
    }

    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        let tag = match tag {
            Tag::Safe => "safe",
            Tag::Finalized => "finalized",
        };
        self.block("eth_getBlockByNumber", (json!(tag), false)).await
    }

    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let header = self.block(METHOD, (json!(U64::from(number)), false)).await?;
        match header {
            Some(header) if header.number != number => {
                Err(self.invalid(METHOD, format!("block {} for {number}", header.number)))
            }
            other => Ok(other),
        }
    }

    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        const METHOD: &str = "eth_getBlockByHash";
        let header = self.block(METHOD, (json!(hash), false)).await?;
        match header {
            Some(header) if header.hash != hash => {
                Err(self.invalid(METHOD, format!("block {} for {hash}", header.hash)))
            }
            other => Ok(other),
        }
    }

    async fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        let block_hash = Map::from_iter([("blockHash".into(), json!(block.hash))]);
        let Some(criteria) = criteria(block_hash, filter) else { return Ok(Vec::new()) };
        let RpcLogs(logs) = self.ask(LOGS_IN_BLOCK, (criteria,)).await?;
        let here = |l: &RawLog| l.block_hash == block.hash && l.block_number == block.number;
        if logs.iter().all(here) {
            Ok(logs)
        } else {
            Err(self.invalid(LOGS_IN_BLOCK, "logs of another block"))
        }
    }

    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let range = Map::from_iter([
            ("fromBlock".into(), json!(U64::from(from))),
            ("toBlock".into(), json!(U64::from(to))),
        ]);
        let Some(criteria) = criteria(range, filter) else { return Ok(RangeLogs::default()) };
        let answer = self.http.answer(LOGS_IN_BLOCK, (criteria,), Size::Part).await;
        let answer = answer.map_err(|error| self.classify(LOGS_IN_RANGE, error))?;
        let book = Arc::clone(book);
        self.read_range(answer, from, to, book).await
    }

    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        let receipt: Option<RpcReceipt> = self.ask_whole(RECEIPT, (tx,)).await?;
        match receipt.and_then(|RpcReceipt(receipt)| receipt) {
            Some((of, _)) if of != tx => {
                Err(self.invalid(RECEIPT, "the receipt of another transaction"))
            }
            receipt => Ok(receipt.map(|(_, receipt)| receipt)),
        }
    }

    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        match self.ask_whole(RECEIPTS, (block.hash,)).await {
            Ok(receipts) => self.all_of(block, receipts),
            // Not every node has this method, or takes a hash for it: then one by one.
            Err(SourceError::Refused { .. } | SourceError::Invalid { .. }) => {
                self.receipts_one_by_one(block).await
            }
            Err(error) => Err(error),
        }
    }

    async fn receipts_at_once(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        let skip = |left: u32| left.checked_sub(1);
        if self.no_receipts_at_once.fetch_update(Ordering::Relaxed, Ordering::Relaxed, skip).is_ok()
        {
            return Ok(None);
        }
        let answer = self.ask_whole(RECEIPTS, (block.hash,)).await;
        if let Err(SourceError::Refused { .. } | SourceError::Invalid { .. }) = answer {
            self.no_receipts_at_once.store(NOT_AT_ONCE, Ordering::Relaxed);
        }
        self.all_of(block, answer?)
    }

    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        let block: Box<RawValue> = self.ask("eth_getBlockByHash", (hash, false)).await?;
        if block.get() == "null" {
            return Ok(None);
        }
        let receipts = match self.ask_whole::<Box<RawValue>>(RECEIPTS, (hash,)).await {
            Ok(receipts) => receipts.get().to_owned(),
            // Not every node has this method, or takes a hash for it: then one by one.
            Err(SourceError::Refused { .. } | SourceError::Invalid { .. }) => {
                self.texts_of_receipts(block.get()).await?
            }
            Err(error) => return Err(error),
        };
        if receipts == "null" {
            return Ok(None);
        }
        BlockProof::check(hash, block.get(), &receipts).map(Some).map_err(|error| match error {
            NoProof::Nonsense(why) => self.invalid(RECEIPTS, why),
            NoProof::Unproved(why) => self.unproved(&why),
        })
    }

    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        const METHOD: &str = "eth_call";
        let mut outcomes = Vec::with_capacity(calls.len());
        let mut rest = calls;
        while !rest.is_empty() {
            let many = self.batch.load(Ordering::Relaxed).clamp(1, rest.len());
            let (part, after) = rest.split_at(many);
            // EIP-1898: by hash, so that a node without this very block must say so.
            let params: Vec<_> = part
                .iter()
                .map(|(block, call)| {
                    (json!({"to": call.to, "data": call.data}), json!({"blockHash": block}))
                })
                .collect();
            match self.http.ask_all::<Bytes>(METHOD, &params).await {
                Ok(answers) => {
                    for answer in answers {
                        outcomes.push(self.outcome(METHOD, answer)?);
                    }
                    rest = after;
                }
                // Batches are limited by some, and refused by others: fewer, down to one, from now on.
                Err(NoAnswer::Error { .. } | NoAnswer::Nonsense(_) | NoAnswer::TooLarge)
                    if many > 1 =>
                {
                    self.batch.store((many / 2).max(1), Ordering::Relaxed);
                }
                Err(error) => return Err(self.classify(METHOD, error)),
            }
        }
        Ok(outcomes)
    }

    async fn code(&self, contract: Address) -> Result<TokenCode, SourceError> {
        let code: Bytes = self.ask("eth_getCode", (contract, "latest")).await?;
        let mut implementation = self.storage(contract, EIP_1967).await?;
        if implementation.is_zero() {
            implementation = self.storage(contract, ZEPPELIN_OS).await?;
        }
        let mut flags = Vec::new();
        // USDT and USDC have `paused()`, the first USDT `deprecated()` besides.
        for (flag, selector) in [("paused", "0x5c975abb"), ("deprecated", "0x0e136b19")] {
            let call = json!({ "to": contract, "data": selector });
            match self.ask::<Bytes>("eth_call", (call, "latest")).await {
                Ok(word) if word.len() == 32 && word.last() == Some(&1) => flags.push(flag),
                // Most tokens have no such question.
                Ok(_) | Err(SourceError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(TokenCode { hash: keccak256(&code), implementation, flags })
    }
}

#[cfg(test)]
mod tests;
