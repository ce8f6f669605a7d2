//! One module per resource: its page structs, its forms, its handlers. No SQL here; see [`crate::db::queries`].

pub mod admin;
pub mod api;
pub mod changes;
pub mod demo;
pub mod docs;
pub mod health;
pub mod home;
pub mod live;
pub mod posts;
pub mod reactions;
pub mod replica;
pub mod status;
pub mod theme;
pub mod users;
