//! The page on paper.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sse_sunset::report::render::page::{Mode, document};

use crate::browser::Browser;
use crate::reports;
use crate::tab::gallery;

#[test]
fn printed_page_holds_everything() {
    let mut browser = Browser::start();
    let mut tab = browser.tab(720, 1000);
    tab.show(&document(&reports::rich(), Mode::File));
    tab.media("dark", "print");
    // Drawn once, so that the browser has laid out what was folded.
    tab.photograph("print", true);
    let hidden = tab.complaints(
        "[...document.querySelectorAll('details > :not(summary), details > :not(summary) *')]
         .filter((one) => !shown(one) && !one.closest('svg, defs') && !getComputedStyle(one).display.includes('none'))
         .map((one) => one.outerHTML.slice(0, 120))",
    );
    assert_eq!(hidden, [""; 0], "what is folded on the screen is unfolded on paper");
    assert_eq!(tab.ask("document.querySelectorAll('details[open]').length"), 0);
    for probe in ["probes.overflow()", "probes.contrast(4.5)"] {
        assert_eq!(tab.complaints(probe), [""; 0], "{probe}");
    }
    let cut = tab.complaints("[...document.querySelectorAll('.scroll, pre')].filter((one) => getComputedStyle(one).overflowX !== 'visible').map((one) => one.id)");
    assert_eq!(cut, [""; 0], "nothing scrolls on paper");
    let printed =
        tab.call("Page.printToPDF", &json!({ "paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false }));
    let pdf = STANDARD.decode(printed["data"].as_str().expect("a file")).expect("base64");
    assert!(pdf.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(&pdf);
    let pages = text.matches("/Type /Page\n").count();
    assert!((2..=12).contains(&pages), "{pages} pages");
    std::fs::write(gallery().join("report.pdf"), pdf).expect("a file");
}
