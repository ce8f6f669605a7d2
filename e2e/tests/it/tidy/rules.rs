//! The rules, each a pure function from a file to complaints.

use super::source::Source;

/// Files above the limit, each with the reason why it isn't split. Keep it short.
const LONG_FILES: &[(&str, &str)] = &[];

/// A file longer than this is read by nobody in one go.
const MAX_LINES: usize = 500;

/// What a module that only computes has no business to name: runtimes, clients, clocks and the environment.
const EFFECTS: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_postgres",
    "rdkafka",
    "deadpool",
    "deadpool_postgres",
    "reqwest",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "std::env",
    "std::net",
    "std::fs",
    "async fn",
    "async move",
    ".await",
];

/// Which words may not stand in which modules, and why. A module is a file `x.rs` or a folder `x/`.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("replicator/src/vocabulary", EFFECTS, "the vocabulary is pure"),
    ("replicator/src/decode", EFFECTS, "decoding is pure"),
    ("replicator/src/assemble", EFFECTS, "assembling is pure: positions in, transactions out"),
    ("replicator/src/plan", EFFECTS, "planning is pure"),
    ("bench/src/plot", EFFECTS, "drawing is pure"),
    ("webapp/src/handlers", &["tokio_postgres", "deadpool_postgres"], "handlers reach data through db only"),
    (
        "webapp/src/model",
        &["axum", "tokio_postgres", "deadpool_postgres"],
        "the model knows neither HTTP nor SQL",
    ),
    ("webapp/src/db/route", EFFECTS, "routing is a pure function of what is known"),
    ("webapp/src/db/token", EFFECTS, "tokens are values, compared without asking anybody"),
];

/// Modules that any axum application can use: they know nothing of this one.
const LIBRARY: &[&str] = &["webapp/src/db", "webapp/src/session"];

/// What stands beside the library without being of it: the application's own statements, and what its status page asks.
const NO_LIBRARY: &[&str] = &["webapp/src/db/queries", "webapp/src/db/observe"];

/// The application, as a library must not know it.
const APPLICATION: &[&str] = &[
    "crate::demo",
    "crate::error",
    "crate::extract",
    "crate::handlers",
    "crate::model",
    "crate::page",
    "crate::routes",
    "crate::state",
    "crate::visit",
    "super::queries",
    "db::queries",
];

/// The only places with SQL text. The postgres source speaks to the leader's slots and publications in SQL and in
/// replication commands, on the one connection that can.
const SQL_MODULES: &[&str] = &[
    "replicator/src/replica",
    "replicator/src/snapshot",
    "replicator/src/check",
    "replicator/src/source/postgres",
    "webapp/src/db",
];

/// How SQL statements begin. Upper case, as this repository writes SQL: prose never starts so.
const SQL_STARTS: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "CREATE", "ALTER", "DROP", "SET", "BEGIN", "COMMIT",
    "ROLLBACK", "COPY", "WITH",
];

/// Whether `path` is the module `module`, as a file or inside its folder.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Everything wrong with one Rust file, as `path:line: complaint`.
pub(super) fn rust_file(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, text: &str| complaints.push(format!("{}:{line}: {text}", source.path));
    let is_test = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
    for (module, words, why) in FORBIDDEN.iter().filter(|_| !is_test) {
        for word in words.iter().filter(|_| is_in(&source.path, module)) {
            source
                .mentions(word)
                .into_iter()
                .for_each(|line| complain(line, &format!("`{word}` here, but {why}")));
        }
    }
    let is_one_of = |modules: &[&str]| modules.iter().any(|module| is_in(&source.path, module));
    if is_one_of(LIBRARY) && !is_one_of(NO_LIBRARY) && !is_test {
        for word in APPLICATION {
            source
                .mentions(word)
                .into_iter()
                .for_each(|line| complain(line, &format!("`{word}` here, but any application can use this")));
        }
    }
    if is_in(&source.path, "replicator/src/source") {
        for (line, _) in
            source.imports().into_iter().filter(|(_, text)| super::source::has_phrase(text, "replica"))
        {
            complain(line, "a source imports the replica edge; both meet in the orchestration only");
        }
        source
            .mentions("crate::replica")
            .into_iter()
            .for_each(|line| complain(line, "a source names the replica edge"));
    }
    let is_program = source.path.starts_with("replicator/src/") || source.path.starts_with("webapp/src/");
    if is_program && !is_test && !SQL_MODULES.iter().any(|module| is_in(&source.path, module)) {
        for (line, text) in &source.strings {
            if is_sql(text) && !is_transaction_status(&source.path, text) {
                complain(*line, "SQL text outside the edges that own it");
            }
        }
    }
    for attribute in ["#[allow", "#![allow"] {
        if let Some(index) = source.code.lines().position(|line| line.contains(attribute)) {
            complain(index + 1, "`allow` outlives its cause unnoticed: use `#[expect(.., reason = \"..\")]`");
        }
    }
    if source.lines > MAX_LINES && !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
        complain(
            source.lines,
            &format!("more than {MAX_LINES} lines: split it, or give the reason in the tidy test"),
        );
    }
    complaints
}

