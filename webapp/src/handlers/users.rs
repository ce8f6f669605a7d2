//! One user's page: figures and posts.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use crate::db::queries::posts::{PageOf, PostsOfUser};
use crate::db::queries::users::StatsOf;
use crate::error::AppError;
use crate::extract::{PathText, QueryFields};
use crate::model::input::UserId;
use crate::model::listing::{Cursor, Listing, PageSize};
use crate::model::post::UserStats;
use crate::page::{Chrome, filters, page};
use crate::visit::Visit;

#[derive(Template)]
#[template(path = "users/show.html")]
struct UserPage {
    chrome: Chrome,
    stats: UserStats,
    listing: Listing,
}

/// A user in an address. A name that nobody could have written is nobody's.
///
/// # Errors
/// 404 then.
pub fn user_in_path(text: &str) -> Result<UserId, AppError> {
    UserId::parse(text).map_err(|_| AppError::NotFound("There can be no user of this name.".to_owned()))
}

/// `GET /users/{user}?after=`
///
/// # Errors
/// 400 when the cursor can't be, 404 when the name can't be, 503 when no database answers.
pub async fn show(PathText(user): PathText, query: QueryFields, visit: Visit) -> Result<Response, AppError> {
    let user = user_in_path(&user)?;
    let cursor = query.get("after").map(str::parse::<Cursor>).transpose().map_err(AppError::BadRequest)?;
    let stats = visit.read(&StatsOf(&user)).await?;
    let page_of = PageOf::new(cursor, PageSize::DEFAULT);
    let listing = visit.read(&PostsOfUser { page: page_of, user: &user }).await?;
    Ok(page(StatusCode::OK, &UserPage { chrome: Chrome::new("posts", &visit), stats, listing }))
}
