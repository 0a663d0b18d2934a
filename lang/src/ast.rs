//! The syntax tree, as written: nothing is resolved here.
//!
//! One tree serves scripts, model files (`arch`) and libraries of functions.

use crate::source::Span;

/// A parsed file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ident {
    pub name: String,
    pub span: Span,
}

/// A string literal, escapes resolved. `{name}` inside is interpolated where the text is used as a
/// weight name.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    pub value: String,
    pub span: Span,
}

/// A top-level declaration or statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub kind: ItemKind,
    /// The `##` comment lines directly above, joined by newlines.
    pub doc: Option<String>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ItemKind {
    /// `model "folder" { group_mask: "zero" }`: the options are keys of its configuration
    Model(Text, Vec<(Ident, Expr)>),
    /// `import "file.steer"`
    Import(Text),
    /// `param alpha: number = 6.0 in 0..20`
    Param(Param),
    /// `data glad = ["...", "..."]`, `data sad = lines("sad.txt")`
    Data(Binding),
    /// `prompt clean = "..."`
    Prompt(Binding),
    Tensor(TensorDecl),
    Sae(SaeDecl),
    Fn(FnDecl),
    Hook(HookDecl),
    Patch(PatchDecl),
    Route(RouteDecl),
    /// `run steered = clean with cheer(alpha = 4)`
    Run(RunDecl),
    Metric(MetricDecl),
    Measure(Measure),
    Capture(Capture),
    Generate(Generate),
    /// `print "norm", norm(mood[3])`
    Print(Vec<Expr>),
    Sweep(Sweep),
    Top(Top),
    Plot(Plot),
    /// `save resid to "resid.csv"`
    Save(Ident, Text),
    /// `report to "page.html"`
    Report(Text),
    Arch(ArchDecl),
}

impl Item {
    /// Whether it is done when a script is run, and does not only declare something.
    pub fn is_statement(&self) -> bool {
        matches!(
            self.kind,
            ItemKind::Measure(_)
                | ItemKind::Capture(_)
                | ItemKind::Generate(_)
                | ItemKind::Print(_)
                | ItemKind::Sweep(_)
                | ItemKind::Top(_)
                | ItemKind::Plot(_)
                | ItemKind::Save(..)
                | ItemKind::Report(_)
        )
    }

