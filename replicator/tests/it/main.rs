//! The applying side against real PostgreSQL servers, fed with events that the real connector wrote.

mod apply;
mod contract;
mod control;
mod direct;
mod events;
mod feed;
mod forms;
mod fuzz;
mod golden;
mod golden_lossy;
mod missing_rows;
mod ownership;
mod quarantine;
mod rebuild;
mod schema_change;
mod story;
mod streamed;
mod techniques;
mod types;
mod wholes;
