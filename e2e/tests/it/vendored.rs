//! What was taken from others is what its notes say it is.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha384};

#[test]
fn axe_is_the_file_that_its_notes_name() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/axe");
    let notes = fs::read_to_string(folder.join("README.md")).context("read the notes")?;
    let script = fs::read(folder.join("axe.min.js")).context("read the script")?;
    let hash: String = Sha384::digest(&script).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(notes.contains(&format!("| SHA-384 | {hash} |")), "the script has the hash {hash}");
    let version =
        notes.lines().find_map(|line| line.strip_prefix("| version | ")).context("find the version")?;
    let version = version.trim_end_matches(" |");
    ensure!(String::from_utf8_lossy(&script).starts_with(&format!("/*! axe v{version}")), "not {version}");
    ensure!(folder.join("LICENSE").exists(), "the licence is missing");
    Ok(())
}
