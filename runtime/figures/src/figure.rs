//! A plot of a table with everything decided: what the drawing modules take.

use crate::frame::{Fault, Frame, FrameColumn};
use crate::plot::{Across, Kind, Plot, Roles};
use crate::scale::Scale;
use crate::side::{Side, shown};
use crate::text::visible;

/// How many panels one metric has at most.
const PANELS: usize = 36;

/// How many lines, or colours of points, a panel has at most.
const SERIES: usize = 64;

/// How many points a scatter plot has at most.
const POINTS: usize = 20_000;

/// A plot that can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub(crate) title: String,
    pub(crate) kind: Kind,
    pub(crate) groups: Vec<Group>,
    /// What a reader has to know beside what is drawn.
    pub(crate) notes: Vec<String>,
}

impl Figure {
    /// What it shows, in words.
    pub fn title(&self) -> &str {
        &self.title
    }
}

/// The panels of one metric, on one scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// The metric; of a scatter plot, what goes up.
    pub metric: String,
    pub x: Side,
    /// The rows of the grids: of a heat map what goes down, else the series.
    pub rows: Side,
    /// Values as colours, or upwards.
    pub scale: Scale,
    /// Of a scatter plot, values to the right.
    pub across: Option<Scale>,
    pub panels: Vec<Panel>,
}

/// One drawing of several beside each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Panel {
    /// The entries of axes that have a panel each.
    pub title: String,
    pub grid: Grid,
}

/// Values by rows and columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grid {
    pub columns: usize,
    pub values: Vec<f64>,
    pub errors: Option<Vec<f64>>,
    /// Of a scatter plot, where each value stands, and its error.
    pub across: Option<(Vec<f64>, Option<Vec<f64>>)>,
}

impl Grid {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    pub(crate) fn value(&self, row: usize, column: usize) -> f64 {
        self.values.get(row * self.columns + column).copied().unwrap_or(f64::NAN)
    }

    /// The standard error, where there is one above zero.
    pub(crate) fn error(&self, row: usize, column: usize) -> Option<f64> {
        let e = *self.errors.as_ref()?.get(row * self.columns + column)?;
        (e.is_finite() && e > 0.0).then_some(e)
    }

    /// Blocks of neighbours as one value each: the one furthest from zero, so that nothing that stands out is lost.
    pub(crate) fn grouped(&self, rows: usize, columns: usize) -> Grid {
        let (height, width) = (self.rows().div_ceil(rows.max(1)), self.columns.div_ceil(columns.max(1)));
        let mut values = vec![f64::NAN; height * width];
        for (i, v) in self.values.iter().enumerate() {
            let at = &mut values[i / self.columns / rows * width + i % self.columns / columns];
            if at.is_nan() || v.abs() > at.abs() {
                *at = *v;
            }
        }
        Grid { columns: width, values, errors: None, across: None }
    }

    /// All values with their errors taken away and added.
    fn reach(&self) -> impl Iterator<Item = f64> + '_ {
        let columns = self.columns.max(1);
        self.values.iter().enumerate().flat_map(move |(i, v)| {
            let e = self.error(i / columns, i % columns).unwrap_or(0.0);
            [v - e, v + e]
        })
    }
}

impl Plot {
    /// The plot of a table, ready to be drawn.
    pub fn of(&self, frame: &Frame) -> Result<Figure, Fault> {
        frame.check()?;
        let roles = self.roles(frame)?;
        let title = self.title.clone().unwrap_or_else(|| frame.name.clone());
        let mut notes = Vec::new();
        let group = |m: &usize| match roles.kind {
            Kind::Scatter => points(self, frame, &roles, &frame.columns[*m], &mut notes),
            _ => grids(self, frame, &roles, &frame.columns[*m], &mut notes),
        };
        let groups = roles.metrics.iter().map(group).collect();
        Ok(Figure { title: visible(&title).replace('\n', " "), kind: roles.kind, groups, notes })
    }
}

/// The entries of an axis that are rows, no more than can be told apart; one without a name where there is no axis.
fn row_side(frame: &Frame, roles: &Roles, notes: &mut Vec<String>) -> Side {
    let Some(a) = roles.rows else { return Side::named("", vec![String::new()]) };
    let mut side = Side::of(&frame.axes[a]);
    if roles.kind != Kind::Heat && side.len() > SERIES {
        note(notes, format!("The first {SERIES} of {} entries of {} are shown.", side.len(), side.name));
        side.truncate(SERIES);
    }
    side
}

/// A heat map, lines or bars: panels of rows and columns.
fn grids(plot: &Plot, frame: &Frame, roles: &Roles, metric: &FrameColumn, notes: &mut Vec<String>) -> Group {
    let x = match roles.x {
        Across::Axis(a) => Some(a),
        _ => None,
    };
    let rows = row_side(frame, roles, notes);
    let x_side = x.map_or_else(|| Side::named("", vec![shown(&metric.name)]), |a| Side::of(&frame.axes[a]));
    let entries = Entries::of(frame, &roles.panels);
    if entries.count() > PANELS {
        note(notes, format!("The first {PANELS} of {} panels are shown.", entries.count()));
    }
    let step = |axis: Option<usize>| axis.map_or(0, |a| frame.stride(a));
    let panel = |p: usize| {
        let mut cells = Vec::with_capacity(rows.len() * x_side.len());
        for row in 0..rows.len() {
            let start = entries.offset(p) + row * step(roles.rows);
            cells.extend((0..x_side.len()).map(|column| start + column * step(x)));
        }
        let pick = |v: &Vec<f64>| cells.iter().map(|c| v[*c]).collect::<Vec<f64>>();
        let errors = metric.errors.as_ref().map(pick);
        let grid = Grid { columns: x_side.len(), values: pick(&metric.values), errors, across: None };
        Panel { title: entries.title(p), grid }
    };
    let panels: Vec<Panel> = (0..entries.count().min(PANELS)).map(panel).collect();
    let scale = match roles.kind {
        Kind::Heat => Scale::of_colors(panels.iter().flat_map(|p| &p.grid.values).copied(), plot.limits),
        _ => Scale::of_heights(panels.iter().flat_map(|p| p.grid.reach()), plot.limits, roles.kind == Kind::Bar),
    };
    Group { metric: shown(&metric.name), x: x_side, rows, scale, across: None, panels }
}

