//! Lines of access logs: whatever they hold is read, no query gets out, and what comes out is fit for a terminal.

use sse_sunset::report::access::{Paths, legacy, parse};

/// What our own log caps texts from outside at, in bytes.
const LONGEST: usize = 512;

/// `data` is a log, a line each.
pub fn access(data: &[u8]) {
    let paths = Paths::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(access) = parse(line) else { continue };
        assert!(!access.path.contains('?'), "a query got out: {access:?}");
        assert_eq!(access.method.is_empty(), access.path.is_empty(), "half a request: {access:?}");
        let texts = [Some(&access.method), Some(&access.path), Some(&access.address), access.user_agent.as_ref()];
        for text in texts.into_iter().flatten() {
            assert!(!text.contains(char::is_control), "{text:?} is not printable");
            assert!(text.len() <= LONGEST, "{} bytes of text", text.len());
        }
        assert!(access.status < 1000, "{access:?}");
        if legacy(&access, &paths).is_some() {
            assert!(matches!(access.method.as_ref(), "GET" | "POST"), "{access:?}");
        }
    }
}
