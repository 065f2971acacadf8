//! The example apps as they are committed: accepted, and computing the same on every executor and in any slices.

use std::path::PathBuf;
use std::sync::Arc;

use ports::sandbox::{Program, Publish as _};
use protocol::Value;
use protocol::codec::{Format, decode, encode};
use protocol::frame::ItemFrame;
use protocol::job::Limits;
use protocol::unit::Call;
use protocol::{CustomerName, Digest};
use sandbox::{Compiler, PublishSettings, Publisher};

use crate::rig::{Outcome, agreed, child, ok, task};

async fn example(name: &str, params: &[(&str, Value)]) -> Program {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join("app.wasm");
    let module = std::fs::read(path).unwrap();
    let compiler = Publisher::new(PublishSettings::new(Compiler::Child(child("compiler", "examples")))).unwrap();
    let published = compiler.publish(&module).await.unwrap();
    let params = Value::Map(params.iter().map(|(key, value)| ((*key).into(), value.clone())).collect());
    Program {
        brief: Digest::of(name.as_bytes()),
        customer: CustomerName::new("acme").unwrap(),
        artefact: Arc::new(published.artefact),
        entry: published.entry,
        params: Arc::new(item(params)),
        shared: Arc::default(),
        limits: Limits::default(),
    }
}

fn item(value: impl Into<Value>) -> Vec<u8> {
    encode("item", &value.into(), Format::MessagePack).unwrap()
}

fn outputs(outcomes: &[Outcome]) -> Vec<&[u8]> {
    outcomes.iter().map(output).collect()
}

fn output(outcome: &Outcome) -> &[u8] {
    match outcome {
        Outcome::Ok(output) => output,
        Outcome::Failed(reason) => panic!("{reason}"),
    }
}

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = ItemFrame::default();
    for part in parts {
        frame.push(part).unwrap();
    }
    frame.finish()
}

#[tokio::test]
async fn an_app_in_c_sums_lines_and_reduces() {
    let program = example("c-sum", &[]).await;
    let lines = ["1 2 3", "x", "-10", "40"].map(|line| item(Value::Binary(line.as_bytes().to_vec())));
    let (outcomes, _) = agreed(task(&program, &lines)).await.unwrap();
    assert!(matches!(&outcomes[1], Outcome::Failed(reason) if !reason.is_empty()));
    let good: Vec<_> = [0, 2, 3].map(|at| outcomes[at].clone()).to_vec();
    let mut reduce = task(&program, &[frame(&outputs(&good))]);
    reduce.call = Call::ReduceAndFinish;
    let (outcomes, _) = agreed(reduce).await.unwrap();
    assert_eq!(decode::<i64>("sum", outputs(&outcomes)[0], Format::MessagePack).unwrap(), 36);
}

#[tokio::test]
async fn an_unmodified_program_runs_per_item() {
    let program = example("wc-command", &[]).await;
    let (outcomes, fuel) = agreed(task(&program, &[item("one two three"), item("")])).await.unwrap();
    let text = String::from_utf8(outputs(&outcomes)[0].to_vec()).unwrap();
    assert!(text.contains('3') && fuel > 0, "{text}");
}

#[tokio::test]
async fn a_rust_app_gives_the_same_bytes_and_fuel_in_any_slices() {
    let market = [("spot", 100.0), ("strike", 100.0), ("rate", 0.05), ("volatility", 0.2), ("maturity_years", 1.0)];
    let mut market: Vec<(Value, Value)> = market.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    market.push(("steps".into(), 52.into()));
    let beam = [
        ("span_m", 4.0),
        ("section_modulus_m3", 2.52e-4),
        ("load_mean_n", 40_000.0),
        ("load_variation", 0.2),
        ("strength_mean_pa", 280.0e6),
        ("strength_variation", 0.07),
    ];
    let beam = beam.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let params =
        [("seed", 2001.into()), ("paths_per_item", 64.into()), ("market", Value::Map(market)), ("beam", Value::Map(beam))];
    let program = example("monte-carlo", &params).await;
    let items: Vec<_> = (0..8_u64).map(item).collect();
    let (whole, fuel) = agreed(task(&program, &items)).await.unwrap();
    let (mut sliced, mut sum) = (Vec::new(), 0);
    for slice in items.chunks(3) {
        let (part, used) = agreed(task(&program, slice)).await.unwrap();
        sliced.extend(part);
        sum += used;
    }
    assert_eq!((&whole, fuel), (&sliced, sum));
    let mut reduce = task(&program, &[frame(&outputs(&whole))]);
    reduce.call = Call::ReduceAndFinish;
    let (reduced, _) = agreed(reduce).await.unwrap();
    assert_ne!(reduced, [ok(&[])]);
}

#[tokio::test]
async fn every_example_is_accepted() {
    for name in ["c-sum", "drift-search", "mandelbrot", "monte-carlo", "signal-search", "wc-command"] {
        example(name, &[]).await;
    }
}
