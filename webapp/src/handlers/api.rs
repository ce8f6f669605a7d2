//! The JSON API. Writes answer with the header `X-Consistency-Token`; a read that sends it back sees the write.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use crate::db::queries::posts::{
    CreatePost, DeletePost, EditPost, NewestPosts, PageOf, PostById, PostsOfUser, SearchPosts, StoredPost,
};
use crate::db::queries::reactions::{AddComment, AddLike};
use crate::db::queries::users::StatsOf;
use crate::error::AppError;
use crate::extract::{JsonFields, PathText, QueryFields, both, post_id};
use crate::handlers::demo::{plan_of, run_json};
use crate::handlers::posts::edit_post as edit_or_explain;
use crate::handlers::users::user_in_path;
use crate::model::input::{CommentContent, FieldError, PostContent, SearchWords, UserId};
use crate::model::listing::{Cursor, Listing, PageSize};
use crate::state::AppState;
use crate::visit::Visit;

/// An answer with a status, or an error in JSON.
type Answer = Result<Response, AppError>;

fn user(body: &JsonFields) -> Result<UserId, FieldError> {
    UserId::parse(&body.text_or_number("user_id")?)
}

fn twice() -> AppError {
    // The id was made for this request; that it is taken is not the client's doing.
    AppError::Internal(anyhow::anyhow!("a new id was taken already"))
}

/// `POST /api/posts {user_id, content}`
///
/// # Errors
/// 400, 413, 415, 422, 503.
pub async fn create_post(visit: Visit, body: JsonFields) -> Answer {
    let (user, content) = both(user(&body), body.text("content").and_then(PostContent::parse))?;
    let post = visit.write(&CreatePost { id: Uuid::now_v7(), user, content }).await?.ok_or_else(twice)?;
    let location = [(header::LOCATION, format!("/api/posts/{}", post.id))];
    Ok((StatusCode::CREATED, location, Json(post)).into_response())
}

/// `POST /api/comments {post_id, user_id, content}`
///
/// # Errors
/// 400, 404 when there is no such post, 413, 415, 422, 503.
pub async fn create_comment(visit: Visit, body: JsonFields) -> Answer {
    let who_and_what = both(user(&body), body.text("content").and_then(CommentContent::parse));
    let (post_id, (user, content)) = with_post(body.uuid("post_id"), who_and_what)?;
    let comment = AddComment { id: Uuid::now_v7(), post_id, user, content };
    let comment = visit.write(&comment).await?.ok_or_else(twice)?;
    Ok((StatusCode::CREATED, Json(comment)).into_response())
}

/// `POST /api/likes {post_id, user_id}`
///
/// # Errors
/// 400, 404 when there is no such post, 409 when the user likes it already, 413, 415, 422, 503.
pub async fn create_like(visit: Visit, body: JsonFields) -> Answer {
    let (post_id, user) = both(body.uuid("post_id"), user(&body))?;
    let like = AddLike { id: Uuid::now_v7(), post_id, user };
    let like = visit.write(&like).await?.ok_or(AppError::AlreadyLiked)?;
    Ok((StatusCode::CREATED, Json(like)).into_response())
}

fn with_post<T>(post_id: Result<Uuid, FieldError>, rest: Result<T, AppError>) -> Result<(Uuid, T), AppError> {
    match (post_id, rest) {
        (Ok(post_id), Ok(rest)) => Ok((post_id, rest)),
        (Err(error), Err(AppError::Invalid(mut errors))) => {
            errors.insert(0, error);
            Err(AppError::Invalid(errors))
        }
        (Err(error), _) => Err(error.into()),
        (_, Err(error)) => Err(error),
    }
}

