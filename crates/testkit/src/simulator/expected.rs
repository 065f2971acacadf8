//! What a job comes to when nothing goes wrong, computed without any grid.

use protocol::frame::ItemFrame;
use protocol::job::{Certificate, ItemCounts, JobSpec};
use protocol::unit::Call;
use protocol::{Format, OutputChain, codec};
use rules::{assemble, tree};

use super::App;
use super::app::Fate;

/// A job's undisturbed result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The proof.
    pub certificate: Certificate,
    /// What is billed.
    pub fuel: u64,
    /// The items' outputs; `None` where the item failed.
    pub outputs: Vec<Option<Vec<u8>>>,
}

/// The outputs of a stage, in item order; `None` where the item failed.
type Outputs = Vec<Option<Vec<u8>>>;

impl Expected {
    /// The result of that job over these items.
    ///
    /// # Panics
    /// If the job's parameters or items are no messages.
    pub fn of(spec: &JobSpec, items: &[Vec<u8>]) -> Self {
        let params = codec::encode("params", &spec.params, Format::MessagePack).expect("parameters");
        let app = App::new(&params);
        let mut fuel = 0;
        let mut stage = run(&app, Call::Map, items, &mut fuel);
        let count = |outputs: &Outputs, succeeded: bool| {
            u64::try_from(outputs.iter().filter(|output| output.is_some() == succeeded).count()).expect("few")
        };
        let (succeeded, failed) = (count(&stage, true), count(&stage, false));
        let (items_chain, outputs) = (chain(&stage), stage.clone());
        let mut more = spec.reduce && !stage.is_empty();
        while more {
            let below = u64::try_from(stage.len()).expect("few");
            let nodes = tree::nodes_above(below);
            let call = if assemble::is_last(nodes) { Call::ReduceAndFinish } else { Call::Reduce };
            let partials: Vec<Vec<u8>> =
                (0..nodes).map(|node| partials(&stage, tree::children(&(node..node + 1), below))).collect();
            stage = run(&app, call, &partials, &mut fuel);
            more = !assemble::is_last(nodes);
        }
        let counts = ItemCounts { submitted: succeeded + failed, succeeded, failed, cancelled: 0 };
        Self { certificate: assemble::certificate(counts, items_chain, chain(&stage)), fuel, outputs }
    }
}

fn run(app: &App, call: Call, items: &[Vec<u8>], sum: &mut u64) -> Outputs {
    let outputs = items.iter().map(|item| match app.fate(call, item) {
        Fate::Output(output, fuel) => {
            *sum += fuel;
            Some(output)
        }
        Fate::Fails | Fate::Kills => None,
    });
    outputs.collect()
}

fn partials(stage: &Outputs, children: std::ops::Range<u64>) -> Vec<u8> {
    let mut frame = ItemFrame::default();
    for (output, _) in stage.iter().zip(0_u64..).filter(|(_, item)| children.contains(item)) {
        if let Some(output) = output {
            frame.push(output).expect("small");
        }
    }
    frame.finish()
}

fn chain(outputs: &Outputs) -> OutputChain {
    let mut chain = OutputChain::default();
    for output in outputs {
        match output {
            Some(output) => chain.succeeded(output),
            None => chain.failed(),
        }
    }
    chain
}
