//! A module as it is written: what it imports and exports, what it holds, and which bounds it breaks.

use ports::sandbox::{Inspection, module_too_large};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{
    BinaryReaderError, CustomSectionReader, Encoding, FuncType, FuncValidatorAllocations, Parser, Payload, TypeRef, ValType,
    ValidPayload, Validator, WasmFeatures,
};

use super::caps::Caps;

/// The custom section that holds an app's manifest.
const MANIFEST: &str = "offpeak.manifest";
/// A manifest is a page of text.
const MAX_MANIFEST_BYTES: usize = 64 << 10;
/// Reasons told of one module; the rest is counted, so that a rejection fits a message whatever the module holds.
const MAX_REASONS: usize = 100;

/// One import or export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// `module.name` or `name`.
    pub(super) name: String,
    /// The type, in words.
    pub(super) ty: String,
    /// Whether it is a function.
    pub(super) function: bool,
}

/// What was read of a module.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) imports: Vec<Item>,
    pub(super) exports: Vec<Item>,
    pub(super) manifest: Option<String>,
    pub(super) reasons: Vec<String>,
}

impl Contents {
    /// The export of that name.
    pub(super) fn export(&self, name: &str) -> Option<&Item> {
        self.exports.iter().find(|export| export.name == name)
    }

    pub(super) fn into_inspection(mut self, entry: Option<protocol::job::EntryKind>) -> Inspection {
        let more = self.reasons.len().saturating_sub(MAX_REASONS);
        self.reasons.truncate(MAX_REASONS);
        if more > 0 {
            self.reasons.push(format!("there are {more} more reasons"));
        }
        let reasons = self.reasons.into_iter().map(protocol::outcome::bounded_reason).collect();
        let lines = |items: Vec<Item>| items.into_iter().map(|item| format!("{}: {}", item.name, item.ty)).collect();
        let (imports, exports) = (lines(self.imports), lines(self.exports));
        Inspection { imports, exports, entry, manifest: self.manifest, reasons }
    }
}

/// What apps may use of WebAssembly: what compilers emit by default, and SIMD; nothing whose results differ between hosts.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::FLOATS
}

/// Reads and validates a module; what is wrong is among the reasons.
pub(super) fn read(module: &[u8]) -> Contents {
    let mut contents = Contents::default();
    if let Some(reason) = module_too_large(u64::try_from(module.len()).unwrap_or(u64::MAX)) {
        contents.reasons.push(reason);
        return contents;
    }
    if !module.starts_with(b"\0asm") {
        contents
            .reasons
            .push("the file is no WebAssembly module (it does not begin with \\0asm): compile for wasm32 first".into());
        return contents;
    }
    let mut caps = Caps::default();
    if let Err(e) = walk(module, &mut contents, &mut caps) {
        let hint = if e.message().contains("must be enabled") || e.message().contains("support is not enabled") {
            ": compile without that feature; apps may use SIMD, bulk memory, multi-value, sign extension and saturating conversions"
        } else {
            ""
        };
        contents.reasons.push(format!("the module is not valid at byte {:#x}: {}{hint}", e.offset(), e.message()));
    }
    contents.reasons.extend(caps.into_reasons());
    contents
}

fn walk(module: &[u8], contents: &mut Contents, caps: &mut Caps) -> Result<(), BinaryReaderError> {
    let mut validator = Validator::new_with_features(features());
    let mut allocations = FuncValidatorAllocations::default();
    let mut parser = Parser::new(0);
    parser.set_features(features());
    for payload in parser.parse_all(module) {
        let payload = payload?;
        if let Payload::Version { encoding: Encoding::Component, .. } = payload {
            contents.reasons.push(
                "the file is a component: build a core module (for Rust the target wasm32-unknown-unknown or wasm32-wasip1)"
                    .into(),
            );
            return Ok(());
        }
        if let Payload::CustomSection(section) = &payload {
            contents.manifest(section);
        }
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => {
                let mut function = function.into_validator(std::mem::take(&mut allocations));
                caps.function(&mut function, &body)?;
                allocations = function.into_allocations();
            }
            ValidPayload::Ok | ValidPayload::Parser(_) | ValidPayload::End(_) => {
                caps.section(&payload)?;
                if let Some(types) = validator.types(0) {
                    contents.names(&payload, types)?;
                }
            }
        }
    }
    Ok(())
}

impl Contents {
    fn names(&mut self, payload: &Payload<'_>, types: TypesRef<'_>) -> Result<(), BinaryReaderError> {
        if let Payload::ImportSection(section) = payload {
            for import in section.clone().into_imports() {
                let import = import?;
                let function = matches!(import.ty, TypeRef::Func(_));
                let ty = types.entity_type_from_import(&import).map_or_else(String::new, |entity| describe(types, entity));
                self.imports.push(Item { name: format!("{}.{}", import.module, import.name), ty, function });
            }
        }
        if let Payload::ExportSection(section) = payload {
            for export in section.clone() {
                let export = export?;
                let function = matches!(export.kind, wasmparser::ExternalKind::Func);
                let ty = types.entity_type_from_export(&export).map_or_else(String::new, |entity| describe(types, entity));
                self.exports.push(Item { name: export.name.to_owned(), ty, function });
            }
        }
        Ok(())
    }

    fn manifest(&mut self, section: &CustomSectionReader<'_>) {
        if section.name() != MANIFEST {
            return;
        }
        if section.data().len() > MAX_MANIFEST_BYTES {
            self.reasons.push(format!(
                "the section {MANIFEST} has {} bytes, over the limit of {MAX_MANIFEST_BYTES}",
                section.data().len()
            ));
            return;
        }
        let json = protocol::codec::decode::<protocol::Value>(MANIFEST, section.data(), protocol::Format::Json);
        match (json, std::str::from_utf8(section.data())) {
            (Ok(_), Ok(text)) => self.manifest = Some(text.to_owned()),
            (Err(e), _) => self.reasons.push(format!("the section {MANIFEST} is not JSON: {e}")),
            (Ok(_), Err(e)) => self.reasons.push(format!("the section {MANIFEST} is not text: {e}")),
        }
    }
}

fn describe(types: TypesRef<'_>, entity: EntityType) -> String {
    match entity {
        EntityType::Func(id) | EntityType::FuncExact(id) => signature(types[id].unwrap_func()),
        EntityType::Memory(memory) => match memory.maximum {
            Some(most) => format!("memory of {} to {most} pages", memory.initial),
            None => format!("memory of {} pages or more", memory.initial),
        },
        EntityType::Table(table) => format!("table of {} or more", table.initial),
        EntityType::Global(global) => format!("global {}", global.content_type),
        EntityType::Tag(_) => "tag".into(),
    }
}

/// A function's type, as `(i32, i32) -> i64`.
fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [] => format!("({})", list(ty.params())),
        [one] => format!("({}) -> {one}", list(ty.params())),
        many => format!("({}) -> ({})", list(ty.params()), list(many)),
    }
}
