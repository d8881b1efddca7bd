//! Printing.

use std::io::IsTerminal as _;

use serde::Serialize;

use super::Failure;

/// Prints `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Whether a person looks at standard error and wants colour (<https://no-color.org>).
pub(super) fn is_colourful() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints rows in columns that are as wide as their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes in the unit that leaves one to four digits.
pub(super) fn bytes(count: u64) -> String {
    let units =
        [("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000)];
    let (unit, size) = units.into_iter().rev().find(|(_, size)| count >= *size).unwrap_or(units[0]);
    if size == 1 {
        return format!("{count} {unit}");
    }
    let tenths = count * 10 / size;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_their_largest_unit() {
        let shown = [0, 999, 1_000, 1_250_000, 999_999_999, 3_200_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.2 MB", "999.9 MB", "3.2 GB"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["A".into(), "LONG".into()], vec!["alice".into(), "x".into()]];
        assert_eq!(table(&rows), "A      LONG\nalice  x\n");
    }
}
