//! How a filter of logs is asked for.

use alloy::primitives::B256;
use serde_json::{Map, Value, json};

use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::TRANSFER_TOPIC;

/// The question for the logs that a filter wants; `None` when it wants those of nobody.
pub(super) fn criteria(
    mut blocks: Map<String, Value>,
    filter: &LogFilter,
) -> Option<Map<String, Value>> {
    let wanted = match filter {
        LogFilter::Tokens(tokens) => {
            blocks.insert("address".into(), json!(tokens));
            blocks.insert("topics".into(), json!([TRANSFER_TOPIC]));
            tokens
        }
        LogFilter::Recipients(to) => {
            let words: Vec<B256> = to.iter().map(|a| a.into_word()).collect();
            blocks.insert("topics".into(), json!([TRANSFER_TOPIC, null, words]));
            to
        }
        LogFilter::Senders { senders, tokens } => {
            let words: Vec<B256> = senders.iter().map(|a| a.into_word()).collect();
            blocks.insert("address".into(), json!(tokens));
            blocks.insert("topics".into(), json!([TRANSFER_TOPIC, words]));
            if tokens.is_empty() { tokens } else { senders }
        }
    };
    // An empty list means "any" to some nodes and "none" to others.
    (!wanted.is_empty()).then_some(blocks)
}
