//! What all pages have in common.

mod served;
pub mod theme;

use std::time::Duration;

use askama::Template;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use crate::assets::{ADDRESSES, Addresses};
use crate::db::Served;
use crate::db::route::strategy::Strategy;
use crate::error::{AppError, Problem};
use crate::model::status::{Level, Sample};
use crate::visit::Visit;
use theme::Theme;

/// The frame around a page: who answered, what is out of order, the name to fill in.
pub struct Chrome {
    /// The addresses of the assets.
    pub assets: &'static Addresses,
    /// Which part of the site this is: `home`, `posts`, `demo`, `status`, `changes`, `api`, or nothing.
    pub section: &'static str,
    /// The page's own address, to come back to.
    pub path: String,
    /// The colours.
    pub theme: Theme,
    /// How everything is, in the head of the page, as HTML.
    pub pill: String,
    /// Who answered, if a database did.
    pub served: Option<Served>,
    /// How replicas are chosen.
    pub strategy: Strategy,
    /// This reader has written something, and every page has it.
    pub has_written: bool,
    /// The leader did not answer when it was last looked at.
    pub is_leader_down: bool,
    /// The name to fill in.
    pub name: String,
}

impl Chrome {
    /// The frame of a page in `section`, after all reads are made.
    pub fn new(section: &'static str, visit: &Visit) -> Self {
        let sample = visit.sample();
        Self {
            assets: &ADDRESSES,
            section,
            path: visit.path().to_owned(),
            theme: visit.theme(),
            // A page without it is better than none.
            pill: pill(&sample).unwrap_or_default(),
            served: visit.served(),
            strategy: visit.strategy(),
            has_written: visit.session().tokens().written.is_some(),
            is_leader_down: sample.leader.failure.is_some(),
            name: visit.name().to_owned(),
        }
    }

    /// "Read from replica-2 · 0.8 ms · complete up to 0.4 s ago", for the foot of the page.
    pub fn served_words(&self) -> Option<String> {
        self.served.as_ref().map(served::who)
    }

    /// "Why replica-2? Because it was next in turn.", beside it.
    pub fn why_words(&self) -> Option<String> {
        self.served.as_ref().map(|served| served::why(served, self.strategy, self.has_written))
    }

    /// What everybody should know now: before somebody writes at length, that it can't be saved.
    pub fn banner(&self) -> Option<String> {
        if self.is_leader_down && self.section == "posts" {
            return Some(
                "The leader can't be reached, so nothing can be saved now. Reading goes on.".to_owned(),
            );
        }
        let reason = self.served.as_ref()?.fallback.filter(|reason| reason.is_degraded())?;
        Some(format!(
            "Reading from the leader: {}. Everything works, but the leader carries it all.",
            reason.sentence()
        ))
    }
}

#[derive(Template)]
#[template(path = "status/_pill.html")]
struct Pill {
    level: Level,
    words: String,
}

/// How everything is, for the head of each page.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn pill(sample: &Sample) -> askama::Result<String> {
    let (level, words) = sample.pill();
    Pill { level, words }.render()
}

/// "0.4 s ago", in a unit that fits.
pub fn ago(age: Duration) -> String {
    match age.as_secs() {
        0..60 => format!("{:.1} s ago", age.as_secs_f64()),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// A page as a response. Pages are about now: nobody may keep them.
pub fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(body) => (status, [(CACHE_CONTROL, "no-store")], Html(body)).into_response(),
        Err(error) => AppError::Internal(error.into()).into_response(),
    }
}

/// A page with a form that is to be sent once. Whoever goes back to it gets it as it was, with the id that the row has by
/// then: fetched anew it would have another id, and what the browser fills in again would make a second row.
pub fn form_page(status: StatusCode, template: &impl Template) -> Response {
    let mut response = page(status, template);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// The page of an error.
#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    chrome: Chrome,
    title: &'static str,
    problem: Problem,
}

/// The page that says what went wrong, in the layout of all pages.
pub fn error_page(problem: Problem, visit: Option<&Visit>) -> Response {
    let bare = || Chrome {
        assets: &ADDRESSES,
        section: "",
        path: "/".to_owned(),
        theme: Theme::default(),
        pill: String::new(),
        served: None,
        strategy: Strategy::default(),
        has_written: false,
        is_leader_down: false,
        name: String::new(),
    };
    let title = match problem.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::SERVICE_UNAVAILABLE => "Not available right now",
        StatusCode::TOO_MANY_REQUESTS => "One moment",
        StatusCode::INTERNAL_SERVER_ERROR => "Our fault",
        _ => "That did not work",
    };
    let retry_after = problem.retry_after;
    let template =
        ErrorPage { chrome: visit.map_or_else(bare, |visit| Chrome::new("", visit)), title, problem };
    let mut response = page(template.problem.status, &template);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, u16::from(seconds).into());
    }
    response
}

/// What templates use to show values. A date is shown in UTC: the server does not know where the reader is.
#[expect(unreachable_pub, reason = "what the filter macro makes is public")]
pub(crate) mod filters {
    use std::time::Duration;

    /// A moment for people.
    #[askama::filter_fn]
    pub(crate) fn moment(at: &jiff::Timestamp, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(at.strftime("%-d %b %Y, %H:%M UTC").to_string())
    }

    /// The time of a day, for what was just now.
    #[askama::filter_fn]
    pub(crate) fn clock(at: &jiff::Timestamp, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(at.strftime("%H:%M:%S UTC").to_string())
    }

    /// Milliseconds with two digits.
    #[askama::filter_fn]
    pub(crate) fn millis(duration: &Duration, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(format!("{:.2}", duration.as_secs_f64() * 1000.0))
    }

    /// "1 like", "2 likes".
    #[askama::filter_fn]
    pub(crate) fn count(number: &i64, _: &dyn askama::Values, noun: &str) -> askama::Result<String> {
        let ending = if *number == 1 { "" } else { "s" };
        Ok(format!("{number} {noun}{ending}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_a_fitting_unit() {
        let of = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(
            [of(3), of(119), of(7200), of(200_000)],
            ["3.0 s ago", "1 min ago", "2 h ago", "2 days ago"]
        );
    }
}
