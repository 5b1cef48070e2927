//! Which chains share a task, and what lies between tasks.

use weir_types::graph::{Assigner, Chain, Graph, Head, Partitioning, TimeDomain};

use super::columns::Needed;
use super::logical::{From, Kind, Logical, NodeInput};
use super::splits::kept_together;
use crate::job::{ChainNode, Edge, Feed, JobPlan, Node, NodeKind, Origin, Root, Stage, Vertex, keeps_state};
use crate::recovery::CheckpointMode;
use crate::spec::JobSpec;

/// Where a logical node has got to.
#[derive(Clone, Copy)]
struct Place {
    vertex: usize,
    node: usize,
}

struct Builder<'a> {
    spec: &'a JobSpec,
    vertices: Vec<Vertex>,
    edges: Vec<Edge>,
    /// of each source
    source_vertices: Vec<usize>,
    /// of each logical node
    places: Vec<Place>,
}

/// Builds the plan.
pub fn build(spec: &JobSpec, graphs: &[Graph], logical: Logical, needed: Needed) -> JobPlan {
    let mut builder = Builder { spec, vertices: vec![], edges: vec![], source_vertices: vec![], places: vec![] };
    let kept_together = kept_together(&logical);
    let mut sources = logical.sources;
    for (index, source) in sources.iter_mut().enumerate() {
        for (stream, needed) in source.streams.iter_mut().zip(&needed.streams[index]) {
            stream.needed.clone_from(needed);
        }
        builder.source_vertices.push(builder.vertices.len());
        let name = source.name.clone();
        builder.vertices.push(Vertex { name, parallelism: spec.parallelism, root: Root::Source(index), nodes: vec![] });
    }
    for ((node, needed), kept_together) in logical.nodes.into_iter().zip(needed.nodes).zip(kept_together) {
        let chains = spec.chaining && !builder.may_be_alone(&node.kind);
        builder.place(node.kind, &node.inputs, needed, chains || kept_together);
    }
    for vertex in &mut builder.vertices {
        vertex.name = vertex_name(vertex, &sources, &logical.sinks);
    }
    carry_places(&builder.vertices, &mut builder.edges);
    JobPlan {
        name: spec.name.clone().unwrap_or_else(|| graphs.first().map_or_else(|| "job".into(), |g| g.name.clone())),
        spec: spec.clone(),
        components: spec.component_specs().into_iter().map(|(name, _)| name).collect(),
        sources,
        sinks: logical.sinks,
        vertices: builder.vertices,
        edges: builder.edges,
    }
}

/// Has rows carry where they come from over edges behind which somebody makes dead letters of them, if that is known before.
fn carry_places(vertices: &[Vertex], edges: &mut [Edge]) {
    for vertex in vertices {
        let mut known = vec![];
        for node in &vertex.nodes {
            let mut feeds = node.feeds.iter().map(|feed| match (feed.from, &vertex.root) {
                (Origin::Stream(_), _) => true,
                (Origin::Edge(place), Root::Gate(gate)) => edges[gate[place]].carries_places,
                (Origin::Edge(_), Root::Source(_)) => false,
                (Origin::Node { node, .. }, _) => known[node],
            });
            known.push(match &node.kind {
                // Rows that an operator with state makes come from no event alone.
                NodeKind::Chain(chain) => !keeps_state(chain.chain.head) && feeds.any(|known| known),
                NodeKind::Sink(_) => false,
                NodeKind::Exchange(edge) => {
                    edges[*edge].carries_places = feeds.any(|known| known);
                    false
                }
            });
        }
    }
    for (index, vertex) in vertices.iter().enumerate().rev() {
        let wants = vertex.nodes.iter().any(|node| match &node.kind {
            NodeKind::Chain(chain) => chain.dead_letters.is_some(),
            NodeKind::Sink(_) => false,
            NodeKind::Exchange(edge) => edges[*edge].carries_places,
        });
        edges.iter_mut().filter(|edge| edge.to == index).for_each(|edge| edge.carries_places &= wants);
    }
}

