//! What a person sees who opens the SSE URL, under its own headers.

use crate::appearance::is_sound;
use crate::browser::Browser;
use crate::program::Program;

#[test]
fn sse_url_shows_a_readable_page_that_asks_for_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(folder.path());
    let mut browser = Browser::start();
    let mut tab = browser.tab(1440, 900);
    let address = format!("http://{}/sse", program.listen);
    tab.visit(&address);
    assert_eq!(tab.ask("document.querySelector('h1').textContent"), "This address is for programs");
    let card = tab.ask("getComputedStyle(document.querySelector('main')).borderRadius");
    assert_eq!(card, "16px", "the policy lets the style pass");
    for scheme in ["light", "dark"] {
        tab.media(scheme, "screen");
        for (width, height) in [(1440, 900), (360, 740)] {
            tab.resize(width, height);
            let what = format!("door-{scheme}-{width}");
            tab.photograph(&what, true);
            is_sound(&mut tab, &what);
        }
    }
    assert_eq!(tab.complaints("probes.structure()"), [""; 0]);
    assert_eq!(tab.reported(), [""; 0]);
    let others: Vec<String> =
        tab.requests().into_iter().filter(|request| *request != address && !request.starts_with("data:")).collect();
    assert!(others.is_empty(), "{others:?}");
    let log = std::fs::read_to_string(folder.path().join("traffic.log")).expect("a log");
    assert!(!log.contains("legacy."), "{log}");
}
