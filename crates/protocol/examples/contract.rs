//! Prints the contract: `cargo run -p protocol --example contract > docs/contract/asyncapi.yaml` renews the document.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(protocol::contract::yaml().as_bytes())
}
