//! What a person sees, whole, and what no name may do to it.

use proptest::prelude::*;

use super::super::safe::width;
use super::super::sample::{client, empty, expect, rich};
use super::*;
use crate::report::outcome::Grade;

fn plain(report: &Report, width: usize) -> String {
    text(report, Style { width, colour: false })
}

#[test]
fn text_of_a_rich_report_at_80_columns() {
    expect("rich-80.txt", &plain(&rich(), 80));
}

#[test]
fn text_of_a_rich_report_at_120_columns() {
    expect("rich-120.txt", &plain(&rich(), 120));
}

#[test]
fn text_of_a_rich_report_at_200_columns() {
    expect("rich-200.txt", &plain(&rich(), 200));
}

#[test]
fn text_of_an_empty_report_says_what_to_do() {
    expect("empty-80.txt", &plain(&empty(), 80));
}

#[test]
fn text_says_the_verdict_in_words_whatever_it_is() {
    for verdict in Verdict::ALL {
        let report = Report { verdict, ..rich() };
        assert!(plain(&report, 80).starts_with(&format!("{}: ", verdict.title())));
    }
}

/// `text` without the colours that this module uses.
fn uncoloured(text: &str) -> String {
    let mut plain = String::new();
    for (index, piece) in text.split("\u{1b}[").enumerate() {
        let rest = if index == 0 { Some(piece) } else { piece.split_once('m').map(|(_, rest)| rest) };
        plain.push_str(rest.expect("an escape ends"));
    }
    plain
}

#[test]
fn text_with_colour_says_the_same() {
    for report in [rich(), empty()] {
        let coloured = text(&report, Style { width: 100, colour: true });
        assert!(coloured.contains("\u{1b}[1;3"));
        assert_eq!(uncoloured(&coloured), plain(&report, 100));
    }
    assert!(text(&rich(), Style { width: 100, colour: true }).contains("\u{1b}[1;31mblocks\u{1b}[0m"));
}

#[test]
fn text_without_colour_has_no_escape() {
    assert!(!plain(&rich(), 80).contains('\u{1b}'));
}

/// Puts `text` wherever a stranger's text can stand.
fn taint(report: &mut Report, text: &str) {
    for place in [&mut report.reason, &mut report.next] {
        *place = format!("{text} and {place}");
    }
    report.notes.push(text.to_owned());
    report.input.problems.push(text.to_owned());
    report.coverage.holes.push(text.to_owned());
    report.coverage.missing_boots.push(text.to_owned());
    for replica in &mut report.coverage.replicas {
        text.clone_into(&mut replica.instance);
    }
    for change in &mut report.phases.changes {
        (change.phase, change.by, change.why) = (text.to_owned(), text.to_owned(), Some(text.to_owned()));
    }
    for hit in report.dry_run.iter_mut().flat_map(|run| &mut run.listed) {
        text.clone_into(&mut hit.identity);
    }
    for client in &mut report.clients {
        text.clone_into(&mut client.name);
        text.clone_into(&mut client.family);
        client.evidence = Some(text.to_owned());
    }
}

#[test]
fn text_obeys_no_name() {
    for hostile in
        ["\u{1b}[2J\u{1b}]0;owned\u{7}", "a\r\nSAFE: go on", "\u{9b}31m", "\u{202e}EFAS", "tab\there", "\u{7f}\u{0}"]
    {
        let mut report = rich();
        taint(&mut report, hostile);
        let text = plain(&report, 120);
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{hostile:?} came through");
        assert!(!text.lines().any(|line| line.starts_with("SAFE")), "{hostile:?} made a line");
    }
}

#[test]
fn text_folds_noise_when_there_is_much_of_it() {
    let mut report = rich();
    let noise = report.clients.pop().expect("the noise");
    report.clients.extend((0..30).map(|number| Client {
        name: format!("bot-{number}"),
        principals: 2,
        ..noise.clone()
    }));
    report.clients.extend((0..25).map(|number| client(&format!("old-{number}"))));
    report.clients_hidden = 7;
    let text = plain(&report, 100);
    assert!(!text.contains("bot-"), "noise has no rows");
    assert!(text.contains("and 30 anonymous clients that never used the server (noise), from 60 addresses"), "{text}");
    // Twenty rows: the waived one, the one that looked, and eighteen quiet ones of 26.
    assert!(text.contains("and 8 clients that have been quiet for long enough"), "{text}");
    assert!(text.contains("7 clients are left out here"), "{text}");
    for blocking in ["Cursor via mcp-remote", "reporting", "team-"] {
        assert!(text.lines().any(|line| line.contains(blocking)), "{blocking} is shown");
    }
}

#[test]
fn text_says_how_many_blocking_clients_have_no_row() {
    let mut report = rich();
    let state = State::Blocking;
    report.clients = (0..1_000).map(|number| Client { state, ..client(&format!("c-{number}")) }).collect();
    let text = plain(&report, 80);
    assert!(text.contains("and 980 clients that block: --format csv lists all"), "{text}");
    assert!(text.contains("c-0, c-1, c-2, c-3 and 996 more"), "{text}");
    assert!(text.lines().count() <= 74, "{} lines:\n{text}", text.lines().count());
}

#[test]
fn text_tells_the_grade_of_access_logs() {
    let report = Report { grade: Grade::AccessLog, ..rich() };
    assert!(plain(&report, 200).contains("from access logs of an old server: a lower grade"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn text_is_never_wider_than_the_terminal(name in any::<String>(), columns in 40_usize..200) {
        let mut report = rich();
        taint(&mut report, &name);
        for line in plain(&report, columns).lines().filter(|line| !line.starts_with("Next")) {
            prop_assert!(width(line) <= columns, "{} columns at {columns}: {line:?}", width(line));
        }
    }

    #[test]
    fn text_is_never_wider_with_wide_and_combining_names(name in "[東🦀ｱé\u{301}\u{e31}a ]{0,80}", columns in 40_usize..200) {
        let mut report = rich();
        taint(&mut report, &name);
        for line in plain(&report, columns).lines().filter(|line| !line.starts_with("Next")) {
            prop_assert!(width(line) <= columns, "{} columns at {columns}: {line:?}", width(line));
        }
    }
}
