//! The applying side against real PostgreSQL servers, fed with events that the real connector wrote.

mod apply;
mod feed;
mod golden;
mod ownership;
mod techniques;
