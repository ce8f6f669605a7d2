//! Tests of the harness itself, and of the repository's own rules.

mod harness;
mod lab;
mod observers;
mod tidy;
mod vendored;
