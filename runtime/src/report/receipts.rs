//! What every edit did.

use super::{Align, Table, number, percent};
use crate::engine::Did;
use serde::Serialize;
use steer_compiler::plan::Stat;

/// One edit at one site in one run or several: on how many rows it fired, and how far it moved them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    pub edit: String,
    /// The values of its parameters, in their order, where runs give it several and each has a receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Vec<f32>>,
    pub site: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// Rows that the edit selects.
    pub rows_selected: u64,
    /// Those of them that were computed: rows that nothing reads are not.
    pub rows_computed: u64,
    pub rows_changed: u64,
    /// What `changed` counts: `head`, `expert`, or `element`.
    pub unit: String,
    /// Heads, experts or elements that changed, over all rows.
    pub changed: u64,
    /// |dh| / |h| over the computed rows with a value other than 0 before.
    pub mean_move: f64,
    pub max_move: f64,
    /// Rows that were 0 before the edit and are not after it: their move is no share of anything.
    pub rows_from_zero: u64,
    /// Of a route: what it did to the choice of experts, against the same rows without it. Its moves are those of gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing: Option<Routing>,
}

/// What a route did to choices of experts, over all rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Routing {
    /// Experts that have a gate without the route.
    pub chosen: u64,
    /// Those that have one only with it, and those that have none with it.
    pub entered: u64,
    pub left: u64,
    /// Rows to which no expert is left.
    pub rows_without: u64,
    /// The gates that it gave or took, of a row the larger of both, as a share of all gates without it.
    pub mass_moved: f64,
}

/// What an edit did in one run or several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    computed: u64,
    rows_changed: u64,
    changed: u64,
    /// Of |dh| / |h|, and over how many rows.
    moves: f64,
    moved: u64,
    max_move: f64,
    from_zero: u64,
    /// Of a route.
    mass: f64,
    mass_moved: f64,
    chosen: u64,
    entered: u64,
    left: u64,
    /// Rows to which no expert is left.
    emptied: u64,
}

/// A route that moves a smaller share of a row's gates has changed how they are rounded, and nothing else.
const ROUNDING: f64 = 1e-6;

impl Sums {
    /// Adds a row. The sum depends on the order of rows.
    pub fn add(&mut self, did: &Did) {
        let of = |stat: Stat| did[stat as usize];
        let (mut changed, before, mut moved) =
            (of(Stat::Changed), f64::from(of(Stat::Before)), f64::from(of(Stat::Moved)));
        let (chosen, entered, left) = (of(Stat::Chosen), of(Stat::Entered), of(Stat::Left));
        if chosen > 0.0 && entered + left == 0.0 && moved <= ROUNDING * before {
            (changed, moved) = (0.0, 0.0);
        }
        self.emptied += u64::from(chosen > 0.0 && chosen + entered == left);
        self.computed += 1;
        self.rows_changed += u64::from(changed > 0.0);
        self.changed += changed as u64;
        self.mass += before;
        self.mass_moved += moved;
        self.chosen += chosen as u64;
        self.entered += entered as u64;
        self.left += left as u64;
        if before > 0.0 || before.is_nan() || moved.is_nan() {
            let moved = (moved / before).sqrt();
            self.moves += moved;
            self.moved += 1;
            self.max_move = larger(self.max_move, moved);
        } else {
            self.from_zero += u64::from(moved > 0.0);
        }
    }

    /// Both together.
    pub fn and(mut self, other: &Sums) -> Sums {
        self.computed += other.computed;
        self.rows_changed += other.rows_changed;
        self.changed += other.changed;
        self.moves += other.moves;
        self.moved += other.moved;
        self.max_move = larger(self.max_move, other.max_move);
        self.from_zero += other.from_zero;
        self.mass += other.mass;
        self.mass_moved += other.mass_moved;
        self.chosen += other.chosen;
        self.entered += other.entered;
        self.left += other.left;
        self.emptied += other.emptied;
        self
    }
}

/// The larger of two, where what is not a number is larger than any.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

impl Receipt {
    pub fn of(edit: &str, site: &str, layer: Option<u32>, unit: &str, selected: u64, sums: &Sums) -> Self {
        Receipt {
            edit: edit.into(),
            setting: None,
            site: site.into(),
            layer,
            rows_selected: selected,
            rows_computed: sums.computed,
            rows_changed: sums.rows_changed,
            unit: unit.into(),
            changed: sums.changed,
            mean_move: sums.moves / sums.moved.max(1) as f64,
            max_move: sums.max_move,
            rows_from_zero: sums.from_zero,
            routing: None,
        }
    }

    /// How tables call the edit: as the script would use it.
    pub fn label(&self) -> String {
        let values = self.setting.iter().flatten().map(f32::to_string).collect::<Vec<_>>().join(", ");
        if values.is_empty() { self.edit.clone() } else { format!("{}({values})", self.edit) }
    }

    /// Of a route in one mixture of experts.
    pub fn of_route(edit: &str, mixture: &str, layer: Option<u32>, selected: u64, sums: &Sums) -> Self {
        let share = if sums.mass > 0.0 { sums.mass_moved / sums.mass } else { 0.0 };
        let routing = Routing {
            chosen: sums.chosen,
            entered: sums.entered,
            left: sums.left,
            rows_without: sums.emptied,
            mass_moved: share,
        };
        let receipt = Receipt::of(edit, mixture, layer, "expert", selected, sums);
        // Gates are not squared.
        Receipt { mean_move: share, max_move: sums.max_move.powi(2), routing: Some(routing), ..receipt }
    }
}

