//! Steps as requests, and many requests as one pipeline.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::types::ToSql;

use crate::plan::{ColumnSet, Step, StepKind};
use crate::replica::bind::{Text, TextArray};
use crate::replica::session::Session;
use crate::replica::sql;
use crate::vocabulary::row::{Key, Row};

/// A request that has not been sent before it is first polled; answers how many rows it touched.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

/// Sends all requests before waiting for the first answer, and returns the answers in order, or the first failure.
///
/// The driver sends a request when its future is first polled; polling them in order, always, is what makes one pipeline
/// of them. After a failure the server refuses the rest of the transaction and a COMMIT among it rolls back.
pub(super) async fn in_order(mut requests: Vec<Answer<'_>>) -> Result<Vec<u64>, tokio_postgres::Error> {
    let mut answers: Vec<Option<Result<u64, _>>> = requests.iter().map(|_| None).collect();
    let mut started = 0;
    poll_fn(|context| {
        let mut waiting = false;
        for (index, (request, answer)) in requests.iter_mut().zip(&mut answers).enumerate() {
            if answer.is_some() {
                continue;
            }
            match request.as_mut().poll(context) {
                Poll::Ready(Err(error)) if index >= started => {
                    // Not even sent: what follows must not be either, least of all the commit.
                    *answer = Some(Err(error));
                    return Poll::Ready(());
                }
                Poll::Ready(result) => *answer = Some(result),
                Poll::Pending => waiting = true,
            }
            started = started.max(index + 1);
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().flatten().collect()
}

pub(super) async fn simple(session: &Session, sql: &str) -> Result<u64, tokio_postgres::Error> {
    session.client().batch_execute(sql).await.map(|()| 0)
}

/// Runs a step whose statement is prepared; answers how many rows it touched.
pub(super) async fn run(session: &Session, step: &Step<'_>) -> Result<u64, tokio_postgres::Error> {
    let (arrays, keys, cells) = parameters(step);
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays
        .iter()
        .map(|p| p as &(dyn ToSql + Sync))
        .chain(keys.iter().map(|p| p as &(dyn ToSql + Sync)))
        .chain(cells.iter().map(|p| p as &(dyn ToSql + Sync)))
        .collect();
    match (&step.kind, session.statement(step)) {
        (StepKind::Truncate(tables), _) => {
            simple(session, &sql::truncate(tables.iter().map(|t| &t.name))).await
        }
        (StepKind::Clear, _) => simple(session, &sql::clear(&step.table.name)).await,
        (_, Some(statement)) => session.client().execute(statement, &parameters).await,
        (_, None) => unreachable!("steps are prepared before they run"),
    }
}

type Parameters<'a> = (Vec<TextArray<'a, Cow<'a, Row>>>, Vec<TextArray<'a, &'a Key>>, Vec<Text<'a>>);

/// The parameters in the order that `sql` numbers them.
fn parameters<'a>(step: &'a Step<'a>) -> Parameters<'a> {
    let cells = |row: &'a Row, columns: &ColumnSet| -> Vec<Text<'a>> {
        columns.iter().map(|c| Text(row.cell(c))).collect()
    };
    let stored = |row: &'a Row| -> Vec<Text<'a>> {
        let columns = step.table.columns.iter().enumerate();
        columns.filter(|(_, c)| !c.generated).map(|(i, _)| Text(row.cell(i))).collect()
    };
    match &step.kind {
        StepKind::Insert(columns, rows)
        | StepKind::Upsert(columns, rows)
        | StepKind::Update(columns, rows) => {
            (columns.iter().map(|position| TextArray { rows, position }).collect(), vec![], vec![])
        }
        StepKind::Delete(keys) => {
            let width = step.table.key.len();
            (vec![], (0..width).map(|position| TextArray { rows: keys, position }).collect(), vec![])
        }
        StepKind::Rekey(columns, old, row) => {
            let mut values = cells(row, columns);
            values.extend((0..step.table.key.len()).map(|p| Text(old.0.cell(p))));
            (vec![], vec![], values)
        }
        StepKind::UpdateKeyless(columns, old, new) => {
            let mut values = cells(new, columns);
            values.extend(stored(old));
            (vec![], vec![], values)
        }
        StepKind::DeleteKeyless(row) => (vec![], vec![], stored(row)),
        StepKind::Truncate(_) | StepKind::Clear => (vec![], vec![], vec![]),
    }
}
