//! What the page looks like: on a telephone and on a wide screen, in light and in dark.

use sse_sunset::report::outcome::{Report, Verdict};
use sse_sunset::report::render::page::{Mode, document};

use crate::browser::Browser;
use crate::reports;
use crate::tab::Tab;

const PHONE: (u32, u32) = (360, 740);
const DESK: (u32, u32) = (1440, 900);
/// Between the two: the widest screen on which rows are cards, and the narrowest on which they are not.
const BETWEEN: [(u32, u32); 3] = [(768, 1024), (1216, 800), (1217, 800)];

fn every() -> [(&'static str, Report); 4] {
    [
        ("rich", reports::rich()),
        ("empty", reports::empty()),
        ("safe", reports::safe(Verdict::Safe)),
        ("notes", reports::safe(Verdict::SafeWithNotes)),
    ]
}

fn unfold(tab: &mut Tab, open: bool) {
    tab.ask(&format!("document.querySelectorAll('details').forEach((one) => {{ one.open = {open}; }})"));
}

pub(crate) fn is_sound(tab: &mut Tab, what: &str) {
    for probe in ["probes.overflow()", "probes.collisions()", "probes.contrast(4.5)", "probes.shapes(3)"] {
        let complaints = tab.complaints(probe);
        assert!(complaints.is_empty(), "{what}: {probe}: {complaints:#?}");
    }
}

#[test]
fn page_is_readable_on_every_screen_in_light_and_dark() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(DESK.0, DESK.1);
    for (name, report) in every() {
        tab.show(&document(&report, Mode::File));
        for scheme in ["light", "dark"] {
            tab.media(scheme, "screen");
            for (width, height) in [PHONE, DESK].into_iter().chain(BETWEEN) {
                tab.resize(width, height);
                let what = format!("{name}-{scheme}-{width}");
                unfold(&mut tab, false);
                if (width, height) == PHONE || (width, height) == DESK {
                    tab.photograph(&format!("{what}-first"), false);
                    tab.photograph(&what, true);
                }
                is_sound(&mut tab, &what);
                unfold(&mut tab, true);
                is_sound(&mut tab, &format!("{what}, unfolded"));
                if (width, height) == PHONE || (width, height) == DESK {
                    tab.photograph(&format!("{what}-unfolded"), true);
                }
            }
        }
        assert_eq!(tab.complaints("probes.structure()"), [""; 0], "{name}");
    }
    assert_eq!(tab.reported(), [""; 0]);
}

#[test]
fn page_asks_for_nothing_but_itself() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(DESK.0, DESK.1);
    tab.show(&document(&reports::rich(), Mode::File));
    tab.media("dark", "print");
    tab.photograph("requests", true);
    let requests = tab.requests();
    assert!(requests.len() == 1 && requests[0].ends_with("report.html"), "{requests:?}");
    assert_eq!(tab.reported(), [""; 0]);
}

/// Without this one could not tell a page that does nothing wrong from a watcher that sees nothing.
#[test]
fn watcher_sees_what_a_page_must_not_do() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(DESK.0, DESK.1);
    let wrong = "<img src=\"http://127.0.0.1:9/x.png\"><p style=\"color:#999;width:3000px\">pale</p><script>alert(1)</script></main>";
    tab.show(&document(&reports::empty(), Mode::File).replace("</main>", wrong));
    let reported = tab.reported().join("\n");
    for what in ["img-src", "style-src", "script-src"] {
        assert!(reported.contains(what) || reported.contains("default-src"), "{what}: {reported}");
    }
    tab.ask("document.querySelector('p[style]').style.cssText = 'color:#999;width:3000px;background:#fff'");
    assert!(tab.complaints("probes.contrast(4.5)").iter().any(|text| text.contains("pale")));
    assert!(tab.complaints("probes.overflow()").iter().any(|text| text.starts_with("the page is")));
}

#[test]
fn first_screen_tells_what_blocks_until_when_and_what_to_do() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(DESK.0, DESK.1);
    let report = reports::rich();
    tab.show(&document(&report, Mode::File));
    let in_sight = tab.ask(
        "texts().filter(({ boxes }) => boxes.some((box) => box.bottom <= innerHeight)).map(({ node }) => node.data).join(' ')",
    );
    let in_sight = in_sight.as_str().expect("a text");
    for text in ["NOT YET", &report.reason, "2026-12-21 11:58", &report.next, "in 29 days"] {
        assert!(in_sight.contains(text), "{text}: {in_sight}");
    }
    for client in report.clients.iter().filter(|client| client.state.is_blocking()) {
        assert!(in_sight.contains(&client.name), "{}: {in_sight}", client.name);
    }
}

#[test]
fn every_client_is_there_by_name() {
    let mut browser = Browser::start();
    for (width, height) in [PHONE, DESK] {
        let mut tab = browser.tab(width, height);
        let report = reports::rich();
        tab.show(&document(&report, Mode::File));
        unfold(&mut tab, true);
        let shown = tab.ask("texts().map(({ node }) => node.data)");
        let shown: Vec<&str> =
            shown.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect();
        for client in &report.clients {
            assert!(shown.contains(&client.name.as_str()), "{} at {width}: {shown:#?}", client.name);
        }
    }
}

#[test]
fn keyboard_reaches_everything_and_shows_where_it_is() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(DESK.0, DESK.1);
    tab.show(&document(&reports::rich(), Mode::File));
    let stops = tab.ask("probes.stops().length").as_u64().expect("a number");
    assert!(stops > 20, "{stops}");
    tab.ask("window.reached = new Set()");
    // The browser stops at more than these: at what scrolls.
    for _ in 0..stops + 10 {
        tab.press("Tab", 9);
        let is_seen = tab.ask(
            "(() => { const one = document.activeElement; window.reached.add(one); const style = getComputedStyle(one);
              return one === document.body || (one.matches(':focus-visible') && parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== 'none'); })()",
        );
        assert_eq!(is_seen, true, "{}", tab.ask("document.activeElement.outerHTML.slice(0, 200)"));
    }
    let missed = tab.complaints(
        "probes.stops().filter((one) => !window.reached.has(one)).map((one) => one.outerHTML.slice(0, 120))",
    );
    assert_eq!(missed, [""; 0]);
    tab.ask("document.querySelector('.clients summary').focus()");
    tab.press("Enter", 13);
    assert_eq!(tab.ask("document.querySelector('.clients details').open"), true);
}
