//! The picture as one SVG file that needs nothing else: zones as rounded boxes, nodes as circles on a ring in them,
//! links as lines. Colours follow the reader's light or dark preference; every text is escaped; the same picture is the
//! same file, byte for byte.

use std::{collections::BTreeMap, f64::consts::TAU, fmt::Write as _};

use metacluster_agent::view::NodeState;
use metacluster_types::NodeName;

use crate::picture::{Member, Picture, ZoneGroup, count};

/// The radius of a node's circle.
const NODE: f64 = 9.0;
/// The least room along a ring for one node.
const NODE_ROOM: f64 = 30.0;
/// The least radius of a ring with more than one node.
const RING_MIN: f64 = 46.0;
/// About the width of one character of a label.
const CHARACTER: f64 = 6.6;
/// Labels are cut to this many characters; the whole name shows when pointed at.
const LABEL_MAX: usize = 28;
/// What is left free around a ring, beside the labels.
const PADDING: f64 = 26.0;
/// The height of the line with a zone's name.
const TITLE: f64 = 30.0;
/// The height of the head of the whole picture.
const HEAD: f64 = 62.0;
/// Up to so many zones stand on a circle; more stand on a grid.
const CIRCLE_ZONES_MAX: usize = 8;
/// Up to so many nodes have labels that lie flat; more have labels along the spokes of the ring.
const FLAT_LABELS_MAX: usize = 6;
/// Each zone's ring is turned by this much more than the one before, so that no link runs through a third node where
/// the zones stand in a row.
const TILT: f64 = 0.23;
/// Missing links are drawn up to this many, so that a forming cluster is still a picture.
const UNLINKED_DRAWN_MAX: usize = 500;
/// What does not depend on the colours.
const SHAPE: &str = "text{font:12px ui-sans-serif,system-ui,sans-serif}.title{font-size:18px;font-weight:600}\
.name{font-weight:600}.label{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}\
.unlinked{stroke-dasharray:4 4;stroke-opacity:.7}circle{stroke-width:2}";

/// The colours of one scheme. Written out as plain rules, since not every viewer of SVG knows variables.
struct Colours {
    ground: &'static str,
    ink: &'static str,
    faint: &'static str,
    zone: &'static str,
    edge: &'static str,
    link: &'static str,
    up: &'static str,
    down: &'static str,
    part: &'static str,
}

const LIGHT: Colours = Colours {
    ground: "#fff",
    ink: "#1f2328",
    faint: "#656d76",
    zone: "#f6f8fa",
    edge: "#d0d7de",
    link: "#0969da",
    up: "#1a7f37",
    down: "#cf222e",
    part: "#9a6700",
};

const DARK: Colours = Colours {
    ground: "#0d1117",
    ink: "#e6edf3",
    faint: "#8d96a0",
    zone: "#161b22",
    edge: "#30363d",
    link: "#58a6ff",
    up: "#3fb950",
    down: "#f85149",
    part: "#d29922",
};

