//! What a command ends with when it does not do what was asked, and its exit code.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::daemon::parts::StartError;
use crate::service::ServiceError;
use crate::store::StoreError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The person must change something: exit 2.
    #[error("{0}")]
    BadInput(String),
    /// Something failed: exit 1.
    #[error("{0}")]
    Failed(String),
    /// Not done, because what is stored is damaged: exit 3.
    #[error("{0}")]
    Look(String),
}

impl CliError {
    /// 2 for bad input, 1 for failure, 3 for what somebody should look at.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadInput(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Look(_) => ExitCode::from(LOOK),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::BadInput(format!("configuration: {error}"))
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        if error.is_bad_input() { Self::BadInput(text) } else { Self::Failed(text) }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(why) => Self::Look(why),
            StoreError::WentBack(_) => Self::Look(error.to_string()),
            error => StartError::Store(error).into(),
        }
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused { why, .. } => Self::BadInput(why),
            ServiceError::Unavailable { why, .. } => Self::Failed(why),
            ServiceError::Store(error) => error.into(),
        }
    }
}

/// It works, and somebody should look: exit 3.
pub(super) const LOOK: u8 = 3;
