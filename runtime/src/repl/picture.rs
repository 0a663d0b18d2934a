//! Values of sites as pictures and tables, with the tokens that they belong to.

use crate::cli::Failure;
use crate::error::Error;
use crate::experiment::{Seen, Session, sizes};
use crate::report::{self, Align, Table, number};
use steer_compiler::plan::{Axis, Size};
use steer_figures::{Frame, FrameAxis, FrameColumn, Kind, Plot};

/// As many entries of a vector are named.
const LARGEST: usize = 4;

/// The tokens of a run, numbered where one stands there twice.
pub fn tokens_of(session: &Session, seen: &Seen) -> Vec<String> {
    seen.run.encoded.tokens.iter().map(|t| token(session, *t as usize)).collect()
}

/// Axes with their sizes, as `steer sites` has them.
pub fn axes_of(axes: &[Axis]) -> String {
    let one = |a: &Axis| match a.size {
        Size::Fixed(n) => format!("{} {n}", a.name),
        Size::Keys => a.name.to_string(),
    };
    axes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A token as it is shown.
pub fn token(session: &Session, id: usize) -> String {
    let piece = session.tokens.as_ref().map_or_else(|| id.to_string(), |t| t.piece(id as u32));
    report::visible(&piece).replace('\n', "\\n")
}

/// The largest entries, or the smallest.
pub fn top(values: &[f32], n: usize, largest: bool) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    let by = |a: &(usize, f32), b: &(usize, f32)| if largest { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) };
    let n = n.min(order.len());
    if n > 0 && n < order.len() {
        order.select_nth_unstable_by(n - 1, by);
    }
    order.truncate(n);
    order.sort_by(by);
    order
}

/// What a site holds in a run. `means`: the tokens that rows speak for, where that is known.
pub fn of(
    session: &Session,
    seen: &Seen,
    called: &str,
    tokens: &[String],
    means: &[Vec<String>],
) -> Result<String, Failure> {
    let head = format!("{called} [{}] of {}\n", axes_of(&seen.axes), seen.run.label);
    let body = match &seen.axes[..] {
        _ if seen.axes.iter().any(|a| a.size == Size::Keys) => return keys(seen, tokens, head.trim_end()),
        [] => {
            let mut table = table(&[("value", Align::Right)]);
            for (p, row) in &seen.rows {
                table.row([p.to_string(), tokens[*p].clone(), number(f64::from(row[0]))]);
            }
            table.render()
        }
        [one] if &*one.name == "vocab" => {
            let next = if session.script.plan.is_whole() { "likeliest tokens" } else { "next tokens" };
            let mut table = table(&[(next, Align::Left)]);
            for (p, row) in &seen.rows {
                let next =
                    likeliest(row, LARGEST).into_iter().map(|(t, x)| format!("{:?} {}", token(session, t), percent(x)));
                table.row([p.to_string(), tokens[*p].clone(), next.collect::<Vec<_>>().join("  ")]);
            }
            table.render()
        }
        axes => {
            let lens = if means.is_empty() { Vec::new() } else { vec![("logit lens", Align::Left)] };
            let mut columns = vec![("norm", Align::Right), ("largest entries", Align::Left)];
            columns.extend(lens);
            let mut table = table(&columns);
            for (i, (p, row)) in seen.rows.iter().enumerate() {
                let mut cells = vec![p.to_string(), tokens[*p].clone(), number(norm(row)), largest(axes, row)];
                cells.extend(means.get(i).map(|m| m.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" ")));
                table.row(cells);
            }
            table.render()
        }
    };
    Ok(head + &body)
}

fn table(columns: &[(&str, Align)]) -> Table {
    let mut all = vec![("row", Align::Right), ("token", Align::Left)];
    all.extend(columns);
    Table::new(&all)
}

fn percent(x: f64) -> String {
    format!("{:.1}%", 100.0 * x)
}

