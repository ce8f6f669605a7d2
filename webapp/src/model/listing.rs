//! Keyset paging: a page says where the next one starts, so that a deep page costs as little as the first, and rows
//! that arrive meanwhile neither repeat nor hide a post.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use uuid::Uuid;

use super::input::FieldError;
use super::post::{Post, PostSummary};

/// How many posts one page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u8);

impl PageSize {
    /// What a page holds when nobody says otherwise.
    pub const DEFAULT: Self = Self(20);
    /// A page is one screen, not an export.
    pub const MAX: u8 = 100;

    /// The number of posts.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl FromStr for PageSize {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text.parse() {
            Ok(size @ 1..=Self::MAX) => Ok(Self(size)),
            _ => Err(FieldError::new("limit", format!("The limit is a number from 1 to {}.", Self::MAX))),
        }
    }
}

/// The first moment that PostgreSQL's `timestamptz` holds, 4714 BC. Its last one is after the year 9999, where ours ends.
const EARLIEST_MICROS: i64 = -210_866_803_200_000_000;

/// The place in the list after one post, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When that post was written.
    pub created_at: Timestamp,
    /// Its id, which orders posts of the same microsecond.
    pub id: Uuid,
}

impl Cursor {
    /// The place after `post`.
    pub fn after(post: &Post) -> Self {
        Self { created_at: post.created_at, id: post.id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.created_at.as_microsecond(), self.id.simple())
    }
}

impl FromStr for Cursor {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let parse = || {
            let (micros, id) = text.split_once('_')?;
            let micros = micros.parse().ok().filter(|micros| *micros >= EARLIEST_MICROS)?;
            let created_at = Timestamp::from_microsecond(micros).ok()?;
            Some(Self { created_at, id: id.parse().ok()? })
        };
        parse()
            .ok_or_else(|| FieldError::new("after", "The cursor is not one that a page of posts gave out."))
    }
}

/// One page of posts, and where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Newest first.
    pub posts: Vec<PostSummary>,
    /// The cursor of the next page, when there is one.
    pub next: Option<Cursor>,
}

impl Listing {
    /// Cuts a page out of rows that were read with a limit of one more than the page holds.
    pub fn cut(mut posts: Vec<PostSummary>, size: PageSize) -> Self {
        let more = posts.len() > size.get();
        posts.truncate(size.get());
        let next = posts.last().filter(|_| more).map(|last| Cursor::after(&last.post));
        Self { posts, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros in -62_135_596_800_000_000i64..253_402_200_000_000_000, id: u128) {
            let cursor = Cursor {
                created_at: Timestamp::from_microsecond(micros).unwrap(),
                id: Uuid::from_u128(id),
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_made_up_cursor_is_an_error_not_a_panic() {
        for text in [
            "",
            "_",
            "1",
            "1_x",
            "x_00000000000000000000000000000000",
            "-300000000000000000_00000000000000000000000000000000",
            "9223372036854775807_00000000000000000000000000000000",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_outside_1_to_100_are_errors() {
        for text in ["0", "101", "-1", "abc", "", "1e2", "99999999999"] {
            assert_eq!(text.parse::<PageSize>().map_err(|e| e.field), Err("limit"), "{text:?}");
        }
        assert_eq!("100".parse::<PageSize>().map(PageSize::get), Ok(100));
    }
}
