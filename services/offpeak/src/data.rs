//! The folder an `offpeak run` keeps its state in: one run at a time; a temporary one is removed when all went well.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::exit::Refused;
use crate::terminal;

/// The file by which runs exclude each other; the system unlocks it when its holder ends, however that happens.
const LOCK_FILE: &str = "offpeak.lock";

/// A data folder, locked.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Set if the folder is temporary.
    temporary: Option<TempDir>,
    /// Held until the run ends.
    _lock: File,
}

impl DataFolder {
    /// Opens and locks the folder named, or a temporary one.
    pub fn open(named: Option<&Path>) -> Result<Self> {
        let temporary = match named {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("offpeak-").tempdir().context("cannot make a temporary data folder")?),
        };
        let path = named.or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new(".")).to_owned();
        let unusable = || format!("cannot use the data folder {}", path.display());
        fs::create_dir_all(&path).with_context(unusable)?;
        // An absolute path outlives a change of folder, and reads well in messages.
        let path = path.canonicalize().with_context(unusable)?;
        let lock = File::create(path.join(LOCK_FILE)).with_context(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, temporary, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let problem =
                    format!("another run uses the data folder {}: wait for its end, or take another folder", path.display());
                Err(Refused::Usage(problem).into())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(unusable),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run has ended well: a temporary folder is removed.
    pub fn close(self) {
        if let Some(temporary) = self.temporary
            && let Err(error) = temporary.close()
        {
            terminal::note(&format!("the temporary folder {} was not removed: {error}", self.path.display()));
        }
    }

    /// The run was cut short: keeps the folder, and says how to go on.
    pub fn keep(self) -> String {
        if let Some(temporary) = self.temporary {
            let _kept = temporary.keep();
        }
        format!("nothing computed is lost: run the same command with --data {} to go on", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(Some(folder.path())).unwrap();
        let error = DataFolder::open(Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("another run uses"), "{error}");
        assert_eq!(exit::code_of(&error), exit::REFUSED);
        first.close();
        assert!(DataFolder::open(Some(folder.path())).is_ok());
    }

    #[test]
    fn a_temporary_folder_goes_with_a_good_end_and_stays_with_a_bad_one() {
        let good = DataFolder::open(None).unwrap();
        let path = good.path().to_owned();
        good.close();
        assert!(!path.exists());
        let cut = DataFolder::open(None).unwrap();
        let path = cut.path().to_owned();
        let message = cut.keep();
        assert!(path.exists() && message.contains(&format!("--data {}", path.display())), "{message}");
        fs::remove_dir_all(path).unwrap();
    }
}
