//! Named judgements: each says how something is, why, since when, and what ends it.

mod rules;

use jiff::Timestamp;

pub use rules::{Context, judge};

/// How good something is; a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Beginning: it becomes well by itself.
    Init,
    /// Somebody wants it so.
    Paused,
    /// Nobody can tell.
    Unknown,
    /// It works, but not as promised.
    Warn,
    /// It does not work.
    Error,
}

impl Level {
    /// For style sheets and programs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Init => "init",
            Self::Paused => "paused",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// A mark that says the same without colour.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Init => "…",
            Self::Paused => "‖",
            Self::Unknown => "?",
            Self::Warn => "!",
            Self::Error => "✕",
        }
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The leader and what it keeps for us.
    Leader,
    /// What brings the changes.
    Way,
    /// One of the replicas.
    Replica,
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Names it for programs, for ever: `leader-reachable`, `replica-2-lag`.
    pub slug: String,
    /// What it is about.
    pub group: Group,
    /// How good it is.
    pub level: Level,
    /// How it is, in a few words.
    pub title: String,
    /// Why it is not well.
    pub cause: Option<String>,
    /// The command that ends it, to be copied.
    pub fix: Option<String>,
    /// Since when it is at this level, as far as this process knows.
    pub since: Timestamp,
    /// When it was well for the last time.
    pub last_ok: Option<Timestamp>,
}

impl Check {
    /// Something that is as it should be.
    fn ok(slug: &str, group: Group, title: impl Into<String>) -> Self {
        Self {
            slug: slug.to_owned(),
            group,
            level: Level::Ok,
            title: title.into(),
            cause: None,
            fix: None,
            since: Timestamp::UNIX_EPOCH,
            last_ok: None,
        }
    }

    /// Something that is not.
    fn not_ok(
        level: Level,
        slug: &str,
        group: Group,
        title: impl Into<String>,
        cause: impl Into<String>,
    ) -> Self {
        Self { level, cause: Some(cause.into()), ..Self::ok(slug, group, title) }
    }

    /// With the command that ends it.
    fn mended_by(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }
}

/// Dates `checks` by what was known `before`: a level that stays has begun when it was first seen.
pub fn date(checks: &mut [Check], before: &[Check], now: Timestamp) {
    for check in checks {
        let known = before.iter().find(|known| known.slug == check.slug);
        check.since = known.filter(|known| known.level == check.level).map_or(now, |known| known.since);
        check.last_ok =
            if check.level == Level::Ok { Some(now) } else { known.and_then(|known| known.last_ok) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_stays_keeps_its_beginning() {
        let at = |n| Timestamp::from_second(n).unwrap();
        let bad = || vec![Check::not_ok(Level::Error, "x", Group::Leader, "Down", "because")];
        let mut first = vec![Check::ok("x", Group::Leader, "Well")];
        date(&mut first, &[], at(1));
        let mut second = bad();
        date(&mut second, &first, at(2));
        let mut third = bad();
        date(&mut third, &second, at(3));
        assert_eq!((third[0].since, third[0].last_ok), (at(2), Some(at(1))));
    }

    #[test]
    fn the_worst_is_the_greatest() {
        assert!(Level::Error > Level::Warn && Level::Warn > Level::Unknown && Level::Unknown > Level::Paused);
        assert!(Level::Paused > Level::Init && Level::Init > Level::Ok);
    }
}