fn is_sql(text: &str) -> bool {
    // Alone, most of these words are something else too, as DELETE is a method of HTTP.
    const WHOLE: &[&str] = &["BEGIN", "COMMIT", "ROLLBACK"];
    let text = text.trim_start();
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_whitespace() || c == ';' || c == '\\');
    WHOLE.contains(&text) || SQL_STARTS.iter().any(|start| text.strip_prefix(start).is_some_and(goes_on))
}

/// Debezium's transaction events carry the status BEGIN, which is data and no statement.
fn is_transaction_status(path: &str, text: &str) -> bool {
    is_in(path, "replicator/src/decode") && text == "BEGIN"
}

/// A file of SQL or shell says first what it is for.
pub(super) fn header(path: &str, text: &str) -> Option<String> {
    let marker = if path.ends_with(".sql") { "--" } else { "#" };
    // A shebang, or what opens PowerShell's help text, comes before it.
    let is_opening = |line: &&str| line.starts_with("#!") || matches!(line.trim(), "<#" | ".SYNOPSIS");
    let marker = if path.ends_with(".ps1") { "" } else { marker };
    let mut lines = text.lines().skip_while(is_opening);
    let first = lines.next().unwrap_or_default();
    let says_something = first.strip_prefix(marker).is_some_and(|rest| rest.trim().len() > 10);
    (!says_something).then(|| format!("{path}:1: begins without a comment that says what it is for"))
}

/// Words that must not be committed anywhere: unfinished work, and paths of one machine.
pub(super) fn text(path: &str, text: &str) -> Vec<String> {
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let machine = concat!("/wo", "rk/");
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if unfinished.iter().any(|word| super::source::has_phrase(line, word)) {
            complaints.push(format!("{path}:{}: unfinished work belongs in an issue", index + 1));
        }
        if line.contains(machine) {
            complaints.push(format!("{path}:{}: a path that exists on one machine only", index + 1));
        }
    }
    complaints
}

/// Dependencies that the architecture rules out: (manifest, section, crate, why).
const FORBIDDEN_DEPENDENCIES: &[(&str, &str, &str)] = &[
    ("webapp/Cargo.toml", "replicator", "the contract between the two programs is SQL"),
    ("replicator/Cargo.toml", "webapp", "the contract between the two programs is SQL"),
    ("e2e/Cargo.toml", "replicator", "both programs use this crate for their tests"),
    ("e2e/Cargo.toml", "webapp", "both programs use this crate for their tests"),
];