impl Colours {
    fn rules(&self) -> String {
        let Self { ground, ink, faint, zone, edge, link, up, down, part } = self;
        format!(
            "text{{fill:{ink}}}.ground{{fill:{ground}}}.note{{fill:{faint}}}.zone{{fill:{zone};stroke:{edge}}}\
             .label{{stroke:{zone}}}.link{{stroke:{link}}}.unlinked{{stroke:{part}}}circle{{stroke:{ground}}}\
             .up{{fill:{up}}}.part{{fill:{part}}}.down{{fill:{down}}}"
        )
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Point {
    x: f64,
    y: f64,
}

/// How large each zone is drawn: all alike.
#[derive(Clone, Copy, Debug)]
struct Shape {
    ring: f64,
    half_width: f64,
    half_height: f64,
}

/// Draws the picture.
pub(crate) fn draw(picture: &Picture) -> String {
    let shape = shape(picture);
    let centres = centres(picture.zones.len(), shape);
    let margin = 24.0;
    let reach_x = centres.iter().map(|centre| centre.x.abs()).fold(0.0, f64::max) + shape.half_width + margin;
    let reach_y = centres.iter().map(|centre| centre.y.abs()).fold(0.0, f64::max) + shape.half_height + margin;
    let reach_x = reach_x.max(260.0);
    let (width, height) = (reach_x * 2.0, reach_y * 2.0 + HEAD);
    let middle = Point { x: reach_x, y: reach_y + HEAD };
    let centres: Vec<Point> =
        centres.into_iter().map(|centre| Point { x: centre.x + middle.x, y: centre.y + middle.y }).collect();

    let (up, all) = picture.counts();
    let mut svg = Svg::default();
    svg.line(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">"
    ));
    let title = if picture.cluster.is_empty() { "cluster" } else { &picture.cluster };
    svg.line(&format!("<title>{}</title>", escape(title)));
    let (light, dark) = (LIGHT.rules(), DARK.rules());
    svg.line(&format!("<style>{SHAPE}{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"));
    svg.line("<rect class=\"ground\" width=\"100%\" height=\"100%\"/>");
    svg.line(&format!("<text class=\"title\" x=\"24\" y=\"32\">{}</text>", escape(title)));
    let unlinked = match picture.unlinked.len() {
        0 => String::new(),
        pairs => format!(" · {} not linked", count(pairs, "pair")),
    };
    svg.line(&format!(
        "<text class=\"note\" x=\"24\" y=\"52\">{up} of {} up · {} · {}{unlinked}</text>",
        count(all, "node"),
        count(picture.zones.len(), "zone"),
        count(picture.links.len(), "link"),
    ));

    for (zone, centre) in picture.zones.iter().zip(&centres) {
        svg.zone(zone, *centre, shape);
    }
    let mut places: BTreeMap<&NodeName, Point> = BTreeMap::new();
    let spots: Vec<Vec<(Point, f64)>> = picture
        .zones
        .iter()
        .zip(&centres)
        .enumerate()
        .map(|(turn, (zone, centre))| {
            let tilt = TILT * (turn + 1) as f64;
            (0..zone.nodes.len()).map(|index| spot(index, zone.nodes.len(), tilt, shape, *centre)).collect()
        })
        .collect();
    for (zone, spots) in picture.zones.iter().zip(&spots) {
        places.extend(zone.nodes.iter().zip(spots).map(|(node, (place, _))| (&node.name, *place)));
    }
    // The more lines, the lighter each.
    let opacity = (60.0 / (picture.links.len().max(1) as f64)).clamp(0.06, 0.55);
    svg.line(&format!("<g class=\"link\" stroke-width=\"1.5\" stroke-opacity=\"{opacity:.2}\">"));
    svg.links(picture.links.iter(), &places);
    svg.line("</g>");
    svg.line("<g class=\"unlinked\" stroke-width=\"1.5\">");
    svg.links(picture.unlinked.iter().take(UNLINKED_DRAWN_MAX), &places);
    svg.line("</g>");
    for (zone, spots) in picture.zones.iter().zip(&spots) {
        for (node, (place, angle)) in zone.nodes.iter().zip(spots) {
            svg.node(node, *place, *angle, zone.nodes.len(), up);
        }
    }
    svg.line("</svg>");
    svg.text
}

/// A size in which the fullest zone and the longest label fit.
fn shape(picture: &Picture) -> Shape {
    let most = picture.zones.iter().map(|zone| zone.nodes.len()).max().unwrap_or(0);
    let label = picture.members().map(|node| label(&node.name).chars().count()).max().unwrap_or(0);
    let label = label as f64 * CHARACTER;
    if most <= 1 {
        let half_width = (label / 2.0).max(NODE) + PADDING;
        return Shape { ring: 0.0, half_width, half_height: NODE + PADDING + TITLE / 2.0 + 8.0 };
    }
    let ring = (most as f64 * NODE_ROOM / TAU).max(RING_MIN);
    let flat = most <= FLAT_LABELS_MAX;
    let aside = NODE + PADDING + label;
    let above = if flat { NODE + PADDING + 14.0 } else { aside };
    Shape { ring, half_width: ring + aside, half_height: ring + above + TITLE / 2.0 }
}

/// Where the zones stand, around the origin.
fn centres(zones: usize, shape: Shape) -> Vec<Point> {
    let gap = 28.0;
    let (step_x, step_y) = (shape.half_width * 2.0 + gap, shape.half_height * 2.0 + gap);
    if zones <= 2 {
        let first = -(zones.saturating_sub(1) as f64) / 2.0;
        return (0..zones).map(|index| Point { x: (first + index as f64) * step_x, y: 0.0 }).collect();
    }
    if zones <= CIRCLE_ZONES_MAX {
        // Two boxes of unit size are apart when their centres are the diagonal of one apart.
        let radius = std::f64::consts::SQRT_2 / (2.0 * (TAU / 2.0 / zones as f64).sin());
        let angle = |index: usize| TAU * (index as f64 / zones as f64) - TAU / 4.0;
        let unit: Vec<Point> =
            (0..zones).map(|index| Point { x: radius * angle(index).cos(), y: radius * angle(index).sin() }).collect();
        // Three zones leave the middle of the circle below the middle of the picture.
        let lowest = unit.iter().map(|point| point.y).fold(f64::MIN, f64::max);
        let highest = unit.iter().map(|point| point.y).fold(f64::MAX, f64::min);
        let shift = f64::midpoint(lowest, highest);
        return unit.into_iter().map(|at| Point { x: at.x * step_x, y: (at.y - shift) * step_y }).collect();
    }
    let columns = (1..).find(|columns| columns * columns >= zones).unwrap_or(1);
    let rows = zones.div_ceil(columns);
    let offset = |count: usize, index: usize| index as f64 - (count - 1) as f64 / 2.0;
    (0..zones)
        .map(|index| Point { x: offset(columns, index % columns) * step_x, y: offset(rows, index / columns) * step_y })
        .collect()
}

/// Where a node stands in its zone, and in which direction from the middle of the ring.
fn spot(index: usize, nodes: usize, tilt: f64, shape: Shape, centre: Point) -> (Point, f64) {
    // The ring is centred in what the title leaves free.
    let middle = Point { x: centre.x, y: centre.y + TITLE / 2.0 };
    if nodes <= 1 {
        return (Point { y: middle.y - 8.0, ..middle }, TAU / 4.0);
    }
    // Two nodes stand side by side.
    let start = if nodes == 2 { TAU / 2.0 } else { -TAU / 4.0 };
    let angle = start + tilt + TAU * index as f64 / nodes as f64;
    (Point { x: middle.x + shape.ring * angle.cos(), y: middle.y + shape.ring * angle.sin() }, angle)
}

fn label(name: &NodeName) -> String {
    let name = name.as_str();
    if name.chars().count() <= LABEL_MAX {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(LABEL_MAX - 1).collect();
    short.push('…');
    short
}

/// The text of the file as it grows.
#[derive(Default)]
struct Svg {
    text: String,
}

impl Svg {
    fn line(&mut self, content: &str) {
        writeln!(self.text, "{content}").expect("a text takes all that is written to it");
    }

    fn zone(&mut self, zone: &ZoneGroup, centre: Point, shape: Shape) {
        let (x, y) = (centre.x - shape.half_width, centre.y - shape.half_height);
        self.line(&format!(
            "<rect class=\"zone\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"12\"/>",
            shape.half_width * 2.0,
            shape.half_height * 2.0,
        ));
        self.line(&format!(
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 14.0,
            y + 22.0,
            escape(zone.title())
        ));
    }

    fn links<'a>(
        &mut self,
        links: impl Iterator<Item = &'a (NodeName, NodeName)>,
        places: &BTreeMap<&NodeName, Point>,
    ) {
        for (a, b) in links {
            if let (Some(from), Some(to)) = (places.get(a), places.get(b)) {
                self.line(&format!(
                    "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
                    from.x, from.y, to.x, to.y
                ));
            }
        }
    }

    fn node(&mut self, node: &Member, place: Point, angle: f64, in_zone: usize, up: usize) {
        let (class, says) = match node.state {
            NodeState::Down => ("down", "down".to_owned()),
            NodeState::Up if node.local && node.links + 1 < up => {
                ("part", format!("{} of {}", node.links, count(up - 1, "link")))
            }
            NodeState::Up => ("up", count(node.links, "link")),
        };
        let name = escape(&label(&node.name));
        let (sine, cosine) = (angle.sin(), angle.cos());
        let away = NODE + 6.0;
        let text = if in_zone > FLAT_LABELS_MAX {
            // Along the spoke, never upside down.
            let (turn, anchor, away) = if cosine < -1e-9 { (180.0, "end", -away) } else { (0.0, "start", away) };
            format!(
                "<text class=\"label\" transform=\"translate({:.1} {:.1}) rotate({:.1})\" x=\"{away:.1}\" y=\"4\" \
                 text-anchor=\"{anchor}\">{name}</text>",
                place.x,
                place.y,
                angle.to_degrees() + turn,
            )
        } else {
            let (x, y, anchor) = if cosine.abs() < 0.3 {
                (place.x, if sine < 0.0 { place.y - away } else { place.y + away + 9.0 }, "middle")
            } else if cosine < 0.0 {
                (place.x - away, place.y + 4.0, "end")
            } else {
                (place.x + away, place.y + 4.0, "start")
            };
            format!("<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{name}</text>")
        };
        self.line(&format!(
            "<g><title>{}: {says}</title><circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{NODE}\"/>{text}</g>",
            escape(node.name.as_str()),
            place.x,
            place.y,
        ));
    }
}

/// The text as it may stand in an element or an attribute. Control characters, which XML forbids, become spaces.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::tests::node;

