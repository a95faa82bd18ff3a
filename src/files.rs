//! Files that are never half-written.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::Path;

/// The end of the name of this program's temporary files; their names begin with a dot.
const TEMPORARY: &str = ".tch-mnist.tmp";

/// Writes `path` through `write`, so that at every moment the file is the old one or the whole new one.
///
/// `write` gets the path of a temporary file in the same folder. Then the file is flushed to disk and renamed to
/// `path`, and the folder is flushed too. If `write` fails, the temporary file is removed.
///
/// # Errors
///
/// What `write` returns, or one sentence that names `path`: a missing or read-only folder, a full disk.
pub(crate) fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = folder_of(path);
    let cannot = || format!("{} cannot be written", path.display());
    ensure!(folder.is_dir(), "{}: the folder {} does not exist", cannot(), folder.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(TEMPORARY)
        .permissions(default_permissions())
        .tempfile_in(folder)
        // Its text would name the temporary file, which the reader does not know.
        .map_err(|error| std::io::Error::from(error.kind()))
        .with_context(cannot)?
        .into_temp_path();
    write(&temporary).with_context(cannot)?;
    File::open(&temporary).and_then(|file| file.sync_all()).with_context(cannot)?;
    temporary.persist(path).map_err(|error| error.error).with_context(cannot)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)
}

/// Removes the temporary files that a process left in `folder` when it was killed within [`write_atomically`].
pub(crate) fn remove_temporaries(folder: &Path) -> Result<()> {
    let cannot = || format!("{} cannot be cleared of temporary files", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().with_context(cannot)?.is_file();
        if is_file && name.starts_with('.') && name.ends_with(TEMPORARY) {
            std::fs::remove_file(entry.path()).with_context(cannot)?;
        }
    }
    Ok(())
}

/// The folder that holds `path`: `.` for a bare file name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The permissions of an ordinary new file, before the umask. Without them a temporary file would be private.
fn default_permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, |path| Ok(std::fs::write(path, "old")?)).unwrap();
        let failed = write_atomically(&path, |path| {
            std::fs::write(path, "half")?;
            anyhow::bail!("the disk is full")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
