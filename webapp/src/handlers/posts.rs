//! Posts: the list with its search, one post, and the forms to write, edit and delete.

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use crate::arrivals::Arrival;
use crate::db::queries::posts::{
    CreatePost, DeletePost, EditPost, NewestPosts, PageOf, PostById, SearchPosts, SeedPosts, StoredPost,
};
use crate::error::AppError;
use crate::extract::{FormFields, PathText, QueryFields, both, post_id};
use crate::model::input::{FieldError, PostContent, SearchWords, UserId};
use crate::model::listing::{Cursor, Listing, PageSize};
use crate::model::post::{Post, PostDetail};
use crate::model::status::words;
use crate::page::{Chrome, filters, form_page, page};
use crate::visit::Visit;

#[derive(Template)]
#[template(path = "posts/list.html")]
struct ListPage {
    chrome: Chrome,
    listing: Listing,
    search: String,
    /// The page is the one after this post; none: the first.
    after: Option<Cursor>,
    leader: bool,
    flash: Option<Flash>,
}

impl ListPage {
    /// This page's address, to be answered by another replica.
    fn again(&self) -> askama::Result<String> {
        self.address(self.leader)
    }

    /// The same, to be answered by the leader, or by the replicas again.
    fn other(&self) -> askama::Result<String> {
        self.address(!self.leader)
    }

    fn address(&self, leader: bool) -> askama::Result<String> {
        let mut query = Vec::new();
        if !self.search.is_empty() {
            query.push(format!("search={}", askama::filters::urlencode_strict(&self.search)?));
        }
        query.extend(self.after.map(|after| format!("after={after}")));
        if leader {
            query.push("from=leader".to_owned());
        }
        Ok(if query.is_empty() { "/posts".to_owned() } else { format!("/posts?{}", query.join("&")) })
    }
}

/// A form to write or edit a post, empty or with what was typed before.
#[derive(Template)]
#[template(path = "posts/form.html")]
struct FormPage {
    chrome: Chrome,
    /// The post that is edited; none for a new one.
    editing: Option<Uuid>,
    /// A new post's id is made with the form, so that sending the form twice makes one post.
    new_id: Uuid,
    version: i64,
    user_id: String,
    content: String,
    errors: Vec<FieldError>,
    /// What somebody else made of the post meanwhile.
    theirs: Option<Post>,
}

impl FormPage {
    fn error_of(&self, field: &str) -> Option<&FieldError> {
        self.errors.iter().find(|error| error.field == field)
    }

    /// The page with the status that its errors ask for.
    fn respond(self, status: StatusCode) -> Response {
        let mut response = form_page(status, &self);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, 2.into());
        }
        response
    }
}

#[derive(Template)]
#[template(path = "posts/show.html")]
struct ShowPage {
    chrome: Chrome,
    post: PostDetail,
    flash: Option<Flash>,
    comment: CommentForm,
    liked: bool,
    leader: bool,
}

/// The form for a comment, empty or with what was typed before.
pub struct CommentForm {
    /// The comment's id, made with the form, so that sending the form twice makes one comment.
    pub id: Uuid,
    /// Who writes.
    pub user_id: String,
    /// What was typed.
    pub content: String,
    /// What is wrong with it.
    pub errors: Vec<FieldError>,
}

impl CommentForm {
    /// A form to be filled in by `user_id`.
    pub fn empty(user_id: String) -> Self {
        Self { id: Uuid::now_v7(), user_id, content: String::new(), errors: vec![] }
    }

    fn error_of(&self, field: &str) -> Option<&FieldError> {
        self.errors.iter().find(|error| error.field == field)
    }
}

impl ShowPage {
    fn new(
        visit: &Visit,
        post: PostDetail,
        comment: CommentForm,
        flash: Option<Flash>,
        leader: bool,
    ) -> Self {
        let name = &comment.user_id;
        let liked = !name.is_empty() && post.likes.iter().any(|like| like.user_id == *name);
        Self { chrome: Chrome::new("posts", visit), post, flash, comment, liked, leader }
    }

    /// This page's address, to be answered by another replica.
    fn again(&self) -> String {
        self.address(self.leader)
    }

    /// The same, to be answered by the leader, or by the replicas again.
    fn other(&self) -> String {
        self.address(!self.leader)
    }

    fn address(&self, leader: bool) -> String {
        let query = if leader { "?from=leader" } else { "" };
        format!("/posts/{}{query}", self.post.summary.post.id)
    }

    /// What the page leaves out of `count` rows of which it has `shown`.
    fn newest_of(shown: usize, count: &i64) -> Option<String> {
        let all = usize::try_from(*count).ok()?;
        (all > shown).then(|| format!("These are the newest {shown} of {all}."))
    }
}

/// What was just done, said on the page that follows, and how it arrives on the replicas.
pub struct Flash {
    words: &'static str,
    arrival: Option<(Uuid, String)>,
}

