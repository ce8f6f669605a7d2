//! What can be wrong with a message.

/// Bytes that are not what the protocol has at their place. Never holds a value of the user's, so it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}, byte {at}: {problem}")]
pub struct PgOutputError {
    /// The kind of message, as PostgreSQL's documentation names it.
    pub message: &'static str,
    /// How many bytes of the message made sense.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong at one place of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message ends too early.
    #[error("expected {expected}, {needed} bytes, but only {left} are left")]
    Truncated {
        /// What should stand there.
        expected: &'static str,
        /// How many bytes it has.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A name without the zero byte that ends names.
    #[error("expected {0}, but no zero byte ends it")]
    Unterminated(&'static str),
    /// A name that is not UTF-8, which the session asked for.
    #[error("expected {0}, but it is not UTF-8")]
    NotUtf8(&'static str),
    /// A byte that means nothing there.
    #[error("expected {expected}, found {}", show(*.found))]
    Unexpected {
        /// What should stand there.
        expected: &'static str,
        /// What does.
        found: u8,
    },
    /// A count or length below zero, or above what PostgreSQL can have.
    #[error("{what} can't be {found}")]
    BadCount {
        /// What is counted.
        what: &'static str,
        /// The number.
        found: i64,
    },
    /// More bytes than the message has a meaning for.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A first byte that begins no message of protocol version 1 or 2.
    #[error("no message of protocol 1 or 2 begins with {}", show(*.0))]
    UnknownMessage(u8),
    /// A message that can't stand here.
    #[error("it can't stand {0}")]
    Misplaced(&'static str),
}

fn show(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("'{}'", char::from(byte)) } else { format!("0x{byte:02x}") }
}
