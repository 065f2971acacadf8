//! Bounds on a module, so that no module is dear to keep, to compile or to run before its first instruction.

use wasmparser::{BinaryReaderError, FuncValidator, FunctionBody, OperatorsReader, Payload, ValidatorResources};

/// Blocks within blocks: compile time grows with it faster than linearly. A compiled switch is a block for each of its
/// cases: interpreters have up to 300.
const NESTING: usize = 400;
/// Locals of a function, parameters included: register allocation grows with them.
const LOCALS: u32 = 2_000;
/// A function's body: interpreters' main loops are near 100 KB.
const BODY_BYTES: u64 = 512 << 10;
/// Functions of a module.
const FUNCTIONS: u32 = 50_000;
/// Types, imports, exports, elements and globals of a module, each.
const ENTRIES: u32 = 20_000;
/// Data segments: Python's interpreter with its library has 24,000.
const DATA_SEGMENTS: u32 = 50_000;
/// Memory that an instance begins with, in pages of 64 KiB: 1 GiB.
const MEMORY_PAGES: u64 = 16_384;
/// Functions named in a rejection; the rest is counted.
const MAX_NAMED: usize = 5;

/// What was found over its bound.
#[derive(Debug, Default)]
pub(super) struct Caps {
    reasons: Vec<String>,
    functions: Vec<String>,
    over: usize,
}

impl Caps {
    /// Validates a body, looking at its depth on the way.
    pub(super) fn function(
        &mut self,
        function: &mut FuncValidator<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), BinaryReaderError> {
        let bytes = body.range().end - body.range().start;
        let mut reader = body.get_binary_reader_for_operators()?;
        function.read_locals(&mut body.get_binary_reader())?;
        reader.set_features(*function.features());
        let locals = function.len_locals();
        let mut deepest = 0;
        let mut operators = OperatorsReader::new(reader);
        while !operators.eof() {
            let offset = operators.original_position();
            function.op(offset, &operators.read()?)?;
            deepest = deepest.max(function.control_stack_height());
        }
        operators.finish()?;
        let deepest = usize::try_from(deepest).unwrap_or(usize::MAX);
        for (what, found, limit) in [
            ("bytes", usize::try_from(bytes).unwrap_or(usize::MAX), usize::try_from(BODY_BYTES).unwrap_or(usize::MAX)),
            ("locals", usize::try_from(locals).unwrap_or(usize::MAX), usize::try_from(LOCALS).unwrap_or(usize::MAX)),
            ("blocks within each other", deepest, NESTING),
        ] {
            if found > limit {
                self.over += 1;
                if self.functions.len() < MAX_NAMED {
                    self.functions
                        .push(format!("function {} has {found} {what}, over the limit of {limit}: split it", function.index()));
                }
            }
        }
        Ok(())
    }

    /// Looks at the counts and sizes that a section declares.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not counted here is bounded by the module's size")]
    pub(super) fn section(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => self.count("types", section.count(), ENTRIES),
            Payload::ImportSection(section) => self.count("imports", section.count(), ENTRIES),
            Payload::FunctionSection(section) => self.count("functions", section.count(), FUNCTIONS),
            Payload::GlobalSection(section) => self.count("globals", section.count(), ENTRIES),
            Payload::ExportSection(section) => self.count("exports", section.count(), ENTRIES),
            Payload::ElementSection(section) => self.count("element segments", section.count(), ENTRIES),
            Payload::DataSection(section) => self.count("data segments", section.count(), DATA_SEGMENTS),
            Payload::TableSection(section) => {
                self.count("tables", section.count(), crate::engine::MAX_TABLES);
                for table in section.clone() {
                    let (elements, limit) = (table?.ty.initial, crate::engine::MAX_TABLE_ELEMENTS);
                    if usize::try_from(elements).is_ok_and(|elements| elements <= limit) {
                        continue;
                    }
                    self.reasons.push(format!("a table has {elements} elements, over the limit of {limit}"));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let pages = memory?.initial;
                    if pages > MEMORY_PAGES {
                        self.reasons.push(format!(
                            "the memory begins with {pages} pages, over the limit of {MEMORY_PAGES}: let it grow instead"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, what: &str, found: u32, limit: u32) {
        if found > limit {
            self.reasons.push(format!("the module has {found} {what}, over the limit of {limit}"));
        }
    }

    /// Everything over its bound, named.
    pub(super) fn into_reasons(mut self) -> Vec<String> {
        let more = self.over - self.functions.len();
        self.reasons.append(&mut self.functions);
        if more > 0 {
            self.reasons.push(format!("{more} more functions are over a limit"));
        }
        self.reasons
    }
}