impl Flash {
    /// The address carries only a word and a number, so nobody can make us say other things by a link.
    fn of(query: &QueryFields, visit: &Visit) -> Option<Self> {
        let words = flash_words(query.get("done")?)?;
        let arrival = visit.arrival(query).and_then(|arrival| Some((arrival.id, arriving(&arrival).ok()?)));
        Some(Self { words, arrival })
    }
}

#[derive(Template)]
#[template(path = "posts/_arrival.html")]
struct Arriving {
    replicas: Vec<(String, Option<String>)>,
}

/// How far a write is on its way, as HTML.
///
/// # Errors
/// When the template can't be rendered: a fault of ours.
pub fn arriving(arrival: &Arrival) -> askama::Result<String> {
    let replicas = arrival.replicas().into_iter().map(|(name, took)| (name, took.map(words::span)));
    Arriving { replicas: replicas.collect() }.render()
}

fn flash_words(done: &str) -> Option<&'static str> {
    match done {
        "created" => Some("Saved on the leader. This page was read after it, from a server that has it."),
        "seeded" => Some("200 rows are on the leader. What was there already was left as it is."),
        "edited" => Some("Saved on the leader. This page was read after it, from a server that has it."),
        "deleted" => Some("The post and everything about it is deleted."),
        "commented" => Some("Your comment is saved."),
        "liked" => Some("Your like is saved."),
        "liked-already" => Some("You like this post already: once is all that is counted."),
        "unliked" => Some("Your like is taken back."),
        "not-liked" => Some("This name did not like the post, so there was nothing to take back."),
        _ => None,
    }
}

/// Whether an address asks for the leader's answer.
fn wants_leader(query: &QueryFields) -> Result<bool, AppError> {
    match query.get("from") {
        None => Ok(false),
        Some("leader") => Ok(true),
        Some(_) => Err(AppError::BadRequest(FieldError::new(
            "from",
            "Replicas answer, or with from=leader the leader.",
        ))),
    }
}

/// `GET /posts?search=&after=&from=`
///
/// # Errors
/// 400 when the cursor, the search or the server can't be, 503 when no database answers.
pub async fn list(query: QueryFields, visit: Visit) -> Result<Response, AppError> {
    let words =
        query.get("search").map(SearchWords::parse).transpose().map_err(AppError::BadRequest)?.flatten();
    let cursor = query.get("after").map(str::parse::<Cursor>).transpose().map_err(AppError::BadRequest)?;
    let page_of = PageOf::new(cursor, PageSize::DEFAULT);
    let leader = wants_leader(&query)?;
    let listing = match &words {
        Some(words) => visit.read_from(leader, &SearchPosts { page: page_of, words }).await?,
        None => visit.read_from(leader, &NewestPosts { page: page_of }).await?,
    };
    let template = ListPage {
        chrome: Chrome::new("posts", &visit),
        listing,
        search: words.map(|words| words.to_string()).unwrap_or_default(),
        after: cursor,
        leader,
        flash: Flash::of(&query, &visit),
    };
    Ok(page(StatusCode::OK, &template))
}

/// `GET /posts/new`
pub async fn new(visit: Visit) -> Response {
    new_form(&visit, Uuid::now_v7(), visit.name().to_owned(), String::new(), vec![]).respond(StatusCode::OK)
}

fn new_form(visit: &Visit, id: Uuid, user_id: String, content: String, errors: Vec<FieldError>) -> FormPage {
    FormPage {
        chrome: Chrome::new("posts", visit),
        editing: None,
        new_id: id,
        version: 0,
        user_id,
        content,
        errors,
        theirs: None,
    }
}

/// `POST /posts`
///
/// # Errors
/// None that loses what was typed: 409, 422 and 503 show the form again.
pub async fn create(visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let id = Uuid::parse_str(&form.text("id")).unwrap_or_else(|_| Uuid::now_v7());
    let (user_id, content) = (form.text("user_id"), form.text("content"));
    let saved = async {
        let (user, content) = both(UserId::parse(&user_id), PostContent::parse(&content))?;
        visit.remember(&user);
        let post = CreatePost { id, user, content };
        if visit.write(&post).await?.is_none() {
            came_before(&visit, &post).await?;
        }
        Ok::<(), AppError>(())
    };
    match saved.await {
        Ok(()) => Ok(Redirect::to(&format!("/posts/{id}?{}", visit.wrote("created"))).into_response()),
        Err(error) => match error.new_form_errors() {
            Some(errors) => {
                let form = new_form(&visit, error.next_form_id(id), user_id, content, errors);
                Ok(form.respond(error.problem().status))
            }
            None => Err(error),
        },
    }
}

