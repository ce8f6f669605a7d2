//! Waiting for a condition: look, wait a little, look again. Nothing is missed between two looks, because the condition
//! is a state and not an event.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two looks: short beside everything waited for, long beside the cost of a query.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `probe` until it returns `Ok`, and returns that value.
///
/// `Err` is the present status in words. When `deadline` passes, the error names `what` and the last status, so that a
/// failed test says what was missing and not only that time ran out. A probe that hangs is ended by the deadline too.
///
/// Await it in the test itself: with a probe that borrows, the compiler can't prove the future to be `Send`, as
/// `tokio::spawn` demands.
pub async fn until<T, F>(what: &str, deadline: Duration, mut probe: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let end = Instant::now() + deadline;
    let mut last = None;
    loop {
        let asked = Instant::now();
        let mut silence = String::new();
        match timeout_at(end, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => last = Some(status),
            // What was seen last may be no longer true.
            Err(_) => silence = format!("; no answer in the last {:.1?}", asked.elapsed()),
        }
        if Instant::now() + INTERVAL >= end {
            let status = last.as_deref().unwrap_or("nothing");
            bail!("gave up waiting for {what} after {deadline:?}; last seen: {status}{silence}");
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_value_of_the_first_probe_that_succeeds() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        })
        .await;
        assert_eq!(value.unwrap(), 3);
    }

    #[tokio::test]
    async fn reports_what_it_waited_for_and_the_last_status() {
        let error =
            until("the moon", Duration::from_millis(50), async || Err::<(), _>("still cheese".to_owned()))
                .await
                .unwrap_err()
                .to_string();
        assert!(error.contains("the moon") && error.contains("still cheese"), "{error}");
    }

    #[tokio::test]
    async fn ends_a_probe_that_hangs() {
        let never = async || {
            std::future::pending::<()>().await;
            Err::<(), _>(String::new())
        };
        let error = until("an answer", Duration::from_millis(50), never).await.unwrap_err().to_string();
        assert!(error.contains("last seen: nothing; no answer in the last"), "{error}");
    }

    #[tokio::test]
    async fn tells_a_status_from_before_a_probe_that_hangs() {
        let mut looks = 0;
        let stuck = async || {
            looks += 1;
            if looks == 2 {
                std::future::pending::<()>().await;
            }
            Err::<(), _>("at 7".to_owned())
        };
        let error = until("8", Duration::from_millis(200), stuck).await.unwrap_err().to_string();
        assert!(error.contains("last seen: at 7; no answer in the last"), "{error}");
    }
}
