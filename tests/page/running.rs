//! The live page of the running program, under its own headers.

use std::fs;
use std::time::Instant;

use sse_sunset::report::render::page::{Mode, content_security_policy};

use crate::appearance::is_sound;
use crate::browser::{Browser, PATIENCE};
use crate::program::Program;

/// Whether the page names a client.
fn names(client: &str) -> String {
    format!("[...document.querySelectorAll('.clients')].some((table) => table.textContent.includes('{client}'))")
}

#[test]
fn page_of_the_running_program_shows_who_comes_without_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::start(folder.path());
    let first = program.client("First Client");
    let mut browser = Browser::start();
    let mut tab = browser.tab(1440, 900);
    tab.visit(&format!("{}/", program.admin));
    tab.ask("window.sameDocument = true");
    tab.until(&names("First Client"));
    assert_eq!(tab.ask("document.querySelector('.answer').textContent"), "NOT YET");
    assert_eq!(tab.ask("document.title"), "NOT YET – can SSE be switched off?");
    let reason = tab.ask("document.querySelector('.reason').textContent");
    assert!(reason.as_str().is_some_and(|reason| reason.contains("First Client has a session open")), "{reason}");

    let read = tab.ask("document.querySelector('#input').textContent");
    assert!(read.as_str().is_some_and(|read| read.contains("as the running proxy wrote them")), "{read}");

    let second = program.client("Second Client");
    tab.until(&names("Second Client"));
    assert_eq!(tab.ask("window.sameDocument"), true, "not loaded again");
    for scheme in ["light", "dark"] {
        tab.media(scheme, "screen");
        for (width, height) in [(1440, 900), (360, 740)] {
            tab.resize(width, height);
            let what = format!("running-{scheme}-{width}");
            tab.photograph(&format!("{what}-first"), false);
            tab.photograph(&what, true);
            is_sound(&mut tab, &what);
        }
    }

    let policy = tab.ask("fetch('/').then((answer) => answer.headers.get('content-security-policy'))");
    assert_eq!(policy, content_security_policy(Mode::Live).as_str(), "strict, and kept to");
    assert_eq!(tab.reported(), [""; 0]);
    let requests = tab.requests();
    let own = [format!("{}/", program.admin), format!("{}/fragment", program.admin)];
    assert!(requests.contains(&own[1]), "{requests:?}");
    // The icon is empty, and stands in the page.
    let others: Vec<&String> =
        requests.iter().filter(|request| !own.contains(request) && !request.starts_with("data:")).collect();
    assert!(others.is_empty(), "{others:?}");
    drop((first, second));
}

#[test]
fn killed_program_comes_back_with_everything_its_log_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut browser = Browser::start();
    let mut program = Program::start(folder.path());
    let client = program.client("Early Bird");
    // At once: the state directory may lack it, and the log does not.
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(folder.path().join("traffic.log")).expect("a log").contains("legacy.use") {
        assert!(Instant::now() < deadline, "the call is not in the log");
    }
    program.kill();
    drop(client);
    let again = Program::start(folder.path());
    let mut tab = browser.tab(1440, 900);
    tab.visit(&format!("{}/", again.admin));
    assert_eq!(tab.ask(&names("Early Bird")), true);
    assert_eq!(tab.ask("document.querySelector('.answer').textContent"), "NOT YET");
    assert_eq!(tab.reported(), [""; 0]);
}
