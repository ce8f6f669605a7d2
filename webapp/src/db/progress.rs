//! Where a replica stands, as it says itself in the schema `replicator`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::lsn::Lsn;
use super::route::Preference;
use super::token::{History, Standing};

/// Under names that no answer's columns have.
macro_rules! columns {
    () => {
        r#"progress.state AS "progress.state", progress.watermark AS "progress.watermark", progress.xid AS "progress.xid",
           progress.history AS "progress.history", progress.committed_at AS "progress.committed_at""#
    };
}

/// The one row that says where a replica stands.
pub const PROGRESS_SQL: &str = concat!("SELECT ", columns!(), " FROM replicator.progress");

/// The column of [`with_progress`] that is true in the rows of an answer, and empty in the row that stands for none.
const FOUND: &str = "progress.found";

/// The statement that answers `sql` and says in each row where the replica stands. One statement has one snapshot, so the
/// progress is exactly that of the answer; and it costs the replica about half of what a transaction with two statements
/// does. An answer without rows becomes one row with the progress only.
///
/// The answer keeps its order: a join of one row without a condition can only be a loop over the answer's rows as they come.
pub fn with_progress(sql: &str) -> String {
    format!(
        r#"SELECT answer.*, {} FROM replicator.progress
           LEFT JOIN (SELECT asked.*, true AS "{FOUND}" FROM ({sql}) AS asked) AS answer ON true"#,
        columns!()
    )
}

/// The texts of [`with_progress`], made once for each statement.
#[derive(Default)]
pub(super) struct Texts(RwLock<HashMap<(usize, usize), Arc<str>>>);

impl Texts {
    /// The text of `sql`. Statements are constants, so where one stands says which it is, and its characters need not be looked at.
    pub(super) fn of(&self, sql: &'static str) -> Arc<str> {
        let place = (sql.as_ptr().addr(), sql.len());
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&place).map(Arc::clone);
        known.unwrap_or_else(|| {
            let mut texts = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(texts.entry(place).or_insert_with(|| with_progress(sql).into()))
        })
    }
}

/// Parts the rows of [`with_progress`] into the progress and the answer's rows; none when the replica has no progress.
///
/// # Errors
/// As for [`Progress::from_row`].
pub fn part(rows: &[Row]) -> Result<Option<(Progress, &[Row])>, tokio_postgres::Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let is_found = first.try_get::<_, Option<bool>>(FOUND)?.unwrap_or(false);
    Ok(Some((Progress::from_row(first)?, if is_found { rows } else { &[] })))
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// All of its tables are copied.
    pub live: bool,
    /// Every commit of the leader up to here is visible on it.
    pub watermark: Lsn,
    /// The last transaction applied, in 32 bits.
    pub xid: Option<u32>,
    /// Which history of the leader the watermark is of, where the replica was told.
    pub history: Option<History>,
    /// When the leader made the commit at the watermark.
    pub committed_at: Option<Timestamp>,
}

impl Progress {
    /// From the row of [`PROGRESS_SQL`].
    ///
    /// # Errors
    /// When the replica's contract schema is another one than this application knows.
    pub fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            live: row.try_get::<_, &str>("progress.state")? == "live",
            watermark: super::position(row.try_get::<_, PgLsn>("progress.watermark")?),
            xid: row.try_get::<_, Option<i64>>("progress.xid")?.and_then(|xid| u32::try_from(xid).ok()),
            history: row.try_get::<_, Option<&str>>("progress.history")?.and_then(|text| text.parse().ok()),
            committed_at: row.try_get("progress.committed_at")?,
        })
    }

    /// What tokens are compared with.
    pub fn standing(&self) -> Standing {
        Standing { watermark: self.watermark, xid: self.xid, history: self.history }
    }

    /// Whether a read of the same snapshot may be shown to a caller with this preference.
    pub fn answers(&self, preference: Preference) -> bool {
        self.live
            && match preference {
                Preference::Any => true,
                Preference::AtLeast(token) => token.is_met_by(&self.standing()),
            }
    }

    /// How far behind the leader the replica is, at most: the heartbeat moves an idle leader's watermark every second.
    /// A leader's clock ahead of ours counts as no lag.
    pub fn lag(&self, now: Timestamp) -> Option<Duration> {
        let behind = now.duration_since(self.committed_at?);
        Some(Duration::try_from(behind).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::token::Token;

    fn progress(live: bool, watermark: u64, committed_at: Option<&str>) -> Progress {
        let committed_at = committed_at.map(|text| text.parse().unwrap());
        Progress { live, watermark: Lsn(watermark), xid: None, history: None, committed_at }
    }

    #[test]
    fn a_text_is_made_once_and_is_that_of_its_statement() {
        let texts = Texts::default();
        let (one, two) = (texts.of("SELECT 1 AS a"), texts.of("SELECT 2 AS a"));
        assert_eq!((&*one, &*two), (&*with_progress("SELECT 1 AS a"), &*with_progress("SELECT 2 AS a")));
        assert!(Arc::ptr_eq(&one, &texts.of("SELECT 1 AS a")));
    }

    #[test]
    fn only_a_live_replica_with_the_write_answers() {
        let token = Preference::AtLeast(Token::of_read(Lsn(10), None));
        assert!(progress(true, 10, None).answers(token));
        assert!(!progress(true, 9, None).answers(token));
        assert!(!progress(false, 10, None).answers(token));
        assert!(progress(true, 0, None).answers(Preference::Any));
        assert!(!progress(false, 0, None).answers(Preference::Any));
    }

    #[test]
    fn lag_is_never_negative_and_unknown_is_not_zero() {
        let now: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        let lag = |committed_at| progress(true, 1, committed_at).lag(now);
        assert_eq!(lag(Some("2026-01-01T00:00:00.6Z")), Some(Duration::from_millis(400)));
        assert_eq!(lag(Some("2026-01-01T00:00:05Z")), Some(Duration::ZERO));
        assert_eq!(lag(None), None);
    }
}
