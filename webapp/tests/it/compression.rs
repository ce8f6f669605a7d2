//! What is sent compressed, and what must not be.

use std::io::Read as _;

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use reqwest::Method;

use crate::site::{PATIENCE, Reply, SEED, Site};

#[tokio::test]
async fn what_is_worth_it_is_compressed_for_who_understands_it() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let page = site.get("/posts").await?;
    let of = |name: &str| {
        let after = page.text.split(&format!("/assets/{name}-")).nth(1)?;
        Some(format!("/assets/{name}-{}", after.split('"').next()?))
    };
    let (style, script) = (of("app").context("the style sheet")?, of("live").context("the script")?);
    for path in ["/posts", "/openapi.json", "/nowhere", "/metrics", &style, &script] {
        let plain = site.get(path).await?;
        ensure!(plain.header("content-encoding").is_empty(), "{path}: nobody asked for it");
        let request = site.request(Method::GET, path).header("accept-encoding", "gzip, deflate, br");
        let answer = request.send().await?;
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        ensure!(header("content-encoding") == "gzip", "{path}: {:?}", answer.headers());
        ensure!(header("vary").to_lowercase().contains("accept-encoding"), "{path}: {:?}", answer.headers());
        ensure!(header("content-security-policy").contains("default-src 'none'"), "{path}");
        let is_asset = path.starts_with("/assets/");
        ensure!(header("cache-control").contains("immutable") == is_asset, "{path}: {:?}", answer.headers());
        let compressed = answer.bytes().await?;
        let mut text = String::new();
        GzDecoder::new(&compressed[..])
            .read_to_string(&mut text)
            .with_context(|| format!("unpack {path}"))?;
        ensure!(compressed.len() * 2 < text.len(), "{path}: {} of {}", compressed.len(), text.len());
        // What is the same each time is the same unpacked.
        ensure!(!is_asset || text == plain.text, "{path} is another text when it is compressed");
        ensure!(text.contains("</html>") == plain.text.contains("</html>"), "{path} is not whole");
    }
    Ok(())
}

#[tokio::test]
async fn streams_and_small_answers_are_sent_as_they_are() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let small = format!("/api/posts/{SEED}");
    for path in ["/livez", &small] {
        let request = site.request(Method::GET, path).header("accept-encoding", "gzip");
        let answer = Reply::of(request).await?;
        ensure!(answer.code() == 200 && answer.header("content-encoding").is_empty(), "{path}: {answer:?}");
    }
    let request = site.request(Method::GET, "/live/status").header("accept-encoding", "gzip");
    let mut stream = request.send().await?;
    ensure!(!stream.headers().contains_key("content-encoding"), "{:?}", stream.headers());
    let first = tokio::time::timeout(PATIENCE, stream.chunk()).await.context("wait for an event")??;
    ensure!(String::from_utf8_lossy(&first.context("an event")?).contains("live-pill"), "not an event");
    Ok(())
}
