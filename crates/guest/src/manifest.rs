//! The custom section `offpeak.manifest`: JSON that says what the app is called and what its results are.

/// The length of the manifest's text, for the array that holds it.
pub const fn manifest_len(text: &str) -> usize {
    text.len()
}

/// The manifest's text as an array, which is what a section can hold.
pub const fn manifest_bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = text.as_bytes()[at];
        at += 1;
    }
    bytes
}

/// Exports an app under the ABI `offpeak1`, with its manifest.
///
/// `output` says what a result is: `"msgpack"`, `"json"`, `"text"`, `"png"` or `"bin"`. With `reduce` the app must implement
/// [`Reduce`](crate::Reduce). Natively this exports nothing, so that the same source can be unit-tested.
#[macro_export]
macro_rules! export {
    ($app:ty, output = $output:literal) => {
        $crate::export!(@module $app, $output);
    };
    ($app:ty, reduce, output = $output:literal) => {
        $crate::export!(@module $app, $output);
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn op_reduce(ptr: usize, len: usize) -> u64 {
                $crate::abi::reduce::<$app>(ptr, len)
            }
            #[unsafe(no_mangle)]
            extern "C" fn op_finish(ptr: usize, len: usize) -> u64 {
                $crate::abi::finish::<$app>(ptr, len)
            }
        };
    };
    (@module $app:ty, $output:literal) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static RUNNING: $crate::abi::Running<$app> = $crate::abi::Running::new();
            impl $crate::abi::Exported for $app {
                fn running() -> &'static $crate::abi::Running<Self> {
                    &RUNNING
                }
            }
            const TEXT: &str = concat!(
                "{\"name\":\"", env!("CARGO_PKG_NAME"), "\",\"version\":\"", env!("CARGO_PKG_VERSION"),
                "\",\"output\":\"", $output, "\"}"
            );
            #[used]
            #[unsafe(link_section = "offpeak.manifest")]
            static MANIFEST: [u8; $crate::manifest_len(TEXT)] = $crate::manifest_bytes(TEXT);

            #[unsafe(no_mangle)]
            extern "C" fn op_alloc(len: usize) -> usize {
                $crate::abi::alloc::<$app>(len)
            }
            #[unsafe(no_mangle)]
            extern "C" fn op_init(ptr: usize, len: usize) -> i32 {
                $crate::abi::init::<$app>(ptr, len)
            }
            #[unsafe(no_mangle)]
            extern "C" fn op_map(ptr: usize, len: usize) -> u64 {
                $crate::abi::map::<$app>(ptr, len)
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_holds_the_text() {
        const TEXT: &str = "{\"name\":\"x\"}";
        const BYTES: [u8; manifest_len(TEXT)] = manifest_bytes(TEXT);
        assert_eq!(BYTES.as_slice(), TEXT.as_bytes());
    }
}
