//! What the host's side of windows costs: `cargo bench -p weir-operator --bench window`. Prints nanoseconds a row, the native count included.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use arrow_array::{ArrayRef, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_operator::chain::Parts;
use weir_operator::emission::Emission;
use weir_operator::window::Window;
use weir_operator::{Body, Context, NativeChain, Progress};
use weir_plan::job::{ChainNode, OnError, Stage};
use weir_sandbox::GuestError;
use weir_state::MemoryBackend;
use weir_types::call::{Input, Origins, Output, Panes, Reply, Slot, States};
use weir_types::graph::{self, Assigner, Chain, ColumnOrigin, Head, Partitioning, TimeDomain, Trigger};
use weir_types::key::hash_u64;
use weir_types::{Batch, Watermark};

const ROWS_PER_BATCH: u64 = 8192;
const BATCHES: u64 = 600;
/// rows a millisecond of event time
const ROWS_PER_MS: u64 = 100;
/// how far rows are out of order
const DISORDER_MS: u64 = 500;

/// Counts rows.
#[derive(Default)]
struct Counts(Vec<u64>);

impl NativeChain for Counts {
    fn assign_slots(&mut self, slots: &[Slot], _keys: &[ArrayRef]) -> Result<(), GuestError> {
        for &slot in slots {
            self.0.resize(self.0.len().max(slot as usize + 1), 0);
            self.0[slot as usize] = 0;
        }
        Ok(())
    }
    fn accumulate(&mut self, input: Input<'_>) -> Result<(), GuestError> {
        input.slots.unwrap_or_default().iter().for_each(|&slot| self.0[slot as usize] += 1);
        Ok(())
    }
    fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let sum = |g: &[u32]| panes.slots[g[0] as usize..g[1] as usize].iter().map(|&s| self.0[s as usize]).sum::<u64>();
        let counts: ArrayRef = Arc::new(UInt64Array::from_iter_values(panes.groups.windows(2).map(sum)));
        let output = Output { port: 0, rows: counts.len(), origins: Origins::Identity, times: None, columns: vec![counts] };
        Ok(Reply { outputs: vec![output], ..Reply::default() })
    }
    fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        targets.iter().zip(sources).for_each(|(&t, &s)| self.0[t as usize] += self.0[s as usize]);
        Ok(())
    }
    fn clear_slots(&mut self, _slots: &[Slot]) -> Result<(), GuestError> {
        Ok(())
    }
    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let bytes = slots.iter().flat_map(|&s| self.0[s as usize].to_le_bytes()).collect();
        Ok(States::new((0..=slots.len() as u32).map(|i| i * 8).collect(), bytes))
    }
    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        for (&slot, bytes) in slots.iter().zip(states.bytes.chunks_exact(8)) {
            self.0[slot as usize] += u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        Ok(())
    }
}

fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a native chain does not wait"),
    }
}

fn schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::UInt64, false)]))
}

fn operator(assigner: Assigner, stage: Stage) -> (Window, Context) {
    let window = graph::Window {
        assigner,
        domain: TimeDomain::Event,
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        late_port: None,
        mergeable: true,
    };
    let input = graph::Input { from: vec![], partitioning: Partitioning::Hash, key: vec![0], columns: vec![], times: false };
    let output = graph::Output { name: String::new(), schema: schema("count"), columns: vec![ColumnOrigin::Computed] };
    let chain = Chain {
        operators: vec![],
        head: Head::Window(window),
        inputs: vec![input],
        outputs: vec![output],
        event_time: None,
        parallelism: None,
        state_schema: None,
    };
    let emission = Emission::new(&chain, &[]);
    let node = ChainNode {
        component: 0,
        index: 0,
        chain,
        inputs: vec![schema("key")],
        stage,
        on_error: OnError::default(),
        dead_letters: None,
    };
    let parts = Parts {
        body: Body::native(Box::new(Counts::default())),
        backend: Box::new(MemoryBackend::default()),
        slots_max: None,
        bytes_max: None,
        max_parallelism: 128,
    };
    let window = Window::new(&window, &node, &[DataType::UInt64], emission, parts).expect("the key can be one");
    (window, Context::new("window".into(), vec![schema("key")], OnError::default()))
}

fn main() {
    let sliding = Assigner::Sliding { size_ms: 10_000, slide_ms: 2_000, offset_ms: 0 };
    let cases = [
        ("tumbling 10 s", Assigner::Tumbling { size_ms: 10_000, offset_ms: 0 }),
        ("sliding 10 s / 2 s", sliding),
        ("session 1 s", Assigner::Session { gap_ms: 1_000 }),
    ];
    for keys in [1_000, 100_000] {
        let batches: Vec<Batch> = (0..BATCHES).map(|b| batch(b * ROWS_PER_BATCH, keys)).collect();
        for (name, assigner) in cases {
            for stage in [Stage::Complete, Stage::Local] {
                report(name, assigner, stage, keys, &batches);
            }
        }
    }
}

fn batch(from: u64, keys: u64) -> Batch {
    let key: ArrayRef = Arc::new(UInt64Array::from_iter_values((from..from + ROWS_PER_BATCH).map(|i| hash_u64(i) % keys)));
    let time = |i: u64| (i / ROWS_PER_MS + hash_u64(!i) % DISORDER_MS) as i64;
    let times: Vec<i64> = (from..from + ROWS_PER_BATCH).map(time).collect();
    Batch::new(ROWS_PER_BATCH as usize, vec![key], Some(times.into()))
}

fn report(name: &str, assigner: Assigner, stage: Stage, keys: u64, batches: &[Batch]) {
    let mut best = f64::MAX;
    let mut rows_out = 0;
    for _ in 0..3 {
        let (mut window, mut context) = operator(assigner, stage);
        let mut out = vec![];
        rows_out = 0;
        let start = Instant::now();
        for (i, batch) in batches.iter().enumerate() {
            run(window.on_batch(0, batch, &mut context, &mut out)).expect("counting succeeds");
            context.watermark = Watermark((i as u64 * ROWS_PER_BATCH / ROWS_PER_MS) as i64 - 1);
            while run(window.on_watermark(&mut context, &mut out)).expect("counting succeeds") == Progress::More {}
            rows_out += out.drain(..).map(|(_, batch)| batch.rows()).sum::<usize>();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (BATCHES * ROWS_PER_BATCH) as f64);
    }
    println!("{name:>20}, {stage:?}, {keys:>7} keys: {best:6.1} ns a row, {rows_out} rows out");
}
