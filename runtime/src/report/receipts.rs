//! What every edit did.

use super::{Align, Table, number, percent};
use crate::engine::RowReceipt;
use serde::Serialize;

/// One edit at one site in one run or several: on how many rows it fired, and how far it moved them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    pub edit: String,
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
}

impl Sums {
    /// Adds a row. The sum depends on the order of rows.
    pub fn add(&mut self, r: &RowReceipt) {
        self.computed += 1;
        self.rows_changed += u64::from(r.changed > 0.0);
        self.changed += r.changed as u64;
        if r.before > 0.0 || r.before.is_nan() || r.moved.is_nan() {
            let moved = (f64::from(r.moved) / f64::from(r.before)).sqrt();
            self.moves += moved;
            self.moved += 1;
            self.max_move = larger(self.max_move, moved);
        } else {
            self.from_zero += u64::from(r.moved > 0.0);
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
        }
    }
}

/// Receipts as a table, one line each.
pub fn receipts_table(receipts: &[Receipt]) -> String {
    table(receipts).render()
}

/// The same before it is text.
pub(super) fn table(receipts: &[Receipt]) -> Table {
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
            r.edit.clone(),
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
    use steer_compiler::plan::EditId;

    #[test]
    fn a_receipt_sums_up_rows() {
        let row =
            |position, changed, moved, before| RowReceipt { run: 0, edit: EditId(0), position, changed, moved, before };
        let rows = [row(2, 0.0, 0.0, 4.0), row(0, 2.0, 1.0, 4.0), row(1, 1.0, 4.0, 4.0), row(3, 1.0, 1.0, 0.0)];
        let mut sums = Sums::default();
        rows.iter().for_each(|r| sums.add(r));
        let r = Receipt::of("cheer", "blocks[3].attn.z", Some(3), "head", 6, &sums);
        assert_eq!((r.rows_selected, r.rows_computed, r.rows_changed, r.changed), (6, 4, 3, 4));
        assert_eq!((r.mean_move, r.max_move), (0.5, 1.0));
        sums.add(&row(4, 1.0, f32::NAN, f32::NAN));
        sums.add(&row(5, 1.0, 1.0, 4.0));
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
}
