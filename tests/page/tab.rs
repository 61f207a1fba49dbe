//! One tab: opens a page, watches what it does, and looks at what it shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::browser::{Browser, PATIENCE};

/// What looks at the page, run inside it.
const PROBES: &str = include_str!("probes.js");

/// Where screenshots go.
pub(crate) fn gallery() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("page");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

pub(crate) struct Tab<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl<'a> Tab<'a> {
    pub(crate) fn open(browser: &'a mut Browser, width: u32, height: u32) -> Self {
        let target = browser.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let attached =
            browser.call(None, "Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let mut tab = Tab { browser, session };
        for domain in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            tab.call(domain, &json!({}));
        }
        tab.resize(width, height);
        tab
    }

    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// `light` or `dark`; `print` or `screen`.
    pub(crate) fn media(&mut self, scheme: &str, medium: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", &json!({ "media": medium, "features": features }));
    }

    /// Opens `page` as a file.
    pub(crate) fn show(&mut self, page: &str) {
        let file = self.browser.folder().join("report.html");
        fs::write(&file, page).expect("a file");
        self.visit(&format!("file://{}", file.display()));
    }

    pub(crate) fn visit(&mut self, address: &str) {
        let answer = self.call("Page.navigate", &json!({ "url": address }));
        assert!(answer["errorText"].is_null(), "{address}: {answer}");
        self.browser.event("Page.loadEventFired");
    }

    /// What a JavaScript expression gives; in it `probes` are ours.
    pub(crate) fn ask(&mut self, expression: &str) -> Value {
        let expression = format!("(() => {{ {PROBES}; return ({expression}); }})()");
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The texts that a probe complains about.
    pub(crate) fn complaints(&mut self, probe: &str) -> Vec<String> {
        let found = self.ask(probe);
        let list = found.as_array().unwrap_or_else(|| panic!("{probe}: {found}"));
        list.iter().map(|one| one.as_str().expect("a text").to_owned()).collect()
    }

    /// Awaits that `expression` is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(expression) != true {
            assert!(
                Instant::now() < deadline,
                "never came true: {expression}\n{}",
                self.ask("document.body.innerText")
            );
        }
    }

    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if key == "Enter" && kind == "keyDown" {
                event["text"] = "\r".into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Addresses that were asked for, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        let sent = self.browser.events(&["Network.requestWillBeSent"]);
        sent.into_iter()
            .map(|event| event["params"]["request"]["url"].as_str().expect("an address").to_owned())
            .collect()
    }

    /// Errors, warnings and violations of the policy that the browser reported.
    pub(crate) fn reported(&self) -> Vec<String> {
        let names = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        self.browser.events(&names).into_iter().map(|event| event["params"].to_string()).collect()
    }

    /// Keeps a picture: of the whole page, or of what the screen shows of it at first.
    pub(crate) fn photograph(&mut self, name: &str, whole: bool) {
        let mut params = json!({ "format": "png", "captureBeyondViewport": whole });
        if whole {
            let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
            params["clip"] = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        }
        let picture = self.call("Page.captureScreenshot", &params);
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        fs::write(gallery().join(format!("{name}.png")), bytes).expect("a file");
    }
}
