//! What configurations mean, and what is complained about.

use std::collections::HashMap;

use super::load::KEYS;
use super::*;

const FILE: &str = r#"
    bind = "127.0.0.1:7000"
    [leader]
    url = "postgres://w:s3cret@leader/app"
    [[replicas]]
    name = "replica-1"
    url = "postgres://r:s3cret@one/app"
"#;

fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn complaints(file: &str, pairs: &[(&str, &str)]) -> String {
    Config::parse(Some(file), variables(pairs)).map(|_| "no complaint").unwrap_err().to_string()
}

#[test]
fn the_environment_wins_over_the_file_and_numbers_may_be_text() {
    let config = Config::parse(
        Some(FILE),
        variables(&[
            ("WEBAPP__BIND", "127.0.0.1:9000"),
            ("WEBAPP__TIMEOUTS__READ_MS", "123"),
            ("OTHER", "x"),
        ]),
    )
    .unwrap();
    assert_eq!((config.bind.port(), config.timeouts.read_ms, config.timeouts.write_ms), (9000, 123, 3000));
}

#[test]
fn the_environment_alone_is_enough() {
    let config = Config::parse(
        None,
        variables(&[
            ("WEBAPP__LEADER__URL", "postgres://w:1@leader/app"),
            ("WEBAPP__REPLICAS__0__NAME", "replica-1"),
            ("WEBAPP__REPLICAS__0__URL", "postgres://r:1@one/app"),
            ("WEBAPP__REPLICAS__1__NAME", "2"),
            ("WEBAPP__REPLICAS__1__URL", "postgres://r:1@two/app"),
            ("WEBAPP__LOG__FORMAT", "json"),
        ]),
    )
    .unwrap();
    let names: Vec<_> = config.replicas.iter().map(|r| r.name.as_str()).collect();
    assert_eq!((names, config.log.format), (vec!["replica-1", "2"], LogFormat::Json));
}

#[test]
fn unknown_keys_come_with_a_suggestion_all_at_once() {
    let text = complaints(FILE, &[("WEBAPP__LEADER__ULR", "x"), ("WEBAPP__TIMEOUT__READ_MS", "1")]);
    assert!(text.contains("leader.ulr: there is no such key; did you mean leader.url?"), "{text}");
    assert!(text.contains("did you mean timeouts.read_ms?"), "{text}");
    let text = complaints(&format!("{FILE}\nnmae = \"x\""), &[]);
    assert!(text.contains("replicas.0.nmae: there is no such key; did you mean replicas.0.name?"), "{text}");
    let text = complaints(FILE, &[("WEBAPP__SOMETHING__QUITE__DIFFERENT", "x")]);
    assert!(text.contains("known are bind, leader.url"), "{text}");
}

#[test]
fn every_known_key_is_read() {
    let values = |key: &str| match key {
        "bind" => "0.0.0.0:1",
        "log.format" => "text",
        "strategy" => "random",
        "session.key" | "admin.token" | "admin.replicator_token" => "0123456789abcdef0123456789abcdef",
        _ => "7",
    };
    let name = |key: &str| format!("WEBAPP__{}", key.replace('*', "0").replace('.', "__").to_uppercase());
    let variables = KEYS.iter().map(|key| (name(key), values(key).to_owned())).collect();
    let read = format!("{:?}", Config::parse(None, variables).unwrap());
    // All but the address, the form, the strategy, the key, the two tokens, and the two URLs show their seven.
    assert_eq!(read.matches('7').count(), KEYS.len() - 8, "{read}");
}

#[test]
fn values_that_can_not_work_are_named() {
    for (name, value, part) in [
        ("WEBAPP__TIMEOUTS__READ_MS", "0", "timeouts.read_ms: must be more than 0"),
        ("WEBAPP__TIMEOUTS__READ_MS", "soon", "read_ms"),
        ("WEBAPP__BIND", "nowhere", "bind"),
        ("WEBAPP__SESSION__KEY", "short", "session.key"),
        ("WEBAPP__ADMIN__TOKEN", "short", "admin.token: must have at least 16 characters"),
        ("WEBAPP__ADMIN__REPLICATOR_TOKEN", "whatever it is", "needs status.replicator_url"),
        ("WEBAPP__REPLICAS__X__NAME", "a", "replicas have numbers"),
        ("WEBAPP__LOG__FORMAT", "yaml", "yaml"),
        ("WEBAPP__STRATEGY", "fastest", "there are round-robin"),
    ] {
        let text = complaints(FILE, &[(name, value)]);
        assert!(text.contains(part), "{name}={value}: {text}");
    }
    let twice = format!("{FILE}\n[[replicas]]\nname = \"replica-1\"\nurl = \"postgres://x@y/z\"");
    assert!(complaints(&twice, &[]).contains("replica-1 is there twice"));
    assert!(
        complaints("[leader]\nurl = \"x\"\n[[replicas]]\nname = \"a b\"\nurl = \"x\"", &[])
            .contains("letters")
    );
    assert!(complaints("bind = \"127.0.0.1:1\"", &[]).contains("missing"));
}

#[test]
fn secrets_are_not_printed() {
    let token = [("WEBAPP__ADMIN__TOKEN", "a-s3cret-of-some-length")];
    let config = Config::parse(Some(FILE), variables(&token)).unwrap();
    assert!(config.admin.token().is_some());
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn an_empty_token_is_none() {
    // compose passes on a variable that is not set as an empty one.
    let empty = [("WEBAPP__ADMIN__TOKEN", ""), ("WEBAPP__ADMIN__REPLICATOR_TOKEN", "")];
    let config = Config::parse(Some(FILE), variables(&empty)).unwrap();
    assert!(config.admin.token().is_none() && config.admin.replicator_token().is_none());
}
