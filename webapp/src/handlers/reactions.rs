//! Comments and likes, sent by the forms of a post's page.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use crate::db::queries::reactions::{AddComment, AddLike, RemoveLike};
use crate::error::AppError;
use crate::extract::{FormFields, both, post_id};
use crate::handlers::posts::{CommentForm, show_with};
use crate::model::input::{CommentContent, UserId};
use crate::visit::Visit;

/// `POST /posts/{id}/comments`
///
/// # Errors
/// 404 when there is no such post. 422 and 503 show the page again with what was typed.
pub async fn comment(Path(id): Path<String>, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let id = Uuid::parse_str(&form.text("id")).unwrap_or_else(|_| Uuid::now_v7());
    let (user_id, content) = (form.text("user_id"), form.text("content"));
    let saved = async {
        let (user, content) = both(UserId::parse(&user_id), CommentContent::parse(&content))?;
        visit.remember(&user);
        visit.write(&AddComment { id, post_id, user, content }).await
    };
    match saved.await {
        Ok(_) => Ok(back(post_id, "commented")),
        Err(error) => again(&visit, post_id, user_id, content, error).await,
    }
}

/// `POST /posts/{id}/like`. Liking twice is no error for a person: the page says so.
///
/// # Errors
/// As for [`comment`].
pub async fn like(Path(id): Path<String>, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let user_id = form.text("user_id");
    let saved = async {
        let user = UserId::parse(&user_id)?;
        visit.remember(&user);
        visit.write(&AddLike { id: Uuid::now_v7(), post_id, user }).await
    };
    match saved.await {
        Ok(_) => Ok(back(post_id, "liked")),
        Err(AppError::AlreadyLiked) => Ok(back(post_id, "liked-already")),
        Err(error) => again(&visit, post_id, user_id, String::new(), error).await,
    }
}

/// `POST /posts/{id}/unlike`
///
/// # Errors
/// As for [`comment`].
pub async fn unlike(Path(id): Path<String>, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let post_id = post_id(&id)?;
    let user_id = form.text("user_id");
    let saved = async {
        let user = UserId::parse(&user_id)?;
        visit.remember(&user);
        visit.write(&RemoveLike { post_id, user }).await
    };
    match saved.await {
        Ok(_) => Ok(back(post_id, "unliked")),
        Err(error) => again(&visit, post_id, user_id, String::new(), error).await,
    }
}

fn back(post_id: Uuid, done: &str) -> Response {
    Redirect::to(&format!("/posts/{post_id}?done={done}")).into_response()
}

async fn again(
    visit: &Visit,
    post_id: Uuid,
    user_id: String,
    content: String,
    error: AppError,
) -> Result<Response, AppError> {
    match error.form_errors() {
        Some(errors) => {
            let form = CommentForm { user_id, content, errors };
            show_with(visit, post_id, form, None, error.problem().status).await
        }
        None => Err(error),
    }
}
