//! What was taken from others is what the manifest and its notes say it is, and nothing else was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256, Sha384};

/// The list of the files.
const MANIFEST: &str = "webapp/static/MANIFEST.md";

/// The folders that it lists, whole.
const FOLDERS: [&str; 2] = ["webapp/static", "e2e/tests/system/axe"];

/// What a row says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// `own`, or a project and its version.
    from: String,
    licence: String,
    /// SHA-256 in hexadecimal; none for our own.
    hash: Option<String>,
}

/// The rows of a manifest, by the path from the repository's root.
fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Origin>> {
    let mut files = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [file, from, licence, hash] = cells[..] else { anyhow::bail!("not four cells: {line}") };
        let hash = (hash != "-").then(|| hash.to_owned());
        let origin = Origin { from: from.to_owned(), licence: licence.to_owned(), hash };
        let file = file.trim_matches('`').to_owned();
        ensure!(files.insert(file, origin).is_none(), "listed twice: {line}");
    }
    Ok(files)
}

/// What is wrong with a file that is there.
fn complaint(content: &[u8], origin: &Origin) -> Option<String> {
    let found = hexadecimal(&Sha256::digest(content));
    match &origin.hash {
        Some(hash) if *hash != found => Some(format!("has the hash {found}")),
        Some(_) if origin.from == "own" || !origin.from.contains(char::is_numeric) => {
            Some("has a hash, but its origin is no project with a version".to_owned())
        }
        None if origin.from != "own" => Some("is of others and has no hash".to_owned()),
        // Distributed style and scripts keep their authors' notice; ours have none.
        None if [&b"Copyright (c)"[..], b"@license", b"/*!"].iter().any(|mark| contains(content, mark)) => {
            Some("bears the notice of others, but is listed as our own".to_owned())
        }
        _ if origin.licence.is_empty() => Some("has no licence".to_owned()),
        _ => None,
    }
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that is wrong with these files, which are paths with their contents.
fn complaints(files: &BTreeMap<String, Vec<u8>>, manifest: &BTreeMap<String, Origin>) -> Vec<String> {
    let names: BTreeSet<&String> = files.keys().chain(manifest.keys()).collect();
    let of = |name: &String| match (files.get(name), manifest.get(name)) {
        (Some(content), Some(origin)) => complaint(content, origin),
        (Some(_), None) => Some("is not listed".to_owned()),
        _ => Some("is listed, but not there".to_owned()),
    };
    names.into_iter().filter_map(|name| Some(format!("{name} {}", of(name)?))).collect()
}

#[test]
fn every_file_of_the_pages_is_in_the_manifest() -> anyhow::Result<()> {
    let root = e2e::repository();
    let manifest = parse(&fs::read_to_string(root.join(MANIFEST)).context("read the manifest")?)?;
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder)).with_context(|| format!("list {folder}"))? {
            let entry = entry?;
            // A folder would have to be walked through: none is needed so far, and none slips in unlisted.
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            ensure!(entry.file_type()?.is_file(), "{name} is no file");
            files.insert(name, fs::read(entry.path())?);
        }
    }
    let found = complaints(&files, &manifest);
    ensure!(found.is_empty(), "{MANIFEST}: {}", found.join("; "));
    Ok(())
}

#[test]
fn a_file_that_is_missing_extra_or_different_is_named() -> anyhow::Result<()> {
    let hash = hexadecimal(&Sha256::digest("theirs"));
    let manifest = parse(&format!(
        "| file | origin | licence | SHA-256 |\n|---|---|---|---|\n| `own.css` | own | Apache-2.0 | - |\n\
         | `their.js` | theirs 1.0 | MIT | {hash} |\n"
    ))?;
    let files = |list: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
        list.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
    };
    let said = |list: &[(&str, &str)]| complaints(&files(list), &manifest).join("; ");
    ensure!(said(&[("own.css", "ours"), ("their.js", "theirs")]).is_empty(), "all is well");
    for (list, expected) in [
        (&[("own.css", "ours")][..], "their.js is listed, but not there"),
        (&[("own.css", "ours"), ("their.js", "theirs"), ("x.js", "")], "x.js is not listed"),
        (&[("own.css", "ours"), ("their.js", "changed")], "their.js has the hash"),
        (&[("own.css", "/*! theirs */"), ("their.js", "theirs")], "own.css bears the notice of others"),
    ] {
        ensure!(said(list).contains(expected), "{} instead of {expected}", said(list));
    }
    let without = parse("| `their.js` | theirs 1.0 | MIT | - |")?;
    let unproven = complaints(&files(&[("their.js", "theirs")]), &without).join("; ");
    ensure!(unproven == "their.js is of others and has no hash", "{unproven}");
    ensure!(parse("| `a` | own | x | - |\n| `a` | own | x | - |").is_err(), "listed twice");
    Ok(())
}

#[test]
fn axe_is_the_file_that_its_notes_name() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/axe");
    let notes = fs::read_to_string(folder.join("README.md")).context("read the notes")?;
    let script = fs::read(folder.join("axe.min.js")).context("read the script")?;
    let hash = hexadecimal(&Sha384::digest(&script));
    ensure!(notes.contains(&format!("| SHA-384 | {hash} |")), "the script has the hash {hash}");
    let version =
        notes.lines().find_map(|line| line.strip_prefix("| version | ")).context("find the version")?;
    let version = version.trim_end_matches(" |");
    ensure!(String::from_utf8_lossy(&script).starts_with(&format!("/*! axe v{version}")), "not {version}");
    ensure!(folder.join("LICENSE").exists(), "the licence is missing");
    Ok(())
}
