//! How long a server's answer is waited for.

use std::time::Duration;

/// Longest wait for the answer to one statement. The server has a shorter one of its own; this one
/// is for a server, or a network, that says nothing at all.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Longest wait for a connection, be it a new one or one that is busy.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// The server's answer, or an error when it stays away.
pub(super) async fn answered<T>(
    patience: Duration,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer for {} s", patience.as_secs()),
        ))),
    }
}
