//! Where things go in the memory map. Arithmetic only; `map` draws.

use crate::Block;
use crate::kind::{Kind, MEMORY, kind};

/// The most clusters. A map of more than that is no map; the closest ones are then drawn together.
pub(crate) const MOST_CLUSTERS: usize = 24;

/// Blocks that are closer together than this belong together, however small they are.
const NEAR: u64 = 64 << 10;

/// A share of the drawing's width below which a block cannot be seen, let alone pointed at.
const TOO_SMALL: f64 = 0.8;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// Exclusive. Not u64, so that a block may end where addresses do.
    pub(crate) end: u128,
}

impl Span {
    fn of(block: &Block) -> Self {
        Self { start: block.gpa, end: u128::from(block.gpa) + u128::from(block.len) }
    }

    pub(crate) fn len(self) -> u64 {
        u64::try_from(self.end - u128::from(self.start)).unwrap_or(u64::MAX)
    }

    fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn touches(self, other: Self) -> bool {
        u128::from(self.start) < other.end && u128::from(other.start) < self.end
    }

    fn join(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Where an address is in this range, in percent of its length.
    pub(crate) fn percent(self, address: u128) -> f64 {
        let start = u128::from(self.start);
        let length = (self.end - start).max(1);
        (address.clamp(start, self.end.max(start)) - start) as f64 * 100.0 / length as f64
    }
}

/// A block in its place.
pub(crate) struct Placed<'a> {
    pub(crate) block: &'a Block,
    pub(crate) kind: &'static Kind,
    /// Its number in address order, over the whole map.
    pub(crate) number: usize,
    /// Left edge and width in percent, truly to scale.
    pub(crate) left: f64,
    pub(crate) width: f64,
}

impl Placed<'_> {
    /// Whether it is drawn as a flag because its true width cannot be seen.
    pub(crate) fn too_small(&self) -> bool {
        self.width < TOO_SMALL
    }
}

/// Blocks that lie close together, drawn to one scale.
pub(crate) struct Cluster<'a> {
    pub(crate) span: Span,
    pub(crate) blocks: Vec<Placed<'a>>,
    /// Memory that reaches beyond the cluster: left edges and widths. Shown in full in the overview.
    pub(crate) behind: Vec<(f64, f64)>,
}

/// The whole map.
pub(crate) struct Layout<'a> {
    /// Lowest to highest block.
    pub(crate) span: Span,
    pub(crate) clusters: Vec<Cluster<'a>>,
    /// Memory that lies in no single cluster, to the overview's scale.
    pub(crate) overview: Vec<Placed<'a>>,
}

impl<'a> Layout<'a> {
    /// Nothing if there are no blocks.
    pub(crate) fn new(memory: &'a [Block]) -> Option<Self> {
        let mut blocks: Vec<_> = memory.iter().collect();
        // A stable sort: blocks that are equal in this stay in the caller's order.
        blocks.sort_by_key(|block| (block.gpa, std::cmp::Reverse(block.len)));
        let span = blocks.iter().map(|block| Span::of(block)).reduce(Span::join)?;
        let loaded = blocks.iter().filter(|block| kind(&block.page_type) != MEMORY).map(|block| Span::of(block));
        let mut clusters: Vec<_> =
            spans(loaded).into_iter().map(|span| Cluster { span, blocks: Vec::new(), behind: Vec::new() }).collect();
        let mut overview = Vec::new();
        for (number, block) in blocks.into_iter().enumerate() {
            let (kind, own) = (kind(&block.page_type), Span::of(block));
            let place = |span: Span| {
                let left = span.percent(own.start.into());
                Placed { block, kind, number, left, width: span.percent(own.end) - left }
            };
            // Clusters are in address order and apart, so the last one that starts at or below holds the block if any does.
            let after = clusters.partition_point(|cluster| cluster.span.start <= own.start);
            match after.checked_sub(1).map(|at| &mut clusters[at]) {
                Some(cluster) if cluster.span.contains(own) => cluster.blocks.push(place(cluster.span)),
                _ => {
                    for cluster in clusters.iter_mut().filter(|cluster| cluster.span.touches(own)) {
                        let left = cluster.span.percent(own.start.into());
                        cluster.behind.push((left, cluster.span.percent(own.end) - left));
                    }
                    overview.push(place(span));
                }
            }
        }
        Some(Self { span, clusters, overview })
    }
}

/// Which ranges to draw to one scale: what is nearer to each other than it is long.
fn spans(blocks: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if u128::from(block.start) <= run.end => *run = run.join(block),
            _ => runs.push(block),
        }
    }
    let mut spans: Vec<Span> = Vec::new();
    for run in runs {
        match spans.last_mut() {
            Some(span)
                if u128::from(run.start) - span.end
                    <= u128::from(NEAR).max(u128::from(span.len()) + u128::from(run.len())) =>
            {
                *span = span.join(run);
            }
            _ => spans.push(run),
        }
    }
    if spans.len() <= MOST_CLUSTERS {
        return spans;
    }
    let gap = |pair: &[Span]| u128::from(pair[1].start) - pair[0].end;
    let mut gaps: Vec<_> = spans.windows(2).enumerate().map(|(at, pair)| (gap(pair), at + 1)).collect();
    gaps.sort_by_key(|&(gap, at)| (std::cmp::Reverse(gap), at));
    let mut cuts: Vec<_> = gaps[..MOST_CLUSTERS - 1].iter().map(|&(_, at)| at).collect();
    cuts.extend([0, spans.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| spans[cut[0]].join(spans[cut[1] - 1])).collect()
}

/// Moves points on a line of 100 apart until each has its distance from the next: to the right, and back to the left where
/// the line ends. The points are in order, and the line has room for all of them at that distance.
pub(crate) fn spread(points: &[f64], distance: f64) -> Vec<f64> {
    let mut spread: Vec<f64> = Vec::with_capacity(points.len());
    for &point in points {
        spread.push(spread.last().map_or(point.max(distance / 2.0), |&last| point.max(last + distance)));
    }
    let mut limit = 100.0 - distance / 2.0;
    for point in spread.iter_mut().rev() {
        *point = point.min(limit);
        limit = *point - distance;
    }
    spread
}

/// The distance of the tick marks for a range: a power of two that gives four to eight of them.
pub(crate) fn tick(span: Span) -> u64 {
    (1 << (span.len().max(8).ilog2() - 2)).max(4096)
}
