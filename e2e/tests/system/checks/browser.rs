//! The pages, in a real browser.

use std::rc::Rc;

use crate::system::System;
use crate::webdriver::Browser;

pub(super) async fn posts(system: Rc<System>) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/posts")?).await?;
    browser.close().await
}

pub(super) async fn demo(system: Rc<System>) -> anyhow::Result<()> {
    let browser = Browser::open().await?;
    browser.visit(&system.http_url("webapp", "/Home/Demo")?).await?;
    browser.close().await
}

pub(super) async fn demo_with_an_outage(system: Rc<System>) -> anyhow::Result<()> {
    demo(system).await
}
