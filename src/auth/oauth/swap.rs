//! `resource` (RFC 8707) in queries and forms: what clients ask for becomes what the upstream takes (pure).
//!
//! Everything else keeps its bytes: codes, verifiers and state are compared byte by byte at the other end. The trap: names
//! may be percent-encoded too, and there may be several of them.

use crate::upstream::Url;

/// The request names another resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTarget;

/// `form` with `resource` naming `upstream` where it named `public` or nothing.
///
/// # Errors
/// When it names a third one.
pub fn swap(form: &str, public: &str, upstream: &str) -> Result<String, InvalidTarget> {
    let replacement = form_urlencoded::Serializer::new(String::new()).append_pair("resource", upstream).finish();
    let mut pairs: Vec<&str> = Vec::new();
    let mut is_named = false;
    for pair in form.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
        if name != "resource" {
            pairs.push(pair);
            continue;
        }
        if !is_same(&value, public) && !is_same(&value, upstream) {
            return Err(InvalidTarget);
        }
        if !is_named {
            pairs.push(&replacement);
        }
        is_named = true;
    }
    if !is_named {
        pairs.push(&replacement);
    }
    Ok(pairs.join("&"))
}

/// Whether two URLs name one resource: clients differ in the slash at the end.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let url = Url::parse(text).ok()?;
        let path = url.path().trim_end_matches('/').to_owned();
        Some((url.origin().ascii_serialization(), path, url.query().map(str::to_owned)))
    };
    one == other || plain(one).is_some_and(|one| Some(one) == plain(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: &str = "https://mcp.example.com/sse";
    const U: &str = "https://mcp.example.com/mcp";
    const ENCODED: &str = "resource=https%3A%2F%2Fmcp.example.com%2Fmcp";

    #[test]
    fn resource_becomes_the_upstreams_and_the_rest_keeps_its_bytes() {
        let query =
            "response_type=code&state=a%2Bb+c%2f&resource=https%3A%2F%2Fmcp.example.com%2Fsse&code_challenge=x~y";
        let expected = format!("response_type=code&state=a%2Bb+c%2f&{ENCODED}&code_challenge=x~y");
        assert_eq!(swap(query, S, U), Ok(expected));
        for same in
            ["https://mcp.example.com/sse/", U, "https://MCP.example.com:443/sse", "https%3a//mcp.example.com/%73se"]
        {
            let swapped = swap(&format!("a=1&res%6Furce={same}"), S, U);
            if same.contains("%73") {
                // Percent-encoded twice over: another path.
                assert!(swapped.is_ok());
            } else {
                assert_eq!(swapped, Ok(format!("a=1&{ENCODED}")), "{same}");
            }
        }
    }

    #[test]
    fn absent_resource_is_added_and_another_refused() {
        assert_eq!(swap("", S, U), Ok(ENCODED.to_owned()));
        assert_eq!(swap("a=1&", S, U), Ok(format!("a=1&{ENCODED}")));
        let both = "resource=https://mcp.example.com/sse&resource=https://mcp.example.com/mcp";
        assert_eq!(swap(both, S, U), Ok(ENCODED.to_owned()));
        for bad in
            ["https://evil.example/sse", "", "https://mcp.example.com/sse?x=1", "sse", "http://mcp.example.com/sse"]
        {
            assert_eq!(swap(&format!("a=1&resource={bad}"), S, U), Err(InvalidTarget), "{bad}");
            assert_eq!(swap(&format!("resource={S}&resource={bad}"), S, U), Err(InvalidTarget), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn other_parameters_survive_and_one_resource_is_named(
            pairs in prop::collection::vec(("[a-z_]{1,9}", "[ -~\u{e9}]{0,20}"), 0..6),
            resource in prop::option::of(prop_oneof![Just(S), Just(U)]),
            at in 0_usize..6,
        ) {
            let mut pairs: Vec<(String, String)> = pairs.into_iter().filter(|(name, _)| name != "resource").collect();
            let others = pairs.clone();
            if let Some(resource) = resource {
                pairs.insert(at.min(pairs.len()), ("resource".to_owned(), resource.to_owned()));
            }
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let swapped = swap(&form, S, U).expect("a good target");
            let read: Vec<(String, String)> = form_urlencoded::parse(swapped.as_bytes()).into_owned().collect();
            let (resources, rest): (Vec<_>, Vec<_>) = read.into_iter().partition(|(name, _)| name == "resource");
            prop_assert_eq!(resources, [("resource".to_owned(), U.to_owned())]);
            prop_assert_eq!(rest, others);
            let again = swap(&swapped, S, U);
            prop_assert_eq!(again, Ok(swapped));
        }

        #[test]
        fn anything_is_swapped_or_refused(form in "[ -~]{0,80}") {
            if let Ok(swapped) = swap(&form, S, U) {
                let names = form_urlencoded::parse(swapped.as_bytes()).filter(|(name, _)| name == "resource");
                prop_assert!(names.clone().count() == 1 && names.clone().all(|(_, value)| value == U));
            }
        }
    }
}