/// The ids of what a vertex does, for people.
fn vertex_name(vertex: &Vertex, sources: &[crate::job::SourcePlan], sinks: &[crate::job::SinkPlan]) -> String {
    let root = match vertex.root {
        Root::Source(source) => Some(sources[source].name.clone()),
        Root::Gate(_) => None,
    };
    let nodes = vertex.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Chain(chain) => Some(chain.name()),
        NodeKind::Sink(sink) => Some(sinks[*sink].name.clone()),
        NodeKind::Exchange(_) => None,
    });
    root.into_iter().chain(nodes).collect::<Vec<_>>().join(" → ")
}

impl Builder<'_> {
    /// Puts a node into a vertex (one with others in it, if it `chains`), with exchanges from where its rows come.
    fn place(&mut self, kind: Kind, inputs: &[NodeInput], needed: Vec<Vec<bool>>, chains: bool) {
        let parallelism = self.parallelism(&kind, inputs);
        let home = if chains { self.shared_vertex(inputs, parallelism) } else { None };
        let stage = match &kind {
            // Partial accumulators cannot become dead letters.
            Kind::Chain { chain, dead_letters: None, .. }
                if home.is_none() && self.spec.preaggregation && can_preaggregate(chain) =>
            {
                Stage::Merging
            }
            _ => Stage::Complete,
        };
        let vertex = home.unwrap_or_else(|| {
            self.vertices.push(Vertex { name: String::new(), parallelism, root: Root::Gate(vec![]), nodes: vec![] });
            self.vertices.len() - 1
        });
        let mut feeds = vec![];
        for (port, input) in inputs.iter().enumerate() {
            for &from in &input.from {
                match (home, stage, &kind) {
                    (Some(_), ..) => feeds.push(Feed { from: self.origin(from), port }),
                    (None, Stage::Merging, Kind::Chain { component, index, chain, on_error, .. }) => {
                        let local = ChainNode {
                            component: *component,
                            index: *index,
                            chain: (**chain).clone(),
                            inputs: vec![input.schema.clone()],
                            stage: Stage::Local,
                            on_error: *on_error,
                            dead_letters: None,
                        };
                        feeds.extend(self.preaggregate(from, local, vertex, input));
                    }
                    (None, ..) => {
                        let (sender, columns) = (self.vertex_of(from), Some(input.schema.fields().len()));
                        let edge =
                            self.exchange(sender, self.origin(from), vertex, input.partitioning, input.key.clone(), columns);
                        feeds.push(Feed { from: Origin::Edge(edge), port });
                    }
                }
            }
        }
        let kind = match kind {
            Kind::Sink(sink) => NodeKind::Sink(sink),
            Kind::Chain { component, index, chain, on_error, dead_letters } => {
                let inputs = inputs.iter().map(|i| i.schema.clone()).collect();
                NodeKind::Chain(Box::new(ChainNode { component, index, chain: *chain, inputs, stage, on_error, dead_letters }))
            }
        };
        self.vertices[vertex].nodes.push(Node { kind, feeds, needed });
        self.places.push(Place { vertex, node: self.vertices[vertex].nodes.len() - 1 });
    }

    fn vertex_of(&self, from: From) -> usize {
        match from {
            From::Stream { source, .. } => self.source_vertices[source],
            From::Node { node, .. } => self.places[node].vertex,
        }
    }

    /// The same origin, inside its vertex.
    fn origin(&self, from: From) -> Origin {
        match from {
            From::Stream { stream, .. } => Origin::Stream(stream),
            From::Node { node, port } => Origin::Node { node: self.places[node].node, port },
        }
    }

    fn parallelism(&self, kind: &Kind, inputs: &[NodeInput]) -> u16 {
        // Rows without a key are one key: they cannot be dealt out.
        if inputs.iter().any(|i| i.partitioning == Partitioning::Hash && i.key.is_empty()) {
            return 1;
        }
        match kind {
            Kind::Chain { chain, .. } if chain.parallelism.is_some() => {
                chain.parallelism.unwrap_or(1).min(self.spec.max_parallelism)
            }
            // What needs no exchange stays where its rows are.
            _ if inputs.iter().all(|i| i.partitioning == Partitioning::Forward) => {
                let from = inputs.iter().flat_map(|i| &i.from).map(|&f| self.vertices[self.vertex_of(f)].parallelism);
                from.max().unwrap_or(self.spec.parallelism)
            }
            Kind::Chain { .. } | Kind::Sink(_) => self.spec.parallelism,
        }
    }

    /// Whether the same exchanges are there at each parallelism: rows may be in flight in them when a checkpoint is made, and the job may go on with another one.
    fn keeps_exchanges(&self) -> bool {
        self.spec.checkpoint.mode == CheckpointMode::Unaligned
    }

    /// Whether a node is in the vertex of its rows at some parallelism of the job, at another one not, and has to be alone at each.
    fn may_be_alone(&self, kind: &Kind) -> bool {
        self.keeps_exchanges() && matches!(kind, Kind::Chain { chain, .. } if chain.parallelism.is_some())
    }

    /// The vertex that the node can be a part of: all its rows come from there, and none of them has to go to another subtask.
    fn shared_vertex(&self, inputs: &[NodeInput], parallelism: u16) -> Option<usize> {
        let mut vertices = inputs.iter().flat_map(|i| &i.from).map(|&f| self.vertex_of(f));
        let first = vertices.next()?;
        let together = vertices.all(|v| v == first) && self.vertices[first].parallelism == parallelism;
        let goes_to_itself = parallelism == 1 && !self.keeps_exchanges();
        let stays = |i: &NodeInput| i.partitioning == Partitioning::Forward || goes_to_itself;
        (together && inputs.iter().all(stays)).then_some(first)
    }

    /// Puts the local part of an aggregation where its rows come from, with edges to `vertex`; returns what these bring there.
    fn preaggregate(&mut self, from: From, local: ChainNode, vertex: usize, input: &NodeInput) -> Vec<Feed> {
        let sender = self.vertex_of(from);
        let feeds = vec![Feed { from: self.origin(from), port: 0 }];
        self.vertices[sender].nodes.push(Node { kind: NodeKind::Chain(Box::new(local)), feeds, needed: vec![] });
        let node = self.vertices[sender].nodes.len() - 1;
        let mut feed = |port, key, columns| {
            let edge = self.exchange(sender, Origin::Node { node, port }, vertex, input.partitioning, key, columns);
            Feed { from: Origin::Edge(edge), port }
        };
        let partials = feed(Stage::PARTIALS, (0..input.key.len()).collect(), None);
        // What has no key is one accumulator, however many rows there are: they never leave as they are.
        let rows = (!input.key.is_empty()).then(|| feed(Stage::ROWS, input.key.clone(), Some(input.schema.fields().len())));
        [partials].into_iter().chain(rows).collect()
    }

    /// Adds an edge to `vertex`, with the sending node; returns its place in the gate.
    fn exchange(
        &mut self,
        sender: usize,
        origin: Origin,
        vertex: usize,
        partitioning: Partitioning,
        key: Vec<usize>,
        columns: Option<usize>,
    ) -> usize {
        let same_parallelism = self.vertices[sender].parallelism == self.vertices[vertex].parallelism;
        let partitioning = match partitioning {
            Partitioning::Forward if !same_parallelism => Partitioning::Rebalance,
            Partitioning::Hash if self.vertices[vertex].parallelism == 1 => Partitioning::Rebalance,
            other => other,
        };
        let edge = self.edges.len();
        self.edges.push(Edge { from: sender, to: vertex, partitioning, key, columns, carries_places: false });
        let feeds = vec![Feed { from: origin, port: 0 }];
        self.vertices[sender].nodes.push(Node { kind: NodeKind::Exchange(edge), feeds, needed: vec![] });
        match &mut self.vertices[vertex].root {
            Root::Gate(edges) => {
                edges.push(edge);
                edges.len() - 1
            }
            Root::Source(_) => unreachable!("a source has no gate"),
        }
    }
}

/// Whether a window gives the same result when its rows are aggregated before the exchange, and is the faster for it: its accumulators can be merged, and
/// nothing but the watermark decides when it is emitted or what is late. A session would have to be handed on before the watermark reaches its start, since a
/// part of it elsewhere may end soon after: it would leave with nearly every batch.
fn can_preaggregate(chain: &Chain) -> bool {
    let Head::Window(window) = chain.head else { return false };
    window.mergeable
        && !matches!(window.assigner, Assigner::Session { .. })
        && window.domain == TimeDomain::Event
        && window.trigger.on_time
        && window.trigger.early_every_ms.is_none()
        && window.trigger.every_count.is_none()
        && window.allowed_lateness_ms == 0
        && window.late_port.is_none()
        && chain.inputs.len() == 1
        && chain.inputs[0].partitioning == Partitioning::Hash
}