    /// The name that it gives to something, if it does.
    pub fn declares(&self) -> Option<&Ident> {
        match &self.kind {
            ItemKind::Param(p) => Some(&p.name),
            ItemKind::Data(b) | ItemKind::Prompt(b) => Some(&b.name),
            ItemKind::Tensor(t) => Some(&t.name),
            ItemKind::Sae(s) => Some(&s.name),
            ItemKind::Fn(f) => Some(&f.name),
            ItemKind::Hook(HookDecl { name, .. })
            | ItemKind::Patch(PatchDecl { name, .. })
            | ItemKind::Route(RouteDecl { name, .. })
            | ItemKind::Sweep(Sweep { name, .. }) => name.as_ref(),
            ItemKind::Run(r) => Some(&r.name),
            ItemKind::Metric(m) => Some(&m.name),
            ItemKind::Top(t) => Some(&t.name),
            ItemKind::Model(..)
            | ItemKind::Import(_)
            | ItemKind::Measure(_)
            | ItemKind::Capture(_)
            | ItemKind::Generate(_)
            | ItemKind::Print(_)
            | ItemKind::Plot(_)
            | ItemKind::Save(..)
            | ItemKind::Report(_)
            | ItemKind::Arch(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    pub name: Ident,
    pub value: Expr,
}

/// A parameter of a script, hook, function or metric: `alpha: number = 6.0 in 0..20`.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub name: Ident,
    pub ty: Option<(ParamType, Span)>,
    pub default: Option<Expr>,
    /// Inclusive bounds.
    pub bounds: Option<(Expr, Expr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// `number`
    Number,
    /// `int`
    Integer,
    /// `bool`
    Bool,
    /// `text`
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// `vector`: one axis, `[d_model]` unless said otherwise
    Vector,
    /// `tensor`
    Tensor,
}

/// `vector mood[layer] = mean_diff(glad, sad) at blocks[layer].resid.post on prompt[-1]`
/// `tensor W: [feature = 512, d_model] = load("w.npy")`
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDecl {
    pub kind: TensorKind,
    pub name: Ident,
    /// `[layer]`: one value per layer, and the name that `at` uses for it.
    pub family: Option<Ident>,
    /// The list after `:`.
    pub axes: Option<Expr>,
    pub value: Expr,
    pub at: Option<SitePath>,
    pub on: Option<Selection>,
}

/// `sae lens = "saes/layer3" at blocks[3].resid.post`: a sparse autoencoder in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct SaeDecl {
    pub name: Ident,
    pub folder: Expr,
    /// The site that it reads, where its own configuration does not say it.
    pub at: Option<SitePath>,
}

/// `fn name(a, b = 1) = expr` has a body of one expression statement; `fn name(a) { ... }` any.
#[derive(Clone, Debug, PartialEq)]
pub struct FnDecl {
    pub name: Ident,
    pub params: Vec<Param>,
    pub body: Block,
}

/// `hook cheer(alpha = 6.0) at blocks[2..4].resid.post on prompt[-1] | generated { ... }`
#[derive(Clone, Debug, PartialEq)]
pub struct HookDecl {
    /// Only in a sweep an edit needs none: it stands in everything that is measured there.
    pub name: Option<Ident>,
    pub params: Vec<Param>,
    /// One or more, separated by commas.
    pub at: Vec<SitePath>,
    pub on: Option<Selection>,
    /// The run whose value the body reads as `donor`.
    pub from: Option<Donor>,
    pub body: Block,
}

/// `patch mary at blocks[3].resid.pre on prompt[4] from clean`
#[derive(Clone, Debug, PartialEq)]
pub struct PatchDecl {
    /// As for a hook.
    pub name: Option<Ident>,
    pub at: Vec<SitePath>,
    pub on: Option<Selection>,
    pub from: Donor,
}

/// `route calm(n = 2) at blocks[*].moe on prompt { mask top(n, relevance) }`: an edit of which experts a mixture
/// chooses, and with which weights.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteDecl {
    /// As for a hook.
    pub name: Option<Ident>,
    pub params: Vec<Param>,
    pub at: Vec<SitePath>,
    pub on: Option<Selection>,
    pub body: Block,
}

/// `from clean with calm by end`: another run, and which of its rows belongs to which.
#[derive(Clone, Debug, PartialEq)]
pub struct Donor {
    pub run: RunExpr,
    /// `index`, `end`, `token`, or the name of a list of positions.
    pub by: Option<Ident>,
}

/// `sweep resid over b in blocks, t in tokens(corrupt) { ... }`
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Of a sweep inside of another there is none: its axes are the outer one's further axes.
    pub name: Option<Ident>,
    pub over: Vec<SweepAxis>,
    /// Edits, runs, measurements and further sweeps.
    pub body: Vec<Item>,
    pub braces: Span,
}

/// `b in blocks[2..4]`, `a in 0..10`, `head_of in head`
#[derive(Clone, Debug, PartialEq)]
pub struct SweepAxis {
    pub var: Ident,
    pub values: SweepValues,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SweepValues {
    /// `blocks`, `blocks[2..4]`
    Blocks(Option<Vec<IndexItem>>),
    /// A list, a data set, an axis, the tokens of a run, or a range of whole numbers.
    Of(IndexItem),
}

/// `top acts of blocks[2].mlp.act[neuron = 5] at !bos over stories { count: 20 }`
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    pub name: Ident,
    pub of: Expr,
    pub at: Option<Selection>,
    /// Edits stand in the run that they follow.
    pub over: Vec<RunExpr>,
    pub options: Vec<(Ident, Expr)>,
}

/// `plot resid as heat to "resid.svg" { column: ld }`
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    pub of: Ident,
    pub kind: Option<Ident>,
    pub to: Option<Text>,
    pub options: Vec<(Ident, Expr)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RunDecl {
    pub name: Ident,
    pub run: RunExpr,
}

