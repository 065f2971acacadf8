//! The job file: TOML to a job and the files it needs; every mistake at once, each with its place and the way out.

mod duration;
mod files;
mod input;
mod mistakes;
mod section;
mod value;

use std::path::Path;

use protocol::codec::{self, Format, MAX_VALUES};
use protocol::job::{Delivery, JobSpec, Limits, UnitSizing};
use protocol::{CodecError, Digest, Fuel, PoolName, Value};
use serde::Serialize;
use toml::de::DeTable;

pub use duration::seconds;
pub use files::Upload;
#[cfg(feature = "compiler")]
pub(crate) use files::open;
pub use mistakes::{Mistake, Mistakes};

use input::Reader;
use mistakes::Collector;
use section::{Section, number_of, wrong_type};
use value::map_of;

/// Every key of a job file; each is explained in `docs/job-file.md`.
pub const KEYS: [&str; 27] = [
    "app",
    "pool",
    "quorum",
    "priority",
    "deadline",
    "budget_fuel",
    "max_failures",
    "reduce",
    "input",
    "input.range",
    "input.items",
    "input.lines",
    "input.records",
    "input.records.file",
    "input.records.bytes",
    "input.grid",
    "input.shared",
    "params",
    "limits",
    "limits.fuel_per_item",
    "limits.memory_bytes",
    "limits.output_bytes",
    "unit",
    "unit.target_seconds",
    "unit.max_items",
    "input.grid.<name>",
    "params.<name>",
];

const TOP: [&str; 12] = [
    "app",
    "pool",
    "quorum",
    "priority",
    "deadline",
    "budget_fuel",
    "max_failures",
    "reduce",
    "input",
    "params",
    "limits",
    "unit",
];

/// The pool of a job that names none.
const DEFAULT_POOL: &str = "open";
/// What a WebAssembly module begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// A job as its file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFile {
    /// What is to be submitted.
    pub spec: JobSpec,
    /// The files that must be with the grid before.
    pub uploads: Vec<Upload>,
}

/// Reads a job file and the files it names.
pub fn read(path: &Path) -> Result<JobFile, Mistakes> {
    let text = files::text(path).map_err(|error| Mistakes::unreadable(path, &error))?;
    parse(path, &text)
}

/// Room to build and drop the deepest tree that TOML's parser makes: 80 brackets within each other, each with a key of 80 parts.
const STACK_BYTES: usize = 32 << 20;

/// Reads a job file's text; the files it names are found from the folder of `path`.
pub fn parse(path: &Path, text: &str) -> Result<JobFile, Mistakes> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || parse_here(path, text));
        let reader = reader.map_err(|error| Mistakes::unreadable(path, &error))?;
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn parse_here(path: &Path, text: &str) -> Result<JobFile, Mistakes> {
    let mut say = Collector::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        say.broken(error.span(), error.message());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let job = job(folder, document.get_ref(), &mut say);
    say.finish(path, job)
}

fn job(folder: &Path, table: &DeTable<'_>, say: &mut Collector<'_>) -> Option<JobFile> {
    let top = Section::new("", table, &TOP, say);
    let mut uploads = Vec::new();
    let app = app(folder, &top, &mut uploads, say);
    let mut reader = Reader { folder, uploads: &mut uploads, say };
    if top.get("input").is_none() {
        reader.say.missing("there is no `[input]`", "say what the items are: [input] and, for example, range = [0, 100]");
    }
    let span = top.key_span("input");
    let (input, shared) = top.table("input", reader.say).map_or((None, None), |table| reader.input(table, &span));
    let params = params(&top, say);
    let limits = limits(&top, say);
    let unit = unit(&top, say);
    let quorum = top.integer("quorum", 1..=i128::from(JobSpec::MAX_QUORUM), say).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
    let priorities = i128::from(JobSpec::MAX_PRIORITY);
    let priority = top.integer("priority", -priorities..=priorities, say).and_then(|n| i8::try_from(n).ok()).unwrap_or(0);
    let max_failures = top.integer("max_failures", 0..=i128::from(u16::MAX), say).and_then(|n| u16::try_from(n).ok());
    let (pool, deadline_s) = (pool(&top, say), deadline(&top, say));
    let budget_fuel = budget(&top, limits.fuel_per_item, say);
    let reduce = top.boolean("reduce", say).unwrap_or(false);
    let spec = JobSpec {
        app: app.unwrap_or(Digest([0; 32])),
        input: input.clone().unwrap_or(protocol::input::Input::Items(Vec::new())),
        shared,
        params,
        pool: pool?,
        quorum,
        priority,
        deadline_s,
        budget_fuel,
        max_failures: max_failures.unwrap_or(3),
        limits,
        unit,
        reduce,
        delivery: Delivery::Stored,
    };
    if let Some(bound) = unfit(&spec) {
        let way_out = "put items into a file (lines or records), and large parameters into `input.shared`";
        say.missing(format!("the whole job is {bound}"), way_out);
    }
    (app.is_some() && input.is_some()).then_some(JobFile { spec, uploads })
}

/// Why no message can hold this, if none can: the bound that it is beyond.
fn unfit(part: &(impl Serialize + ?Sized)) -> Option<String> {
    match codec::encode("job", part, Format::MessagePack) {
        Ok(_bytes) => None,
        Err(CodecError::Oversized { limit, .. }) => Some(format!("beyond {limit} bytes, the largest message")),
        Err(_too_many) => Some(format!("beyond {MAX_VALUES} values, lists and keys among them, the most in a message")),
    }
}

