//! Requests to the server, and many requests as one pipeline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::Statement;

use super::copy::copy;
use super::technique::{Cutoffs, Request, Rows, parts};
use crate::plan::StepKind;
use crate::replica::ReplicaError;
use crate::replica::bind::Parameter;
use crate::replica::session::Session;
use crate::replica::sql::{self, Shape};
use crate::vocabulary::row::{Cell, Key, Row};
use crate::vocabulary::schema::Table;

/// A request that has not been sent before it is first polled; answers how many rows it touched.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, ReplicaError>> + Send + 'a>>;

/// Sends all requests before waiting for the first answer, and returns the answers in order, or the first failure with the
/// position of its request.
///
/// The driver sends a request when its future is first polled; polling them in order, always, is what makes one pipeline
/// of them. After a failure the server refuses the rest of the transaction and a COMMIT among it rolls back.
pub(super) async fn in_order(mut requests: Vec<Answer<'_>>) -> Result<Vec<u64>, (usize, ReplicaError)> {
    let mut early = Vec::with_capacity(requests.len());
    poll_fn(|context| {
        for (position, request) in requests.iter_mut().enumerate() {
            match request.as_mut().poll(context) {
                // Not even sent: what follows must not be either, least of all the commit.
                Poll::Ready(Err(error)) => return Poll::Ready(Err((position, error))),
                Poll::Ready(Ok(touched)) => early.push(Some(touched)),
                Poll::Pending => early.push(None),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    let mut answers = Vec::with_capacity(requests.len());
    for (position, (request, early)) in requests.into_iter().zip(early).enumerate() {
        answers.push(match early {
            Some(touched) => touched,
            None => request.await.map_err(|error| (position, error))?,
        });
    }
    Ok(answers)
}

pub(super) async fn simple(session: &Session, sql: &str) -> Result<u64, tokio_postgres::Error> {
    session.client().batch_execute(sql).await.map(|()| 0)
}

/// A request, and the statement that was prepared for it.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    request: Request<'a>,
    statement: Option<Statement>,
    /// What creating or emptying a stage says.
    sql: Option<String>,
}

impl<'a> Ready<'a> {
    /// Prepares what a request needs, which is a round trip when the session meets the statement for the first time.
    pub(super) async fn new(session: &mut Session, request: Request<'a>) -> Result<Self, ReplicaError> {
        request.writable()?;
        let (statement, sql) = match &request {
            Request::Simple(_) => (None, None),
            Request::CreateStage(table, verb) => {
                (None, Some(sql::stage(table, verb, session.stage(table, verb))))
            }
            Request::EmptyStage(table, verb) => (None, Some(sql::empty(session.stage(table, verb)))),
            Request::Prepared { table, shape, rows } => {
                (Some(session.prepare(table, shape, rows.form()).await?), None)
            }
        };
        Ok(Ready { request, statement, sql })
    }

    /// The request.
    pub(super) fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// Sends it; answers how many rows it touched.
    pub(super) async fn send(&self, session: &Session) -> Result<u64, ReplicaError> {
        let failed = |source| ReplicaError::Postgres { action: "apply", source };
        let client = session.client();
        match (&self.request, &self.statement, &self.sql) {
            (Request::Prepared { table, shape, rows }, Some(statement), _) => {
                let columns = shape.columns(table);
                if !self.request.is_copy() {
                    let parameters = parameters(table, shape, *rows, &columns);
                    return client.execute_raw(statement, &parameters).await.map_err(failed);
                }
                match rows {
                    Rows::Whole(all) => copy(client, statement, all, &columns, rows.form()).await,
                    // A key has its columns in the order in which the table names them.
                    Rows::Keys(keys) => {
                        let all: Vec<_> = (0..columns.len()).collect();
                        copy(client, statement, keys, &all, rows.form()).await
                    }
                    Rows::Of(_) => Err(ReplicaError::Plan("one row by COPY")),
                }
            }
            (Request::Simple(sql), ..) => simple(session, sql).await.map_err(failed),
            (_, _, Some(sql)) => simple(session, sql).await.map_err(failed),
            _ => Err(ReplicaError::Plan("a request that is not prepared")),
        }
    }
}

/// The statement that does what these requests do and moves the checkpoint, too; none when they have to go one by one, or when
/// it is not worth preparing.
pub(super) async fn whole(
    session: &mut Session,
    requests: &[Request<'_>],
    cutoffs: Cutoffs,
) -> Result<Option<Statement>, ReplicaError> {
    let Some(parts) = parts(requests, cutoffs.parts) else { return Ok(None) };
    requests.iter().try_for_each(Request::writable)?;
    session.prepare_whole(&parts, cutoffs.worth).await
}

/// Sends the statement of [`whole`].
pub(super) async fn send_whole(
    session: &Session,
    statement: &Statement,
    requests: &[Request<'_>],
    checkpoint: [Option<String>; sql::ADVANCE_PARAMETERS],
) -> Result<(), ReplicaError> {
    let mut all = Vec::new();
    for request in requests {
        if let Request::Prepared { table, shape, rows } = request {
            all.extend(parameters(table, shape, *rows, &shape.columns(table)));
        }
    }
    let texts = checkpoint.iter().map(Option::as_deref);
    all.extend(texts.map(|text| Parameter::One(text.map_or(Cell::Null, Cell::Text))));
    let failed = |source| ReplicaError::Postgres { action: "apply", source };
    session.client().execute_raw(statement, &all).await.map(|_| ()).map_err(failed)
}

/// The parameters in the order in which `sql` numbers them.
fn parameters<'a>(table: &Table, shape: &Shape, rows: Rows<'a>, columns: &[usize]) -> Vec<Parameter<'a>> {
    let cells = |row: &'a Row| columns.iter().map(|c| Parameter::One(row.cell(*c)));
    let stored = |row: &'a Row| -> Vec<Parameter<'a>> {
        table.stored().map(|column| Parameter::One(row.cell(column))).collect()
    };
    match rows {
        _ if matches!(shape, Shape::Staged(_)) => vec![],
        Rows::Whole(rows) if shape.takes_arrays() => {
            columns.iter().map(|c| Parameter::OfRows(rows, *c)).collect()
        }
        Rows::Keys(keys) if shape.takes_arrays() => {
            (0..columns.len()).map(|c| Parameter::OfKeys(keys, c)).collect()
        }
        Rows::Whole(rows) => rows.iter().flat_map(|row| cells(row)).collect(),
        Rows::Keys(keys) => keys.iter().flat_map(|key| key_cells(key)).collect(),
        Rows::Of(StepKind::Rekey(_, old, row)) => cells(row).chain(key_cells(old)).collect(),
        Rows::Of(StepKind::UpdateKeyless(_, old, new)) => cells(new).chain(stored(old)).collect(),
        Rows::Of(StepKind::DeleteKeyless(row)) => stored(row),
        Rows::Of(_) => vec![],
    }
}

fn key_cells(key: &Key) -> impl Iterator<Item = Parameter<'_>> {
    (0..key.0.width()).map(|position| Parameter::One(key.0.cell(position)))
}
