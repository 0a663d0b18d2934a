//! Colours that readers with colour-blindness tell apart: palettes, and what terminals can show of them.

/// A colour in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rgb(pub u8, pub u8, pub u8);

/// Viridis at 17 even places (Smith and van der Walt, 2015): even steps of lightness, in every kind of sight.
const SEQUENTIAL: [u32; 17] = [
    0x440154, 0x48186a, 0x472d7b, 0x424086, 0x3b528b, 0x33638d, 0x2c728e, 0x26828e, 0x21918c, 0x1fa088, 0x28ae80,
    0x3fbc73, 0x5ec962, 0x84d44b, 0xaddc30, 0xd8e219, 0xfde725,
];

/// ColorBrewer's red to blue (Brewer, 2003), nearly white in the middle.
const DIVERGING: [u32; 11] =
    [0x67001f, 0xb2182b, 0xd6604d, 0xf4a582, 0xfddbc7, 0xf7f7f7, 0xd1e5f0, 0x92c5de, 0x4393c3, 0x2166ac, 0x053061];

/// Okabe and Ito's colours (2008) but for yellow, which is hard to see on white.
const SERIES: [u32; 7] = [0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x666666];

/// Cells that were not computed.
pub(crate) const ABSENT: Rgb = Rgb(0xd4, 0xd4, 0xd4);

impl Rgb {
    fn of(hex: u32) -> Rgb {
        Rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
    }

    pub(crate) fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    /// Black or white, whichever is read more easily on this colour.
    pub(crate) fn ink(self) -> Rgb {
        let linear = |c: u8| (f64::from(c) / 255.0).powf(2.2);
        let light = 0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2);
        if light > 0.19 { Rgb(0x14, 0x14, 0x14) } else { Rgb(0xff, 0xff, 0xff) }
    }
}

fn between(palette: &[u32], at: f64) -> Rgb {
    let place = at.clamp(0.0, 1.0) * (palette.len() - 1) as f64;
    let left = (place.floor() as usize).min(palette.len() - 2);
    let share = place - left as f64;
    let (a, b) = (Rgb::of(palette[left]), Rgb::of(palette[left + 1]));
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
    Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// From small (0) to large (1).
pub(crate) fn sequential(at: f64) -> Rgb {
    between(&SEQUENTIAL, at)
}

/// From negative (0, red) over zero (0.5, nearly white) to positive (1, blue).
pub(crate) fn diverging(at: f64) -> Rgb {
    between(&DIVERGING, at)
}

/// How many series have a colour of their own; where there are more, their order is a scale.
pub(crate) const OWN: usize = SERIES.len();

/// The colour of one series of several.
pub(crate) fn series(index: usize, of: usize) -> Rgb {
    match of <= OWN {
        true => Rgb::of(SERIES[index % OWN]),
        // The ends of the palette are too dark for lines on black and too light for white.
        false => sequential(0.1 + 0.8 * index as f64 / (of - 1) as f64),
    }
}

/// What a terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    #[default]
    None,
    Ansi16,
    Ansi256,
    True,
}

impl Color {
    /// What an output can show, by what is usual in the environment (`NO_COLOR`, `FORCE_COLOR`, `COLORTERM`, `TERM`);
    /// `var` looks a variable up.
    pub fn of(terminal: bool, var: impl Fn(&str) -> Option<String>) -> Color {
        let value = |name: &str| var(name).unwrap_or_default().to_ascii_lowercase();
        let (term, depth) = (value("TERM"), value("COLORTERM"));
        let forced = !matches!(value("FORCE_COLOR").as_str(), "" | "0");
        if !value("NO_COLOR").is_empty() || term == "dumb" || !(terminal || forced) {
            return Color::None;
        }
        match () {
            () if matches!(depth.as_str(), "truecolor" | "24bit") => Color::True,
            () if term.contains("direct") || !value("WT_SESSION").is_empty() => Color::True,
            () if term.contains("256") => Color::Ansi256,
            () => Color::Ansi16,
        }
    }

    /// Text with this ink on this ground.
    pub(crate) fn paint(self, text: &str, ink: Option<Rgb>, ground: Option<Rgb>) -> String {
        let mut codes = Vec::new();
        codes.extend(ink.and_then(|c| self.code(c, 30)));
        codes.extend(ground.and_then(|c| self.code(c, 40)));
        match codes.is_empty() {
            true => text.to_string(),
            false => format!("\u{1b}[{}m{text}\u{1b}[0m", codes.join(";")),
        }
    }

    /// Text that stands back.
    pub(crate) fn faint(self, text: &str) -> String {
        match self == Color::None || text.trim().is_empty() {
            true => text.to_string(),
            false => format!("\u{1b}[2m{text}\u{1b}[0m"),
        }
    }

    /// Text that stands out.
    pub(crate) fn strong(self, text: &str) -> String {
        match self == Color::None || text.is_empty() {
            true => text.to_string(),
            false => format!("\u{1b}[1m{text}\u{1b}[0m"),
        }
    }