fn app(folder: &Path, top: &Section<'_>, uploads: &mut Vec<Upload>, say: &mut Collector<'_>) -> Option<Digest> {
    if top.get("app").is_none() {
        say.missing("there is no `app`", "name the WebAssembly module: app = \"app.wasm\", or its SHA-256 digest");
    }
    let (text, span) = top.text("app", "\"app.wasm\"", say)?;
    if let Ok(digest) = text.parse::<Digest>() {
        return Some(digest);
    }
    let seen = files::read(folder, (text, span.clone()), ("`app`", "app"), say)?;
    if !seen.head.starts_with(WASM_MAGIC) {
        let problem = format!("`app` is not a WebAssembly module: {}", seen.upload.path.display());
        say.say(&span, problem, "build the app to .wasm first (docs/apps.md)");
        return None;
    }
    let digest = seen.upload.digest;
    uploads.push(seen.upload);
    Some(digest)
}

fn pool(top: &Section<'_>, say: &mut Collector<'_>) -> Option<PoolName> {
    let (text, span) = top.text("pool", "\"open\"", say).unwrap_or((DEFAULT_POOL, 0..0));
    match PoolName::new(text) {
        Ok(pool) => Some(pool),
        Err(error) => {
            say.say(&span, error.to_string(), "ask your operator which pools there are; without the key it is \"open\"");
            None
        }
    }
}

fn deadline(top: &Section<'_>, say: &mut Collector<'_>) -> Option<u32> {
    let value = top.get("deadline")?;
    if value.get_ref().is_integer() {
        return top.integer("deadline", 1..=i128::from(u32::MAX), say).and_then(|n| u32::try_from(n).ok());
    }
    let seconds = value.get_ref().as_str().and_then(duration::seconds).and_then(|n| u32::try_from(n).ok());
    if seconds.is_none() {
        let problem = "`deadline` is not a duration";
        say.say(&value.span(), problem, "give seconds, as in 3600, or a text such as \"2h30m\", \"90s\", \"1d\"");
    }
    seconds
}

fn budget(top: &Section<'_>, each: Fuel, say: &mut Collector<'_>) -> Option<Fuel> {
    let budget = fuel(top, "budget_fuel", say)?;
    if budget < each {
        let problem = format!("`budget_fuel` is {budget}, and one item may take {each} (`limits.fuel_per_item`)");
        let way_out = "lower `limits.fuel_per_item` to what an item takes at most, or raise the budget";
        say.say(&top.key_span("budget_fuel"), problem, way_out);
    }
    Some(budget)
}

fn fuel(section: &Section<'_>, key: &str, say: &mut Collector<'_>) -> Option<Fuel> {
    let count = section.integer(key, 1..=i128::from(Fuel::MAX.get()), say)?;
    u64::try_from(count).ok().and_then(|count| Fuel::new(count).ok())
}

fn params(top: &Section<'_>, say: &mut Collector<'_>) -> Value {
    let table = top.table("params", say);
    let value = table.map_or_else(|| Value::Map(Vec::new()), |table| map_of(table, say));
    let bytes = codec::encode("params", &value, Format::MessagePack).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > JobSpec::MAX_PARAMS_BYTES {
        let problem = format!("`params` is beyond {} bytes as MessagePack", JobSpec::MAX_PARAMS_BYTES);
        say.say(&top.key_span("params"), problem, "put large data into a file: `input.shared`");
    }
    value
}

fn limits(top: &Section<'_>, say: &mut Collector<'_>) -> Limits {
    let default = Limits::default();
    let Some(table) = top.table("limits", say) else { return default };
    let section = Section::new("limits", table, &["fuel_per_item", "memory_bytes", "output_bytes"], say);
    let fuel = fuel(&section, "fuel_per_item", say);
    let memory = section.integer("memory_bytes", 65_536..=i128::from(Limits::MAX_MEMORY_BYTES), say);
    let output = section.integer("output_bytes", 1..=i128::from(Limits::MAX_OUTPUT_BYTES), say);
    Limits {
        fuel_per_item: fuel.unwrap_or(default.fuel_per_item),
        memory_bytes: memory.and_then(|n| u64::try_from(n).ok()).unwrap_or(default.memory_bytes),
        output_bytes: output.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.output_bytes),
    }
}

fn unit(top: &Section<'_>, say: &mut Collector<'_>) -> UnitSizing {
    let default = UnitSizing::default();
    let Some(table) = top.table("unit", say) else { return default };
    let section = Section::new("unit", table, &["target_seconds", "max_items"], say);
    let max_items = section.integer("max_items", 1..=i128::from(u32::MAX), say).and_then(|n| u32::try_from(n).ok());
    let target_ms = section.get("target_seconds").and_then(|value| {
        let name = section.name_of("target_seconds");
        let most = f64::from(UnitSizing::MAX_TARGET_MS) / 1_000.0;
        let way_out = format!("give seconds from 0.001 to {most}");
        let Some(seconds) = number_of(value.get_ref()) else {
            say.say(&value.span(), wrong_type(&name, value, "a number"), way_out);
            return None;
        };
        if !(0.001..=most).contains(&seconds) {
            say.say(&value.span(), format!("{name} is {seconds}"), way_out);
            return None;
        }
        u32::try_from(std::time::Duration::from_secs_f64(seconds).as_millis()).ok()
    });
    UnitSizing { target_ms: target_ms.unwrap_or(default.target_ms), max_items: max_items.unwrap_or(default.max_items) }
}

#[cfg(test)]
mod tests;
