//! Just enough of Rust's lexical grammar to tell code, comments and string literals apart.

/// A Rust file, taken apart.
pub(super) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(super) path: String,
    /// The code without comments, string contents and unit tests; lines are where they were.
    pub(super) code: String,
    /// Every string literal outside unit tests, with its line.
    pub(super) strings: Vec<(usize, String)>,
    /// Lines of the file as it is.
    pub(super) lines: usize,
}

impl Source {
    pub(super) fn parse(path: &str, text: &str) -> Self {
        let (code, mut strings) = separate(text);
        let code: Vec<char> = code.chars().collect();
        let tests = unit_tests(&code);
        let is_test_line = |line: usize| tests.iter().any(|(first, last)| (*first..=*last).contains(&line));
        strings.retain(|(line, _)| !is_test_line(*line));
        let code: String = code.into_iter().collect();
        let kept =
            code.lines().enumerate().map(|(index, line)| if is_test_line(index + 1) { "" } else { line });
        let code = kept.collect::<Vec<_>>().join("\n");
        Self { path: path.to_owned(), code, strings, lines: text.lines().count() }
    }

    /// Lines on which `phrase` stands as whole words.
    pub(super) fn mentions(&self, phrase: &str) -> Vec<usize> {
        let hits = self.code.lines().enumerate().filter(|(_, line)| has_phrase(line, phrase));
        hits.map(|(index, _)| index + 1).collect()
    }

    /// The `use` declarations: line and text.
    pub(super) fn imports(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (start, _) in self.code.match_indices("use ") {
            let before = self.code[..start].lines().last().unwrap_or_default();
            let opens_a_line = before.trim().is_empty() || before.trim_start().starts_with("pub");
            if opens_a_line && let Some(length) = self.code[start..].find(';') {
                found.push((self.code[..start].matches('\n').count() + 1, &self.code[start..start + length]));
            }
        }
        found
    }
}

/// Whether `phrase` stands in `line` with no letter, digit or `_` right before or after it.
pub(super) fn has_phrase(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Blanks comments and literals in `text`, and collects the string literals.
fn separate(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut strings) = (String::new(), Vec::new());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => line_end(&chars, at),
            ('/', Some('*')) => block_comment_end(&chars, at),
            ('"', _) => {
                let (end, hashes) = string_end(&chars, at, &code);
                let last = end.saturating_sub(1 + hashes).max(at + 1).min(chars.len());
                let line = code.matches('\n').count() + 1;
                strings.push((line, chars[at + 1..last].iter().collect()));
                end
            }
            ('\'', _) => char_literal_end(&chars, at),
            _ => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        let is_string = chars[at] == '"';
        code.push_str(if is_string { "\"\"" } else { " " });
        code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
        at = end;
    }
    (code, strings)
}

fn line_end(chars: &[char], start: usize) -> usize {
    chars[start..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| start + length)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

/// The end of the string whose opening quote is at `start`, and its number of `#`: what was read before it says whether
/// it is raw.
fn string_end(chars: &[char], start: usize, before: &str) -> (usize, usize) {
    let stem = before.trim_end_matches('#');
    let hashes = before.len() - stem.len();
    let is_raw = stem.ends_with(['r', 'R'])
        && !stem.trim_end_matches(['r', 'b', 'c']).ends_with(char::is_alphanumeric);
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' if !is_raw => at += 1,
            '"' if !is_raw => return (at + 1, 0),
            '"' if chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
                return (at + 1 + hashes, hashes);
            }
            _ => {}
        }
        at += 1;
    }
    (chars.len(), 0)
}

/// A quote opens a character literal or a lifetime; of a lifetime only the quote is skipped.
fn char_literal_end(chars: &[char], start: usize) -> usize {
    let escaped = chars.get(start + 1) == Some(&'\\');
    let search = if escaped { start + 3 } else { start + 2 };
    let is_literal = escaped || chars.get(start + 2) == Some(&'\'');
    let close = chars.iter().skip(search).position(|c| *c == '\'');
    close.filter(|_| is_literal).map_or(start + 1, |length| search + length + 1)
}

/// First and last line of each `#[cfg(test)]` item with a body.
fn unit_tests(code: &[char]) -> Vec<(usize, usize)> {
    let marker: Vec<char> = "#[cfg(test)]".chars().collect();
    let line_of = |at: usize| code[..at].iter().filter(|c| **c == '\n').count() + 1;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = code[at..].windows(marker.len()).position(|window| window == marker) {
        let start = at + offset;
        let mut depth = 0_usize;
        let mut end = start;
        while end < code.len() {
            match code[end] {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            let closes = code[end] == '}' && depth == 0;
            let has_no_body = code[end] == ';' && depth == 0;
            if closes || has_no_body {
                break;
            }
            end += 1;
        }
        found.push((line_of(start), line_of(end.min(code.len() - 1))));
        at = end.min(code.len());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_unit_tests_are_not_code() {
        let text = "//! tokio\nuse a::b; /* tokio /* nested */ tokio */\nlet s = \"tokio \\\" tokio\";\n\
                    let r = r#\"SELECT \"x\"\"#; let c = '\"'; let l: &'static str = \"\";\n\
                    #[cfg(test)]\nmod tests {\n  use tokio::x;\n  fn f() { g(\"SELECT 2\") }\n}\nfn after() {}\n";
        let source = Source::parse("x.rs", text);
        assert_eq!(source.mentions("tokio"), Vec::<usize>::new(), "{}", source.code);
        assert_eq!(source.mentions("after"), [10]);
        let strings: Vec<_> = source.strings.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(strings, [(3, "tokio \\\" tokio"), (4, "SELECT \"x\""), (4, "")]);
        assert_eq!(source.imports(), [(2, "use a::b")]);
    }

    #[test]
    fn a_phrase_is_found_as_whole_words_only() {
        assert!(has_phrase("use tokio::time;", "tokio"));
        assert!(has_phrase("pub async fn f()", "async fn"));
        assert!(!has_phrase("use tokio_postgres::Client;", "tokio"));
        assert!(!has_phrase("let mytokio = 1;", "tokio"));
    }
}
