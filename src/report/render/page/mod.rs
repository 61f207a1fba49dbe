//! The report as one HTML page: a file that can be mailed and printed, and the live page of the admin listener.
//!
//! Promise: the page loads nothing from anywhere, and nothing that a log says is ever taken for markup. Every string of a
//! report comes from strangers: it goes through `words::visible` and maud's escaping, and `PreEscaped` is for this
//! folder's own style and script alone. The trap: the page's security policy allows that style and that script by their
//! hashes and nothing else, so a `style` attribute has no effect; drawings use presentation attributes and classes.

mod banner;
mod calendar;
mod chart;
mod client;
mod clients;
mod coverage;
mod heat;
mod method;
mod phases;
#[cfg(test)]
mod sample;
mod words;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use self::calendar::Calendar;
use crate::report::outcome::Report;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("live.js");

/// What the page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A file of its own, without a script.
    File,
    /// Served at `/` by the admin listener, which also serves [`fragment`] at `/fragment`: a small script fetches that
    /// every 10 s and puts it in place.
    Live,
}

/// The whole page.
#[must_use]
pub fn document(report: &Report, mode: Mode) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy(mode));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                title { (title(report)) }
                // Without it browsers ask the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                div.top {
                    p.brand { "sse-sunset " span { "report" } }
                    @if mode == Mode::Live {
                        p #live role="status" { "Live" }
                        noscript { p { "Without JavaScript this page does not refresh itself: reload it." } }
                    }
                }
                main { (body(report)) }
                @if mode == Mode::Live {
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
    };
    page.into_string()
}

/// What stands in the page's `<main>`, for the live page to refresh itself with.
#[must_use]
pub fn fragment(report: &Report) -> String {
    body(report).into_string()
}

/// The value of `Content-Security-Policy` to send with the page. The page carries it too, as far as a page can.
#[must_use]
pub fn content_security_policy(mode: Mode) -> String {
    // This one means nothing inside a page, and browsers complain when it stands there.
    format!("{}; frame-ancestors 'none'", policy(mode))
}

fn policy(mode: Mode) -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    let style = hash(STYLE);
    let rest = "img-src data:; base-uri 'none'; form-action 'none'";
    match mode {
        Mode::File => format!("default-src 'none'; style-src {style}; {rest}"),
        Mode::Live => {
            format!("default-src 'none'; style-src {style}; script-src {}; connect-src 'self'; {rest}", hash(SCRIPT))
        }
    }
}

fn title(report: &Report) -> String {
    format!("{} – can SSE be switched off?", report.verdict.title())
}

fn body(report: &Report) -> Markup {
    let calendar = Calendar::of(report);
    html! {
        (chart::patterns())
        (banner::banner(report, &title(report)))
        (banner::blockers(report))
        (banner::notes(report))
        (chart::uses(report, &calendar))
        (phases::section(report, &calendar))
        (heat::map(report, &calendar))
        (coverage::strip(report, &calendar))
        (clients::table(report))
        (clients::noise(report))
        (coverage::details(report))
        (method::input(report))
        (method::method(report))
        (method::making(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_without_a_single_client_says_so() {
        let page = document(&sample::empty(), Mode::File);
        for text in ["UNKNOWN", "No legacy client came in this time", "No replica has left a record"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("<script"), "a file has no script");
    }

    #[test]
    fn strings_of_strangers_never_become_markup() {
        let page =
            document(&sample::hostile("<script>alert(1)</script>\"><img src=x onerror=alert(1)>\u{202e}"), Mode::File);
        let inside = page.split_once("</style>").expect("a style").1;
        for markup in ["<script", "<img", "\"><img", "\u{202e}"] {
            let found = inside.find(markup).map(|at| &inside[at..(at + 80).min(inside.len())]);
            assert_eq!(found, None, "{markup}");
        }
        assert!(
            inside
                .contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img src=x onerror=alert(1)&gt;\\u{202e}")
        );
    }

    #[test]
    fn ten_thousand_clients_make_a_page_that_opens() {
        let page = document(&sample::crowd(10_000), Mode::File);
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
        assert!(page.contains("and 9,800 more"), "what is left out is said");
    }

    #[test]
    fn policy_names_what_the_page_holds_and_nothing_else() {
        let page = document(&sample::empty(), Mode::Live);
        let between = |open: &str, close: &str| {
            let (_, rest) = page.split_once(open).expect(open);
            rest.split_once(close).expect(close).0.to_owned()
        };
        let policy = content_security_policy(Mode::Live);
        for text in [between("<style>", "</style>"), between("<script>", "</script>")] {
            let hash = STANDARD.encode(digest(&SHA256, text.as_bytes()));
            assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none'; ") && policy.ends_with("frame-ancestors 'none'"));
        assert!(!content_security_policy(Mode::File).contains("script-src"));
        assert!(!page.contains(" style="), "style attributes have no effect under this policy");
    }

    #[test]
    fn fragment_is_what_the_page_holds() {
        let report = sample::with_a_gap();
        let fragment = fragment(&report);
        for mode in [Mode::File, Mode::Live] {
            assert!(document(&report, mode).contains(&format!("<main>{fragment}</main>")));
        }
    }
}
