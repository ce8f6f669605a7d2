//! Where changes come from. Knows topics and bytes, nothing of replicas.

pub mod kafka;
