//! Every statement that the application makes, as a [`super::statement::Read`] or a [`super::statement::Write`].

pub mod demo;
pub mod detail;
pub mod leader;
pub mod posts;
pub mod reactions;
pub mod status;
pub mod users;
