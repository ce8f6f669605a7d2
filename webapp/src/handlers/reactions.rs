//! Comments and likes, sent by the forms of a post's page.

use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use crate::db::queries::posts::StoredPost;
use crate::db::queries::reactions::{AddComment, AddLike, CommentById, RemoveLike};
use crate::error::AppError;
use crate::extract::{FormFields, PathText, both, post_id};
use crate::handlers::posts::{CommentForm, show_with};
use crate::model::input::{CommentContent, FieldError, UserId};
use crate::model::post::Comment;
use crate::visit::Visit;

/// The id of the field of the form for likes; the form for comments, on the same page, has `user_id`.
const LIKE_FIELD: &str = "like-user";

/// `POST /posts/{id}/comments`
///
/// # Errors
/// 404 when there is no such post. 409, 422 and 503 show the page again with what was typed.
pub async fn comment(PathText(id): PathText, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let id = Uuid::parse_str(&form.text("id")).unwrap_or_else(|_| Uuid::now_v7());
    let (user_id, content) = (form.text("user_id"), form.text("content"));
    let saved = async {
        let (user, content) = both(UserId::parse(&user_id), CommentContent::parse(&content))?;
        visit.remember(&user);
        let comment = AddComment { id, post_id, user, content };
        if visit.write(&comment).await?.is_none() {
            came_before(&visit, &comment).await?;
        }
        Ok::<(), AppError>(())
    };
    let Err(error) = saved.await else { return Ok(back(&visit, post_id, "commented")) };
    let Some(errors) = error.new_form_errors() else { return Err(error) };
    let form = CommentForm { id: error.next_form_id(id), user_id, content, errors };
    show_with(&visit, post_id, form, None, error.problem().status).await
}

/// As for a post: an id that is taken is well only when the same comment has it.
async fn came_before(visit: &Visit, comment: &AddComment) -> Result<(), AppError> {
    let same = |stored: Comment| {
        stored.post_id == comment.post_id
            && stored.user_id == *comment.user.text()
            && stored.content == *comment.content.text()
    };
    let stored = visit.read_newest(&CommentById(comment.id)).await?;
    if stored.is_some_and(same) { Ok(()) } else { Err(AppError::FormUsed) }
}

/// `POST /posts/{id}/like`. Liking twice is no error for a person: the page says so.
///
/// # Errors
/// As for [`comment`].
pub async fn like(PathText(id): PathText, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let user_id = form.text("user_id");
    let saved = async {
        let user = UserId::parse(&user_id)?;
        visit.remember(&user);
        visit.write(&AddLike { id: Uuid::now_v7(), post_id, user }).await
    };
    match saved.await {
        Ok(Some(_)) => Ok(back(&visit, post_id, "liked")),
        Ok(None) => Ok(back(&visit, post_id, "liked-already")),
        Err(error) => again(&visit, post_id, user_id, error).await,
    }
}

/// `POST /posts/{id}/unlike`
///
/// # Errors
/// As for [`comment`].
pub async fn unlike(PathText(id): PathText, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let user_id = form.text("user_id");
    let saved = async {
        let user = UserId::parse(&user_id)?;
        visit.remember(&user);
        if visit.write(&RemoveLike { post_id, user }).await? {
            return Ok("unliked");
        }
        let post = visit.read_newest(&StoredPost(post_id)).await?;
        post.map(|_| "not-liked").ok_or_else(AppError::no_such_post)
    };
    match saved.await {
        Ok(done) => Ok(back(&visit, post_id, done)),
        Err(error) => again(&visit, post_id, user_id, error).await,
    }
}

fn back(visit: &Visit, post_id: Uuid, done: &str) -> Response {
    // Nothing changed, so nothing is on its way.
    let query = match done {
        "not-liked" | "liked-already" => format!("done={done}"),
        _ => visit.wrote(done),
    };
    Redirect::to(&format!("/posts/{post_id}?{query}")).into_response()
}

/// The page again after a like that failed: what is wrong is marked in the form of the likes.
async fn again(visit: &Visit, post_id: Uuid, user_id: String, error: AppError) -> Result<Response, AppError> {
    let Some(errors) = error.form_errors() else { return Err(error) };
    let here = |e: FieldError| FieldError { field: if e.field.is_empty() { "" } else { LIKE_FIELD }, ..e };
    let errors = errors.into_iter().map(here).collect();
    let form = CommentForm { errors, ..CommentForm::empty(user_id) };
    show_with(visit, post_id, form, None, error.problem().status).await
}