/// `clean with cheer(alpha = 4), mary`: a prompt, data set or named run, and edits in order.
#[derive(Clone, Debug, PartialEq)]
pub struct RunExpr {
    pub subject: Expr,
    pub with: Vec<EditUse>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EditUse {
    pub name: Ident,
    pub args: Vec<Arg>,
    pub span: Span,
}

/// `metric ld(x) = logit(" Mary") - logit(" John") at seq[-1]`
#[derive(Clone, Debug, PartialEq)]
pub struct MetricDecl {
    pub name: Ident,
    pub params: Vec<Param>,
    pub value: Expr,
    pub at: Option<Selection>,
}

/// `measure mean ld, shift on clean, clean with cheer`
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Averages over the data set instead of one row an example.
    pub mean: bool,
    pub metrics: Vec<Expr>,
    /// Edits stand in the run that they follow.
    pub on: Vec<RunExpr>,
    /// `normalized by (corrupt, clean)`: the runs that are to give 0 and 1.
    pub normalized: Option<(Expr, Expr)>,
}

/// `capture blocks[*].resid.post, logits on prompt of clean with cheer to "out.safetensors"`
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// `capture before ...`: the value before the edits of its own site.
    pub before: bool,
    pub at: Vec<SitePath>,
    pub on: Option<Selection>,
    pub of: RunExpr,
    pub to: Text,
}

/// `generate "Tom went" with cheer(alpha = 4) { max: 60, temperature: 0.8 }`
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    pub run: RunExpr,
    pub options: Vec<(Ident, Expr)>,
}

/// `arch "LlamaForCausalLM", "MistralForCausalLM" { ... }`
#[derive(Clone, Debug, PartialEq)]
pub struct ArchDecl {
    pub names: Vec<Text>,
    pub body: Block,
}

/// `blocks[2..4].resid.post`, or `site("...")` with the name that another program has for it: one segment `site` with
/// the text in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct SitePath {
    pub segments: Vec<SiteSegment>,
    pub span: Span,
}

