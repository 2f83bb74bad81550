//! What workers and services report about attempts.

use super::{Error, Service};
use crate::engine::api::{Completed, Completion, Progress, ProgressKind};
use crate::ingress::caller::Caller;
use crate::ingress::operations::Operation;

impl Service {
    /// Takes a result or a failure; durable when answered.
    pub(crate) async fn complete(
        &self,
        caller: &Caller,
        completion: Completion,
    ) -> Result<Completed, Error> {
        Self::authorize(caller, Operation::CompleteStep)?;
        self.check_visible(caller, completion.instance).await?;
        Ok(self.engine.complete(completion).await?)
    }

    /// Takes the news that an attempt has begun, or is alive.
    pub(crate) async fn progress(&self, caller: &Caller, progress: Progress) -> Result<(), Error> {
        let operation = match progress.what {
            ProgressKind::Began => Operation::StepStarted,
            ProgressKind::Heartbeat => Operation::StepHeartbeat,
        };
        Self::authorize(caller, operation)?;
        self.check_visible(caller, progress.instance).await?;
        Ok(self.engine.progress(progress).await?)
    }
}
