//! The live page: fresh without being loaded again, and honest when it is not fresh.

use sse_sunset::report::render::page::{Mode, content_security_policy, document, fragment};

use crate::browser::Browser;
use crate::reports;
use crate::server::Server;

fn changed() -> String {
    let mut report = reports::rich();
    "only one client is left".clone_into(&mut report.reason);
    // Another order: what is open must be found by name.
    report.clients.swap(0, 1);
    fragment(&report)
}

#[test]
fn live_page_refreshes_and_keeps_the_readers_place() {
    let report = reports::rich();
    let page = document(&report, Mode::Live);
    let mut server = Server::start(page, content_security_policy(Mode::Live), fragment(&report));
    let mut browser = Browser::start();
    let mut tab = browser.tab(1440, 900);
    tab.visit(&server.address());
    tab.media("light", "screen");
    tab.ask("window.sameDocument = true");
    tab.ask("document.querySelector('#making').scrollIntoView()");
    tab.ask("(() => { const one = document.querySelectorAll('.clients details')[1]; one.open = true; one.querySelector('summary').focus(); window.kept = one.id; })()");
    let place = "Math.round(document.querySelector('#making').getBoundingClientRect().top)";
    let before = tab.ask(place);
    server.say(changed());
    // By its own clock, for once; below it is told that the network is back, which makes it look at once.
    tab.until("document.querySelector('.reason').textContent === 'only one client is left'");
    assert_eq!(tab.ask("window.sameDocument"), true, "not loaded again");
    assert_eq!(tab.ask("document.getElementById(window.kept).open"), true, "what was open is open");
    assert_eq!(tab.ask("document.querySelectorAll('.clients details[open]').length"), 1);
    assert_eq!(tab.ask("document.activeElement.closest('details').id === window.kept"), true, "the focus stays");
    // Browsers scroll by whole pixels.
    let moved = tab.ask(place).as_i64().expect("pixels") - before.as_i64().expect("pixels");
    assert!(moved.abs() <= 1, "what the reader looks at stays where it is, not {moved} px away");

    tab.ask("window.main = document.querySelector('main').firstChild, window.dispatchEvent(new Event('online'))");
    while server.asked().len() < 2 {
        tab.ask("true");
    }
    tab.until("document.getElementById('live').textContent.startsWith('Live, refreshed')");
    let asked = server.asked();
    assert_eq!(asked[0], (None, 200));
    assert_eq!(asked[1], (Some("\"1\"".to_owned()), 304), "what it has is not sent again");
    assert_eq!(tab.ask("document.querySelector('main').firstChild === window.main"), true);
    assert_eq!(tab.reported(), [""; 0]);

    server.end();
    tab.ask("window.dispatchEvent(new Event('online'))");
    tab.until("document.getElementById('live').textContent.startsWith('Not reachable since ')");
    assert_eq!(tab.ask("document.querySelector('.reason').textContent"), "only one client is left");
    for scheme in ["light", "dark"] {
        tab.media(scheme, "screen");
        assert_eq!(tab.complaints("probes.contrast(4.5)"), [""; 0], "{scheme}");
    }
    let is_in_sight = "(() => { const box = document.getElementById('live').getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; })()";
    assert_eq!(tab.ask(is_in_sight), true, "it is said where the reader is");
    tab.photograph("live-lost", false);
}

#[test]
fn hidden_page_asks_for_nothing() {
    let report = reports::rich();
    let page = document(&report, Mode::Live);
    let server = Server::start(page, content_security_policy(Mode::Live), fragment(&report));
    let mut browser = Browser::start();
    let mut tab = browser.tab(1440, 900);
    tab.visit(&server.address());
    let hide = |is_hidden: bool| {
        format!(
            "(() => {{ Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
              document.dispatchEvent(new Event('visibilitychange')); }})()"
        )
    };
    tab.ask(&hide(true));
    for _ in 0..3 {
        tab.ask("window.dispatchEvent(new Event('online'))");
    }
    assert_eq!(tab.ask("document.getElementById('live').textContent"), "Live");
    tab.ask(&hide(false));
    tab.until("document.getElementById('live').textContent.startsWith('Live, refreshed')");
    // Requests come in order: had one been sent while the page was hidden, it would have come before this one.
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn marked_text_stays_marked() {
    let report = reports::rich();
    let page = document(&report, Mode::Live);
    let server = Server::start(page, content_security_policy(Mode::Live), changed());
    let mut browser = Browser::start();
    let mut tab = browser.tab(1440, 900);
    tab.visit(&server.address());
    tab.ask("document.getSelection().selectAllChildren(document.querySelector('.command'))");
    tab.ask("window.dispatchEvent(new Event('online'))");
    tab.until("document.getElementById('live').textContent.startsWith('Live, refreshed')");
    assert_eq!(tab.ask("document.getSelection().toString()"), report.next.as_str());
    tab.ask("document.getSelection().removeAllRanges()");
    tab.ask("window.dispatchEvent(new Event('online'))");
    tab.until("document.querySelector('.reason').textContent === 'only one client is left'");
}
