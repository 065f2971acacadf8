//! Whether a module fits the world of an app or of a command: its imports, its exports, and every reason why not.

use ports::sandbox::Inspection;
use protocol::job::EntryKind;

use super::module::{self, Contents, Item};
use crate::wasi;

/// What apps may import, with its type.
const IMPORTS: &[(&str, &str)] = &[
    ("offpeak1.log", "(i32, i32)"),
    ("offpeak1.progress", "(i32, i32)"),
    ("offpeak1.fail", "(i32, i32)"),
    ("offpeak1.blob_len", "(i32) -> i64"),
    ("offpeak1.blob_read", "(i32, i64, i32, i32) -> i32"),
];

/// What apps export, with its type and whether it must be there.
const EXPORTS: &[(&str, &str, bool)] = &[
    ("op_alloc", "(i32) -> i32", true),
    ("op_map", "(i32, i32) -> i64", true),
    ("op_init", "(i32, i32) -> i32", false),
    ("op_reduce", "(i32, i32) -> i64", false),
    ("op_finish", "(i32, i32) -> i64", false),
    ("op_step", "(i64) -> i32", false),
];

/// Looks at a module without compiling it; pure.
pub fn inspect(module: &[u8]) -> Inspection {
    let mut contents = module::read(module);
    if contents.exports.is_empty() && !contents.reasons.is_empty() {
        return contents.into_inspection(None);
    }
    let command = contents.export("_start").is_some();
    let app: Vec<_> = EXPORTS.iter().filter(|(name, _, _)| contents.export(name).is_some()).map(|(name, _, _)| *name).collect();
    let entry = match (command, app.first()) {
        (true, Some(name)) => {
            contents
                .reasons
                .push(format!("it exports both _start and {name}: a command exports _start, an app op_map; build one of them"));
            None
        }
        (true, None) => Some(EntryKind::Command),
        (false, Some(_)) => Some(EntryKind::Offpeak1),
        (false, None) => {
            contents.reasons.push(
                "it exports neither op_map nor _start: an app exports memory, op_alloc and op_map (link the guest SDK), a command _start (link as a WASI program)"
                    .into(),
            );
            None
        }
    };
    match entry {
        Some(EntryKind::Offpeak1) => check_app(&mut contents),
        Some(EntryKind::Command) => check_command(&mut contents),
        None => {}
    }
    contents.into_inspection(entry)
}

fn check_app(contents: &mut Contents) {
    let mut reasons = Vec::new();
    for import in &contents.imports {
        let known = IMPORTS.iter().find(|(name, _)| *name == import.name);
        let names = || IMPORTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        match known {
            Some((name, ty)) => reasons.extend(mistyped("import", import, name, ty)),
            None if import.name.starts_with(wasi::MODULE) => reasons.push(format!(
                "import {} is not provided: an app computes without a system interface (build for wasm32-unknown-unknown), or export _start and run as a command",
                import.name
            )),
            None => reasons.push(format!("import {} is not provided: apps may import only {}", import.name, names())),
        }
    }
    for (name, ty, required) in EXPORTS {
        match contents.export(name) {
            Some(export) => reasons.extend(mistyped("export", export, name, ty)),
            None if *required => reasons.push(format!("export {name} is missing: an app exports {name} with type {ty}")),
            None => {}
        }
    }
    reasons.extend(check_memory(contents));
    contents.reasons.append(&mut reasons);
}

fn check_command(contents: &mut Contents) {
    let mut reasons = Vec::new();
    for import in &contents.imports {
        let (module, name) = import.name.split_once('.').unwrap_or(("", &import.name));
        let known = wasi::FUNCTIONS.iter().find(|(known, _)| module == wasi::MODULE && *known == name);
        match known {
            Some((_, params)) => reasons.extend(mistyped("import", import, &import.name, &wasi_type(name, params))),
            None => reasons.push(format!(
                "import {} is not provided: a command may import only functions of {} (build for wasm32-wasip1)",
                import.name,
                wasi::MODULE
            )),
        }
    }
    if let Some(start) = contents.export("_start") {
        reasons.extend(mistyped("export", start, "_start", "()"));
    }
    reasons.extend(check_memory(contents));
    contents.reasons.append(&mut reasons);
}

