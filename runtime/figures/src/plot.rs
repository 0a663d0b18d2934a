//! What is to be plotted of a table.

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
