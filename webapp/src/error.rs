//! Errors that a client sees: a status, a code for programs, a sentence for people. Never the cause: that is logged.
//!
//! A handler returns an [`AppError`]; as a response it is only a status and a [`Problem`]. The middleware
//! [`crate::middleware::around`] turns that into JSON for the API and into a page for everybody else.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use crate::db::error::DbError;
use crate::db::route::FallbackReason;
use crate::model::input::FieldError;
use crate::model::post::PostDetail;

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no such thing, or no such page.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be understood.
    #[error("{}", .0.message)]
    BadRequest(FieldError),
    /// The body is not JSON.
    #[error("{0}")]
    NotJson(String),
    /// Fields that can't be accepted, at least one.
    #[error("the input is not valid")]
    Invalid(Vec<FieldError>),
    /// The user likes the post already.
    #[error("the post is liked already")]
    AlreadyLiked,
    /// Somebody else edited the post; this is what it looks like now.
    #[error("the post was edited meanwhile")]
    Stale(Box<PostDetail>),
    /// A form with an id of its own came again with other input, after it had been saved.
    #[error("the form was saved with other input")]
    FormUsed,
    /// The body is not of this type, which is asked for.
    #[error("unsupported media type")]
    MediaType(&'static str),
    /// The body is too large.
    #[error("body too large")]
    TooLarge,
    /// The page exists, but not for this method.
    #[error("method not allowed")]
    Method,
    /// A form of another site.
    #[error("cross-site request")]
    CrossSite,
    /// A program that is not allowed to operate, or has not said who it is.
    #[error("no admin token, or a wrong one")]
    Unauthorised,
    /// Too many wrong tokens; the next one is looked at after so many seconds.
    #[error("too many wrong tokens")]
    TooManyAttempts(u8),
    /// An operator's hour is over. Answered by the way to sign in, not by a problem.
    #[error("nobody is signed in")]
    SignedOut,
    /// A form that was made for another session, or for none.
    #[error("a form of another session")]
    ForeignForm,
    /// What an operator wanted was not done.
    #[error("{message}")]
    Operation {
        /// Whether trying again later may help.
        is_passing: bool,
        /// What was not done, and why.
        message: String,
    },
    /// Another demo run is going on.
    #[error("a run is going on")]
    RunGoingOn,
    /// The leader can't be reached, so nothing can be written.
    #[error("write unavailable")]
    WriteUnavailable(#[source] DbError),
    /// Neither a replica nor the leader can be reached.
    #[error("read unavailable")]
    ReadUnavailable(#[source] DbError),
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

/// An error as the client sees it; an extension of the response until it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The field concerned.
    pub field: Option<&'static str>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u8>,
}

impl AppError {
    /// No post has this id.
    pub fn no_such_post() -> Self {
        Self::NotFound("There is no such post. It may have been deleted.".to_owned())
    }

    /// An error of the leader during a write.
    pub fn from_write(error: DbError) -> Self {
        match error {
            DbError::Constraint(name) => from_constraint(name),
            error if error.is_outage() => {
                tracing::warn!(error = %error, "write not possible");
                Self::WriteUnavailable(error)
            }
            other => Self::Internal(other.into()),
        }
    }

    /// An error of the last database that was asked to read.
    pub fn from_read(error: DbError) -> Self {
        if error.is_outage() {
            tracing::warn!(error = %error, "read not possible");
            return Self::ReadUnavailable(error);
        }
        Self::Internal(error.into())
    }

    /// The fields to mark in a form that is shown again with what was typed; none when another page must be shown.
    pub fn form_errors(&self) -> Option<Vec<FieldError>> {
        match self {
            Self::Invalid(errors) => Some(errors.clone()),
            Self::WriteUnavailable(_) | Self::ReadUnavailable(_) | Self::FormUsed => {
                Some(vec![FieldError::new("", self.problem().message)])
            }
            _ => None,
        }
    }

    /// As [`Self::form_errors`], for a form whose id is made before it is sent: there a write of unknown outcome can be
    /// sent again without harm.
    pub fn new_form_errors(&self) -> Option<Vec<FieldError>> {
        let mut errors = self.form_errors()?;
        if matches!(self, Self::WriteUnavailable(_)) {
            errors.iter_mut().for_each(|e| e.message.push_str(" Sending this form twice saves it once."));
        }
        Some(errors)
    }

    /// The id of a form that is shown again after this error: the same one, so that what may have been saved already is
    /// not saved twice, unless the id stands for something else by now.
    pub fn next_form_id(&self, id: Uuid) -> Uuid {
        if matches!(self, Self::FormUsed) { Uuid::now_v7() } else { id }
    }

    /// What the client may know.
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotFound(what) => Problem::new(StatusCode::NOT_FOUND, "not_found", what),
            Self::BadRequest(error) => {
                Problem::new(StatusCode::BAD_REQUEST, "bad_request", &error.message).on(error.field)
            }
            Self::NotJson(why) => Problem::new(StatusCode::BAD_REQUEST, "not_json", why),
            Self::Invalid(errors) => {
                let messages: Vec<&str> = errors.iter().map(|e| e.message.as_str()).collect();
                let field = errors.first().map(|e| e.field);
                let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &messages.join(" "));
                Problem { field, ..problem }
            }
            Self::AlreadyLiked => {
                Problem::new(StatusCode::CONFLICT, "already_liked", "This user likes the post already.")
                    .on("user_id")
            }
            Self::Stale(now) => {
                let version = now.summary.post.version;
                let message = format!("The post was edited meanwhile: it has version {version} now.");
                Problem::new(StatusCode::CONFLICT, "stale_version", &message).on("version")
            }
            Self::FormUsed => Problem::new(
                StatusCode::CONFLICT,
                "form_used",
                "This form was saved already, with other input. What you see below is not saved; sending it now saves \
                 it as a new one.",
            ),
            Self::MediaType(wanted) => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                &format!("Send the header Content-Type: {wanted}."),
            ),
            Self::TooLarge => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is larger than 256 KiB.")
            }
            Self::Method => Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This address exists, but not for this method.",
            ),
            Self::CrossSite => Problem::new(
                StatusCode::FORBIDDEN,
                "cross_site",
                "The form was sent by a page of another site, so it was not accepted.",
            ),
            Self::Unauthorised => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorised",
                "Send the header Authorization: Bearer with the admin token.",
            ),
            Self::SignedOut => {
                Problem::new(StatusCode::FORBIDDEN, "signed_out", "Sign in to operate: /admin.")
            }
            Self::ForeignForm => Problem::new(
                StatusCode::FORBIDDEN,
                "foreign_form",
                "This form was made before you signed in. Nothing was done: go back, load the page again, and send it again.",
            ),
            Self::Operation { is_passing: false, message } => {
                Problem::new(StatusCode::CONFLICT, "refused", message)
            }
            Self::Operation { is_passing: true, .. } | Self::TooManyAttempts(_) => self.passing_problem(),
            Self::RunGoingOn | Self::WriteUnavailable(_) | Self::ReadUnavailable(_) => self.passing_problem(),
            Self::Internal(_) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong on our side. It has been logged.",
            ),
        }
    }

    /// The problems that trying again later solves.
    fn passing_problem(&self) -> Problem {
        match self {
            Self::RunGoingOn => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "run_going_on",
                "Another run is going on. One at a time keeps the figures honest; it takes a second.",
            )
            .again_after(1),
            Self::TooManyAttempts(seconds) => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                &format!("Too many wrong tokens came from your address. The next one is looked at in {seconds} s."),
            )
            .again_after(*seconds),
            Self::Operation { message, .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_done", message).again_after(5)
            }
            Self::WriteUnavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "leader_unavailable",
                "The leader does not answer, so nothing can be saved right now. Reading goes on. Please try again in a \
                 moment.",
            )
            .again_after(2),
            Self::ReadUnavailable(DbError::NoReplica { cause, .. }) if matches!(**cause, DbError::Busy) => {
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "leader_busy",
                    "The replicas can't answer right now, and the leader takes over only so many reads at a time. Please \
                     try again in a moment.",
                )
                .again_after(1)
            }
            Self::ReadUnavailable(DbError::NoReplica {
                reason: FallbackReason::Behind | FallbackReason::History,
                ..
            }) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_there_yet",
                "What you wrote or saw last is not on a replica yet, and the leader does not answer. Nothing is lost. Please \
                 try again in a moment.",
            )
            .again_after(1),
            _ => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_database",
                "Neither a replica nor the leader answers. This page comes back when one of them does.",
            )
            .again_after(2),
        }
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), field: None, retry_after: None }
    }

    fn on(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    fn again_after(self, seconds: u8) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

/// The rule behind a constraint of `postgres/schema.sql`. Input was checked before, so most of these mean that the checks
/// in `model::input` and the schema disagree; the person is told the same either way.
fn from_constraint(name: String) -> AppError {
    let invalid = |field, message: &str| AppError::Invalid(vec![FieldError::new(field, message)]);
    match name.as_str() {
        "likes_one_per_user_and_post" => AppError::AlreadyLiked,
        "comments_post_id_fkey" | "likes_post_id_fkey" => AppError::no_such_post(),
        "posts_user_id_check" | "comments_user_id_check" | "likes_user_id_check" => {
            invalid("user_id", "The user name has 1 to 64 characters.")
        }
        "posts_content_check" => invalid("content", "The text has 1 to 10000 characters."),
        "comments_content_check" => invalid("content", "The comment has 1 to 2000 characters."),
        _ => AppError::Internal(anyhow::Error::new(DbError::Constraint(name))),
    }
}

impl From<askama::Error> for AppError {
    fn from(error: askama::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<FieldError> for AppError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if let Self::Internal(cause) = &self {
            tracing::error!(error = format!("{cause:#}"), "request failed");
        }
        if matches!(self, Self::SignedOut) {
            return Redirect::to("/admin?back=/status").into_response();
        }
        let mut response = problem.status.into_response();
        response.extensions_mut().insert(problem);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_of_the_schema_become_the_right_status() {
        for (constraint, status) in [
            ("likes_one_per_user_and_post", 409),
            ("comments_post_id_fkey", 404),
            ("likes_post_id_fkey", 404),
            ("posts_content_check", 422),
            ("comments_user_id_check", 422),
            ("something_new", 500),
        ] {
            let problem = AppError::from_write(DbError::Constraint(constraint.to_owned())).problem();
            assert_eq!(problem.status.as_u16(), status, "{constraint}");
        }
    }

    #[test]
    fn a_cause_is_not_shown() {
        let error = AppError::from_write(DbError::Unreachable("host=10.0.0.7 password=x".to_owned()));
        assert!(!error.problem().message.contains("10.0.0.7"));
        assert_eq!(error.problem().retry_after, Some(2));
    }
}
