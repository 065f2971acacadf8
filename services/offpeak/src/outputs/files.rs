//! Files that appear whole or not at all: written beside their place under another name, then renamed.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// How much is gathered before it goes to the disk.
const BUFFER_BYTES: usize = 1 << 20;
/// As files are by default; the process's mask applies.
const MODE: u32 = 0o666;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No room is left.
    #[error("disk is full while writing {path}: free some space, nothing of the job is lost")]
    Full {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// Sorts an error by what can be done about it.
    pub fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        let full = matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
        if full { Self::Full { path, source } } else { Self::Write { path, source } }
    }
}

/// A file being written; dropped before [`finish`](Self::finish) it leaves nothing behind.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins a file that will be `path`.
    pub(super) fn create(path: PathBuf) -> Result<Self, FileError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mode = std::fs::Permissions::from_mode(MODE);
        let file = tempfile::Builder::new().prefix(".partial-").permissions(mode).tempfile_in(folder);
        match file {
            Ok(file) => Ok(Self { path, writer: BufWriter::with_capacity(BUFFER_BYTES, file) }),
            Err(source) => Err(FileError::new(&path, source)),
        }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.writer.write_all(bytes).map_err(|source| FileError::new(&self.path, source))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<PathBuf, FileError> {
        let path = self.path;
        let file = self.writer.into_inner().map_err(|error| FileError::new(&path, error.into_error()))?;
        file.as_file().sync_all().map_err(|source| FileError::new(&path, source))?;
        file.persist(&path).map_err(|error| FileError::new(&path, error.error))?;
        Ok(path)
    }
}

/// Writes a whole file.
pub fn write_whole(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let mut file = NewFile::create(path)?;
    file.write(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(folder.path().join("a")).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write_whole(folder.path().join("a"), b"whole").unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = FileError::new(Path::new("out/x"), io::Error::from(ErrorKind::StorageFull)).to_string();
        assert_eq!(full, "disk is full while writing out/x: free some space, nothing of the job is lost");
        let missing = NewFile::create(PathBuf::from("/nonexistent/x")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot write /nonexistent/x");
    }
}