    /// The parameters that choose a colour; `base` is 30 for ink and 40 for the ground.
    fn code(self, c: Rgb, base: u8) -> Option<String> {
        match self {
            Color::None => None,
            Color::True => Some(format!("{};2;{};{};{}", base + 8, c.0, c.1, c.2)),
            Color::Ansi256 => Some(format!("{};5;{}", base + 8, nearest_256(c))),
            Color::Ansi16 => {
                let n = nearest_16(c);
                Some((u32::from(base) + if n < 8 { n } else { n - 8 + 60 }).to_string())
            }
        }
    }
}

fn distance(a: Rgb, b: Rgb) -> u32 {
    let square = |a: u8, b: u8| (i32::from(a) - i32::from(b)).pow(2) as u32;
    2 * square(a.0, b.0) + 4 * square(a.1, b.1) + 3 * square(a.2, b.2)
}

/// The nearest of the 6×6×6 cube and the greys of 256-colour terminals.
fn nearest_256(c: Rgb) -> u32 {
    const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let cube = (0..216u32).map(|n| {
        let of = |d: u32| STEPS[(n / d % 6) as usize];
        (16 + n, Rgb(of(36), of(6), of(1)))
    });
    let greys = (0..24u32).map(|n| (232 + n, Rgb((8 + 10 * n) as u8, (8 + 10 * n) as u8, (8 + 10 * n) as u8)));
    cube.chain(greys).min_by_key(|(_, other)| distance(c, *other)).map_or(7, |(n, _)| n)
}

/// One of the 16 colours by hue: the nearest one by distance would mostly be a grey.
fn nearest_16(c: Rgb) -> u32 {
    let (r, g, b) = (f64::from(c.0), f64::from(c.1), f64::from(c.2));
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let spread = most - least;
    if spread < 0.25 * most || most < 50.0 {
        return match most {
            235.0.. => 15,
            150.0.. => 7,
            75.0.. => 8,
            _ => 0,
        };
    }
    let turn = match () {
        () if most == r => ((g - b) / spread).rem_euclid(6.0),
        () if most == g => (b - r) / spread + 2.0,
        () => (r - g) / spread + 4.0,
    };
    let hue = match turn * 60.0 {
        ..30.0 | 330.0.. => 1,
        ..75.0 => 3,
        ..165.0 => 2,
        ..195.0 => 6,
        ..285.0 => 4,
        _ => 5,
    };
    if most > 205.0 { hue + 8 } else { hue }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palettes_pass_through_their_ends_and_middle() {
        assert_eq!(sequential(0.0), Rgb(0x44, 0x01, 0x54));
        assert_eq!(sequential(7.0), Rgb(0xfd, 0xe7, 0x25));
        assert_eq!(diverging(0.5), Rgb(0xf7, 0xf7, 0xf7));
        assert_eq!(diverging(1.0).ink(), Rgb(255, 255, 255));
        assert_ne!(series(0, 7), series(1, 7));
        assert_eq!(series(39, 40), sequential(0.9));
    }

    #[test]
    fn the_environment_says_what_is_shown() {
        let of = |terminal, vars: &[(&str, &str)]| {
            Color::of(terminal, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
        };
        assert_eq!(of(false, &[("COLORTERM", "truecolor")]), Color::None);
        assert_eq!(of(false, &[("FORCE_COLOR", "1"), ("TERM", "xterm-256color")]), Color::Ansi256);
        assert_eq!(of(true, &[("COLORTERM", "truecolor"), ("NO_COLOR", "1")]), Color::None);
        assert_eq!(of(true, &[("COLORTERM", "truecolor"), ("TERM", "dumb")]), Color::None);
        assert_eq!(of(true, &[("COLORTERM", "truecolor"), ("NO_COLOR", "")]), Color::True);
        assert_eq!(of(true, &[("TERM", "xterm")]), Color::Ansi16);
    }

    #[test]
    fn each_depth_has_its_codes() {
        let red = Rgb(0xb2, 0x18, 0x2b);
        assert_eq!(Color::True.paint("x", Some(red), None), "\u{1b}[38;2;178;24;43mx\u{1b}[0m");
        assert_eq!(Color::Ansi256.paint("x", None, Some(red)), "\u{1b}[48;5;124mx\u{1b}[0m");
        assert_eq!(Color::Ansi16.paint("x", None, Some(red)), "\u{1b}[41mx\u{1b}[0m");
        assert_eq!(Color::None.paint("x", Some(red), Some(red)), "x");
        let colors = |of: fn(f64) -> Rgb| [0.0, 0.3, 0.5, 0.7, 1.0].map(|at| nearest_16(of(at)));
        assert_eq!(colors(diverging), [1, 9, 15, 12, 4], "red, bright red, white, bright blue, blue");
        assert_eq!(colors(sequential), [5, 4, 6, 2, 11], "magenta, blue, cyan, green, bright yellow");
    }
}
