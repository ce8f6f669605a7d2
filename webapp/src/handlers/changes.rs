//! The latest transactions, with a tick for each replica that shows them.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::error::AppError;
use crate::extract::QueryFields;
use crate::model::changes::Transaction;
use crate::model::status::Sample;
use crate::page::{Chrome, filters, page};
use crate::state::AppState;
use crate::visit::Visit;

/// Transactions on the page.
const SHOWN: usize = 50;

/// Which transactions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of tables whose name has this in it.
    pub table: String,
    /// Signs of life, too.
    pub all: bool,
}

impl Filter {
    /// From the fields of an address.
    pub fn of(query: &QueryFields) -> Self {
        Self {
            table: query.get("table").unwrap_or_default().trim().to_owned(),
            all: query.get("all").is_some(),
        }
    }

    fn takes(&self, transaction: &Transaction) -> bool {
        (self.all || !transaction.is_heartbeat())
            && (self.table.is_empty() || transaction.tables.keys().any(|table| table.contains(&self.table)))
    }
}

#[derive(Template)]
#[template(path = "changes/show.html")]
struct ChangesPage {
    chrome: Chrome,
    filter: Filter,
    live: String,
}

#[derive(Template)]
#[template(path = "changes/_live.html")]
struct Live {
    transactions: Vec<Transaction>,
    replicas: Vec<String>,
    /// Why nothing new can come; nothing while it can.
    silent: Option<&'static str>,
    filtered: bool,
}

/// The part of the page that changes, as HTML.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn live(state: &AppState, sample: &Arc<Sample>, filter: &Filter) -> askama::Result<String> {
    let silent = match &sample.replicator {
        None => Some(
            "The replicator's address is not configured (status.replicator_url), and it is the one who tells.",
        ),
        Some(seen) if seen.failure.is_some() => {
            Some("The replicator does not answer, and it is the one who tells.")
        }
        Some(_) => None,
    };
    Live {
        transactions: state.changes().latest(SHOWN, |transaction| filter.takes(transaction)),
        replicas: sample.replicas.iter().map(|replica| replica.name.clone()).collect(),
        silent,
        filtered: !filter.table.is_empty(),
    }
    .render()
}

/// `GET /changes?table=&all=`
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub async fn show(
    State(state): State<AppState>,
    query: QueryFields,
    visit: Visit,
) -> Result<Response, AppError> {
    let filter = Filter::of(&query);
    let live = live(&state, &state.sampler().latest(), &filter)?;
    Ok(page(StatusCode::OK, &ChangesPage { chrome: Chrome::new("changes", &visit), filter, live }))
}
