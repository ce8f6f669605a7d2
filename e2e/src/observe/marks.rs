//! Marks on the leader: a number that one session counts up, with the positions in the log between which each commit
//! lies. A replica's watermark and the number that it shows must agree with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::{Observer, reach};
use crate::postgres;

/// One committed mark: its commit LSN is above `before` and not above `after`.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: i64,
    before: i64,
    after: i64,
}

/// The marks made so far, shared between the session that makes them and those that check them.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Mutex<Vec<Mark>>>);

impl Marks {
    /// Says what is wrong with a snapshot that shows mark `number` at `watermark`, an LSN as a number.
    ///
    /// Complete up to the watermark: each mark committed below it is there (promise P4, and what a token relies on). And
    /// nothing beyond it: the mark that is there was committed below the watermark.
    pub fn contradiction(&self, watermark: i64, number: i64) -> Option<String> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = marks.partition_point(|mark| mark.after <= watermark);
        let needed = complete.checked_sub(1).map_or(0, |last| marks[last].number);
        if number < needed {
            return Some(format!(
                "the watermark {watermark:x} covers mark {needed}, and the snapshot shows {number}"
            ));
        }
        let shown = marks.binary_search_by_key(&number, |mark| mark.number).ok().map(|index| marks[index]);
        shown.filter(|mark| watermark <= mark.before).map(|mark| {
            format!(
                "mark {number} was committed after {:x}, and is shown at the watermark {watermark:x}",
                mark.before
            )
        })
    }

    fn push(&self, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }
}

/// Counts `lab.marks` up on the leader at `url`, every `pause`, and adds each mark to `marks`. Returns how many it made.
///
/// When the leader is lost, the mark that was under way is left out, committed or not: nothing is claimed about a number that
/// is not in the list.
pub fn mark(url: &str, pause: Duration, marks: &Marks) -> Observer<u64> {
    let (url, marks) = (url.to_owned(), marks.clone());
    Observer::start(async move |stopped| {
        let mut connection = None;
        let (mut made, mut reconnects) = (0, 0);
        while !*stopped.borrow() {
            let Some(client) = reach(&url, &mut connection, &mut reconnects).await else { continue };
            match make(client).await {
                Ok(mark) => marks.push(mark),
                Err(error) if postgres::has_ended(client, &error) => {
                    connection = None;
                    continue;
                }
                Err(error) => return Err(error).context("make a mark"),
            }
            made += 1;
            sleep(pause).await;
        }
        Ok(made)
    })
}

async fn make(client: &Client) -> Result<Mark, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let row = client.query_one("UPDATE lab.marks SET number = number + 1 RETURNING number", &[]).await?;
    let number = row.get(0);
    let before = position(client).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Mark { number, before, after: position(client).await? })
}

/// Where the leader's log ends.
async fn position(client: &Client) -> Result<i64, tokio_postgres::Error> {
    let row = client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[]).await?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_that_says_too_much_or_too_little_is_named() {
        let marks = Marks::default();
        marks.push(Mark { number: 1, before: 10, after: 20 });
        marks.push(Mark { number: 2, before: 30, after: 40 });
        for (watermark, number) in [(5, 0), (15, 0), (15, 1), (20, 1), (35, 2), (40, 2), (99, 3)] {
            assert_eq!(marks.contradiction(watermark, number), None, "{number} at {watermark}");
        }
        for (watermark, number) in [(20, 0), (40, 1), (10, 1), (30, 2), (99, 0)] {
            assert!(marks.contradiction(watermark, number).is_some(), "{number} at {watermark}");
        }
    }
}
