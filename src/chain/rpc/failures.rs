//! What kind of failure an answer is: who reacts to it differs. A range that is too large is made smaller, a limit is
//! waited for, and a state that is gone is asked of somebody else.

use alloy::primitives::Bytes;

use super::LOGS_IN_BLOCK;
use crate::chain::jsonrpc::NoAnswer;
use crate::chain::rpc::node::{LOGS_IN_RANGE, RpcSource};
use crate::chain::rpc_error::{no_state, range_too_large, rate_limited, reverted};
use crate::chain::source::{CallOutcome, SourceError};
use crate::domain::oracle::reading::CallAnswer;

/// In which shape a provider said why it has no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Text,
    Error,
}

fn is_logs(method: &str) -> bool {
    [LOGS_IN_BLOCK, LOGS_IN_RANGE].contains(&method)
}

impl RpcSource {
    pub(super) fn classify(&self, method: &'static str, error: NoAnswer) -> SourceError {
        let provider = self.options.name.clone();
        let (why, said, retry_after_ms) = match error {
            NoAnswer::Nonsense(why) => return self.invalid(method, why),
            // A large answer takes long; what else does is tried again elsewhere anyway.
            NoAnswer::TooLarge if is_logs(method) => {
                return SourceError::RangeTooLarge {
                    provider,
                    why: "the answer is too large".into(),
                };
            }
            NoAnswer::TimedOut if method == LOGS_IN_RANGE => {
                return SourceError::RangeTooLarge { provider, why: "timed out".into() };
            }
            NoAnswer::TooLarge => return self.invalid(method, "the answer is too large"),
            NoAnswer::TimedOut => ("timed out".into(), Said::Nothing, None),
            NoAnswer::Unreachable(why) => (why, Said::Nothing, None),
            NoAnswer::RateLimited(after) => ("http status 429".into(), Said::Nothing, after),
            // A gateway's patience is over: of a range, fewer blocks may be sooner.
            NoAnswer::Status(408 | 504 | 524, body) if method == LOGS_IN_RANGE => {
                let why = self.cleaned(&format!("a gateway timed out: {body}"));
                return SourceError::RangeTooLarge { provider, why };
            }
            NoAnswer::Status(status, body) => {
                (format!("http status {status}: {body}"), Said::Text, None)
            }
            NoAnswer::Text(text) => (text, Said::Text, None),
            NoAnswer::Error(error) => (error.text(), Said::Error, None),
        };
        let why = self.cleaned(&why);
        if is_logs(method) && said != Said::Nothing && range_too_large(&why) {
            SourceError::RangeTooLarge { provider, why }
        } else if rate_limited(&why) {
            SourceError::RateLimited { provider, why, retry_after_ms }
        } else if said == Said::Error {
            SourceError::Refused { provider, method, why }
        } else {
            SourceError::Unavailable { provider, method, why }
        }
    }

    pub(super) fn outcome(
        &self,
        method: &'static str,
        answer: Result<Bytes, NoAnswer>,
    ) -> Result<CallOutcome, SourceError> {
        Ok(match answer {
            // Some nodes answer so when they have pruned the state; a contract that is there
            // returns something for every question that we ask.
            Ok(bytes) if bytes.is_empty() => CallOutcome::NoState(
                "an empty answer: there is no contract at this address of this chain, or the node does not keep the state after the block".into(),
            ),
            Ok(bytes) => CallOutcome::Answered(CallAnswer::Returned(bytes)),
            Err(NoAnswer::Error(error)) => {
                let (all, message) = (self.cleaned(&error.text()), self.cleaned(&error.message));
                let data = self.cleaned(&error.data);
                if no_state(&all) {
                    CallOutcome::NoState(all)
                } else if rate_limited(&all) {
                    return Err(self.classify(method, NoAnswer::Error(error)));
                } else if let Some(reason) =
                    reverted(error.code, &message).or_else(|| reverted(0, &data))
                {
                    CallOutcome::Answered(CallAnswer::Reverted(reason))
                } else {
                    CallOutcome::Failed(all)
                }
            }
            Err(NoAnswer::Status(status, body)) if no_state(&body) => {
                CallOutcome::NoState(format!("http status {status}"))
            }
            // One answer of many that is none: the others are as good as ever.
            Err(error) => CallOutcome::Failed(self.classify(method, error).to_string()),
        })
    }
}
