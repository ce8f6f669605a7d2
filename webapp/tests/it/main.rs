//! The application against real PostgreSQL servers. Replication is made by hand, through the contract, so that each test
//! decides which replica has which write.

mod admin;
mod api;
mod compression;
mod consistency;
mod contract;
mod demo;
mod example;
mod forms;
mod outages;
mod pages;
mod program;
mod push;
mod reload;
mod rotation;
mod sharing;
mod site;
mod status;
mod tokens;
