//! Strings of strangers: shown as they are, and nothing more.

use sse_sunset::report::render::page::{Mode, document};

use crate::browser::Browser;
use crate::reports;

#[test]
fn strings_of_strangers_are_text() {
    let mut browser = Browser::start();
    for width in [360, 1440] {
        let mut tab = browser.tab(width, 900);
        tab.show(&document(&reports::hostile(), Mode::File));
        tab.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
        let shown = tab.ask("texts().map(({ node }) => node.data)").to_string();
        for name in reports::HOSTILE {
            let told =
                name.replace('\u{202e}', "\\u{202e}").replace('\u{200b}', "\\u{200b}").replace('\u{7}', "\\u{7}");
            let quoted = serde_json::to_string(&told).expect("a text");
            assert!(shown.contains(quoted.trim_matches('"')), "{quoted} at {width}: {shown}");
        }
        assert!(shown.contains(&"x".repeat(512)), "a long name is there in full");
        assert_eq!(tab.ask("document.querySelectorAll('script, main img, main style').length"), 0);
        for probe in ["probes.overflow()", "probes.collisions()", "probes.structure()"] {
            assert_eq!(tab.complaints(probe), [""; 0], "{probe} at {width}");
        }
        tab.photograph(&format!("hostile-{width}"), true);
        assert_eq!(tab.reported(), [""; 0]);
    }
}