/// Receipts as tables, one line each: hooks and patches, then routes.
pub fn receipts_table(receipts: &[Receipt]) -> String {
    let columns = super::width::table();
    tables(receipts).iter().map(|t| t.within(columns)).collect::<Vec<_>>().join("\n")
}

/// The same before it is text.
pub(super) fn tables(receipts: &[Receipt]) -> Vec<Table> {
    let (routes, edits): (Vec<_>, Vec<_>) = receipts.iter().partition(|r| r.routing.is_some());
    let mut out = Vec::new();
    if !edits.is_empty() {
        out.push(table(&edits));
    }
    if !routes.is_empty() {
        out.push(routes_table(&routes));
    }
    out
}

fn routes_table(receipts: &[&Receipt]) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("route", Left),
        ("experts of", Left),
        ("selected", Right),
        ("computed", Right),
        ("changed", Right),
        ("chosen", Right),
        ("entered", Right),
        ("left", Right),
        ("gates moved", Right),
        ("max", Right),
    ]);
    for r in receipts {
        let Some(routing) = &r.routing else { continue };
        table.row([
            r.label(),
            r.site.clone(),
            r.rows_selected.to_string(),
            r.rows_computed.to_string(),
            r.rows_changed.to_string(),
            routing.chosen.to_string(),
            routing.entered.to_string(),
            routing.left.to_string(),
            percent(routing.mass_moved),
            percent(r.max_move),
        ]);
    }
    table
}

fn table(receipts: &[&Receipt]) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("edit", Left),
        ("site", Left),
        ("selected", Right),
        ("computed", Right),
        ("changed", Right),
        ("parts", Right),
        ("mean |dh|/|h|", Right),
        ("max", Right),
    ]);
    for r in receipts {
        let each = r.changed as f64 / r.rows_changed.max(1) as f64;
        let plural = if each == 1.0 { "" } else { "s" };
        let parts =
            if r.rows_changed == 0 { "none".into() } else { format!("{} {}{plural}/row", number(each), r.unit) };
        let moved = |x: f64| match r.rows_from_zero > 0 && x == 0.0 {
            true => "from 0".to_string(),
            false => percent(x),
        };
        table.row([
            r.label(),
            r.site.clone(),
            r.rows_selected.to_string(),
            r.rows_computed.to_string(),
            r.rows_changed.to_string(),
            parts,
            moved(r.mean_move),
            moved(r.max_move),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_sums_up_rows() {
        let row = |changed, moved, before| [changed, moved, before, 0.0, 0.0, 0.0];
        let rows = [row(0.0, 0.0, 4.0), row(2.0, 1.0, 4.0), row(1.0, 4.0, 4.0), row(1.0, 1.0, 0.0)];
        let mut sums = Sums::default();
        rows.iter().for_each(|r| sums.add(r));
        let r = Receipt::of("cheer", "blocks[3].attn.z", Some(3), "head", 6, &sums);
        assert_eq!((r.rows_selected, r.rows_computed, r.rows_changed, r.changed), (6, 4, 3, 4));
        assert_eq!((r.mean_move, r.max_move), (0.5, 1.0));
        sums.add(&row(1.0, f32::NAN, f32::NAN));
        sums.add(&row(1.0, 1.0, 4.0));
        let bad = Receipt::of("cheer", "embed", None, "element", 6, &sums);
        assert!(bad.mean_move.is_nan() && bad.max_move.is_nan());
        let text = receipts_table(&[r, Receipt::of("idle", "embed", None, "element", 0, &Sums::default())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "cheer  blocks[3].attn.z         6         4        3  1.333 heads/row          50.0%  100.0%"
        );
        assert_eq!(
            lines[3],
            "idle   embed                    0         0        0             none           0.0%    0.0%"
        );
    }

    #[test]
    fn a_route_counts_choices() {
        let mut sums = Sums::default();
        // One of two experts is exchanged for another; one of gate 0.25 is muted; nothing.
        for did in [[4.0, 0.6, 1.0, 2.0, 1.0, 1.0], [1.0, 0.25, 1.0, 2.0, 0.0, 1.0], [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]] {
            sums.add(&did);
        }
        let r = Receipt::of_route("calm", "blocks[1].moe", Some(1), 3, &sums);
        let routing = r.routing.clone().expect("a route");
        assert_eq!((routing.chosen, routing.entered, routing.left, r.rows_changed), (6, 1, 2, 2));
        assert!((routing.mass_moved - 0.85 / 3.0).abs() < 1e-6 && (r.max_move - 0.6).abs() < 1e-6, "{r:?}");
        let hook = Receipt::of("idle", "embed", None, "element", 0, &Sums::default());
        let text = receipts_table(&[r, hook]);
        assert!(text.starts_with("edit") && text.contains("\n\nroute"), "{text}");
        assert!(text.trim_end().ends_with("6        1     2        28.3%  60.0%"), "{text}");
    }
}