/// Crates that a manifest may not name in any section.
pub(super) fn manifest(path: &str, text: &str) -> Vec<String> {
    let rules = FORBIDDEN_DEPENDENCIES.iter().filter(|(manifest, ..)| *manifest == path);
    let mut complaints = Vec::new();
    for (_, name, why) in rules {
        let mut section = "";
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                section = line;
            }
            let named = line.split(['=', '.']).next().is_some_and(|key| key.trim() == *name);
            let is_entry = named && section.contains("dependencies");
            if is_entry || line.contains(&format!("dependencies.{name}]")) {
                complaints.push(format!("{path}:{}: depends on {name}, but {why}", index + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        rust_file(&Source::parse(path, text))
    }

    #[test]
    fn a_pure_module_may_not_name_effects() {
        for word in
            ["use tokio::time;", "async fn f() {}", "let t = Instant::now();", "let v = std::env::var(x);"]
        {
            assert_eq!(complaints("replicator/src/plan/group.rs", word).len(), 1, "{word}");
            assert_eq!(complaints("replicator/src/assemble.rs", word).len(), 1, "{word}");
            assert_eq!(complaints("replicator/src/lanes.rs", word).len(), 0, "{word}");
        }
        assert_eq!(
            complaints("replicator/src/plan.rs", "// tokio\n#[cfg(test)]\nmod t { use tokio::x; }").len(),
            0
        );
        assert_eq!(complaints("replicator/src/plan/tests.rs", "use tokio::time;").len(), 0, "unit tests");
        assert_eq!(complaints("replicator/src/planner.rs", "use tokio::time;").len(), 0, "another module");
    }

    #[test]
    fn a_source_may_not_import_the_replica_edge() {
        let path = "replicator/src/source/kafka.rs";
        assert_eq!(complaints(path, "use crate::replica::Apply;").len(), 2);
        assert_eq!(complaints(path, "use crate::{\n    replica::Apply,\n    plan,\n};").len(), 1);
        assert_eq!(complaints(path, "let replica = 1;").len(), 0);
    }

    #[test]
    fn sql_stays_in_its_edges() {
        let text = "fn f() { q(\"SELECT 1\"); }";
        assert_eq!(
            complaints("replicator/src/lanes.rs", text),
            ["replicator/src/lanes.rs:1: SQL text outside the edges that own it"]
        );
        assert_eq!(complaints("webapp/src/handlers/posts.rs", "q(r#\"\n  UPDATE posts\"#);").len(), 1);
        assert_eq!(complaints("replicator/src/supervisor.rs", "q(\"BEGIN\")").len(), 1);
        assert_eq!(complaints("replicator/src/decode/debezium/transaction.rs", "q(\"BEGIN\")").len(), 0);
        assert_eq!(complaints("replicator/src/source/kafka.rs", text).len(), 1);
        for path in [
            "replicator/src/replica/apply.rs",
            "replicator/src/check.rs",
            "replicator/src/source/postgres/slot.rs",
            "webapp/src/db/leader.rs",
        ] {
            assert_eq!(complaints(path, text).len(), 0, "{path}");
        }
        for prose in ["q(\"Create a post\")", "method(\"DELETE\")"] {
            assert_eq!(complaints("webapp/src/handlers/posts.rs", prose).len(), 0, "{prose}");
        }
    }

    #[test]
    fn the_web_layers_keep_apart() {
        assert_eq!(complaints("webapp/src/handlers/posts.rs", "use tokio_postgres::Row;").len(), 1);
        assert_eq!(complaints("webapp/src/model/post.rs", "use axum::Json;").len(), 1);
        assert_eq!(complaints("webapp/src/db/route.rs", "async fn f() {}").len(), 1);
        assert_eq!(complaints("webapp/src/db/leader.rs", "use tokio_postgres::Row;").len(), 0);
    }

    #[test]
    fn the_reading_layer_knows_nothing_of_the_application() {
        for word in
            ["use crate::model::post::Post;", "crate::handlers::f();", "use super::queries::posts::P;"]
        {
            assert_eq!(complaints("webapp/src/db/replica.rs", word).len(), 1, "{word}");
            assert_eq!(complaints("webapp/src/session.rs", word).len(), 1, "{word}");
            assert_eq!(complaints("webapp/src/visit.rs", word).len(), 0, "{word}");
        }
        assert_eq!(complaints("webapp/src/db/queries/posts.rs", "use crate::model::post::Post;").len(), 0);
    }

    #[test]
    fn long_files_and_allow_attributes_are_named() {
        assert_eq!(complaints("webapp/src/x.rs", &"//\n".repeat(501)).len(), 1);
        assert_eq!(complaints("webapp/src/x.rs", &"//\n".repeat(500)).len(), 0);
        assert_eq!(complaints("webapp/src/x.rs", "#[allow(dead_code)]\nfn f() {}").len(), 1);
    }

    #[test]
    fn sql_and_shell_files_say_what_they_are_for() {
        assert!(header("a.sql", "CREATE TABLE t ();").is_some());
        assert!(header("a.sh", "#!/bin/sh\nset -e").is_some());
        assert!(header("a.sh", "#!/bin/sh\n# Starts every server.\nset -e").is_none());
        assert!(header("a.sql", "-- The demo's tables.\nSELECT 1").is_none());
    }

    #[test]
    fn unfinished_work_and_machine_paths_are_named() {
        assert_eq!(text("a.sh", &format!("ok\n# {}: later", concat!("TO", "DO"))).len(), 1);
        assert_eq!(text("a.sh", concat!("cd /wo", "rk/main")).len(), 1);
        assert_eq!(text("a.sh", "cd target/work").len(), 0);
    }

    #[test]
    fn a_manifest_may_not_name_the_other_program() {
        let path = "webapp/Cargo.toml";
        assert_eq!(manifest(path, "[dependencies]\nreplicator = { path = \"../replicator\" }").len(), 1);
        assert_eq!(manifest(path, "[dev-dependencies]\nreplicator.path = \"../replicator\"").len(), 1);
        assert_eq!(manifest(path, "[dependencies.replicator]\npath = \"../replicator\"").len(), 1);
        assert_eq!(manifest(path, "[package]\nname = \"webapp\"\n[dependencies]\naxum = \"1\"").len(), 0);
    }
}