impl SitePath {
    /// The text of a `site("...")`.
    pub fn foreign(&self) -> Option<&str> {
        match &self.segments[..] {
            [SiteSegment { name, index: Some(items) }] if name.name == "site" => match &items[..] {
                [IndexItem::At(Expr { kind: ExprKind::Text(text), .. })] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SiteSegment {
    pub name: Ident,
    /// `None`: no brackets.
    pub index: Option<Vec<IndexItem>>,
}

/// One entry of a bracket that selects by number.
#[derive(Clone, Debug, PartialEq)]
pub enum IndexItem {
    /// `*`
    All(Span),
    At(Expr),
    /// `a..b`, `a..=b`, `..b`, `a..`
    Range {
        start: Option<Expr>,
        end: Option<Expr>,
        inclusive: bool,
        span: Span,
    },
}

/// Which rows: `on maybe prompt[-1] | generated`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// `maybe`: an empty selection is no error.
    pub maybe: bool,
    pub set: Positions,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    pub kind: PositionsKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PositionsKind {
    /// `all`
    All,
    /// `prompt`, `prompt[-1]`
    Prompt(Option<Vec<IndexItem>>),
    /// `generated`, `generated[0..3]`: rows whose input token was generated
    Generated(Option<Vec<IndexItem>>),
    /// `seq[-1]`, and `[3]`, `[0..4]` without a word
    Seq(Option<Vec<IndexItem>>),
    /// `bos`
    Bos,
    /// `after "."`: rows after the first occurrence's last token; `after "."[0]`, some of them
    After(Text, Option<Vec<IndexItem>>),
    /// `matching "Mary"`: the tokens of every occurrence; `matching "Mary"[-1]`, some of them
    Matching(Text, Option<Vec<IndexItem>>),
    /// `role(user)`
    Role(Ident),
    /// `mask(name)`: a data set of zeros and ones, one a token
    Mask(Ident),
    /// A name of a sweep that stands for positions
    Name(Ident),
    Or(Box<Positions>, Box<Positions>),
    And(Box<Positions>, Box<Positions>),
    Not(Box<Positions>),
}

/// Statements in braces. Where a value is wanted, it is the last statement's.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    pub kind: StmtKind,
    /// The `##` comment lines directly above: a site's contract.
    pub doc: Option<String>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `let v = unit(mood[layer])`
    Let(Ident, Expr),
    /// `h += alpha * v`, `h[head = 3] = 0`; the target is a name or an indexed name
    Assign { target: Expr, op: AssignOp, value: Expr },
    /// `when dot(h, v) < 2.0 { ... } else { ... }`: per row or per element
    When { cond: Expr, then: Block, otherwise: Option<Block> },
    /// `mask 3, 5`, `force 3 by max`: what a route does to some experts
    Experts { verb: Verb, experts: Vec<Expr>, by: Option<Expr> },
    /// `site attn.q = ...`: declares a site and binds the name
    Site { path: Vec<Ident>, value: Expr },
    /// `write attn.out = ...`: a site that is added to the residual stream
    Write { path: Vec<Ident>, value: Expr },
    /// `axis d_model = config.hidden_size`
    Axis(Ident, Expr),
    /// `blocks layer in 0..n under "model.layers.{layer}." { ... }`
    Blocks { var: Ident, start: Expr, end: Expr, under: Text, body: Block },
    /// `require cond, "message"`: a model file's own check of a configuration
    Require(Expr, Text),
    /// The value of a block, or an `if` of statements.
    Expr(Expr),
}

/// What a route does to experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `mask`: never chosen.
    Mask,
    /// `drop`: gates of 0 behind the choice, the others scaled to the same sum.
    Drop,
    /// `mute`: gates of 0 behind the choice.
    Mute,
    /// `force`: always chosen.
    Force,
    /// `bias`: added to what the choice is made by.
    Bias,
}

impl Verb {
    pub const ALL: [Verb; 5] = [Verb::Mask, Verb::Drop, Verb::Mute, Verb::Force, Verb::Bias];

    pub fn word(self) -> &'static str {
        match self {
            Verb::Mask => "mask",
            Verb::Drop => "drop",
            Verb::Mute => "mute",
            Verb::Force => "force",
            Verb::Bias => "bias",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignOp {
    Set,
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(f64),
    Text(String),
    Bool(bool),
    /// `none`
    None,
    Name(String),
    /// `config.hidden_size`, `attn.q`
    Field(Box<Expr>, Ident),
    /// `mood[layer]`, `h[head = 3, d_head = 0..4]`
    Index(Box<Expr>, Vec<IndexArg>),
    Call(Box<Expr>, Vec<Arg>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `[a, b, c]`; also a list of axes
    List(Vec<Expr>),
    /// `(head d_head)`, `(qkv = 3 head d_head)`, and `feature = 512` inside a list: axes laid out as
    /// one dimension, the last one fastest
    Axes(Vec<AxisPart>),
    /// `if config.bias { a } else { b }`: decided by the compiler
    If {
        cond: Box<Expr>,
        then: Block,
        otherwise: Option<Block>,
    },
    /// `|state| { ... }`
    Lambda(Vec<Ident>, Block),
}

#[derive(Clone, Debug, PartialEq)]
pub struct AxisPart {
    pub name: Ident,
    pub size: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    pub name: Option<Ident>,
    pub value: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct IndexArg {
    pub axis: Option<Ident>,
    pub item: IndexItem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
}

/// In order of growing strength: `??`, `||`, `&&`, comparisons, `+ -`, `* / %` and `@`, `^`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `??`: the right side where the left one is absent
    Else,
    Or,
    And,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    Add,
    Sub,
    Mul,
    Div,
    /// `%`: compile-time numbers only
    Rem,
    /// `W @ h`: sums over the axes that the loaded tensor shares with the row value
    MatMul,
    /// `^`, right-associative
    Pow,
}
