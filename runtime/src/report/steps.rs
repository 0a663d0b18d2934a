//! Where the time of passes goes, against what the machine can do.

use super::{Align, Table, number};
use crate::engine::{Spent, WorkKind};
use crate::experiment::Passes;
use crate::limits::Limits;
use serde::Serialize;

/// Passes over prompts or over new tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Steps {
    pub passes: u64,
    /// Rows that were handed over, equal ones too.
    pub rows: u64,
    pub seconds: f64,
    /// By kind of work, what took longest first.
    pub work: Vec<Part>,
}

/// One kind of work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    pub kind: WorkKind,
    pub name: String,
    pub calls: u64,
    pub seconds: f64,
    /// Read and written at least: weights and caches once a call, and the values of its rows.
    pub bytes: u64,
    /// In floating point; those of products, attention, convolutions and scans are counted.
    pub operations: u64,
    pub bytes_per_second: f64,
    pub operations_per_second: f64,
    /// The time that the machine would take at its limits, whichever is longer, against the time that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_machine: Option<f64>,
}

impl Part {
    fn of(spent: &Spent, limits: Option<&Limits>) -> Self {
        let rate = |n: u64| if spent.seconds > 0.0 { n as f64 / spent.seconds } else { 0.0 };
        let (bytes, operations) = (rate(spent.bytes), rate(spent.operations));
        let share = |l: &Limits| (bytes / l.bytes_per_second).max(operations / l.operations_per_second);
        let measured = spent.bytes > 0 || spent.operations > 0;
        Part {
            kind: spent.kind,
            name: spent.name.to_string(),
            calls: spent.calls,
            seconds: spent.seconds,
            bytes: spent.bytes,
            operations: spent.operations,
            bytes_per_second: bytes,
            operations_per_second: operations,
            of_machine: limits.filter(|_| measured).map(share),
        }
    }
}

impl Steps {
    /// `seconds` are those of the whole stage: what its passes leave of them goes by between them.
    pub fn of(passes: &Passes, seconds: f64, limits: Option<&Limits>) -> Self {
        let mut work: Vec<Part> = passes.spent.iter().filter(|s| s.calls > 0).map(|s| Part::of(s, limits)).collect();
        let known: f64 = work.iter().map(|p| p.seconds).sum();
        let mut between = Spent::new(WorkKind::Between, "handing rows over, choosing tokens, texts");
        between.seconds = (seconds - known).max(0.0);
        between.calls = passes.passes;
        work.push(Part::of(&between, None));
        work.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Steps { passes: passes.passes, rows: passes.rows, seconds, work }
    }

    /// As a table under a line that says what it is of.
    pub fn table(&self, stage: &str) -> String {
        let plural = if self.passes == 1 { "" } else { "es" };
        let mut out = format!("\n{stage}: {} rows in {} pass{plural}\n", self.rows, self.passes);
        let right = ["calls", "seconds", "time", "GB", "GB/s", "GFLOP", "GFLOP/s", "of machine"];
        let mut columns = vec![("work", Align::Left), ("of", Align::Left)];
        columns.extend(right.map(|name| (name, Align::Right)));
        let mut table = Table::new(&columns);
        let giga = |x: f64| if x > 0.0 { number(x / 1e9) } else { String::new() };
        let percent = |x: f64| format!("{:.0}%", 100.0 * x);
        for p in &self.work {
            table.row([
                word(p.kind).to_string(),
                p.name.clone(),
                p.calls.to_string(),
                format!("{:.4}", p.seconds),
                percent(p.seconds / self.seconds.max(f64::MIN_POSITIVE)),
                giga(p.bytes as f64),
                giga(p.bytes_per_second),
                giga(p.operations as f64),
                giga(p.operations_per_second),
                p.of_machine.map_or(String::new(), percent),
            ]);
        }
        out += &table.render();
        out
    }
}

fn word(kind: WorkKind) -> &'static str {
    match kind {
        WorkKind::Product => "product",
        WorkKind::Experts => "experts",
        WorkKind::Attention => "attention",
        WorkKind::Convolution => "convolution",
        WorkKind::Scan => "scan",
        WorkKind::Kernel => "kernel",
        WorkKind::Lookup => "lookup",
        WorkKind::Rest => "rest",
        WorkKind::Between => "between",
    }
}

/// What the shares are of.
pub fn limits_line(limits: Option<&Limits>) -> String {
    match limits {
        Some(l) => format!(
            "this machine, {} thread{}: reads {} GB/s, {} GFLOP/s in float32\n",
            l.threads,
            if l.threads == 1 { "" } else { "s" },
            number(l.bytes_per_second / 1e9),
            number(l.operations_per_second / 1e9)
        ),
        None => "there is no memory left to measure what this machine can do\n".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_by_what_took_longest() {
        let mut product = Spent::new(WorkKind::Product, "layers.*.mlp.up.weight [3072, 768]");
        (product.calls, product.seconds, product.bytes, product.operations) = (24, 0.5, 5_000_000_000, 4_000_000_000);
        let mut attention = Spent::new(WorkKind::Attention, "12 heads on 12 of 64");
        (attention.calls, attention.seconds, attention.bytes, attention.operations) = (24, 0.25, 1_000_000_000, 0);
        let unused = Spent::new(WorkKind::Kernel, "kernel 0");
        let rest = Spent { calls: 2, seconds: 0.05, ..Spent::new(WorkKind::Rest, "rows") };
        let mut passes = Passes::default();
        passes.pass(3, vec![attention, product, unused, rest]);
        let limits = Limits { threads: 2, bytes_per_second: 2e10, operations_per_second: 1e11 };
        let steps = Steps::of(&passes, 1.0, Some(&limits));
        let table = "
generate: 3 rows in 1 pass
work       of                                         calls  seconds  time  GB  GB/s  GFLOP  GFLOP/s  of machine
─────────  ─────────────────────────────────────────  ─────  ───────  ────  ──  ────  ─────  ───────  ──────────
product    layers.*.mlp.up.weight [3072, 768]            24   0.5000   50%   5    10      4        8         50%
attention  12 heads on 12 of 64                          24   0.2500   25%   1     4                         20%
between    handing rows over, choosing tokens, texts      1   0.2000   20%
rest       rows                                           2   0.0500    5%
";
        let plain = |t: &str| t.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(plain(&steps.table("generate")), plain(table));
        let json = serde_json::to_value(&steps).unwrap();
        assert_eq!(json["work"][0]["kind"], "product");
        assert_eq!(json["work"][0]["of_machine"], 0.5);
        assert_eq!(json["work"][2].get("of_machine"), None);
        assert_eq!(limits_line(Some(&limits)), "this machine, 2 threads: reads 20 GB/s, 100 GFLOP/s in float32\n");
    }
}
