//! Uses per day in one line of blocks.
//!
//! A day without use is a dot, not the lowest block: silence is what the reader looks for. When there are more days
//! than columns, each column stands for the same number of days, and the last one ends with the last day.

/// Blocks, by eighths.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// A column without use.
const NONE: char = '·';

/// A line of blocks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparkline {
    /// At most as many characters as there were columns.
    pub(super) line: String,
    /// How many days each stands for.
    pub(super) days_a_column: usize,
}

/// Draws `values` in at most `columns`.
pub(super) fn sparkline(values: &[u64], columns: usize) -> Sparkline {
    let days_a_column = values.len().div_ceil(columns.max(1)).max(1);
    // `rchunks` begins at the end, so that only the oldest column may stand for fewer days.
    let mut sums: Vec<u64> = values
        .rchunks(days_a_column)
        .map(|days| days.iter().fold(0, |sum: u64, uses| sum.saturating_add(*uses)))
        .collect();
    sums.reverse();
    let most = sums.iter().copied().max().unwrap_or(0);
    Sparkline { line: sums.iter().map(|uses| block(*uses, most)).collect(), days_a_column }
}

fn block(value: u64, most: u64) -> char {
    if value == 0 {
        return NONE;
    }
    let eighths = (u128::from(value) * 8).div_ceil(u128::from(most));
    usize::try_from(eighths).ok().and_then(|eighths| BLOCKS.get(eighths.saturating_sub(1))).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_shows_silence_as_dots_and_any_use_as_a_block() {
        assert_eq!(sparkline(&[0, 1, 500, 1_000, 0], 10).line, "·▁▄█·");
        assert_eq!(sparkline(&[0, 0], 10).line, "··");
        assert_eq!(sparkline(&[], 10).line, "");
        assert_eq!(sparkline(&[u64::MAX, u64::MAX, 1, 0], 2).line, "█▁", "sums that overflow stay at the top");
    }

    #[test]
    fn sparkline_puts_more_days_into_a_column_when_there_is_no_room() {
        let drawn = sparkline(&[9, 0, 0, 3, 4], 3);
        assert_eq!(drawn, Sparkline { line: "█·▇".to_owned(), days_a_column: 2 });
        let year = sparkline(&[1; 365], 70);
        assert_eq!((year.days_a_column, year.line.chars().count()), (6, 61));
    }
}
