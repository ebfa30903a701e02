//! Tables for people: aligned columns, cut to the width of a terminal, never cut elsewhere.
//!
//! A cell is plain text with an optional colour that is put on after the widths are known, so colour never moves a
//! column. The last column takes what is left of a line, and each column but the first gives way before it does.

use crate::output::{Paint, clean};

/// How a cell is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As the terminal has it.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// It may be well soon.
    Doubtful,
    /// Not well.
    Bad,
    /// Of less weight.
    Faint,
}

impl Tone {
    /// Puts the colour on.
    pub(crate) fn apply(self, paint: Paint, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Good => paint.green(text),
            Self::Doubtful => paint.yellow(text),
            Self::Bad => paint.red(text),
            Self::Faint => paint.dim(text),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell of that tone.
    pub(crate) fn toned(text: &str, tone: Tone) -> Self {
        Self { text: clean(text), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// A table with a head line.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// What stands between two columns.
const GAP: usize = 2;
/// No column is cut to less than this.
const COLUMN_MIN: usize = 6;

impl Table {
    /// A table with those columns.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines. `columns` is the width of the terminal, if there is one.
    pub(crate) fn render(&self, paint: Paint, columns: Option<usize>) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|title| width(title)).collect();
        for row in &self.rows {
            for (cell, widest) in row.iter().zip(&mut widths) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
        if let Some(columns) = columns {
            fit(&mut widths, columns);
        }
        let mut text = line(&widths, self.head.iter().map(|title| ((*title).to_owned(), Tone::Faint)), paint);
        for row in &self.rows {
            text.push_str(&line(&widths, row.iter().map(|cell| (cell.text.clone(), cell.tone)), paint));
        }
        text
    }
}

/// Takes from the widest column, the last among equals first, until the line fits or no column can give more.
fn fit(widths: &mut [usize], columns: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > columns {
        match widths.iter_mut().max_by_key(|width| **width) {
            Some(widest) if *widest > COLUMN_MIN => *widest -= 1,
            Some(_) | None => return,
        }
    }
}

fn line(widths: &[usize], cells: impl Iterator<Item = (String, Tone)>, paint: Paint) -> String {
    let mut text = String::new();
    let mut padding = 0;
    for ((cell, tone), &room) in cells.zip(widths) {
        let cell = cut(&cell, room);
        if !cell.is_empty() {
            text.push_str(&" ".repeat(padding));
            text.push_str(&tone.apply(paint, &cell));
            padding = 0;
        }
        padding += room.saturating_sub(width(&cell)) + GAP;
    }
    text.push('\n');
    text
}

/// The columns that a text takes, one a character: names are hardly ever wider.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", "STATE", "HOST"]);
        table.row(vec!["shop@10.0.0.4".into(), Cell::toned("up", Tone::Good), "10.0.0.4".into()]);
        table.row(vec!["b@c".into(), Cell::toned("down", Tone::Bad), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let text = sample().render(Paint::PLAIN, None);
        assert_eq!(text, "NAME           STATE  HOST\nshop@10.0.0.4  up     10.0.0.4\nb@c            down\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column() {
        let text = sample().render(Paint::PLAIN, Some(24));
        assert!(text.lines().all(|line| width(line) <= 24), "{text}");
        assert!(text.contains("shop@10…"), "{text}");
    }

    #[test]
    fn a_terminal_too_narrow_for_anything_still_ends() {
        assert!(!sample().render(Paint::PLAIN, Some(1)).is_empty());
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        let mut table = Table::new(&["A"]);
        table.row(vec!["x\ny\x1b[2J".into()]);
        assert_eq!(table.render(Paint::PLAIN, None).lines().count(), 2);
    }
}
