//! Market prices on a real chain: real Uniswap pools, feeds with phases, tickers over HTTP. Each
//! test is a line of the table in docs/prices.md.

mod feeds;
mod other_chain;
mod pools;
mod proofs;
mod scene;
mod schedule;
mod spot;
pub mod tickers;
mod web;
