//! The job's shared input: the same bytes for every item, sent once per worker.

/// The job's `shared` input, read by offset.
#[derive(Debug, Default)]
pub struct Shared {
    /// Natively (in tests) the bytes themselves; inside a module they stay with the host.
    #[cfg(not(target_arch = "wasm32"))]
    bytes: Vec<u8>,
}

impl Shared {
    /// Takes the bytes that a test gives in place of the host.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn for_test(bytes: Vec<u8>) -> Self {
        Shared { bytes }
    }

    /// The length in bytes; zero when the job has no shared input.
    pub fn len(&self) -> u64 {
        #[cfg(target_arch = "wasm32")]
        return crate::abi::blob_len();
        #[cfg(not(target_arch = "wasm32"))]
        return u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
    }

    /// Whether the job has no shared input.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from `offset` into `buffer` and returns how many bytes there were.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        #[cfg(target_arch = "wasm32")]
        return crate::abi::blob_read(offset, buffer);
        #[cfg(not(target_arch = "wasm32"))]
        {
            let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        }
    }

    /// Reads all of it; do so in [`App::init`](crate::App::init), once.
    ///
    /// # Errors
    /// That it does not fit into memory, or ended before its length.
    pub fn to_vec(&self) -> Result<Vec<u8>, String> {
        let length = self.len();
        let size = usize::try_from(length)
            .map_err(|error| format!("a shared input of {length} bytes does not fit into memory: {error}"))?;
        let mut bytes = vec![0; size];
        let count = self.read(0, &mut bytes);
        if count == size { Ok(bytes) } else { Err(format!("the shared input ended after {count} of {size} bytes")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_by_offset_and_as_a_whole() {
        let shared = Shared::for_test(b"offpeak".to_vec());
        let mut buffer = [0; 4];
        assert_eq!(shared.read(3, &mut buffer), 4);
        assert_eq!(&buffer, b"peak");
        assert_eq!(shared.read(5, &mut buffer), 2);
        assert_eq!(shared.read(7, &mut buffer), 0);
        assert_eq!(shared.read(u64::MAX, &mut buffer), 0);
        assert_eq!(shared.to_vec().as_deref(), Ok(&b"offpeak"[..]));
        assert!(Shared::default().is_empty());
    }
}
