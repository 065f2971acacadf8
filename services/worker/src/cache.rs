//! Modules and artefacts on a worker's disk, by digest: written whole or not at all, checked when read, bounded in size.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::Digest;

/// Why something could not be kept or looked for.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The disk or the quota is full; free some space or lower the cache's size.
    #[error("disk is full: {bytes} bytes for {path} do not fit (free some space, or lower the cache's size)")]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// How much of it.
        bytes: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Larger than the whole cache may become.
    #[error("blob {digest} has {bytes} bytes, over the cache's size of {limit}")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size.
        bytes: usize,
        /// The cache's size.
        limit: u64,
    },
    /// A file or the folder could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A folder of blobs named by their digest; what was used least recently goes first.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    max_bytes: u64,
    /// One writer at a time, so that the size is counted right.
    writing: Mutex<()>,
}

impl DiskCache {
    /// Opens or makes a cache of at most `max_bytes` in a folder of its own.
    pub fn open(folder: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, CacheError> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|source| CacheError::Io {
            action: "make folder",
            path: folder.clone(),
            source,
        })?;
        let cache = Self { folder, max_bytes, writing: Mutex::new(()) };
        cache.make_room(0)?;
        Ok(cache)
    }

    /// The blob, if it is there and whole; what is damaged is removed and fetched again.
    pub fn get(&self, digest: Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).ok()?;
        if Digest::of(&bytes) != digest {
            tracing::warn!(%digest, "a cached blob was damaged and is removed");
            // If it cannot be removed either, it is found damaged again.
            let _removed = std::fs::remove_file(&path);
            return None;
        }
        if let Ok(file) = std::fs::File::options().append(true).open(&path) {
            // Only the order of eviction depends on it.
            let _touched = file.set_modified(now());
        }
        Some(bytes)
    }

    /// Keeps a blob, making room for it.
    pub fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), CacheError> {
        let needed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if needed > self.max_bytes {
            return Err(CacheError::TooLarge { digest, bytes: bytes.len(), limit: self.max_bytes });
        }
        let _writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        self.make_room(needed)?;
        let failed = |source| not_written(&path, bytes.len(), source);
        // A temporary file is removed again if anything fails before it has its name.
        let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.folder).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_data().map_err(failed)?;
        file.persist(&path).map_err(|e| failed(e.error))?;
        Ok(())
    }

    /// Removes what was used least recently until `needed` more bytes fit; and what a crash left half written.
    fn make_room(&self, needed: u64) -> Result<(), CacheError> {
        let read = |source| CacheError::Io { action: "read folder", path: self.folder.clone(), source };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Ok(data) = entry.metadata() else { continue };
            let modified = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                // A young one is being written by another worker that shares the folder.
                if modified.elapsed().is_ok_and(|age| age > ABANDONED) {
                    remove(&entry.path())?;
                }
            } else if data.is_file() {
                files.push((modified, data.len(), entry.path()));
            }
        }
        files.sort();
        let mut total = files.iter().fold(needed, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        for (_, bytes, path) in files {
            if total <= self.max_bytes {
                break;
            }
            remove(&path)?;
            total = total.saturating_sub(bytes);
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

/// What names of files that are being written begin with.
const PARTIAL: &str = "partial-";

/// A file that is half written for so long was left by a crash.
const ABANDONED: Duration = Duration::from_hours(1);

/// Removes a file, if no other worker has.
fn remove(path: &Path) -> Result<(), CacheError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(CacheError::Io { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn not_written(path: &Path, bytes: usize, source: std::io::Error) -> CacheError {
    let path = path.to_owned();
    if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        CacheError::Full { path, bytes, source }
    } else {
        CacheError::Io { action: "write", path, source }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file's time orders eviction and decides nothing else")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn blobs_come_back_and_damaged_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 100).unwrap();
        let digest = Digest::of(b"hello");
        assert_eq!(cache.get(digest), None);
        cache.put(digest, b"hello").unwrap();
        cache.put(digest, b"hello").unwrap();
        assert_eq!(cache.get(digest).as_deref(), Some(b"hello".as_slice()));
        std::fs::write(folder.path().join(digest.to_string()), b"hellx").unwrap();
        assert_eq!(cache.get(digest), None);
        assert_eq!(names(folder.path()), 0);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 10).unwrap();
        let blobs: Vec<[u8; 4]> = (0..3).map(|n| [n; 4]).collect();
        for (age, blob) in (1..).zip(&blobs[..2]) {
            cache.put(Digest::of(blob), blob).unwrap();
            let file = std::fs::File::options().append(true).open(folder.path().join(Digest::of(blob).to_string())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age)).unwrap();
        }
        assert!(cache.get(Digest::of(&blobs[0])).is_some());
        cache.put(Digest::of(&blobs[2]), &blobs[2]).unwrap();
        assert!(cache.get(Digest::of(&blobs[0])).is_some());
        assert!(cache.get(Digest::of(&blobs[1])).is_none());
        assert!(cache.get(Digest::of(&blobs[2])).is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named_with_the_way_out() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = not_written(Path::new("/cache/x"), 5, full.write_all(b"hello").unwrap_err());
        let expected = "disk is full: 5 bytes for /cache/x do not fit (free some space, or lower the cache's size)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_cannot_fit_is_refused_and_files_that_a_crash_left_half_written_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (abandoned, young) = (folder.path().join("partial-abandoned"), folder.path().join("partial-young"));
        std::fs::write(&young, b"half").unwrap();
        std::fs::write(&abandoned, b"half").unwrap();
        let long_ago = young.metadata().unwrap().modified().unwrap() - ABANDONED - Duration::from_mins(1);
        std::fs::File::options().write(true).open(&abandoned).unwrap().set_modified(long_ago).unwrap();
        let cache = DiskCache::open(folder.path(), 3).unwrap();
        assert!(young.exists() && !abandoned.exists());
        std::fs::remove_file(young).unwrap();
        let error = cache.put(Digest::of(b"four"), b"four").unwrap_err();
        assert!(error.to_string().contains("over the cache's size of 3"));
        std::fs::remove_dir(folder.path()).unwrap();
        let error = cache.put(Digest::of(b"abc"), b"abc").unwrap_err();
        assert!(error.to_string().starts_with("cannot read folder"), "{error}");
    }
}
