//! The architecture's rules, checked on the sources (design, section 4): what a review would have to look for again and
//! again is a test here. It reads text and needs no build of the programs.

mod rules;
mod source;

use std::fs;
use std::io;
use std::path::Path;

use source::Source;

/// Folders that hold no sources of ours.
const SKIPPED: &[&str] = &[".git", ".run", "target"];

/// Every text file of the repository as (path from the root, content).
fn files() -> io::Result<Vec<(String, String)>> {
    fn collect(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    collect(&entry.path(), &format!("{path}/"), found)?;
                }
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push((path, text));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    collect(&e2e::repository(), "", &mut found)?;
    found.sort();
    Ok(found)
}

/// The end of a path after its last dot.
fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[test]
fn the_sources_keep_the_architecture() {
    let mut complaints = Vec::new();
    let (mut rust, mut scripts, mut manifests) = (0, 0, 0);
    for (path, text) in files().unwrap() {
        match extension(&path) {
            "rs" => {
                rust += 1;
                complaints.extend(rules::rust_file(&Source::parse(&path, &text)));
            }
            "sql" | "sh" | "ps1" => {
                scripts += 1;
                complaints.extend(rules::header(&path, &text));
            }
            _ if path.ends_with("Cargo.toml") => {
                manifests += 1;
                complaints.extend(rules::manifest(&path, &text));
            }
            _ => {}
        }
        complaints.extend(rules::text(&path, &text));
    }
    // A walk that finds nothing would be content with everything.
    assert!(
        rust > 10 && scripts > 5 && manifests == 5,
        "{rust} Rust files, {scripts} scripts, {manifests} manifests"
    );
    println!("tidy: {rust} Rust files, {scripts} scripts and SQL files, {manifests} manifests read");
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}
