//! Trees without places, to compare what two texts say.

use crate::ast::*;
use crate::source::Span;

/// Whether two files say the same, wherever in their texts they say it.
pub fn eq_ignoring_spans(a: &File, b: &File) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    erase_spans(&mut a);
    erase_spans(&mut b);
    a == b
}

/// Sets every span of a file to the empty one.
pub fn erase_spans(file: &mut File) {
    for item in &mut file.items {
        item.span = Span::default();
        item_kind(&mut item.kind);
    }
}

fn donor(donor: &mut Donor) {
    run(&mut donor.run);
    donor.by.iter_mut().for_each(ident);
}

fn options(options: &mut [(Ident, Expr)]) {
    for (name, value) in options {
        ident(name);
        expr(value);
    }
}

fn item_kind(kind: &mut ItemKind) {
    match kind {
        ItemKind::Model(t, o) => {
            text(t);
            options(o);
        }
        ItemKind::Import(t) => text(t),
        ItemKind::Param(p) => param(p),
        ItemKind::Data(b) | ItemKind::Prompt(b) => {
            ident(&mut b.name);
            expr(&mut b.value);
        }
        ItemKind::Tensor(t) => {
            ident(&mut t.name);
            t.family.iter_mut().for_each(ident);
            t.axes.iter_mut().for_each(expr);
            expr(&mut t.value);
            t.at.iter_mut().for_each(site);
            t.on.iter_mut().for_each(selection);
        }
        ItemKind::Sae(s) => {
            ident(&mut s.name);
            expr(&mut s.folder);
            s.at.iter_mut().for_each(site);
        }
        ItemKind::Fn(f) => {
            ident(&mut f.name);
            f.params.iter_mut().for_each(param);
            block(&mut f.body);
        }
        ItemKind::Hook(h) => {
            h.name.iter_mut().for_each(ident);
            h.from.iter_mut().for_each(donor);
            h.params.iter_mut().for_each(param);
            h.at.iter_mut().for_each(site);
            h.on.iter_mut().for_each(selection);
            block(&mut h.body);
        }
        ItemKind::Patch(p) => {
            p.name.iter_mut().for_each(ident);
            p.at.iter_mut().for_each(site);
            p.on.iter_mut().for_each(selection);
            donor(&mut p.from);
        }
        ItemKind::Route(r) => {
            r.name.iter_mut().for_each(ident);
            r.params.iter_mut().for_each(param);
            r.at.iter_mut().for_each(site);
            r.on.iter_mut().for_each(selection);
            block(&mut r.body);
        }
        ItemKind::Run(r) => {
            ident(&mut r.name);
            run(&mut r.run);
        }
        ItemKind::Metric(m) => {
            ident(&mut m.name);
            m.params.iter_mut().for_each(param);
            expr(&mut m.value);
            m.at.iter_mut().for_each(selection);
        }
        ItemKind::Measure(m) => {
            m.metrics.iter_mut().for_each(expr);
            m.on.iter_mut().for_each(run);
            if let Some((zero, one)) = &mut m.normalized {
                expr(zero);
                expr(one);
            }
        }
        ItemKind::Capture(c) => {
            c.at.iter_mut().for_each(site);
            c.on.iter_mut().for_each(selection);
            run(&mut c.of);
            text(&mut c.to);
        }
        ItemKind::Generate(g) => {
            run(&mut g.run);
            options(&mut g.options);
        }
        ItemKind::Print(values) => values.iter_mut().for_each(expr),
        ItemKind::Sweep(s) => {
            s.name.iter_mut().for_each(ident);
            s.braces = Span::default();
            for axis in &mut s.over {
                axis.span = Span::default();
                ident(&mut axis.var);
                match &mut axis.values {
                    SweepValues::Blocks(items) => items.iter_mut().flatten().for_each(index_item),
                    SweepValues::Of(item) => index_item(item),
                }
            }
            for item in &mut s.body {
                item.span = Span::default();
                item_kind(&mut item.kind);
            }
        }
        ItemKind::Top(t) => {
            ident(&mut t.name);
            expr(&mut t.of);
            t.at.iter_mut().for_each(selection);
            t.over.iter_mut().for_each(run);
            options(&mut t.options);
        }
        ItemKind::Plot(p) => {
            ident(&mut p.of);
            p.kind.iter_mut().for_each(ident);
            p.to.iter_mut().for_each(text);
            options(&mut p.options);
        }
        ItemKind::Save(name, to) => {
            ident(name);
            text(to);
        }
        ItemKind::Report(to) => text(to),
        ItemKind::Arch(a) => {
            a.names.iter_mut().for_each(text);
            block(&mut a.body);
        }
    }
}