/// `PUT /api/posts/{id} {content, version?}`. With a version the edit is refused when the post has another one by now;
/// without one it wins.
///
/// # Errors
/// 400, 404, 409, 413, 415, 422, 503.
pub async fn edit_post(PathText(id): PathText, visit: Visit, body: JsonFields) -> Answer {
    let id = post_id(&id)?;
    let (content, version) =
        both(body.text("content").and_then(PostContent::parse), body.version("version"))?;
    Ok(Json(edit_or_explain(&visit, EditPost { id, content, version }).await?).into_response())
}

/// `DELETE /api/posts/{id}`
///
/// # Errors
/// 404, 503.
pub async fn delete_post(PathText(id): PathText, visit: Visit) -> Answer {
    if visit.write(&DeletePost(post_id(&id)?)).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(AppError::no_such_post())
    }
}

/// `GET /api/posts?limit=&search=&after=`
///
/// # Errors
/// 400, 503.
pub async fn list_posts(query: QueryFields, visit: Visit) -> Answer {
    let page = page_of(&query)?;
    let words =
        query.get("search").map(SearchWords::parse).transpose().map_err(AppError::BadRequest)?.flatten();
    let listing = match &words {
        Some(words) => visit.read(&SearchPosts { page, words }).await?,
        None => visit.read(&NewestPosts { page }).await?,
    };
    Ok(listing_json(&listing))
}

/// `GET /api/posts/{id}`, with comments and likes.
///
/// # Errors
/// 404, 503.
pub async fn show_post(PathText(id): PathText, visit: Visit) -> Answer {
    let post = visit.read(&PostById(post_id(&id)?)).await?.ok_or_else(AppError::no_such_post)?;
    Ok(Json(post).into_response())
}

/// `GET /api/posts/{id}/row`: the post alone, for programs that want nothing else of it.
///
/// # Errors
/// 404, 503.
pub async fn show_row(PathText(id): PathText, visit: Visit) -> Answer {
    let post = visit.read(&StoredPost(post_id(&id)?)).await?.ok_or_else(AppError::no_such_post)?;
    Ok(Json(post).into_response())
}

/// `GET /api/users/{user}/posts?limit=&after=`
///
/// # Errors
/// 400, 404 when nobody can have this name, 503.
pub async fn posts_of_user(PathText(user): PathText, query: QueryFields, visit: Visit) -> Answer {
    let user = user_in_path(&user)?;
    let posts = PostsOfUser { page: page_of(&query)?, user: &user };
    Ok(listing_json(&visit.read(&posts).await?))
}

/// `GET /api/users/{user}/stats`
///
/// # Errors
/// 404 when nobody can have this name, 503.
pub async fn stats_of_user(PathText(user): PathText, visit: Visit) -> Answer {
    let user = user_in_path(&user)?;
    Ok(Json(visit.read(&StatsOf(&user)).await?).into_response())
}

/// `GET /api/demo?reads=&strategy=&in_flight=&experiment=…`: makes a run and answers when it is over.
///
/// # Errors
/// 400, 403 when a page of another site asks (it starts something, though it is a GET), 429 while another run goes on.
pub async fn demo(State(state): State<AppState>, headers: HeaderMap, query: QueryFields) -> Answer {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(AppError::CrossSite);
    }
    let plan = plan_of(&state, |name| query.get(name).map(str::to_owned)).map_err(AppError::BadRequest)?;
    let run = state.runs().start(&state, plan).map_err(|_| AppError::RunGoingOn)?;
    run.finished(Duration::from_secs(60)).await;
    Ok(Json(run_json(&run)).into_response())
}

fn page_of(query: &QueryFields) -> Result<PageOf, AppError> {
    let size = query.get("limit").map_or(Ok(PageSize::DEFAULT), str::parse).map_err(AppError::BadRequest)?;
    let cursor = query.get("after").map(str::parse::<Cursor>).transpose().map_err(AppError::BadRequest)?;
    Ok(PageOf::new(cursor, size))
}

fn listing_json(listing: &Listing) -> Response {
    let next = listing.next.map(|cursor| cursor.to_string());
    Json(json!({ "posts": listing.posts, "next": next })).into_response()
}