fn check_memory(contents: &Contents) -> Option<String> {
    match contents.export("memory") {
        Some(memory) if memory.ty.starts_with("memory") => None,
        Some(other) => Some(format!("export memory is a {}: export the module's memory under that name", other.ty)),
        None => Some("export memory is missing: export the module's memory under the name memory".into()),
    }
}

fn mistyped(what: &str, item: &Item, name: &str, expected: &str) -> Option<String> {
    let right = item.function && item.ty == expected;
    (!right).then(|| format!("{what} {name} has type {}: it must be a function of type {expected}", item.ty))
}

fn wasi_type(name: &str, params: &str) -> String {
    let params: Vec<_> = params.chars().map(|kind| if kind == 'l' { "i64" } else { "i32" }).collect();
    let result = if name == wasi::NO_RESULT { "" } else { " -> i32" };
    format!("({}){result}", params.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(text: &str) -> Vec<String> {
        inspect(&wat::parse_str(text).unwrap()).reasons
    }

    const APP: &str = r#"(memory (export "memory") 1)
        (func (export "op_alloc") (param i32) (result i32) i32.const 8)
        (func (export "op_map") (param i32 i32) (result i64) i64.const 0)"#;

    #[test]
    fn an_app_and_a_command_are_told_apart() {
        let app = inspect(&wat::parse_str(format!("(module {APP})")).unwrap());
        assert_eq!((app.entry, app.reasons), (Some(EntryKind::Offpeak1), vec![]));
        assert_eq!(app.exports[0], "memory: memory of 1 pages or more");
        assert_eq!(app.exports[2], "op_map: (i32, i32) -> i64");
        let command = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 1) (func (export "_start")))"#;
        let command = inspect(&wat::parse_str(command).unwrap());
        assert_eq!((command.entry, command.reasons), (Some(EntryKind::Command), vec![]));
        assert_eq!(command.imports, ["wasi_snapshot_preview1.proc_exit: (i32)"]);
        let both = reasons(&format!(r#"(module {APP} (func (export "_start")))"#));
        assert!(both[0].contains("both _start and op_alloc"), "{both:?}");
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let all = reasons(
            r#"(module (import "env" "memcpy" (func (param i32)))
                (import "offpeak1" "log" (func (param i32)))
                (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                (func (export "op_map") (param i32) (result i32) i32.const 0))"#,
        );
        assert_eq!(all.len(), 6, "{all:#?}");
        assert!(all[0].starts_with("import env.memcpy is not provided: apps may import only offpeak1.log"));
        assert_eq!(all[1], "import offpeak1.log has type (i32): it must be a function of type (i32, i32)");
        assert!(all[2].contains("run as a command"));
        assert_eq!(all[3], "export op_alloc is missing: an app exports op_alloc with type (i32) -> i32");
        assert_eq!(all[4], "export op_map has type (i32) -> i32: it must be a function of type (i32, i32) -> i64");
        assert!(all[5].starts_with("export memory is missing"));
    }

    #[test]
    fn what_is_no_module_is_said_to_be_none() {
        assert!(inspect(b"").reasons[0].contains("no WebAssembly module"));
        assert!(inspect(b"#!/bin/sh").reasons[0].contains("no WebAssembly module"));
        assert!(inspect(b"\0asm\x0d\0\x01\0").reasons[0].contains("component"));
        assert!(inspect(b"\0asm\x01\0\0\0\x01").reasons[0].contains("not valid at byte"));
        assert!(inspect(b"\0asm\x01\0\0\0").reasons[0].contains("neither op_map nor _start"));
    }

    #[test]
    fn features_beyond_the_world_are_named() {
        let shared = reasons(&format!("(module {APP} (memory 1 1 shared))"));
        assert!(shared[0].contains("not valid"), "{shared:?}");
        let relaxed = reasons(&format!(
            "(module {APP} (func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.relaxed_swizzle))"
        ));
        assert!(relaxed[0].contains("compile without that feature"), "{relaxed:?}");
    }
}
