//! The whole address space, and what surrounds it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;

use crate::error::AppError;
use crate::handlers::{
    admin, api, changes, demo, docs, health, home, live, posts, reactions, replica, status, theme, users,
};
use crate::state::AppState;
use crate::{assets, middleware};

/// The largest body: a post of 10 000 characters of four bytes has 120 000 when it is percent-encoded in a form, and in
/// JSON, written as pairs of escapes, as many; anything much larger is no post.
const BODY_LIMIT: usize = 256 * 1024;

/// The application.
pub fn app(state: AppState) -> Router {
    let pages = Router::new()
        .route("/", get(home::show))
        .route("/posts", get(posts::list).post(posts::create))
        .route("/posts/new", get(posts::new))
        .route("/posts/seed", post(posts::seed))
        .route("/posts/{id}", get(posts::show).post(posts::edit))
        .route("/posts/{id}/edit", get(posts::edit_form))
        .route("/posts/{id}/delete", post(posts::delete))
        .route("/posts/{id}/comments", post(reactions::comment))
        .route("/posts/{id}/like", post(reactions::like))
        .route("/posts/{id}/unlike", post(reactions::unlike))
        .route("/users/{user}", get(users::show))
        .route("/status", get(status::show))
        .route("/status/replicas/{name}", get(replica::show))
        .route("/changes", get(changes::show))
        .route("/errors", get(replica::errors))
        .route("/live/{view}", get(live::stream))
        .route("/api", get(docs::show))
        .route("/openapi.json", get(docs::openapi))
        .route("/admin", get(admin::show))
        .route("/admin/sign-in", post(admin::sign_in))
        .route("/admin/sign-out", post(admin::sign_out))
        .route("/admin/confirm", post(admin::confirm))
        .route("/admin/act", post(admin::act))
        .route("/theme", post(theme::choose))
        .route("/demo", get(demo::show))
        .route("/Home/Demo", get(demo::show))
        // What people type; the name above is the one that is linked.
        .route("/home/demo", get(async || Redirect::permanent("/Home/Demo")))
        .route("/demo/runs", get(async || Redirect::to("/demo")).post(demo::start))
        .route("/demo/compare", get(demo::compare))
        .route("/demo/runs/{id}", get(demo::show_run))
        .route("/demo/runs/{id}/events", get(demo::events))
        .route("/demo/runs/{id}/stop", post(demo::stop))
        .route("/demo/runs/{id}/away", post(demo::away));
    let api = Router::new()
        .route("/api/posts", get(api::list_posts).post(api::create_post))
        .route("/api/posts/{id}", get(api::show_post).merge(put(api::edit_post).delete(api::delete_post)))
        .route("/api/posts/{id}/row", get(api::show_row))
        .route("/api/comments", post(api::create_comment))
        .route("/api/likes", post(api::create_like))
        .route("/api/users/{user}/posts", get(api::posts_of_user))
        .route("/api/users/{user}/stats", get(api::stats_of_user))
        .route("/api/demo", get(api::demo))
        .route("/api/status", get(status::json))
        .route("/api/replicas/{name}/{action}", post(admin::act_for_program));
    let operations = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/assets/{name}", get(assets::serve));

    // A form of another site is refused by its Sec-Fetch-Site or Origin header. Programs send neither, and pass.
    let same_site = CsrfLayer::new().with_rejection_response(|_| AppError::CrossSite.into_response());
    let internal = |_| AppError::Internal(anyhow::anyhow!("a handler panicked")).into_response();
    pages
        .merge(api)
        .merge(operations)
        .fallback(async || AppError::NotFound("There is no page at this address.".to_owned()))
        .method_not_allowed_fallback(async || AppError::Method)
        // The last one is the outermost. Problems are rendered outside of everything that can return one.
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(same_site)
        .layer(CatchPanicLayer::custom(internal))
        .layer(from_fn_with_state(state.clone(), middleware::around))
        .layer(middleware::compression())
        .with_state(state)
}
