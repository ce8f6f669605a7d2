//! Style, script and icon, inside the binary. Their addresses carry a hash of their content, so a browser may keep them
//! for ever, and a new version has a new address.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error::AppError;

struct Asset {
    stem: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: &'static str,
}

static ASSETS: [Asset; 4] = [
    Asset {
        stem: "app",
        extension: "css",
        media_type: "text/css; charset=utf-8",
        content: include_str!("../static/app.css"),
    },
    Asset {
        stem: "demo",
        extension: "js",
        media_type: "text/javascript; charset=utf-8",
        content: include_str!("../static/demo.js"),
    },
    Asset {
        stem: "live",
        extension: "js",
        media_type: "text/javascript; charset=utf-8",
        content: include_str!("../static/live.js"),
    },
    Asset {
        stem: "icon",
        extension: "svg",
        media_type: "image/svg+xml",
        content: include_str!("../static/icon.svg"),
    },
];

/// The addresses of the assets, for the templates.
pub struct Addresses {
    /// The style sheet.
    pub css: String,
    /// The demo's script.
    pub demo_js: String,
    /// The script that keeps pages up to date.
    pub live_js: String,
    /// The icon.
    pub icon: String,
}

/// The addresses of the assets.
pub static ADDRESSES: LazyLock<Addresses> = LazyLock::new(|| {
    let [css, demo_js, live_js, icon] =
        ASSETS.each_ref().map(|asset| format!("/assets/{}", asset.file_name()));
    Addresses { css, demo_js, live_js, icon }
});

impl Asset {
    fn file_name(&self) -> String {
        let hash = Sha256::digest(self.content.as_bytes());
        let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{short}.{}", self.stem, self.extension)
    }
}

/// `GET /assets/{name}`
///
/// # Errors
/// 404 when there is no asset of this name; one of an older version has another name.
pub async fn serve(Path(name): Path<String>) -> Result<Response, AppError> {
    let found = ASSETS.iter().find(|asset| asset.file_name() == name);
    let asset = found.ok_or_else(|| AppError::NotFound("There is no such file.".to_owned()))?;
    let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.content).into_response())
}
