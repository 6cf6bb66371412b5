//! topupd turns USDT, USDC and $RTITY transfers on EVM chains into prepaid credits, exactly once.
//!
//! # The map
//!
//! ```text
//! cli                     what people type; thin
//!  ├ service, view         what people ask for, and what they are shown
//!  └ daemon               builds the parts, runs every task in one loop (the driver), stops them
//!     └ tasks             DO        watch, settle, survey, look again: idempotent, input-free
//!        ├ chain          SENSE     blocks, logs, receipts of one chain, from several providers
//!        ├ oracle         SENSE     prices over HTTP
//!        ├ store          REMEMBER  the only SQL in the tree
//!        └ domain         DECIDE    pure functions over facts
//! ```
//!
//! Each may use only what is below it; `chain`, `oracle` and `store` do not know each other, and `domain`
//! knows nobody. `config`, `presets`, `clock`, `chance`, `telemetry` and `output` serve the upper floors; `planted` holds
//! mistakes made on purpose, for the simulator to catch; `devnet` is a local chain
//! and a throwaway PostgreSQL for the demo and the tests. `tests/tidy.rs` keeps these arrows.
//!
//! # Five words
//!
//! * A **sighting** is one `Transfer` log to a deposit address in one particular block. A fact.
//! * A **deposit** is what is credited once: the n-th transfer of a token to an address within a
//!   transaction. It may have sightings in rival blocks.
//! * A **stage** says where a deposit stands: `Pending → Confirmed → Priced → Credited`, or
//!   `Orphaned`, `Held(reason)`, `Ignored(reason)`, `Reversed`.
//! * A **record** is one sealed line of a journal, a namespace's or the house's: what happened (its cause) and
//!   what that did (its outcome). One with entries is a posting: balanced within each unit.
//! * An **epoch** is a dated pricing rule; append-only, named by every credit.
//!
//! # One deposit's walk
//!
//! Ten files, in this order:
//!
//! 1. `src/chain/rpc.rs`: a head is announced or polled ([`chain::source::ChainSource`]); no transaction is open.
//! 2. `src/tasks/watch.rs`: one step of following the chain, with every answer another provider's too.
//! 3. `src/domain/chain.rs`: what is orphaned and what adopted, by parent hash
//!    ([`domain::chain::ChainView::advance`]).
//! 4. `src/tasks/watch/follow.rs`: the logs of the adopted blocks, asked for by block hash; every log's block must
//!    be among them. What a bloom filter expects and no log shows, the block's receipts settle.
//! 5. `src/domain/transfer.rs`: the sightings among them ([`domain::transfer::match_logs`]).
//! 6. `src/store/chain/scan.rs`: **commit 1**: orphan marks, blocks, sightings, deposits, scan record and cursor; all
//!    or nothing ([`store::LeasedStore::commit_scan`]).
//! 7. `src/tasks/settle.rs`: deep enough for its value? The receipt is read again, from another provider or proved,
//!    and must show the same transfers: `Confirmed`.
//! 8. `src/tasks/settle/price.rs`: the price at the block's time. Where it is a market price, sources were asked when
//!    the payment was seen ([`tasks::prices::capture`]), and [`domain::oracle::policy::decide`] makes one of their
//!    answers. **Commit 2** fixes it: `Priced`.
//! 9. `src/store/ledger/credit.rs`: **commit 3**: record, entries, lot, event and stage: `Credited`
//!    ([`store::LeasedStore::commit_credits`]). The answer is created, exists, or conflict.
//! 10. `src/tasks/sequence.rs`: **commit 4**: its leaf in the log, and its event's number in the feed.
//!
//! Beside this, [`tasks::survey`] compares the providers, and [`tasks::rescan`] looks at everything again, by another
//! provider, and at old blocks for what was registered late.
//!
//! Killed between any two commits, the next activation reads the same state and does the same. With
//! several daemons on one database, only the holder of the chain's lease does any of it: each commit
//! checks that ([`store::LeasedStore`]).

// An optimised build computes how large a future is with all the futures in it, and a command that writes a
// record is more than 128 deep, the compiler's own limit.
#![recursion_limit = "256"]

pub mod chain;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod devnet;
pub mod domain;
pub mod oracle;
pub mod output;
pub mod planted;
pub mod presets;
pub mod service;
pub mod store;
pub mod tasks;
pub mod telemetry;
mod text;
pub mod view;
