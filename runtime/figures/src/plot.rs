//! What is to be plotted of a table.

use crate::frame::{Fault, Frame};
use serde::Serialize;

/// What a plot looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Heat,
    Line,
    Bar,
    Scatter,
}

/// A plot as it was asked for; whatever is left out follows from the table's shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plot {
    /// The table's name where there is none.
    pub title: Option<String>,
    /// Bars or a line for one axis (a line where it has numbers), a heat map for more.
    pub kind: Option<Kind>,
    /// Metrics by name; all of them where there are none. Each has panels and colours of its own.
    pub columns: Vec<String>,
    /// The axis that goes to the right: the last one. In a scatter plot it may be a metric.
    pub x: Option<String>,
    /// Of a heat map the axis that goes down: the one before the last. In a scatter plot it may be a metric.
    pub y: Option<String>,
    /// The axis with a line, group of bars or colour for each entry. Axes that are left have a panel for each entry.
    pub series: Option<String>,
    /// Where colours or the axis of values begin and end.
    pub limits: Option<(f64, f64)>,
}

impl Kind {
    /// The kind that a script calls so.
    pub fn parse(word: &str) -> Option<Kind> {
        Some(match word {
            "heat" => Kind::Heat,
            "line" => Kind::Line,
            "bar" => Kind::Bar,
            "scatter" => Kind::Scatter,
            _ => return None,
        })
    }

    /// What a script calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Heat => "heat",
            Kind::Line => "line",
            Kind::Bar => "bar",
            Kind::Scatter => "scatter",
        }
    }
}

/// Which axes of a table go where; numbers are their places in it.
#[derive(Debug)]
pub(crate) struct Roles {
    pub kind: Kind,
    pub x: Across,
    /// The metrics that are plotted; of a scatter plot one, which goes up.
    pub metrics: Vec<usize>,
    /// Of a heat map what goes down, else the series.
    pub rows: Option<usize>,
    pub panels: Vec<usize>,
}

/// What goes to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Across {
    Axis(usize),
    /// In a scatter plot.
    Metric(usize),
    /// The table has no axis.
    Nothing,
}

impl Plot {
    /// Whether this can be plotted of a table with these axes and metrics; the values are not looked at.
    pub fn check(&self, frame: &Frame) -> Result<(), Fault> {
        self.roles(frame).map(|_| ())
    }

    pub(crate) fn roles(&self, frame: &Frame) -> Result<Roles, Fault> {
        if let Some((lo, hi)) = self.limits
            && !(lo < hi && lo.abs() <= 1e300 && hi.abs() <= 1e300)
        {
            let message = format!("there is nothing between the limits {lo} and {hi}");
            return Err(Fault::new(message).help("give two numbers, the smaller one first"));
        }
        let kind = self.kind.unwrap_or_else(|| fitting(frame));
        self.refuse(kind, frame)?;
        let rows = if kind == Kind::Heat { &self.y } else { &self.series };
        let rows = rows.as_ref().map(|name| axis(frame, name)).transpose()?;
        let x = self.across(kind, frame, rows)?;
        if let (Across::Axis(a), Some(b)) = (x, rows)
            && a == b
        {
            let message = format!("the axis `{}` cannot go two ways in one plot", frame.axes[a].name);
            return Err(Fault::new(message).help("name another axis for one of them"));
        }
        let metrics = self.metrics(kind, frame, x)?;
        // What is left has rows first, then panels. In a scatter plot all cells of a series are its points.
        let mut left: Vec<usize> =
            (0..frame.axes.len()).filter(|a| x != Across::Axis(*a) && rows != Some(*a)).collect();
        let rows = if rows.is_none() && kind != Kind::Scatter { left.pop() } else { rows };
        Ok(Roles { kind, x, metrics, rows, panels: left })
    }

