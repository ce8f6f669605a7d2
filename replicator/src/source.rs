//! Where changes come from. Knows topics, slots and bytes, nothing of replicas.

pub mod kafka;
pub mod postgres;