/// The form's id is taken. That is well when the same form came twice (a double click); when somebody went back and wrote
/// something else, it is not saved, and must not be called so.
async fn came_before(visit: &Visit, post: &CreatePost) -> Result<(), AppError> {
    let stored = visit.read_newest(&StoredPost(post.id)).await?;
    let same = |stored: Post| stored.user_id == *post.user.text() && stored.content == *post.content.text();
    if stored.is_some_and(same) { Ok(()) } else { Err(AppError::FormUsed) }
}

/// `POST /posts/seed`: 200 posts to try things with.
///
/// # Errors
/// 503 when the leader does not answer.
pub async fn seed(visit: Visit) -> Result<Response, AppError> {
    let new = visit.write(&SeedPosts).await?;
    tracing::info!(new, "posts were seeded");
    Ok(Redirect::to(&format!("/posts?{}", visit.wrote("seeded"))).into_response())
}

/// `GET /posts/{id}?from=`
///
/// # Errors
/// 400 when the server can't be, 404 when there is no such post, 503 when no database answers.
pub async fn show(PathText(id): PathText, query: QueryFields, visit: Visit) -> Result<Response, AppError> {
    let (id, leader) = (post_id(&id)?, wants_leader(&query)?);
    let post = visit.read_from(leader, &PostById(id)).await?.ok_or_else(AppError::no_such_post)?;
    let comment = CommentForm::empty(visit.name().to_owned());
    let flash = Flash::of(&query, &visit);
    Ok(page(StatusCode::OK, &ShowPage::new(&visit, post, comment, flash, leader)))
}

/// The page of a post, with a comment form that may hold what was typed before.
///
/// # Errors
/// As for [`show`].
pub async fn show_with(
    visit: &Visit,
    id: Uuid,
    comment: CommentForm,
    flash: Option<Flash>,
    status: StatusCode,
) -> Result<Response, AppError> {
    let post = visit.read(&PostById(id)).await?.ok_or_else(AppError::no_such_post)?;
    let mut response = page(status, &ShowPage::new(visit, post, comment, flash, false));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, 2.into());
    }
    Ok(response)
}

/// `GET /posts/{id}/edit`
///
/// # Errors
/// As for [`show`].
pub async fn edit_form(PathText(id): PathText, visit: Visit) -> Result<Response, AppError> {
    let id = post_id(&id)?;
    let post = visit.read(&PostById(id)).await?.ok_or_else(AppError::no_such_post)?.summary.post;
    Ok(editing(&visit, post.id, post.version, post.content).respond(StatusCode::OK))
}

fn editing(visit: &Visit, id: Uuid, version: i64, content: String) -> FormPage {
    FormPage { editing: Some(id), version, ..new_form(visit, id, String::new(), content, vec![]) }
}

/// `POST /posts/{id}`
///
/// # Errors
/// 404 when there is no such post. 409, 422 and 503 show the form again.
pub async fn edit(PathText(id): PathText, visit: Visit, form: FormFields) -> Result<Response, AppError> {
    let id = post_id(&id)?;
    let typed = form.text("content");
    let version = form.text("version").parse::<i64>().ok().filter(|version| *version > 0);
    let saved = async {
        let version = version.ok_or_else(|| FieldError::new("", "The form has lost the post's version."))?;
        let content = PostContent::parse(&typed)?;
        edit_post(&visit, EditPost { id, content, version: Some(version) }).await
    };
    let Err(error) = saved.await else {
        return Ok(Redirect::to(&format!("/posts/{id}?{}", visit.wrote("edited"))).into_response());
    };
    let again = |version| editing(&visit, id, version, typed.clone());
    match (error.form_errors(), error) {
        // The form is now made from their version: saving it again is a decision.
        (_, AppError::Stale(now)) => {
            let theirs = now.summary.post;
            let form = FormPage { theirs: Some(theirs.clone()), ..again(theirs.version) };
            Ok(form.respond(StatusCode::CONFLICT))
        }
        (Some(errors), error) => {
            let form = FormPage { errors, ..again(version.unwrap_or(1)) };
            Ok(form.respond(error.problem().status))
        }
        (None, error) => Err(error),
    }
}

/// Edits a post, or says why not.
///
/// # Errors
/// 404 when there is no such post, 409 with the post of now when it has another version.
pub async fn edit_post(visit: &Visit, edit: EditPost) -> Result<Post, AppError> {
    let id = edit.id;
    match visit.write(&edit).await? {
        Some(post) => Ok(post),
        None => match visit.read_newest(&PostById(id)).await? {
            Some(now) => Err(AppError::Stale(Box::new(now))),
            None => Err(AppError::no_such_post()),
        },
    }
}

/// `POST /posts/{id}/delete`
///
/// # Errors
/// 404 when there is no such post, 503 when the leader does not answer.
pub async fn delete(PathText(id): PathText, visit: Visit) -> Result<Response, AppError> {
    if visit.write(&DeletePost(post_id(&id)?)).await? {
        Ok(Redirect::to(&format!("/posts?{}", visit.wrote("deleted"))).into_response())
    } else {
        Err(AppError::no_such_post())
    }
}