fn ident(ident: &mut Ident) {
    ident.span = Span::default();
}

fn text(text: &mut Text) {
    text.span = Span::default();
}

fn param(param: &mut Param) {
    ident(&mut param.name);
    if let Some((_, span)) = &mut param.ty {
        *span = Span::default();
    }
    param.default.iter_mut().for_each(expr);
    if let Some((low, high)) = &mut param.bounds {
        expr(low);
        expr(high);
    }
}

fn run(run: &mut RunExpr) {
    run.span = Span::default();
    expr(&mut run.subject);
    for edit in &mut run.with {
        edit.span = Span::default();
        ident(&mut edit.name);
        edit.args.iter_mut().for_each(arg);
    }
}

fn arg(arg: &mut Arg) {
    arg.name.iter_mut().for_each(ident);
    expr(&mut arg.value);
}

fn site(path: &mut SitePath) {
    path.span = Span::default();
    for segment in &mut path.segments {
        ident(&mut segment.name);
        segment.index.iter_mut().flatten().for_each(index_item);
    }
}

fn index_item(item: &mut IndexItem) {
    match item {
        IndexItem::All(span) => *span = Span::default(),
        IndexItem::At(at) => expr(at),
        IndexItem::Range { start, end, span, .. } => {
            *span = Span::default();
            start.iter_mut().chain(end).for_each(expr);
        }
    }
}

fn selection(selection: &mut Selection) {
    selection.span = Span::default();
    positions(&mut selection.set);
}

fn positions(set: &mut Positions) {
    set.span = Span::default();
    match &mut set.kind {
        PositionsKind::All | PositionsKind::Bos => {}
        PositionsKind::Prompt(index) | PositionsKind::Generated(index) | PositionsKind::Seq(index) => {
            index.iter_mut().flatten().for_each(index_item);
        }
        PositionsKind::After(t, index) | PositionsKind::Matching(t, index) => {
            text(t);
            index.iter_mut().flatten().for_each(index_item);
        }
        PositionsKind::Role(name) | PositionsKind::Mask(name) | PositionsKind::Name(name) => ident(name),
        PositionsKind::Or(a, b) | PositionsKind::And(a, b) => {
            positions(a);
            positions(b);
        }
        PositionsKind::Not(inner) => positions(inner),
    }
}

fn block(block: &mut Block) {
    block.span = Span::default();
    for stmt in &mut block.stmts {
        stmt.span = Span::default();
        stmt_kind(&mut stmt.kind);
    }
}

fn stmt_kind(kind: &mut StmtKind) {
    match kind {
        StmtKind::Let(name, value) | StmtKind::Axis(name, value) => {
            ident(name);
            expr(value);
        }
        StmtKind::Assign { target, value, .. } => {
            expr(target);
            expr(value);
        }
        StmtKind::When { cond, then, otherwise } => {
            expr(cond);
            block(then);
            otherwise.iter_mut().for_each(block);
        }
        StmtKind::Experts { experts, by, .. } => experts.iter_mut().chain(by).for_each(expr),
        StmtKind::Site { path, value } | StmtKind::Write { path, value } => {
            path.iter_mut().for_each(ident);
            expr(value);
        }
        StmtKind::Blocks { var, start, end, under, body } => {
            ident(var);
            expr(start);
            expr(end);
            text(under);
            block(body);
        }
        StmtKind::Require(cond, message) => {
            expr(cond);
            text(message);
        }
        StmtKind::Expr(value) => expr(value),
    }
}

fn expr(value: &mut Expr) {
    value.span = Span::default();
    match &mut value.kind {
        ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Bool(_) | ExprKind::None | ExprKind::Name(_) => {}
        ExprKind::Field(inner, name) => {
            expr(inner);
            ident(name);
        }
        ExprKind::Index(inner, args) => {
            expr(inner);
            for arg in args {
                arg.axis.iter_mut().for_each(ident);
                index_item(&mut arg.item);
            }
        }
        ExprKind::Call(inner, args) => {
            expr(inner);
            args.iter_mut().for_each(arg);
        }
        ExprKind::Unary(_, inner) => expr(inner),
        ExprKind::Binary(_, left, right) => {
            expr(left);
            expr(right);
        }
        ExprKind::List(elements) => elements.iter_mut().for_each(expr),
        ExprKind::Axes(parts) => {
            for part in parts {
                ident(&mut part.name);
                part.size.iter_mut().for_each(expr);
            }
        }
        ExprKind::If { cond, then, otherwise } => {
            expr(cond);
            block(then);
            otherwise.iter_mut().for_each(block);
        }
        ExprKind::Lambda(params, body) => {
            params.iter_mut().for_each(ident);
            block(body);
        }
    }
}
