//! A small file system for one replica's tables, which can be filled to the last byte.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// Much more than the tables need, much less than the machine's memory, in which it lives.
const MEBIBYTES: u32 = 512;

/// A mounted tmpfs. Dropping it unmounts it.
pub(super) struct SmallDisk {
    folder: TempDir,
}

/// The file that takes the rest of the room. Dropping it gives the room back.
pub(super) struct Filler(PathBuf);

impl SmallDisk {
    /// Mounts it. Needs root, and a container that may mount.
    pub(super) fn mount() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaos-disk-").tempdir().context("make a folder")?;
        // PostgreSQL's account has to pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).context("open the folder")?;
        let size = format!("size={MEBIBYTES}m,mode=0711");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()))?;
        let disk = Self { folder };
        run(Command::new("install").args(["-d", "-o", "postgres", "-m", "700"]).arg(disk.location()))?;
        Ok(disk)
    }

    /// The folder for a tablespace.
    pub(super) fn location(&self) -> PathBuf {
        self.folder.path().join("tables")
    }

    /// Removes what a killed server has left behind: files of tables whose making never committed belong to nobody, and
    /// PostgreSQL never removes them. Every table has to have moved away.
    pub(super) fn remove_leftovers(&self) -> anyhow::Result<()> {
        for version in fs::read_dir(self.location()).context("look into the tablespace")? {
            for database in fs::read_dir(version?.path()).context("look into a version's folder")? {
                for file in fs::read_dir(database?.path()).context("look into a database's folder")? {
                    fs::remove_file(file?.path()).context("remove a leftover")?;
                }
            }
        }
        Ok(())
    }

    /// Takes all the room that is left; returns how many bytes that was.
    pub(super) fn fill(&self) -> anyhow::Result<(Filler, u64)> {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).context("make the filling file")?;
        let filler = Filler(path);
        let mut size = 1 << 20;
        let mut filled = 0;
        let zeros = vec![0; size];
        // Smaller and smaller pieces, so that not even a page is left.
        while size > 0 {
            match file.write(&zeros[..size]) {
                Ok(written) => filled += written as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        Ok((filler, filled))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed check the server may still have files open there.
        Command::new("umount").arg("--lazy").arg(self.folder.path()).status().ok();
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} failed: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
