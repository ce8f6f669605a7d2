//! Operating: signing in, being asked whether one means it, and having it done. Programs bring the token instead.

use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use serde_json::json;

use crate::admin::attempts::Attempt;
use crate::admin::gate::Pass;
use crate::admin::{Order, unknown};
use crate::db::queries::detail::Counters;
use crate::error::AppError;
use crate::extract::{FormFields, Peer, QueryFields, came_by_tls, way_back};
use crate::model::action::Action;
use crate::model::input::FieldError;
use crate::page::{Chrome, page};
use crate::state::AppState;
use crate::visit::Visit;

/// How long the answer to an action waits for the status to show it.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// What a page offers to who may operate.
enum Operate {
    /// Nobody may.
    Off,
    /// Who knows the token may, and comes back to this address.
    SignedOut(String),
    /// This reader may.
    SignedIn(Panel),
}

#[derive(Template)]
#[template(path = "admin/_operate.html")]
struct OperatePart {
    operate: Operate,
}

/// The buttons.
struct Panel {
    /// Shows that a form is of this session.
    form_token: String,
    /// Whether the replicator can be told anything.
    has_replicator: bool,
    replicas: Vec<Operated>,
    /// Tables that can be copied alone; of one replica's page only.
    tables: Vec<String>,
}

/// A replica, and which of its buttons make sense.
struct Operated {
    name: String,
    paused: bool,
    drained: bool,
}

impl Operate {
    fn of(
        state: &AppState,
        headers: &HeaderMap,
        visit: &Visit,
        only: Option<&str>,
        tables: Vec<String>,
    ) -> Self {
        let Ok(gate) = state.admin().gate() else { return Self::Off };
        let Some(pass) = gate.pass(headers, Timestamp::now()) else {
            return Self::SignedOut(visit.path().to_owned());
        };
        let sample = visit.sample();
        let replicas = state.database().replicas();
        let shown =
            replicas.iter().filter(|replica| only.is_none_or(|only| only == replica.name())).map(|replica| {
                Operated {
                    name: replica.name().to_owned(),
                    paused: sample
                        .replica(replica.name())
                        .and_then(|r| r.facts.last())
                        .is_some_and(|f| f.paused.is_some()),
                    drained: replica.is_drained(),
                }
            });
        Self::SignedIn(Panel {
            form_token: pass.form_token(),
            has_replicator: state.admin().offers(Action::Pause),
            replicas: shown.collect(),
            tables,
        })
    }
}

/// What a page offers to who may operate, as HTML: the buttons of all replicas, or of one and its tables; nothing when
/// nobody may.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn operate(
    state: &AppState,
    headers: &HeaderMap,
    visit: &Visit,
    only: Option<&str>,
    tables: Vec<String>,
) -> askama::Result<String> {
    OperatePart { operate: Operate::of(state, headers, visit, only, tables) }.render()
}

#[derive(Template)]
#[template(path = "admin/show.html")]
struct AdminPage {
    chrome: Chrome,
    /// For who is signed in.
    operate: Option<String>,
    back: String,
    problem: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "admin/confirm.html")]
struct ConfirmPage {
    chrome: Chrome,
    form_token: String,
    action: Action,
    replica: String,
    table: Option<String>,
    consequences: Vec<String>,
}

/// `GET /admin`: the form to sign in, or all buttons.
///
/// # Errors
/// 404 when nobody may operate.
pub async fn show(
    State(state): State<AppState>,
    headers: HeaderMap,
    query: QueryFields,
    visit: Visit,
) -> Result<Response, AppError> {
    state.admin().gate()?;
    let back = way_back(query.get("back").unwrap_or_default(), "/admin").to_owned();
    let operate = match Operate::of(&state, &headers, &visit, None, vec![]) {
        operate @ Operate::SignedIn(_) => Some(OperatePart { operate }.render()?),
        Operate::Off | Operate::SignedOut(_) => None,
    };
    let template = AdminPage { chrome: Chrome::new("status", &visit), operate, back, problem: None };
    Ok(page(StatusCode::OK, &template))
}

/// `POST /admin/sign-in`
///
/// # Errors
/// 404 when nobody may operate, 429 after too many wrong tokens.
pub async fn sign_in(
    State(state): State<AppState>,
    Peer(from): Peer,
    headers: HeaderMap,
    visit: Visit,
    form: FormFields,
) -> Result<Response, AppError> {
    let gate = state.admin().gate()?;
    let typed = form.text("back");
    let back = way_back(&typed, "/admin");
    match gate.attempt(form.text("token").trim(), from) {
        Attempt::Right => {
            tracing::info!(by = %from, "an operator signed in");
            Ok((gate.open(Timestamp::now(), came_by_tls(&headers)), Redirect::to(back)).into_response())
        }
        Attempt::Wrong => {
            let template = AdminPage {
                chrome: Chrome::new("status", &visit),
                operate: None,
                back: back.to_owned(),
                problem: Some("This is not the token."),
            };
            Ok(page(StatusCode::FORBIDDEN, &template))
        }
        Attempt::TooMany(left) => Err(too_many(left)),
    }
}

