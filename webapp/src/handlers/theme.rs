//! The colours that somebody chose.

use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar};

use crate::extract::{FormFields, way_back};
use crate::page::theme::{THEME_COOKIE, Theme};
use crate::visit::lasting;

/// `POST /theme`: remembers the colours in a cookie and goes back to the page.
pub async fn choose(jar: CookieJar, form: FormFields) -> Response {
    let theme = Theme::parse(&form.text("theme"));
    let back = form.text("back");
    let cookie = lasting(Cookie::new(THEME_COOKIE, theme.label()));
    (jar.add(cookie.into_owned()), Redirect::to(way_back(&back, "/"))).into_response()
}
