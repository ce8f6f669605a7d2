//! A row that the replica lacks, from the leader.
//!
//! An update may leave out what it did not change (large values), and then its event alone can't make a row that isn't
//! there. The event's own values are of its moment; only what it leaves out is taken from the leader, whose row may be
//! newer. That is sound: a later change of such a column carries its value and comes in the stream, and until it does the
//! column shows a value that it is going to have. If the leader has no such row any more, its deletion, or its change of
//! key, comes in the stream as well, and the change has nothing to do here.

use std::time::Duration;

use super::ReplicaError;
use super::bind::{Parameter, Raw};
use super::leader::LeaderSession;
use super::sql::{own_rows, quoted};
use crate::vocabulary::row::{Cell, Form, Key, Row};
use crate::vocabulary::schema::Table;

/// How long transactions that may still hide a row from others are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the leader is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// Fetches rows, through a session that is opened when the first one is needed.
#[derive(Debug)]
pub struct RowFetcher {
    url: tokio_postgres::Config,
    session: Option<LeaderSession>,
}

impl RowFetcher {
    /// A fetcher from the leader at this address.
    pub fn new(url: tokio_postgres::Config) -> Self {
        RowFetcher { url, session: None }
    }

    /// The row of the event, with what the event leaves out filled in from the leader; none when the leader has no such row
    /// any more.
    ///
    /// # Errors
    /// When the leader can't be asked, or its table differs from the replica's.
    pub async fn complete(&mut self, table: &Table, row: &Row) -> Result<Option<Row>, ReplicaError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => LeaderSession::connect(&self.url).await?,
        };
        let fetched = fetch(&session, table, &row.project(&table.key)).await;
        // After a failure the next row gets a new session.
        if fetched.is_ok() {
            self.session = Some(session);
        }
        Ok(fetched?.map(|known| known.overlaid_with(row)))
    }
}

async fn fetch(session: &LeaderSession, table: &Table, key: &Key) -> Result<Option<Row>, ReplicaError> {
    if let Some(row) = select(session, table, key).await? {
        return Ok(Some(row));
    }
    // A change can be published a moment before it can be seen on the leader. Once every transaction that began before now has
    // ended, it is seen or undone by a later one. Only an id of our own is behind all of theirs: a snapshot's xmax is behind
    // those that have ended.
    let client = session.client();
    let bound = "SELECT pg_current_xact_id()::text";
    let bound: String = client.query_one(bound, &[]).await.map_err(failed)?.get(0);
    let ended = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8";
    let wait = async {
        while !client.query_one(ended, &[&bound]).await.map_err(failed)?.get::<_, bool>(0) {
            tokio::time::sleep(PAUSE).await;
        }
        Ok::<_, ReplicaError>(())
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(ReplicaError::Leader(format!(
            "a row of {} may be hidden by a transaction that has been running for {seconds} s",
            table.name
        )))
    })?;
    select(session, table, key).await
}

fn failed(source: tokio_postgres::Error) -> ReplicaError {
    ReplicaError::Postgres { action: "fetch a row from the leader", source }
}

async fn select(session: &LeaderSession, table: &Table, key: &Key) -> Result<Option<Row>, ReplicaError> {
    let columns: Vec<usize> = (0..table.columns.len()).filter(|&c| !table.columns[c].generated).collect();
    // In the form that the event has: what it leaves out goes into one row with what it carries.
    let form = key.0.form();
    let as_text = if form == Form::Text { "::text" } else { "" };
    let values: Vec<_> =
        columns.iter().map(|&c| format!("{}{as_text}", quoted(&table.columns[c].name))).collect();
    let key_columns = table.key.iter().map(|&c| &table.columns[c]);
    let matching: Vec<_> = key_columns
        .enumerate()
        .map(|(p, column)| format!("{} = ${}{as_text}::{}", quoted(&column.name), p + 1, column.cast))
        .collect();
    let sql =
        format!("SELECT {} FROM {} WHERE {}", values.join(", "), own_rows(table), matching.join(" AND "));
    let parameters: Vec<_> = (0..table.key.len()).map(|p| Parameter::One(key.0.cell(p))).collect();
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        parameters.iter().map(|p| p as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let Some(found) = session.client().query_opt(&sql, &parameters).await.map_err(failed)? else {
        return Ok(None);
    };
    let mut cells = vec![Cell::Absent; table.columns.len()];
    for (position, &column) in columns.iter().enumerate() {
        cells[column] = match form {
            Form::Text => found.get::<_, Option<&str>>(position).map_or(Cell::Null, Cell::Text),
            Form::Binary => {
                found.get::<_, Option<Raw<'_>>>(position).map_or(Cell::Null, |raw| Cell::Binary(raw.0))
            }
        };
    }
    Ok(Some(Row::new(form, &cells)))
}
