//! The way of a change as a picture: boxes and arrows with their places. Pure: names and words in, coordinates out.

/// Something that changes pass through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What it is called.
    pub(super) name: String,
    /// How it is, in a few words.
    pub(super) words: String,
    /// How good that is, for the style sheet.
    pub(super) level: &'static str,
    /// The same as a mark.
    pub(super) mark: &'static str,
    /// Where more is said about it.
    pub(super) href: String,
}

/// What is on an arrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// How much, or how late.
    pub(super) words: String,
    /// Something is moving there now.
    pub(super) moves: bool,
}

/// A box with its place.
pub(super) struct Node {
    /// What it shows.
    pub(super) part: Part,
    /// Its left edge.
    pub(super) x: usize,
    /// Its top edge.
    pub(super) y: usize,
}

/// An arrow with its place.
pub(super) struct Arrow {
    /// The line, as an SVG path.
    pub(super) path: String,
    /// What is on it.
    pub(super) flow: Flow,
    /// Where the words begin, or end, or have their middle.
    pub(super) x: usize,
    /// Their base line.
    pub(super) y: usize,
}

/// The picture.
pub(super) struct Topology {
    /// Its width, in its own units.
    pub(super) width: usize,
    /// Its height.
    pub(super) height: usize,
    /// The width of a box.
    pub(super) box_width: usize,
    /// The boxes.
    pub(super) nodes: Vec<Node>,
    /// The arrows.
    pub(super) arrows: Vec<Arrow>,
}

/// Half the width of the words on an arrow, as wide as they usually are ("105 ms") and a margin: what their middle keeps from a box.
const HALF_WORDS: usize = 36;

/// The height of a box.
pub(super) const BOX_HEIGHT: usize = 62;

/// From left to right, for wide screens: `chain` from the leader to the replicator, then the replicas in a column. There is
/// a flow behind each part of the chain but the last, and one for each replica.
pub(super) fn wide(chain: &[(Part, Flow)], replicas: &[(Part, Flow)]) -> Topology {
    const WIDTH: usize = 1000;
    const ROW: usize = BOX_HEIGHT + 26;
    let columns = chain.len() + 1;
    let box_width = if columns > 3 { 142 } else { 200 };
    let gap = (WIDTH - columns * box_width) / (columns - 1).max(1);
    let height = replicas.len().max(1) * ROW - 26 + 4;
    let middle = height / 2;
    let left = |column: usize| column * (box_width + gap);
    let mut nodes = Vec::new();
    let mut arrows = Vec::new();
    for (column, (part, flow)) in chain.iter().enumerate() {
        nodes.push(Node { part: part.clone(), x: left(column), y: middle - BOX_HEIGHT / 2 });
        if column + 1 < chain.len() {
            let (from, to) = (left(column) + box_width, left(column + 1));
            let path = format!("M{from} {middle}H{}", to - 8);
            arrows.push(Arrow { path, flow: flow.clone(), x: (from + to) / 2, y: middle - 12 });
        }
    }
    let from = left(chain.len() - 1) + box_width;
    let to = left(chain.len());
    let bend = (from + to) / 2;
    for (row, (part, flow)) in replicas.iter().enumerate() {
        let y = 2 + row * ROW;
        let centre = y + BOX_HEIGHT / 2;
        nodes.push(Node { part: part.clone(), x: to, y });
        let path = format!("M{from} {middle}C{bend} {middle} {bend} {centre} {} {centre}", to - 8);
        // Beside the end of its own arrow, where the arrows are apart, on the side that the arrow does not come from.
        let beside = if centre > middle { centre + 22 } else { centre - 12 };
        arrows.push(Arrow { path, flow: flow.clone(), x: to - HALF_WORDS, y: beside });
    }
    Topology { width: WIDTH, height, box_width, nodes, arrows }
}

/// From top to bottom, for narrow screens.
pub(super) fn tall(chain: &[(Part, Flow)], replicas: &[(Part, Flow)]) -> Topology {
    const WIDTH: usize = 340;
    const STEP: usize = BOX_HEIGHT + 40;
    const BRANCH: usize = BOX_HEIGHT + 34;
    const INDENT: usize = 44;
    let box_width = WIDTH - INDENT;
    let mut nodes = Vec::new();
    let mut arrows = Vec::new();
    for (row, (part, flow)) in chain.iter().enumerate() {
        let y = 2 + row * STEP;
        nodes.push(Node { part: part.clone(), x: 2, y });
        if row + 1 < chain.len() {
            let path = format!("M22 {}V{}", y + BOX_HEIGHT, y + STEP - 8);
            arrows.push(Arrow { path, flow: flow.clone(), x: 36, y: y + BOX_HEIGHT + 26 });
        }
    }
    let bottom = 2 + (chain.len() - 1) * STEP + BOX_HEIGHT;
    for (row, (part, flow)) in replicas.iter().enumerate() {
        let y = bottom + 34 + row * BRANCH;
        nodes.push(Node { part: part.clone(), x: INDENT, y });
        let path = format!("M22 {bottom}V{}H{}", y + BOX_HEIGHT / 2, INDENT - 8);
        arrows.push(Arrow { path, flow: flow.clone(), x: INDENT, y: y - 10 });
    }
    let height = bottom + 34 + replicas.len() * BRANCH - 34 + 4;
    Topology { width: WIDTH, height, box_width: box_width - 2, nodes, arrows }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(count: usize) -> Vec<(Part, Flow)> {
        let part = |n: usize| Part {
            name: n.to_string(),
            words: String::new(),
            level: "ok",
            mark: "✓",
            href: String::new(),
        };
        (0..count).map(|n| (part(n), Flow { words: String::new(), moves: false })).collect()
    }

    #[test]
    fn boxes_are_inside_the_picture_and_apart_whatever_their_number() {
        for (chain, replicas) in [(2, 1), (2, 3), (4, 3), (4, 6)] {
            for (picture, name) in [
                (wide(&parts(chain), &parts(replicas)), "wide"),
                (tall(&parts(chain), &parts(replicas)), "tall"),
            ] {
                assert_eq!(picture.nodes.len(), chain + replicas, "{name}");
                assert_eq!(picture.arrows.len(), chain - 1 + replicas, "{name}");
                let last = picture.nodes.iter().map(|node| node.x).max().unwrap_or_default();
                let is_clear = |arrow: &Arrow| arrow.x + HALF_WORDS <= last;
                assert!(name == "tall" || picture.arrows.iter().all(is_clear), "words behind a box");
                for (index, node) in picture.nodes.iter().enumerate() {
                    assert!(node.x + picture.box_width <= picture.width, "{name} {chain}+{replicas}");
                    assert!(node.y + BOX_HEIGHT <= picture.height, "{name} {chain}+{replicas}");
                    for other in &picture.nodes[..index] {
                        let apart = node.x.abs_diff(other.x) >= picture.box_width
                            || node.y.abs_diff(other.y) >= BOX_HEIGHT;
                        assert!(
                            apart,
                            "{name} {chain}+{replicas}: {} on {}",
                            node.part.name, other.part.name
                        );
                    }
                }
            }
        }
    }
}
