//! Publishing: what is accepted is compiled the same in a child and here; what is not is said with every reason.

use std::time::Duration;

use ports::sandbox::{Publish as _, PublishError};
use protocol::Digest;
use protocol::job::EntryKind;
use sandbox::{Compiler, PublishSettings, Publisher};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction, MemorySection, MemoryType, Module,
    TypeSection, ValType,
};

use crate::modules::{behaving, summing};
use crate::rig::child;

fn publisher(change: impl FnOnce(&mut PublishSettings)) -> Publisher {
    let mut settings = PublishSettings::new(Compiler::Child(child("compiler", "publish")));
    change(&mut settings);
    Publisher::new(settings).unwrap()
}

async fn reasons(publisher: &Publisher, module: &[u8]) -> Vec<String> {
    match publisher.publish(module).await {
        Err(PublishError::Rejected { reasons }) => reasons,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_child_and_this_process_compile_the_same() {
    let module = wat::parse_str(summing()).unwrap();
    let here = Publisher::new(PublishSettings::new(Compiler::InProcess)).unwrap().publish(&module).await.unwrap();
    let there = publisher(|_| {}).publish(&module).await.unwrap();
    assert_eq!(here, there);
    assert_eq!(here.app, Digest::of(&module));
    assert_eq!(here.digest, Digest::of(&here.artefact));
    assert_eq!((here.entry, here.meter.as_str(), here.reduces), (EntryKind::Offpeak1, "wasmtime-48-fuel", true));
    assert!(sandbox::generation().starts_with("wasmtime-48.0.8/"));
}

#[tokio::test]
async fn a_manifest_is_passed_on() {
    let module =
        wat::parse_str(behaving().replacen("(module", r#"(module (@custom "offpeak.manifest" "{\"name\":\"x\"}")"#, 1)).unwrap();
    let published = publisher(|_| {}).publish(&module).await.unwrap();
    assert_eq!(published.manifest.as_deref(), Some(r#"{"name":"x"}"#));
    assert!(!published.reduces);
    let broken = wat::parse_str(behaving().replacen("(module", r#"(module (@custom "offpeak.manifest" "{")"#, 1)).unwrap();
    assert!(reasons(&publisher(|_| {}), &broken).await[0].starts_with("the section offpeak.manifest is not JSON"));
}

#[tokio::test]
async fn a_module_that_does_not_fit_is_rejected_with_all_reasons() {
    let module = wat::parse_str(r#"(module (import "env" "memcpy" (func)) (func (export "op_map")))"#).unwrap();
    let reasons = reasons(&publisher(|_| {}), &module).await;
    assert_eq!(reasons.len(), 4, "{reasons:#?}");
}

/// An app with one more function.
fn app_with(function: &Function) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32], [ValType::I64]);
    let mut functions = FunctionSection::new();
    functions.function(0).function(1).function(0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("op_alloc", ExportKind::Func, 0).export("op_map", ExportKind::Func, 1);
    let mut alloc = Function::new([]);
    alloc.instruction(&Instruction::I32Const(8)).instruction(&Instruction::End);
    let mut map = Function::new([]);
    map.instruction(&Instruction::I64Const(0)).instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&alloc).function(&map).function(function);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    module.finish()
}

/// A function whose blocks within blocks each change many locals: within the caps, and dear to compile.
fn bomb(locals: u32, depth: u32, per_block: u32) -> Function {
    let mut function = Function::new([(locals, ValType::I32)]);
    for level in 0..depth {
        function.instruction(&Instruction::Loop(BlockType::Empty));
        for n in 0..per_block {
            let local = 1 + (level * per_block + n) % locals;
            function.instruction(&Instruction::LocalGet(1 + (local * 7) % locals));
            function.instruction(&Instruction::LocalGet(local)).instruction(&Instruction::I32Add);
            function.instruction(&Instruction::LocalSet(local));
        }
    }
    for level in 0..depth {
        function.instruction(&Instruction::LocalGet(1 + level % locals));
        function.instruction(&Instruction::BrTable((0..depth - level).collect::<Vec<_>>().into(), 0));
        function.instruction(&Instruction::End);
    }
    function.instruction(&Instruction::LocalGet(0)).instruction(&Instruction::End);
    function
}

#[tokio::test]
async fn a_compile_bomb_meets_its_limits() {
    let module = app_with(&bomb(1_900, 190, 100));
    let publisher = publisher(|settings| settings.cpu_seconds = 1);
    let reasons = reasons(&publisher, &module).await;
    let expected = "compiling takes more than 1 s: split large functions";
    assert_eq!(reasons, [expected.to_owned(), format!("without optimisation: {expected}")]);
    // The publisher lives on.
    publisher.publish(&wat::parse_str(summing()).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_compiler_short_of_memory_gives_up_with_a_reason() {
    let module = app_with(&bomb(1_900, 190, 100));
    let reasons = reasons(&publisher(|settings| settings.memory_bytes = 64 << 20), &module).await;
    assert!(reasons[0].starts_with("compiling needs more than 67108864 bytes of memory"), "{reasons:?}");
}

#[tokio::test]
async fn caps_are_named_with_what_was_found() {
    let publisher = publisher(|_| {});
    let deep = reasons(&publisher, &app_with(&bomb(10, 500, 1))).await;
    assert_eq!(deep, ["function 2 has 501 blocks within each other, over the limit of 400: split it"]);
    let locals = reasons(&publisher, &app_with(&bomb(3_000, 1, 1))).await;
    assert_eq!(locals, ["function 2 has 3001 locals, over the limit of 2000: split it"]);
    let body = reasons(&publisher, &app_with(&bomb(10, 1, 100_000))).await;
    assert!(body[0].starts_with("function 2 has ") && body[0].contains("bytes, over the limit of 524288"), "{body:?}");
    let mut huge = app_with(&bomb(1, 1, 1));
    huge.extend([0, 0x80, 0x80, 0x80, 0x10, 1, b'x']);
    huge.resize((32 << 20) + 1, 0);
    assert!(reasons(&publisher, &huge).await[0].starts_with("the module has 33554433 bytes, over the limit of 33554432"));
    let large = r#"(module (memory (export "memory") 20000) (table 200000 funcref)
        (func (export "op_alloc") (param i32) (result i32) (i32.const 8))
        (func (export "op_map") (param i32 i32) (result i64) (i64.const 0)))"#;
    let large = reasons(&publisher, &wat::parse_str(large).unwrap()).await;
    assert_eq!(large.len(), 2, "{large:?}");
}

#[tokio::test]
async fn a_compiler_that_cannot_start_is_no_fault_of_the_module() {
    let module = wat::parse_str(summing()).unwrap();
    for command in [vec!["/nonexistent/compiler".into()], vec![]] {
        let mut settings = PublishSettings::new(Compiler::Child(command));
        settings.wall_limit = Duration::from_mins(1);
        let error = Publisher::new(settings).unwrap().publish(&module).await.unwrap_err();
        assert!(matches!(error, PublishError::Unavailable { .. }), "{error}");
    }
}