    #[test]
    fn every_text_is_escaped() {
        assert_eq!(escape("<a href=\"x\">&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; ");
        let svg = draw(&Picture::of(&[node("<script>@h", "<b>", true, true, &[])]));
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("&lt;script&gt;@h") && svg.contains("&lt;b&gt;"), "{svg}");
    }

    #[test]
    fn each_node_link_and_zone_is_drawn_once() {
        let nodes = [
            node("a@h", "east", true, true, &["b@h"]),
            node("b@h", "west", true, true, &["a@h"]),
            node("c@h", "west", false, false, &[]),
        ];
        let svg = draw(&Picture::of(&nodes));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert_eq!(svg.matches("<line").count(), 1);
        assert_eq!(svg.matches("class=\"zone\"").count(), 2);
        assert_eq!(svg.matches("class=\"down\"").count(), 1);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    }

    #[test]
    fn zones_never_overlap() {
        for zones in 1..40 {
            let shape = Shape { ring: 50.0, half_width: 150.0, half_height: 90.0 };
            let centres = centres(zones, shape);
            assert_eq!(centres.len(), zones);
            for (index, a) in centres.iter().enumerate() {
                for b in &centres[index + 1..] {
                    let apart = (a.x - b.x).abs() >= 300.0 - 1e-6 || (a.y - b.y).abs() >= 180.0 - 1e-6;
                    assert!(apart, "{zones} zones: {a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn an_empty_cluster_is_still_a_picture() {
        let svg = draw(&Picture::of([]));
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