    /// Faults of words that a kind of plot has no use for.
    fn refuse(&self, kind: Kind, frame: &Frame) -> Result<(), Fault> {
        match (kind, &self.y, &self.series) {
            (Kind::Heat, _, Some(series)) => {
                Err(Fault::new(format!("a heat map has no series, so `{series}` has no place in it"))
                    .help("leave it out: axes that are left have a panel for each entry"))
            }
            (Kind::Line | Kind::Bar, Some(y), _) => {
                Err(Fault::new(format!("in a {} plot the metric goes up, so `{y}` cannot", kind.name()))
                    .help("choose the metric by its name, and an axis for the series"))
            }
            (Kind::Heat | Kind::Line, _, _) if frame.axes.is_empty() => {
                let message = format!("`{}` has no axis, so there is no {} plot of it", frame.name, kind.name());
                Err(Fault::new(message).help("plot it as bars, or print it"))
            }
            _ => Ok(()),
        }
    }

    fn across(&self, kind: Kind, frame: &Frame, rows: Option<usize>) -> Result<Across, Fault> {
        let metric = |name: &String| frame.columns.iter().position(|c| c.name == *name);
        match &self.x {
            Some(name) if kind == Kind::Scatter => match metric(name) {
                Some(m) => Ok(Across::Metric(m)),
                None => axis(frame, name).map(Across::Axis),
            },
            Some(name) => axis(frame, name).map(Across::Axis),
            None if kind == Kind::Scatter && frame.columns.len() > 1 => {
                let y = self.y.as_ref().or(self.columns.first()).and_then(metric);
                Ok(Across::Metric(usize::from(y == Some(0))))
            }
            None => {
                let last = (0..frame.axes.len()).rev().find(|a| Some(*a) != rows);
                Ok(last.map_or(Across::Nothing, Across::Axis))
            }
        }
    }

    fn metrics(&self, kind: Kind, frame: &Frame, x: Across) -> Result<Vec<usize>, Fault> {
        if frame.columns.is_empty() {
            let message = format!("`{}` has no metric that could be plotted", frame.name);
            return Err(Fault::new(message).help("measure something in it"));
        }
        let names = if kind == Kind::Scatter && self.y.is_some() { self.y.as_slice() } else { &self.columns[..] };
        let mut out = Vec::new();
        for name in names {
            let at = find(frame, name, frame.columns.iter().map(|c| c.name.as_str()), "metric")?;
            if !out.contains(&at) {
                out.push(at);
            }
        }
        match (kind, out.is_empty()) {
            (Kind::Scatter, true) => {
                let other = (0..frame.columns.len()).find(|c| x != Across::Metric(*c));
                out.push(other.unwrap_or(0));
            }
            (Kind::Scatter, false) => out.truncate(1),
            (_, true) => out = (0..frame.columns.len()).collect(),
            _ => {}
        }
        Ok(out)
    }
}

/// The kind of plot that fits a table's shape.
fn fitting(frame: &Frame) -> Kind {
    match frame.axes.as_slice() {
        [one] if one.numbers.is_some() && one.len() > 2 => Kind::Line,
        [] | [_] => Kind::Bar,
        _ => Kind::Heat,
    }
}

fn axis(frame: &Frame, name: &str) -> Result<usize, Fault> {
    find(frame, name, frame.axes.iter().map(|a| a.name.as_str()), "axis")
}

/// The place of a name, or a fault that says what there is.
pub(crate) fn find<'a>(
    frame: &Frame,
    name: &str,
    all: impl Iterator<Item = &'a str>,
    what: &str,
) -> Result<usize, Fault> {
    let all: Vec<&str> = all.collect();
    all.iter().position(|n| *n == name).ok_or_else(|| {
        let fault = Fault::new(format!("`{}` has no {what} `{name}`", frame.name));
        let names: Vec<String> = all.iter().map(|n| format!("`{n}`")).collect();
        if names.is_empty() { fault } else { fault.help(format!("it has {}", names.join(", "))) }
    })
}
