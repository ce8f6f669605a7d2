//! Light, dark, or as the system is. It is in a cookie, so that the server sends the page in the right colours at once.

/// The cookie with the choice.
pub const THEME_COOKIE: &str = "theme";

/// The colours of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the reader's system is.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// From the cookie or the form; what is not understood is no choice.
    pub fn parse(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    /// For the cookie, the form and the style sheet.
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Light => "Light",
            Self::Dark => "Dark",
        }
    }

    /// What there is to choose from.
    pub fn all(self) -> &'static [Self] {
        &[Self::Auto, Self::Light, Self::Dark]
    }

    /// The colours, when somebody chose some.
    pub fn fixed(self) -> Option<&'static str> {
        (self != Self::Auto).then(|| self.label())
    }
}
