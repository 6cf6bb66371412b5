//! The log over all records: the sequencer's rounds, what is signed and kept, proofs, and their verification.
//!
//! Writers leave a row in `unlogged` with each record and one in `events_new` with each event. The sequencer, one at a
//! time, gives them their places for ever, in a transaction of its own. It changes no record; and nobody waits for it.
//!
//! ```text
//! round, keys, health → same → kept, tiles → state     registered → state
//! round → taken, days, feed                            proofs, verify, expect → same, registered
//! ```

mod days;
mod expect;
mod feed;
mod health;
mod kept;
mod keys;
mod proofs;
mod registered;
mod round;
mod same;
mod state;
mod stop;
mod taken;
mod tiles;
mod verify;

pub use expect::Expected;
pub use feed::FeedEvent;
pub use kept::kept_beside;
pub use keys::LogResume;
pub use proofs::{ProvedConsistency, ProvedRecord};
pub(super) use registered::name_without_key;
pub use round::{ROUND_MAX, Round, Went};
pub(super) use state::pause;
pub use state::{LogSigner, LogState};
pub use stop::Stop;
pub use verify::VerifiedLog;
pub(super) use verify::verify_log_in;