/// A scatter plot: every cell is a point, and the rows of a grid are the series.
fn points(plot: &Plot, frame: &Frame, roles: &Roles, metric: &FrameColumn, notes: &mut Vec<String>) -> Group {
    let rows = row_side(frame, roles, notes);
    let others: Vec<usize> = (0..frame.axes.len()).filter(|a| Some(*a) != roles.rows).collect();
    let entries = Entries::of(frame, &others);
    let step = entries.count().div_ceil((POINTS / rows.len().max(1)).max(1)).max(1);
    if step > 1 {
        note(notes, format!("One in {step} of {} points is shown.", frame.cells()));
    }
    let picked: Vec<usize> = (0..entries.count()).step_by(step).collect();
    let mut cells = Vec::new();
    for row in 0..rows.len() {
        let start = roles.rows.map_or(0, |a| row * frame.stride(a));
        cells.extend(picked.iter().map(|p| start + entries.offset(*p)));
    }
    let pick = |v: &Vec<f64>| cells.iter().map(|c| v[*c]).collect::<Vec<f64>>();
    let (name, right, right_errors) = match roles.x {
        Across::Metric(c) => {
            let c = &frame.columns[c];
            (c.name.as_str(), pick(&c.values), c.errors.as_ref().map(pick))
        }
        Across::Axis(a) => {
            let axis = &frame.axes[a];
            let place = |cell: &usize| {
                let i = cell / frame.stride(a) % axis.len().max(1);
                axis.numbers.as_ref().map_or(i as f64, |n| n[i])
            };
            (axis.name.as_str(), cells.iter().map(place).collect(), None)
        }
        Across::Nothing => ("", vec![0.0; cells.len()], None),
    };
    let grid = Grid {
        columns: picked.len(),
        values: pick(&metric.values),
        errors: metric.errors.as_ref().map(pick),
        across: Some((right, right_errors)),
    };
    let across = Scale::of_heights(grid.across.iter().flat_map(|(v, _)| v).copied(), None, false);
    Group {
        metric: shown(&metric.name),
        x: Side::named(&shown(name), picked.iter().map(|p| entries.title(*p)).collect()),
        rows,
        scale: Scale::of_heights(grid.reach(), plot.limits, false),
        across: Some(across),
        panels: vec![Panel { title: String::new(), grid }],
    }
}

impl Group {
    /// The values of all panels.
    pub(crate) fn values(&self) -> Vec<f64> {
        self.panels.iter().flat_map(|p| &p.grid.values).copied().collect()
    }

    /// At most so many rows and columns, as groups of neighbours where there are more; then a note says so.
    pub(crate) fn fitted(&self, rows: usize, columns: usize) -> (std::borrow::Cow<'_, Group>, Option<String>) {
        let (down, right) = (self.rows.len().div_ceil(rows.max(1)), self.x.len().div_ceil(columns.max(1)));
        if down <= 1 && right <= 1 {
            return (std::borrow::Cow::Borrowed(self), None);
        }
        let panel = |p: &Panel| Panel { title: p.title.clone(), grid: p.grid.grouped(down, right) };
        let group = Group {
            x: self.x.grouped(right),
            rows: self.rows.grouped(down),
            panels: self.panels.iter().map(panel).collect(),
            ..self.clone()
        };
        let many = |n: usize, side: &Side| (n > 1).then(|| format!("{n} entries of {}", side.name));
        let what: Vec<String> = [many(right, &self.x), many(down, &self.rows)].into_iter().flatten().collect();
        let text = format!("Each cell stands for {}: the value furthest from zero.", what.join(" and "));
        (std::borrow::Cow::Owned(group), Some(text))
    }
}

/// Adds a note that is not there yet.
pub(crate) fn note(notes: &mut Vec<String>, text: String) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}

/// All combinations of the entries of some axes, the last one fastest.
struct Entries<'a> {
    frame: &'a Frame,
    axes: Vec<(usize, Side)>,
}

impl<'a> Entries<'a> {
    fn of(frame: &'a Frame, axes: &[usize]) -> Self {
        Entries { frame, axes: axes.iter().map(|a| (*a, Side::of(&frame.axes[*a]))).collect() }
    }

    fn count(&self) -> usize {
        self.axes.iter().map(|(_, s)| s.len()).product()
    }

    /// The entry of each axis in the combination numbered so.
    fn split(&self, mut number: usize) -> Vec<usize> {
        let mut out: Vec<usize> = self
            .axes
            .iter()
            .rev()
            .map(|(_, side)| {
                let n = side.len().max(1);
                let i = number % n;
                number /= n;
                i
            })
            .collect();
        out.reverse();
        out
    }

    /// Where its first cell is in the table.
    fn offset(&self, number: usize) -> usize {
        self.split(number).iter().zip(&self.axes).map(|(i, (a, _))| i * self.frame.stride(*a)).sum()
    }

    fn title(&self, number: usize) -> String {
        let names: Vec<String> = self.split(number).iter().zip(&self.axes).map(|(i, (_, s))| s.entry(*i)).collect();
        names.join(", ")
    }
}
