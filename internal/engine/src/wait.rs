//! Waiting for an engine that is absent, stopped or starting.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::connect::Engine;
use crate::error::EngineError;

/// The first pause, and the longest: each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Engine {
    /// Tries `connect` until it succeeds, fails for a reason that waiting does not mend, or `limit` is over; then its
    /// last error counts. `connect` is told how much time is left. `sleep` is the caller's, so that a test needs none.
    pub async fn wait_for<C, S>(
        limit: Duration,
        mut sleep: impl FnMut(Duration) -> S,
        mut connect: impl FnMut(Duration) -> C,
    ) -> Result<Self, EngineError>
    where
        C: Future<Output = Result<Self, EngineError>>,
        S: Future<Output = ()>,
    {
        let (mut pause, longest) = PAUSES;
        let mut left = limit;
        loop {
            let begun = Instant::now();
            let error = match connect(left).await {
                Ok(engine) => return Ok(engine),
                Err(error) => error,
            };
            left = left.saturating_sub(begun.elapsed());
            if !error.may_pass() || left.is_zero() {
                return Err(error);
            }
            tracing::debug!(%error, ?left, "waiting for the engine");
            pause = pause.min(left);
            sleep(pause).await;
            left -= pause;
            pause = (pause * 2).min(longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::ready;
    use std::io;

    use super::*;
    use crate::endpoint::Endpoint;

    fn absent() -> EngineError {
        EngineError::Absent { endpoint: Endpoint::Unix("/run/x.sock".into()) }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_come_is_waited_for_no_longer_than_asked() {
        let slept = RefCell::new(Vec::new());
        let tries = Cell::new(0);
        let sleep = |pause| {
            slept.borrow_mut().push(pause);
            ready(())
        };
        let limit = Duration::from_secs(10);
        let error = Engine::wait_for(limit, sleep, |left| {
            assert!(left <= limit);
            tries.set(tries.get() + 1);
            ready(Err(absent()))
        });
        assert!(matches!(error.await, Err(EngineError::Absent { .. })));
        let slept = slept.into_inner();
        let total: Duration = slept.iter().sum();
        assert!(total <= limit && slept.len() < 12, "{slept:?}");
        assert_eq!(slept[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(slept.iter().max(), Some(&Duration::from_secs(2)));
        assert_eq!(tries.get(), slept.len() + 1);
    }

    #[tokio::test]
    async fn what_waiting_does_not_mend_is_told_at_once() {
        let sleep = |_| -> std::future::Ready<()> { panic!("nothing to wait for") };
        let denied = |_| {
            ready(Err(EngineError::Permission {
                endpoint: Endpoint::Unix("/run/x.sock".into()),
                group: None,
                source: io::ErrorKind::PermissionDenied.into(),
            }))
        };
        let error = Engine::wait_for(Duration::from_secs(9), sleep, denied).await;
        assert!(matches!(error, Err(EngineError::Permission { .. })));
        // Without a limit there is one try.
        let error = Engine::wait_for(Duration::ZERO, sleep, |_| ready(Err(absent()))).await;
        assert!(matches!(error, Err(EngineError::Absent { .. })));
    }
}
