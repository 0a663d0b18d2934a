//! The functions of the language itself: how each is called, and what it gives. Whoever suggests or explains them reads
//! this list.

/// Where a function can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// On values with named axes, in bodies and metrics; most of them on plain numbers, too.
    Values,
    /// In the value of a declared tensor.
    Tensors,
    /// Where a text can be run.
    Texts,
    /// In a metric alone.
    Metrics,
    /// As the value of `data`, or as the entries of a sweep.
    Data,
    /// In model files and blocks.
    Models,
}

impl Group {
    /// In the order in which they are listed.
    pub const ALL: [Group; 6] =
        [Group::Values, Group::Tensors, Group::Texts, Group::Metrics, Group::Data, Group::Models];

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Values => "Functions of values",
            Group::Tensors => "Functions of declared tensors",
            Group::Texts => "Functions of texts",
            Group::Metrics => "Functions of metrics",
            Group::Data => "Functions of data sets and sweeps",
            Group::Models => "Functions of model files",
        }
    }
}

/// One function of the language.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub group: Group,
    /// The ways to call it, the usual one first. What has a default stands behind `=`.
    pub forms: &'static [&'static str],
    /// What it gives, in a sentence or two.
    pub about: &'static str,
}

const fn of(group: Group, name: &'static str, forms: &'static [&'static str], about: &'static str) -> Function {
    Function { name, group, forms, about }
}

/// Every function of the language.
pub const FUNCTIONS: &[Function] = {
    use Group::*;
    &[
        of(Values, "exp", &["exp(x)"], "The exponential, element by element."),
        of(Values, "log", &["log(x)"], "The natural logarithm, element by element."),
        of(Values, "sqrt", &["sqrt(x)"], "The square root, element by element."),
        of(Values, "rsqrt", &["rsqrt(x)"], "`1 / sqrt(x)`, element by element."),
        of(Values, "abs", &["abs(x)"], "The size without the sign, element by element."),
        of(Values, "sign", &["sign(x)"], "1, 0 or -1, element by element."),
        of(Values, "tanh", &["tanh(x)"], "The hyperbolic tangent, element by element."),
        of(Values, "sigmoid", &["sigmoid(x)"], "`1 / (1 + exp(-x))`, element by element."),
        of(Values, "silu", &["silu(x)"], "`x * sigmoid(x)`, element by element."),
        of(Values, "relu", &["relu(x)"], "`x` where it is positive, else 0, element by element."),
        of(Values, "gelu", &["gelu(x)"], "`x` times the normal distribution's share below it, element by element."),
        of(Values, "gelu_tanh", &["gelu_tanh(x)"], "`gelu` by its approximation with `tanh`, element by element."),
        of(Values, "softplus", &["softplus(x)"], "`log(1 + exp(x))`, element by element."),
        of(Values, "sin", &["sin(x)"], "The sine of an angle in radians, element by element."),
        of(Values, "cos", &["cos(x)"], "The cosine of an angle in radians, element by element."),
        of(Values, "round", &["round(x)"], "The nearest whole number, of two equally near the even one."),
        of(Values, "floor", &["floor(x)"], "The largest whole number that is not above `x`."),
        of(
            Values,
            "ceil",
            &["ceil(x)"],
            "The smallest whole number that is not below `x`, which is a number that the compiler knows.",
        ),
        of(
            Values,
            "min",
            &["min(a, b)", "min(x, over)"],
            "The smaller of two values, element by element; or the smallest entry along an axis or several, without \
             `over` of all.",
        ),
        of(
            Values,
            "max",
            &["max(a, b)", "max(x, over)"],
            "The larger of two values, element by element; or the largest entry along an axis or several, without \
             `over` of all.",
        ),
        of(Values, "sum", &["sum(x, over)"], "The sum along an axis or several, without `over` of all entries."),
        of(
            Values,
            "mean",
            &["mean(x, over)", "mean(data)"],
            "The mean along an axis or several, without `over` of all entries; of a data set, in a declared tensor, the \
             mean of the rows that `on` selects.",
        ),
        of(
            Values,
            "dot",
            &["dot(a, b, over)"],
            "The sum of products over the axes that both have, or over those of `over`.",
        ),
        of(Values, "norm", &["norm(x, over)"], "The root of the sum of squares."),
        of(
            Values,
            "argmax",
            &["argmax(x, over)"],
            "The index of the largest entry along one axis, of equals the first.",
        ),
        of(
            Values,
            "top_k",
            &["top_k(x, axis, k)"],
            "A condition: whether an entry is among the `k` largest along an axis.",
        ),
        of(
            Values,
            "select",
            &["select(condition, a, b)"],
            "`a` where the condition holds, else `b`, element by element.",
        ),
        of(Values, "concat", &["concat(a, b, axis)"], "The entries of `a` and then those of `b` along an axis."),
        of(
            Values,
            "rename",
            &["rename(x, from, to)"],
            "The same value with an axis under another name; `to` may be several, `(a = 2 b)`, that it is taken apart \
             into, and `from` several, `(a b)`, that become one, the last fastest.",
        ),
        of(
            Values,
            "size",
            &["size(axis)", "size(x, axis)", "size(list)"],
            "How many entries an axis has, an axis of this value, or a list.",
        ),
        of(Values, "axes", &["axes(x)"], "The axes of a value, where a function takes axes: `mean(x, axes(v))`."),
        of(
            Values,
            "index",
            &["index(axis)", "index(x)"],
            "0, 1, 2, ... along an axis, or through all elements of a value, the last axis fastest.",
        ),
        of(
            Values,
            "top",
            &["top(n, tensor)"],
            "A condition over the axes of a declared tensor or family: whether an entry is among the `n` largest, over \
             all layers together; of equals the first. `print top(n, tensor)` lists them.",
        ),
        of(Values, "bottom", &["bottom(n, tensor)"], "The same as `top` for the `n` smallest."),
        of(
            Values,
            "random",
            &["random(n, tensor, seed)"],
            "The same as `top` for any `n` entries, by a seed: a control.",
        ),
        of(
            Values,
            "direct_logit",
            &["direct_logit(x, token)"],
            "In a metric: what `x`, a value with the axis `d_model`, adds to a token's logit by itself, through the last norm at the \
             scale that it has on this row (Elhage et al., 2021).",
        ),
        of(
            Tensors,
            "pca",
            &["pca(data, component = 0)", "pca(a, b)"],
            "A principal component of a data set's rows about their mean, or of the differences of two sets' rows in \
             pairs; of length one (Zou et al., 2023, for pairs).",
        ),
        of(
            Tensors,
            "total",
            &["total(data)"],
            "The sum over the selected rows of a text, on the average of the texts of a data set.",
        ),
        of(
            Tensors,
            "load",
            &["load(path)", "load(path, key, shift = 0)"],
            "A tensor of a file: safetensors, GGUF, npy, npz, or what `torch.save` has written. `shift` is added to the \
             layer's number in path and key.",
        ),
        of(
            Texts,
            "chat",
            &["chat(ROLE = text, ..., open = true)"],
            "A conversation, of which the model's own chat template makes a text; of a data set one for each example.",
        ),
        of(
            Metrics,
            "logit",
            &["logit(token)", "logit(token, of = SITE, norm = true)"],
            "The score of a token at the next position, before the softmax; with `of` as if SITE were the residual \
             stream behind the last block (the logit lens).",
        ),
        of(
            Metrics,
            "log_prob",
            &["log_prob(token)", "log_prob(token, of = SITE, norm = true)"],
            "The natural logarithm of a token's probability at the next position.",
        ),
        of(
            Metrics,
            "prob",
            &["prob(token)", "prob(token, of = SITE, norm = true)"],
            "The probability of a token at the next position.",
        ),
        of(
            Metrics,
            "rank",
            &["rank(token)", "rank(token, of = SITE, norm = true)"],
            "How many tokens are likelier at the next position: 0 is the likeliest.",
        ),
        of(
            Metrics,
            "kl",
            &["kl(run)"],
            "The divergence KL(that run ‖ this run) of the next token's distributions, in nats.",
        ),
        of(
            Metrics,
            "cross_entropy",
            &["cross_entropy()"],
            "The negative log-probability of the sequence's own next token, in nats.",
        ),
        of(Data, "lines", &["lines(path)"], "The lines of a text file that are not empty, a text each."),
        of(Data, "jsonl", &["jsonl(path)"], "An example a line: an object of JSON with its fields."),
        of(Data, "csv", &["csv(path)"], "An example a row, with the fields that the first line names."),
        of(Data, "parquet", &["parquet(path)"], "An example a row, with the columns as fields."),
        of(
            Data,
            "template",
            &["template(text, data)", "template(FIELD = text, ..., data)"],
            "The examples of a data set with a text whose slots, `{field}`, are filled with their fields.",
        ),
        of(
            Data,
            "tokens",
            &["tokens(run)"],
            "The positions of a run as the entries of a sweep, labelled by their tokens: `t in tokens(run)`.",
        ),
        of(
            Models,
            "weight",
            &["weight(name, axes)"],
            "A tensor of the checkpoint with these axes; those in parentheses are laid out as one, the last fastest.",
        ),
        of(Models, "stored", &["stored(name)"], "Whether the weight files have a tensor of this name."),
        of(
            Models,
            "given",
            &["given(config.KEY)"],
            "Whether the configuration has a key at all; with `none` it has it, too.",
        ),
        of(
            Models,
            "linear",
            &["linear(x, w, over, active)"],
            "The product with a weight over the axes that both have, or over those of `over`; `active` leaves out batch \
             entries (experts) where it is 0.",
        ),
        of(Models, "lookup", &["lookup(table, index)"], "A row of a table, by the row's own number."),
        of(
            Models,
            "attend",
            &["attend(q, k, v, scale, window, |scores| { ... }, causal = true)"],
            "Attention over the rows before, or with `causal = false` over the whole text: the body turns scores into \
             the pattern, and may declare sites.",
        ),
        of(
            Models,
            "conv1d",
            &["conv1d(x, taps)", "conv1d(x, taps, |window| { ... })"],
            "A causal convolution along the rows, one filter a channel; the body may declare the window as a site.",
        ),
        of(
            Models,
            "scan",
            &["scan([axes], |state| { ... })"],
            "A state carried from row to row: the body gives `[new state, result]`.",
        ),
        of(Models, "table", &["table([axis = n], |i| { ... })"], "Numbers by index, computed by the compiler."),
        of(
            Models,
            "held",
            &["held(x)"],
            "`x` itself; where `direct_logit` follows a value through a norm, what the model has there instead: so the \
             norm's scale is held.",
        ),
        of(
            Models,
            "longest",
            &["longest(n, why)"],
            "Says how many tokens a text may have, and what stands against more.",
        ),
        of(Models, "forbid", &["forbid(token, why)"], "Says that no text may have a token, and why."),
        of(Models, "fail", &["fail(message)"], "Refuses the configuration, from inside of an expression."),
    ]
};

/// The names of those that are called in expressions whatever reads them.
pub const NAMES: &[&str] = &names::<{ count(false) }>(false);

/// The names of those that read the model's output, in a metric alone.
pub const OF_METRICS: &[&str] = &names::<{ count(true) }>(true);

/// Whether a function belongs to one of the two lists.
const fn listed(f: &Function, metrics: bool) -> bool {
    matches!(f.group, Group::Metrics) == metrics && !matches!(f.group, Group::Data)
}

const fn count(metrics: bool) -> usize {
    let (mut i, mut n) = (0, 0);
    while i < FUNCTIONS.len() {
        n += listed(&FUNCTIONS[i], metrics) as usize;
        i += 1;
    }
    n
}

const fn names<const N: usize>(metrics: bool) -> [&'static str; N] {
    let (mut out, mut i, mut n) = ([""; N], 0, 0);
    while i < FUNCTIONS.len() {
        if listed(&FUNCTIONS[i], metrics) {
            out[n] = FUNCTIONS[i].name;
            n += 1;
        }
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_is_listed_once_and_says_how_it_is_called() {
        let mut seen = BTreeSet::new();
        for f in FUNCTIONS {
            assert!(seen.insert(f.name), "{} is listed twice", f.name);
            assert!(!f.forms.is_empty() && f.about.ends_with('.'), "{}", f.name);
            for form in f.forms {
                let args = form.strip_prefix(f.name).and_then(|rest| rest.strip_prefix('('));
                assert!(args.is_some_and(|a| a.ends_with(')')), "{form}");
            }
        }
        assert_eq!(OF_METRICS, ["logit", "log_prob", "prob", "rank", "kl", "cross_entropy"]);
        assert_eq!(NAMES.len() + OF_METRICS.len() + 6, FUNCTIONS.len());
        assert!(NAMES.contains(&"direct_logit") && !NAMES.contains(&"lines"));
    }
}
