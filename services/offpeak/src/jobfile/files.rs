//! Files that a job file names: found from its folder, measured, and named by digest.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use protocol::Digest;
use protocol::blob::MAX_BLOB_BYTES;
use protocol::digest::DigestWriter;

use super::mistakes::Collector;

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// The largest job file: twice the largest message, which a job must fit.
const MAX_JOB_FILE_BYTES: u64 = 16 << 20;

/// A file to be uploaded as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it is to the job, for messages: `app`, `input`, `shared`.
    pub role: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// What was seen of a file while it was digested.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) upload: Upload,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
    /// Its longest line: number from 1, and size.
    pub(super) longest_line: (u64, u64),
}

/// Reads a file that the key `name` gives at `span`.
pub(super) fn read(
    folder: &Path,
    (text, span): (&str, Range<usize>),
    (name, role): (&str, &'static str),
    say: &mut Collector<'_>,
) -> Option<Seen> {
    let path = folder.join(text);
    let result = scan(&path, role);
    match result {
        Ok(seen) if seen.upload.bytes > MAX_BLOB_BYTES => {
            let problem = format!("{name} is {} bytes, beyond {MAX_BLOB_BYTES}: {}", seen.upload.bytes, path.display());
            say.say(&span, problem, "split the data over several jobs");
            None
        }
        Ok(seen) if seen.upload.bytes == 0 => {
            say.say(&span, format!("{name} is an empty file: {}", path.display()), "give a file with something in it");
            None
        }
        Ok(seen) => Some(seen),
        Err(error) => {
            let absolute = std::path::absolute(&path).unwrap_or(path);
            let problem = format!("{name} cannot be read: {}: {error}", absolute.display());
            say.say(&span, problem, "paths are taken from the job file's folder");
            None
        }
    }
}

/// The job file's text.
pub(super) fn text(path: &Path) -> std::io::Result<String> {
    let (file, size) = open(path)?;
    if size > MAX_JOB_FILE_BYTES {
        return Err(std::io::Error::other(format!("it has {size} bytes, beyond {MAX_JOB_FILE_BYTES}")));
    }
    let mut text = String::new();
    file.take(MAX_JOB_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a file and tells its size; what is no file is refused unopened: a pipe may have no writer, a device no end.
pub(crate) fn open(path: &Path) -> std::io::Result<(File, u64)> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file, but a folder, a pipe or a device"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn scan(path: &Path, role: &'static str) -> std::io::Result<Seen> {
    let (mut file, size) = open(path)?;
    if size > MAX_BLOB_BYTES {
        // It is refused for its size alone, and need not be read.
        let upload = Upload { role, path: path.to_owned(), digest: Digest::of(&[]), bytes: size };
        return Ok(Seen { upload, head: Vec::new(), longest_line: (0, 0) });
    }
    let (mut digest, mut lines) = (DigestWriter::default(), Lines { number: 1, ..Lines::default() });
    let (mut bytes, mut head) = (0_u64, Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    // It may grow while it is read; beyond the limit it is refused all the same.
    while bytes <= MAX_BLOB_BYTES {
        let part = match file.read(&mut buffer)? {
            0 => break,
            count => &buffer[..count],
        };
        if head.is_empty() {
            head = part.iter().take(8).copied().collect();
        }
        digest.update(part);
        lines.update(part);
        bytes += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    let upload = Upload { role, path: path.to_owned(), digest: digest.finish(), bytes };
    Ok(Seen { upload, head, longest_line: lines.longest() })
}

/// Finds the longest line.
#[derive(Debug, Default)]
struct Lines {
    number: u64,
    size: u64,
    longest: (u64, u64),
}

impl Lines {
    fn update(&mut self, part: &[u8]) {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.ends_with(b"\n");
            self.size += u64::try_from(piece.len() - usize::from(ended)).unwrap_or(u64::MAX);
            if ended {
                self.longest = self.longest();
                self.number += 1;
                self.size = 0;
            }
        }
    }

    fn longest(&self) -> (u64, u64) {
        if self.size > self.longest.1 { (self.number, self.size) } else { self.longest }
    }
}
