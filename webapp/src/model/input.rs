//! Text that people type, checked once at the edge: a value of these types can be stored.
//!
//! The limits are those of the CHECK constraints in `postgres/schema.sql`; the database has the last word.

use std::fmt;

/// What is wrong with one field of a form or a JSON body, in words for the person who filled it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name in the form and in the JSON body.
    pub field: &'static str,
    /// A sentence that says what would be right.
    pub message: String,
}

impl FieldError {
    /// An error in `field`.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

/// Who writes: 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserId(String);

/// The text of a post: 1 to 10 000 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostContent(String);

/// The text of a comment: 1 to 2 000 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommentContent(String);

/// Words to search for: 1 to 200 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchWords(String);

impl UserId {
    /// The most characters that a user name may have.
    pub const MAX: usize = 64;

    /// Checks a user name; spaces around it do not count.
    ///
    /// # Errors
    /// When it is empty, too long, only dots that an address can't hold, or has control characters.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(FieldError::new("user_id", "The user name has characters that can't be shown."));
        }
        // A browser takes them in /users/{user} for "here" and "one up", so such a user would have no page.
        if [".", ".."].contains(&text) {
            return Err(FieldError::new("user_id", "The user name can't be only one or two dots."));
        }
        Ok(Self(check("user_id", "The user name", text, Self::MAX)?))
    }
}

impl PostContent {
    /// The most characters that a post may have.
    pub const MAX: usize = 10_000;

    /// Checks the text of a post.
    ///
    /// # Errors
    /// When it is blank, too long, or has a NUL, which PostgreSQL can't store.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        Ok(Self(check("content", "The text", text, Self::MAX)?))
    }
}

impl CommentContent {
    /// The most characters that a comment may have.
    pub const MAX: usize = 2_000;

    /// Checks the text of a comment.
    ///
    /// # Errors
    /// As for [`PostContent::parse`].
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        Ok(Self(check("content", "The comment", text, Self::MAX)?))
    }
}

impl SearchWords {
    /// The most characters that a search may have.
    pub const MAX: usize = 200;

    /// Checks a search; blank means no search.
    ///
    /// # Errors
    /// When it is too long or has a NUL.
    pub fn parse(text: &str) -> Result<Option<Self>, FieldError> {
        match text.trim() {
            "" => Ok(None),
            words => Ok(Some(Self(check("search", "The search", words, Self::MAX)?))),
        }
    }
}

fn check(field: &'static str, name: &str, text: &str, max: usize) -> Result<String, FieldError> {
    let count = text.chars().count();
    if text.trim().is_empty() {
        Err(FieldError::new(field, format!("{name} is empty.")))
    } else if count > max {
        Err(FieldError::new(field, format!("{name} has {count} characters; {max} is the most.")))
    } else if text.contains('\0') {
        Err(FieldError::new(field, format!("{name} has a NUL character, which can't be stored.")))
    } else {
        Ok(text.to_owned())
    }
}

macro_rules! text_value {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text itself.
            pub fn text(&self) -> &String {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_value!(UserId PostContent CommentContent SearchWords);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!(UserId::parse(&"é".repeat(64)).is_ok());
        assert!(UserId::parse(&"é".repeat(65)).is_err());
        assert!(PostContent::parse(&"漢".repeat(10_000)).is_ok());
        assert!(PostContent::parse(&"a".repeat(10_001)).is_err());
        assert!(CommentContent::parse(&"a".repeat(2_001)).is_err());
    }

    #[test]
    fn blank_and_unstorable_texts_are_refused_with_the_field() {
        assert_eq!(UserId::parse("  ").map_err(|e| e.field), Err("user_id"));
        assert_eq!(UserId::parse("a\nb").map_err(|e| e.field), Err("user_id"));
        assert_eq!(UserId::parse(" .. ").map_err(|e| e.field), Err("user_id"));
        assert!(UserId::parse(".").is_err() && UserId::parse("...").is_ok());
        assert_eq!(PostContent::parse(" \n").map_err(|e| e.field), Err("content"));
        assert_eq!(PostContent::parse("a\0b").map_err(|e| e.field), Err("content"));
        assert_eq!(UserId::parse(" ada ").map(|u| u.to_string()), Ok("ada".to_owned()));
    }

    #[test]
    fn a_blank_search_is_no_search() {
        assert_eq!(SearchWords::parse("  "), Ok(None));
        assert_eq!(SearchWords::parse(" cat ").map(|w| w.map(|w| w.to_string())), Ok(Some("cat".to_owned())));
        assert!(SearchWords::parse(&"x".repeat(201)).is_err());
    }
}