fn too_many(left: Duration) -> AppError {
    AppError::TooManyAttempts(u8::try_from(left.as_secs() + 1).unwrap_or(u8::MAX))
}

/// `POST /admin/sign-out`
///
/// # Errors
/// 404 when nobody may operate.
pub async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, AppError> {
    Ok((state.admin().gate()?.close(&headers), Redirect::to("/status")).into_response())
}

/// What a form of a signed-in operator wants.
fn wanted(state: &AppState, headers: &HeaderMap, form: &FormFields) -> Result<(Pass, Order), AppError> {
    let pass = state.admin().gate()?.pass(headers, Timestamp::now()).ok_or(AppError::SignedOut)?;
    if !pass.accepts(&form.text("form_token")) {
        return Err(AppError::ForeignForm);
    }
    Ok((pass, order(state, &form.text("action"), form.text("replica"), Some(form.text("table")))?))
}

fn order(state: &AppState, action: &str, replica: String, table: Option<String>) -> Result<Order, AppError> {
    let unknown_action = || AppError::NotFound(format!("There is no action '{action}'."));
    let action = Action::parse(action).ok_or_else(unknown_action)?;
    if state.database().replicas().find(&replica).is_none() {
        return Err(unknown(&replica));
    }
    let table = table.filter(|table| !table.is_empty());
    if table.is_some() && action != Action::Rebuild {
        return Err(FieldError::new("table", "Only a copy is of one table.").into());
    }
    Ok(Order { action, replica, table })
}

/// `POST /admin/confirm`: says what will happen, and does nothing yet.
///
/// # Errors
/// 404 when nobody may operate or there is no such replica, 403 for a form of another session.
pub async fn confirm(
    State(state): State<AppState>,
    headers: HeaderMap,
    visit: Visit,
    form: FormFields,
) -> Result<Response, AppError> {
    let (pass, Order { action, replica, table }) = wanted(&state, &headers, &form)?;
    let tables = if action == Action::Rebuild { tables_of(&state, &replica).await } else { vec![] };
    let template = ConfirmPage {
        chrome: Chrome::new("status", &visit),
        form_token: pass.form_token(),
        consequences: action.consequences(&replica, table.as_deref(), &tables),
        action,
        replica,
        table,
    };
    Ok(page(StatusCode::OK, &template))
}

/// The tables of a replica and how many rows they have, about; none when it does not say.
async fn tables_of(state: &AppState, replica: &str) -> Vec<(String, i64)> {
    let sampler = state.sampler();
    let Some(index) = state.database().replicas().iter().position(|r| r.name() == replica) else {
        return vec![];
    };
    let counters = sampler.observers().ask_replica(index, &Counters).await.unwrap_or_default();
    counters.into_iter().map(|table| (table.table, table.rows_about)).collect()
}

/// `POST /admin/act`: does it, and says on the replica's page what came of it.
///
/// # Errors
/// 404 when nobody may operate, 403 for a form of another session, 409 when the replicator refuses, 503 when it is away.
pub async fn act(
    State(state): State<AppState>,
    Peer(from): Peer,
    headers: HeaderMap,
    form: FormFields,
) -> Result<Response, AppError> {
    let (_, order) = wanted(&state, &headers, &form)?;
    let changed = state.admin().act(&order, state.database(), from).await?;
    state.sampler().refresh(SHOWN_WITHIN).await;
    let Order { action, replica, .. } = order;
    let already = if changed { "" } else { "&already=1" };
    let page = format!("/status/replicas/{replica}?did={}{already}", action.label());
    Ok(Redirect::to(&page).into_response())
}

/// What was just done, said on the page that follows.
pub fn flash(replica: &str, query: &QueryFields) -> Option<String> {
    let action = Action::parse(query.get("did")?)?;
    Some(action.done(replica, query.get("already").is_none()))
}

/// `POST /api/replicas/{name}/{action}?table=`
///
/// # Errors
/// 401 without the token, 404 when nobody may operate or there is no such replica or action, 409 when the replicator
/// refuses, 422, 429 after too many wrong tokens, 503 when the replicator is away.
pub async fn act_for_program(
    State(state): State<AppState>,
    Peer(from): Peer,
    Path((replica, action)): Path<(String, String)>,
    headers: HeaderMap,
    query: QueryFields,
) -> Result<Response, AppError> {
    let gate = state.admin().gate()?;
    let brought = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = brought.and_then(|value| value.strip_prefix("Bearer ")).ok_or(AppError::Unauthorised)?;
    match gate.attempt(token, from) {
        Attempt::Right => {}
        Attempt::Wrong => return Err(AppError::Unauthorised),
        Attempt::TooMany(left) => return Err(too_many(left)),
    }
    let order = order(&state, &action, replica, query.get("table").map(str::to_owned))?;
    let changed = state.admin().act(&order, state.database(), from).await?;
    let message = order.action.done(&order.replica, changed);
    let answer = json!({
        "replica": order.replica,
        "action": order.action.label(),
        "changed": changed,
        "message": message,
    });
    Ok(Json(answer).into_response())
}
