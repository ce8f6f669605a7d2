//! Formatting into a buffer that exists.

use std::fmt::{Arguments, Write as _};

/// Appends formatted text without an allocation of its own.
pub(crate) fn push_fmt(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text, and the values formatted here print without errors");
}
