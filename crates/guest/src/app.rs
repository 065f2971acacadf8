//! What an app is: made once from its parameters, then called for each item.

use crate::{Item, Shared};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The parameters of an app that has none: a job file with `[params]` is refused.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// An app: a pure function from an item to a result, with parameters that are read once.
pub trait App: Sized + Send + Sync + 'static {
    /// Working memory that is set aside before the first item, in bytes.
    ///
    /// An item may use more, up to the job's memory limit; setting it aside keeps growth off the metered path.
    const ARENA_BYTES: usize = 8 << 20;

    /// The job file's `[params]`; a wrong or missing key refuses the job's first item with the reason.
    type Params: DeserializeOwned;

    /// Makes the app from its parameters; everything that all items need (tables, the shared input) is computed here.
    ///
    /// # Errors
    /// Why the app cannot run with these parameters or this shared input.
    fn init(params: Self::Params, shared: &Shared) -> Result<Self, String>;

    /// Computes one item; the bytes are its result, and a partial result for [`Reduce::reduce`].
    ///
    /// # Errors
    /// Why this item has no result; it is reported as failed with this text, other items are not touched.
    fn map(&self, item: &Item<'_>, shared: &Shared) -> Result<Vec<u8>, String>;
}

/// An app whose results are put together into one.
pub trait Reduce: App {
    /// Puts partial results, in item order, together into one partial result.
    ///
    /// # Errors
    /// Why they do not fit together; this fails the job's reduction.
    fn reduce(&self, parts: &[&[u8]]) -> Result<Vec<u8>, String>;

    /// Turns the last partial result into the job's output; as it stands unless the app says otherwise.
    ///
    /// # Errors
    /// Why no output can be made of it.
    fn finish(&self, part: &[u8]) -> Result<Vec<u8>, String> {
        Ok(part.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn an_app_without_parameters_takes_none() {
        assert!(decode::<NoParams>(&[0x80]).is_ok());
        assert!(decode::<NoParams>(&[0x81, 0xa1, b'x', 1]).unwrap_err().contains('x'));
    }
}
