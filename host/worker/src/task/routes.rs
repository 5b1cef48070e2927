//! Who reads what, inside a task.

use weir_plan::job::{Node, Origin};

/// A node that reads from somewhere.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub node: usize,
    pub port: usize,
    /// which of the node's feeds
    pub feed: usize,
}

/// Who reads what.
#[derive(Default)]
pub(super) struct Routes {
    streams: Vec<Vec<Route>>,
    edges: Vec<Vec<Route>>,
    /// `[node][port]`
    nodes: Vec<Vec<Vec<Route>>>,
}

impl Routes {
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut routes = Self { nodes: vec![vec![]; nodes.len()], ..Self::default() };
        for (node, plan) in nodes.iter().enumerate() {
            for (feed, from) in plan.feeds.iter().enumerate() {
                let (list, index) = match from.from {
                    Origin::Stream(stream) => (&mut routes.streams, stream),
                    Origin::Edge(edge) => (&mut routes.edges, edge),
                    Origin::Node { node, port } => (&mut routes.nodes[node], port),
                };
                if list.len() <= index {
                    list.resize(index + 1, vec![]);
                }
                list[index].push(Route { node, port: from.port, feed });
            }
        }
        routes
    }

    /// Those who read from there.
    pub(super) fn of(&self, origin: Origin) -> &[Route] {
        let list = match origin {
            Origin::Stream(stream) => self.streams.get(stream),
            Origin::Edge(edge) => self.edges.get(edge),
            Origin::Node { node, port } => self.nodes[node].get(port),
        };
        list.map_or(&[], Vec::as_slice)
    }

    /// Those who read from any port of a node.
    pub(super) fn of_node(&self, node: usize) -> impl Iterator<Item = &Route> {
        self.nodes[node].iter().flatten()
    }

    /// How many streams of the source are read.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }
}
