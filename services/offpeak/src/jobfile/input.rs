//! The section `[input]`: exactly one way to give the items, and the shared file.

use std::ops::Range;
use std::path::Path;

use protocol::input::{Axis, Input, MAX_LINE_BYTES, MAX_RECORD_BYTES};
use protocol::{Digest, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::{self, Upload};
use super::mistakes::Collector;
use super::section::{Section, integer_of, wrong_type};
use super::unfit;
use super::value::{in_file_order, value_of};

/// The ways to give items.
const KINDS: [&str; 5] = ["range", "items", "lines", "records", "grid"];
const KNOWN: [&str; 6] = ["range", "items", "lines", "records", "grid", "shared"];

/// Reads the section and the files it names.
pub(super) struct Reader<'r, 't> {
    pub(super) folder: &'r Path,
    pub(super) uploads: &'r mut Vec<Upload>,
    pub(super) say: &'r mut Collector<'t>,
}

impl Reader<'_, '_> {
    /// The section, whose key is at `span`.
    pub(super) fn input(&mut self, table: &DeTable<'_>, span: &Range<usize>) -> (Option<Input>, Option<Digest>) {
        let section = Section::new("input", table, &KNOWN, self.say);
        let shared =
            section.text("shared", "\"recording.c64\"", self.say).and_then(|text| self.file(text, ("`input.shared`", "shared")));
        let given: Vec<&str> = KINDS.into_iter().filter(|kind| section.get(kind).is_some()).collect();
        if let Some((first, others)) = given.split_first() {
            for other in others {
                let problem = format!("`input.{other}` stands beside `input.{first}`");
                self.say.say(&section.key_span(other), problem, "a job has one kind of items: keep one of them");
            }
        }
        // Each kind that is there is read, so that its own mistakes are told too.
        let mut inputs: Vec<Option<Input>> = given.iter().map(|kind| self.kind(&section, kind)).collect();
        if given.is_empty() {
            let way_out = "give one of `range`, `items`, `lines`, `records`, `grid`";
            self.say.missing_at(span, "`[input]` gives no items", way_out);
        }
        (inputs.pop().flatten(), shared)
    }

    fn kind(&mut self, section: &Section<'_>, kind: &str) -> Option<Input> {
        let value = section.get(kind)?;
        match kind {
            "range" => self.range(value),
            "items" => self.items(value),
            "lines" => self.lines(section),
            "records" => self.records(section),
            _ => self.grid(section, value),
        }
    }

    fn range(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Input> {
        let way_out = "write range = [start, end] with 0 <= start < end; end itself is no item";
        let numbers: Vec<Option<i128>> = match value.get_ref().as_array() {
            Some(list) => list.iter().map(|item| integer_of(item.get_ref())).collect(),
            None => Vec::new(),
        };
        let [Some(start), Some(end)] = numbers[..] else {
            self.say.say(&value.span(), "`input.range` must be a list of two whole numbers", way_out);
            return None;
        };
        if start == end {
            self.say.say(&value.span(), format!("`input.range` from {start} to {end} is empty"), way_out);
            return None;
        }
        if start > end {
            self.say.say(&value.span(), format!("`input.range` from {start} to {end} runs backwards"), way_out);
            return None;
        }
        let range = u64::try_from(start).ok().zip(u64::try_from(end).ok()).map(|(start, end)| Input::Range { start, end });
        if range.is_none() {
            self.say.say(&value.span(), format!("`input.range` from {start} to {end} leaves 0 to {}", u64::MAX), way_out);
        }
        range
    }

    fn items(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Input> {
        let way_out = "write items = [value, value]; many or large items go into a file: lines = \"items.txt\", or records";
        let Some(list) = value.get_ref().as_array() else {
            self.say.say(&value.span(), wrong_type("`input.items`", value, "a list"), way_out);
            return None;
        };
        if list.is_empty() {
            self.say.say(&value.span(), "`input.items` is empty", way_out);
            return None;
        }
        let items: Vec<Value> = list.iter().map(|item| value_of(item, self.say)).collect();
        if let Some(bound) = unfit(&items) {
            let problem = format!("`input.items` together are {bound}");
            self.say.say(&value.span(), problem, "put them into a file: lines = \"items.txt\", or records = {file, bytes}");
            return None;
        }
        Some(Input::Items(items))
    }

    fn lines(&mut self, section: &Section<'_>) -> Option<Input> {
        let text = section.text("lines", "\"items.txt\"", self.say)?;
        let span = text.1.clone();
        let seen = files::read(self.folder, text, ("`input.lines`", "input"), self.say)?;
        let (line, bytes) = seen.longest_line;
        if bytes > u64::from(MAX_LINE_BYTES) {
            let problem = format!("line {line} of {} is {bytes} bytes, beyond {MAX_LINE_BYTES}", seen.upload.path.display());
            self.say.say(&span, problem, "an item must fit one message: make the lines shorter");
            return None;
        }
        let blob = seen.upload.digest;
        self.uploads.push(seen.upload);
        Some(Input::Lines { blob })
    }

    fn records(&mut self, section: &Section<'_>) -> Option<Input> {
        let table = section.table("records", self.say)?;
        let records = Section::new("input.records", table, &["file", "bytes"], self.say);
        for key in ["file", "bytes"] {
            if records.get(key).is_none() {
                let problem = format!("`input.records` has no `{key}`");
                self.say.say(&section.key_span("records"), problem, "write records = { file = \"data.bin\", bytes = 4096 }");
            }
        }
        let bytes = records.integer("bytes", 1..=i128::from(MAX_RECORD_BYTES), self.say);
        let text = records.text("file", "\"data.bin\"", self.say)?;
        let span = text.1.clone();
        let seen = files::read(self.folder, text, ("`input.records.file`", "input"), self.say)?;
        let bytes = u32::try_from(bytes?).ok()?;
        let rest = seen.upload.bytes % u64::from(bytes);
        if rest != 0 {
            let problem = format!(
                "{} is {} bytes, which is no multiple of {bytes}: {rest} are left over",
                seen.upload.path.display(),
                seen.upload.bytes
            );
            self.say.say(&span, problem, "correct `input.records.bytes`, or the file");
            return None;
        }
        let blob = seen.upload.digest;
        self.uploads.push(seen.upload);
        Some(Input::Records { blob, bytes })
    }

    fn grid(&mut self, section: &Section<'_>, value: &Spanned<DeValue<'_>>) -> Option<Input> {
        let table = section.table("grid", self.say)?;
        let way_out = "write each axis as name = [value, value]";
        if table.is_empty() {
            self.say.say(&value.span(), "`input.grid` has no axes", way_out);
            return None;
        }
        let mut axes = Vec::new();
        for (name, values) in in_file_order(table) {
            let label = format!("`input.grid.{name}`");
            match values.get_ref().as_array() {
                Some(list) if !list.is_empty() => {
                    let values = list.iter().map(|item| value_of(item, self.say)).collect();
                    axes.push(Axis { name: name.to_owned(), values });
                }
                Some(_) => self.say.say(&values.span(), format!("{label} is empty"), way_out),
                None => self.say.say(&values.span(), wrong_type(&label, values, "a list"), way_out),
            }
        }
        if let Some(bound) = unfit(&axes) {
            let problem = format!("the values of `input.grid` together are {bound}");
            let way_out = "make the axes shorter, or give a range, whose numbers the app takes apart into points";
            self.say.say(&value.span(), problem, way_out);
            return None;
        }
        let input = Input::Grid(axes);
        if input.count().is_none() {
            self.say.say(&value.span(), "`input.grid` has more points than 64 bits count", "make the axes shorter");
            return None;
        }
        Some(input)
    }

    /// A file that becomes a blob; its digest.
    pub(super) fn file(&mut self, text: (&str, Range<usize>), (name, role): (&str, &'static str)) -> Option<Digest> {
        let seen = files::read(self.folder, text, (name, role), self.say)?;
        let digest = seen.upload.digest;
        self.uploads.push(seen.upload);
        Some(digest)
    }
}
