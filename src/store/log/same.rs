//! Whether the log is the one that was signed before: what is stored of it agrees with itself, and what was signed and
//! kept is its beginning.

use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::origin::Origin;
use crate::domain::log::proof::Plan;
use crate::domain::log::tree::{TreeHead, verify_consistency};
use crate::store::db::Tx;

use super::state::{LogSigner, LogState};
use super::stop::{Failed, Stop};
use super::{kept, tiles};

/// Checks what is stored of the log against itself: the row, and the tiles at its right end.
pub(super) async fn sound(tx: &mut Tx, log: &LogState) -> Result<(), Failed> {
    log.check()?;
    if tiles::edge_at(tx, log.head.size).await? != log.edge {
        let why = "the tiles at its right end do not give the edge that is stored beside them";
        return Err(Stop::Damaged(why.into()).into());
    }
    Ok(())
}

/// Whether a tree that is not larger than the log's is its beginning. Where the tiles that should say it do not lead to
/// the log's root, they are damaged, which is no other history.
pub(super) async fn is_beginning(
    tx: &mut Tx,
    log: &LogState,
    known: &TreeHead,
) -> Result<bool, Failed> {
    let here = tiles::head_at(tx, known.size).await?;
    if here == *known {
        return Ok(true);
    }
    let path = tiles::planned(tx, &Plan::consistency(known.size, log.head.size)?).await?;
    verify_consistency(&here, &log.head, &path)?;
    Ok(false)
}

/// Compares the log with the checkpoint that is kept beside the key, and keeps the log's where it is the newer
/// one: before anything more is signed.
pub(super) async fn compare_kept(
    tx: &mut Tx,
    log: &LogState,
    signer: &LogSigner,
) -> Result<(), Failed> {
    let kept = kept::read(signer).await?;
    if kept.is_some() && kept == log.checkpoint {
        return Ok(());
    }
    follows_kept(tx, log, kept.as_ref(), signer).await?;
    if let Some(signed) = &log.checkpoint {
        kept::write(signer, signed).await?;
    }
    Ok(())
}

/// Checks that what is kept beside the key is the beginning of this log. A log with a key has something kept: its first
/// checkpoint is written before its key is registered.
pub(super) async fn follows_kept(
    tx: &mut Tx,
    log: &LogState,
    kept: Option<&Published>,
    signer: &LogSigner,
) -> Result<(), Failed> {
    match kept {
        Some(kept) => follows(tx, log, kept.claimed(), signer).await,
        None if log.key.is_some() => Err(kept::missing(signer).into()),
        None => Ok(()),
    }
}

/// Checks that what was signed before is the beginning of this log.
async fn follows(
    tx: &mut Tx,
    log: &LogState,
    before: &Checkpoint,
    signer: &LogSigner,
) -> Result<(), Failed> {
    let fork = |why: String| Failed::from(Stop::Fork(why));
    let own = signer.public().name();
    let number = |origin| Origin::of(origin, own).map(|origin| origin.number);
    if before.origin != log.origin {
        // An operator has looked at the end of an earlier origin.
        if number(&before.origin) < number(&log.origin) && number(&before.origin).is_some() {
            return Ok(());
        }
        let why = format!(
            "the last checkpoint that was signed is of {} at {} records, and this log is {} at {}",
            before.origin, before.head.size, log.origin, log.head.size
        );
        return Err(fork(why));
    }
    let now = Checkpoint { origin: log.origin.clone(), head: log.head };
    now.may_follow(before).map_err(|error| fork(error.to_string()))?;
    if !is_beginning(tx, log, &before.head).await? {
        return Err(fork(format!(
            "the last checkpoint that was signed has {} records, and these are not the first ones of this log",
            before.head.size
        )));
    }
    Ok(())
}
