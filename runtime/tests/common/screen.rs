//! A terminal, as far as the escapes go that this program writes.

/// What has been written to a terminal: its lines, those that scrolled away included, and the cursor.
pub struct Screen {
    columns: usize,
    rows: usize,
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    pub fn new(columns: usize, rows: usize) -> Self {
        Screen { columns, rows, lines: vec![Vec::new()], row: 0, column: 0 }
    }

    /// Writes text and escapes. What cannot be right is a panic: a line that wraps, or a cursor that goes
    /// where everything has scrolled away.
    pub fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\x1b' => {
                    let escape = rest.strip_prefix('[').unwrap_or_else(|| panic!("an escape before {rest:?}"));
                    let end = escape.find(|c: char| c.is_ascii_alphabetic()).expect("it ends");
                    self.escape(&escape[..end], &escape[end..=end]);
                    rest = &escape[end + 1..];
                }
                '\r' => self.column = 0,
                '\n' => {
                    self.row += 1;
                    if self.row == self.lines.len() {
                        self.lines.push(Vec::new());
                    }
                }
                _ => {
                    let line = &mut self.lines[self.row];
                    if line.len() <= self.column {
                        line.resize(self.column + 1, ' ');
                    }
                    line[self.column] = c;
                    self.column += 1;
                    assert!(self.column <= self.columns, "a line wraps: {}", line.iter().collect::<String>());
                }
            }
        }
    }

    fn escape(&mut self, given: &str, command: &str) {
        match (command, given) {
            ("A", n) => {
                let n: usize = n.parse().unwrap_or(1);
                assert!(self.row >= n && self.row - n + self.rows >= self.lines.len(), "it has scrolled away");
                self.row -= n;
            }
            ("K", "" | "0") => self.lines[self.row].truncate(self.column),
            ("K", "2") => self.lines[self.row].clear(),
            ("J", "" | "0") => {
                self.lines[self.row].truncate(self.column);
                self.lines.truncate(self.row + 1);
            }
            // Colours, and whether lines wrap.
            ("m", _) | ("l" | "h", "?7") => {}
            _ => panic!("the escape {given}{command}"),
        }
    }

    /// All lines, without spaces at their ends.
    pub fn text(&self) -> String {
        let lines: Vec<String> =
            self.lines.iter().map(|l| l.iter().collect::<String>().trim_end().to_string()).collect();
        lines.join("\n")
    }
}