pub fn norm(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

/// Probabilities of the likeliest tokens, of logits.
pub fn likeliest(logits: &[f32], n: usize) -> Vec<(usize, f64)> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    top(logits, n, true).into_iter().map(|(t, x)| (t, f64::from(x - most).exp() / sum)).collect()
}

/// The entries of the largest size with their places.
fn largest(axes: &[Axis], row: &[f32]) -> String {
    let sizes = sizes(axes, row.len());
    // Of what is 0 nothing is said; what is no number is the largest.
    let sized: Vec<f32> = row.iter().map(|x| if x.is_nan() { f32::INFINITY } else { x.abs() }).collect();
    let place = |at: usize| {
        let mut rest = at;
        let mut parts = vec![String::new(); sizes.len()];
        for (part, size) in parts.iter_mut().zip(&sizes).rev() {
            *part = (rest % size).to_string();
            rest /= size;
        }
        parts.join(", ")
    };
    let all = top(&sized, LARGEST, true)
        .into_iter()
        .filter(|(_, size)| *size > 0.0)
        .map(|(at, _)| format!("[{}] {}", place(at), number(f64::from(row[at]))));
    all.collect::<Vec<_>>().join("  ")
}

/// A heat map of what rows have for their keys, one for each entry of other axes.
fn keys(seen: &Seen, tokens: &[String], title: &str) -> Result<String, Failure> {
    let widest =
        seen.rows.iter().map(|(_, row)| sizes(&seen.axes, row.len()).last().copied().unwrap_or(0)).max().unwrap_or(0);
    let others: Vec<usize> = sizes(&seen.axes, widest)[..seen.axes.len() - 1].to_vec();
    let each: usize = others.iter().product();
    let name = seen.site.rsplit('.').next().unwrap_or_default();
    // Without colours parts of one are numbers, of which two digits say enough.
    let percent = name == "pattern" && report::screen().color == steer_figures::Color::None;
    let mut values = vec![f64::NAN; each * seen.rows.len() * widest];
    for (r, (_, row)) in seen.rows.iter().enumerate() {
        let keys = row.len() / each.max(1);
        for (e, part) in row.chunks_exact(keys.max(1)).enumerate() {
            for (k, x) in part.iter().enumerate() {
                let x = f64::from(*x);
                values[(e * seen.rows.len() + r) * widest + k] = if percent { (x * 100.0).round() } else { x };
            }
        }
    }
    let numbers = |n: usize| (0..n).map(|i| i.to_string());
    let mut axes: Vec<FrameAxis> =
        seen.axes.iter().zip(&others).map(|(a, n)| FrameAxis::new(a.name.to_string(), numbers(*n))).collect();
    axes.push(FrameAxis::new("token", seen.rows.iter().map(|(p, _)| tokens[*p].clone())));
    axes.push(FrameAxis::new("key", (0..widest).map(|k| tokens.get(k).cloned().unwrap_or_default())));
    let name = if percent { format!("{name}, in percent") } else { name.to_owned() };
    let frame = Frame { name: String::new(), axes, columns: vec![FrameColumn::new(name, values)] };
    heat(&frame, title)
}

/// A table as a heat map in the terminal.
pub fn heat(frame: &Frame, title: &str) -> Result<String, Failure> {
    let plot = Plot { kind: Some(Kind::Heat), title: Some(title.to_owned()), ..Plot::default() };
    let figure = plot.of(frame).map_err(|f| Failure::from(Error::from(f)))?;
    Ok(figure.text(&report::screen()))
}

/// The largest entries of a value that was printed.
pub fn entries(axes: &[Axis], data: &[f32]) -> String {
    format!("largest entries  {}\n", largest(axes, data))
}

/// What a vector raises and lowers.
pub fn nearest([raised, lowered]: &[Vec<String>; 2]) -> String {
    let listed = |tokens: &[String]| tokens.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" ");
    match raised.is_empty() {
        true => String::new(),
        false => format!("raises           {}\nlowers           {}\n", listed(raised), listed(lowered)),
    }
}
