//! `WWW-Authenticate`: read, and written anew where clients shall be sent to our metadata (RFC 9110 §11.6.1, RFC 9728 §5.1).
//!
//! Promise: only `resource_metadata` of `Bearer` challenges changes; every other parameter keeps its bytes. What comes out
//! is visible ASCII and readable for the regular expressions of old clients: `Bearer` comes first, `resource_metadata` is
//! its first parameter and quoted (TypeScript up to 1.21 takes no other form). The trap: commas separate challenges as
//! well as parameters, and fields may be several.

use std::borrow::Cow;
use std::ops::Range;

use http::{HeaderValue, StatusCode};

/// Longest field that is read, in bytes: clients refuse heads of 16 KiB.
const LONGEST: usize = 4 << 10;
/// The parameter that names the metadata.
const METADATA: &str = "resource_metadata";

/// One challenge of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The scheme, as it is written.
    pub scheme: &'a str,
    text: &'a str,
    credentials: Credentials<'a>,
}

/// What follows the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credentials<'a> {
    Token68,
    Parameters(Vec<Parameter<'a>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter<'a> {
    name: &'a str,
    value: Cow<'a, str>,
    /// Name and value as they stand in the field.
    text: &'a str,
}

/// The field is not what RFC 9110 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads one field.
///
/// # Errors
/// When it is no list of challenges.
pub fn parse(field: &str) -> Result<Vec<Challenge<'_>>, Malformed> {
    if field.len() > LONGEST {
        return Err(Malformed);
    }
    let mut reader = Reader { field, at: 0 };
    let mut challenges: Vec<Challenge<'_>> = Vec::new();
    let mut from = 0;
    reader.skip_separators();
    while !reader.is_over() {
        let begin = reader.at;
        let token = reader.token().ok_or(Malformed)?;
        let after_token = reader.at;
        if reader.equals() {
            // A parameter of the challenge before.
            reader.at = begin;
            let parameter = reader.parameter()?;
            match challenges.last_mut().map(|challenge| &mut challenge.credentials) {
                Some(Credentials::Parameters(parameters)) => parameters.push(parameter),
                _ => return Err(Malformed),
            }
        } else {
            (from, reader.at) = (begin, after_token);
            challenges.push(reader.challenge(token)?);
        }
        if let Some(challenge) = challenges.last_mut() {
            challenge.text = reader.slice(from..reader.at);
        }
        reader.separator()?;
    }
    Ok(challenges)
}

struct Reader<'a> {
    field: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&self, range: Range<usize>) -> &'a str {
        self.field.get(range).unwrap_or_default()
    }

    fn rest(&self) -> &'a str {
        self.slice(self.at..self.field.len())
    }

    fn is_over(&self) -> bool {
        self.at >= self.field.len()
    }

    fn next_is(&self, byte: u8) -> bool {
        self.field.as_bytes().get(self.at) == Some(&byte)
    }

    fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let length = self.rest().bytes().take_while(|byte| fits(*byte)).count();
        let taken = self.slice(self.at..self.at + length);
        self.at += length;
        taken
    }

    fn skip_space(&mut self) {
        self.take_while(is_space);
    }

    fn skip_separators(&mut self) {
        self.take_while(|byte| is_space(byte) || byte == b',');
    }

    /// A list element ends with a comma or with the field.
    fn separator(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if !self.is_over() && !self.next_is(b',') {
            return Err(Malformed);
        }
        self.skip_separators();
        Ok(())
    }

    fn token(&mut self) -> Option<&'a str> {
        Some(self.take_while(is_token)).filter(|token| !token.is_empty())
    }

    /// Takes `=` with the space around it.
    fn equals(&mut self) -> bool {
        let begin = self.at;
        self.skip_space();
        if self.next_is(b'=') {
            self.at += 1;
            self.skip_space();
            return true;
        }
        self.at = begin;
        false
    }

    fn parameter(&mut self) -> Result<Parameter<'a>, Malformed> {
        let begin = self.at;
        let name = self.token().ok_or(Malformed)?;
        if !self.equals() {
            return Err(Malformed);
        }
        let value = if self.next_is(b'"') {
            self.quoted()?
        } else {
            // Servers write URLs and scopes without quotes; what ends them is plain all the same.
            let value = self.take_while(|byte| byte.is_ascii_graphic() && !b",\"\\".contains(&byte));
            Cow::Borrowed(Some(value).filter(|value| !value.is_empty()).ok_or(Malformed)?)
        };
        Ok(Parameter { name, value, text: self.slice(begin..self.at) })
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.at += 1;
        let begin = self.at;
        let mut value = String::new();
        let mut escaped = false;
        let mut was_escaped = false;
        for (index, byte) in self.rest().bytes().enumerate() {
            if !(byte.is_ascii_graphic() || is_space(byte)) {
                return Err(Malformed);
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' => {
                    (escaped, was_escaped) = (true, true);
                    continue;
                }
                b'"' => {
                    self.at = begin + index + 1;
                    let plain = self.slice(begin..begin + index);
                    return Ok(if was_escaped { Cow::Owned(value) } else { Cow::Borrowed(plain) });
                }
                _ => {}
            }
            value.push(char::from(byte));
        }
        Err(Malformed)
    }

    /// What follows the scheme, up to its first parameter.
    fn challenge(&mut self, scheme: &'a str) -> Result<Challenge<'a>, Malformed> {
        let mut challenge = Challenge { scheme, text: scheme, credentials: Credentials::Parameters(Vec::new()) };
        let begin = self.at;
        self.skip_space();
        if self.is_over() || self.next_is(b',') {
            self.at = begin;
            return Ok(challenge);
        }
        if self.at == begin {
            return Err(Malformed);
        }
        let begin = self.at;
        let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if !self.take_while(is_token68).is_empty() {
            self.take_while(|byte| byte == b'=');
            let end = self.at;
            self.skip_space();
            if self.is_over() || self.next_is(b',') {
                self.at = end;
                challenge.credentials = Credentials::Token68;
                return Ok(challenge);
            }
        }
        self.at = begin;
        challenge.credentials = Credentials::Parameters(vec![self.parameter()?]);
        Ok(challenge)
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Challenge<'_> {
    /// Whether it is one of RFC 6750.
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("bearer")
    }

    /// The value of the parameter `name`, without quotes.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let Credentials::Parameters(parameters) = &self.credentials else { return None };
        parameters.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name)).map(|found| &*found.value)
    }

    /// The same, with `metadata` as its first parameter. `None` where it can have no parameters.
    fn pointing_to(&self, metadata: &str) -> Option<String> {
        let Credentials::Parameters(parameters) = &self.credentials else { return None };
        let mut text = format!("Bearer {METADATA}=\"{metadata}\"");
        for parameter in parameters.iter().filter(|parameter| !parameter.name.eq_ignore_ascii_case(METADATA)) {
            text.push_str(", ");
            text.push_str(parameter.text);
        }
        Some(text)
    }
}

/// The `resource_metadata` that the first `Bearer` challenge names.
#[must_use]
pub fn named_metadata(fields: &[HeaderValue]) -> Option<String> {
    named(fields, METADATA)
}

/// The `scope` that the first `Bearer` challenge asks for.
#[must_use]
pub fn named_scope(fields: &[HeaderValue]) -> Option<String> {
    named(fields, "scope")
}

fn named(fields: &[HeaderValue], parameter: &str) -> Option<String> {
    let texts = fields.iter().filter_map(|field| field.to_str().ok());
    let mut challenges = texts.filter_map(|text| parse(text).ok()).flatten();
    let value =
        challenges.find_map(|challenge| challenge.get(parameter).filter(|_| challenge.is_bearer()).map(str::to_owned));
    value.filter(|value| !value.is_empty())
}

/// The challenges of an answer with `status`, one a field, `Bearer` first. With `metadata`, a URL, every `Bearer` challenge
/// points there, and there is one; without, they keep what they say.
#[must_use]
pub fn rewrite(fields: &[HeaderValue], status: StatusCode, metadata: Option<&str>) -> Vec<HeaderValue> {
    // What a quoted string would have to escape, the clients' regular expressions do not understand.
    let metadata = metadata.filter(|url| url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)));
    let mut bearers = Vec::new();
    let mut others = Vec::new();
    let mut is_malformed = false;
    for field in fields {
        let Some(challenges) = field.to_str().ok().and_then(|text| parse(text).ok()) else {
            is_malformed = true;
            continue;
        };
        for challenge in challenges {
            match metadata {
                _ if !challenge.is_bearer() => others.push(challenge.text.to_owned()),
                None => bearers.push(challenge.text.to_owned()),
                Some(metadata) => match challenge.pointing_to(metadata) {
                    Some(text) => bearers.push(text),
                    None => is_malformed = true,
                },
            }
        }
    }
    if bearers.is_empty() && (is_malformed || metadata.is_some()) {
        let metadata = metadata.map(|url| format!("{METADATA}=\"{url}\""));
        let error = if status == StatusCode::FORBIDDEN { "insufficient_scope" } else { "invalid_token" };
        // Nobody said what is wrong where there was no challenge: RFC 6750 §3.1 wants no error then.
        let error = is_malformed.then(|| format!("error=\"{error}\""));
        let parameters: Vec<String> = [error, metadata].into_iter().flatten().collect();
        bearers.push(format!("Bearer {}", parameters.join(", ")));
    }
    bearers.into_iter().chain(others).filter_map(|text| HeaderValue::try_from(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/sse";

    fn rewritten(fields: &[&str]) -> Vec<String> {
        let fields: Vec<HeaderValue> =
            fields.iter().map(|field| HeaderValue::from_bytes(field.as_bytes()).expect("a value")).collect();
        let out = rewrite(&fields, StatusCode::UNAUTHORIZED, Some(OURS));
        out.iter().map(|field| field.to_str().expect("ASCII").to_owned()).collect()
    }

    #[test]
    fn metadata_is_replaced_and_everything_else_keeps_its_bytes() {
        let field = r#"Bearer realm="a, b \"c\"",error=invalid_token, resource_metadata="http://x/y" , scope="r w""#;
        let expected =
            format!(r#"Bearer resource_metadata="{OURS}", realm="a, b \"c\"", error=invalid_token, scope="r w""#);
        assert_eq!(rewritten(&[field]), [expected]);
    }

    #[test]
    fn metadata_is_added_where_there_was_none() {
        assert_eq!(rewritten(&["Bearer"]), [format!("Bearer resource_metadata=\"{OURS}\"")]);
        assert_eq!(rewritten(&[]), [format!("Bearer resource_metadata=\"{OURS}\"")]);
        let out = rewritten(&["bearer error=\"invalid_token\""]);
        assert_eq!(out, [format!("Bearer resource_metadata=\"{OURS}\", error=\"invalid_token\"")]);
    }

    #[test]
    fn bearer_comes_first_among_several_challenges_and_fields() {
        let out =
            rewritten(&["Basic realm=\"x\", Negotiate abc==, Bearer scope=\"a\", DPoP algs=\"ES256\"", "Digest q=1"]);
        assert_eq!(
            out,
            [
                &*format!("Bearer resource_metadata=\"{OURS}\", scope=\"a\""),
                "Basic realm=\"x\"",
                "Negotiate abc==",
                "DPoP algs=\"ES256\"",
                "Digest q=1",
            ]
        );
    }

    #[test]
    fn malformed_challenge_becomes_a_plain_one() {
        let expected = format!("Bearer error=\"invalid_token\", resource_metadata=\"{OURS}\"");
        for field in ["Bearer realm=\"open", "Bearer scope=a b", "=x", "Bearer caf\u{e9}=1", "x=y", "Bearer abc=="] {
            assert_eq!(rewritten(&[field]).join("\n"), expected, "{field}");
        }
        let out = rewritten(&["Basic realm=\"x\"", "Bearer \"\""]);
        assert_eq!(out, [expected, "Basic realm=\"x\"".to_owned()]);
        let broken = [HeaderValue::from_static("Bearer x=\"")];
        let out = rewrite(&broken, StatusCode::FORBIDDEN, None);
        assert_eq!(out, ["Bearer error=\"insufficient_scope\""]);
    }

    #[test]
    fn without_metadata_of_ours_nothing_changes() {
        let fields = [HeaderValue::from_static(r#"Bearer resource_metadata=https://a/b, x="y""#)];
        assert_eq!(rewrite(&fields, StatusCode::UNAUTHORIZED, None), fields);
        assert_eq!(named_metadata(&fields).as_deref(), Some("https://a/b"));
        assert!(rewrite(&[], StatusCode::UNAUTHORIZED, None).is_empty());
    }

    /// What TypeScript and Python look for: the first match of these in the fields, joined.
    fn as_clients_read(fields: &[HeaderValue]) -> Option<String> {
        let joined = fields.iter().map(|field| field.to_str().expect("ASCII")).collect::<Vec<_>>().join(", ");
        // TypeScript: split(' ')[0].toLowerCase() === 'bearer', then /resource_metadata="([^"]*)"/.
        if !joined.split(' ').next()?.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // Python: resource_metadata=(?:"([^"]+)"|([^\s,]+)); both find the first.
        let value = joined.split_once("resource_metadata=")?.1.strip_prefix('"')?;
        value.split_once('"').map(|(url, _)| url.to_owned())
    }

    proptest! {
        #[test]
        fn anything_becomes_what_every_client_reads(fields in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,60}",
                "(Bearer|Basic|bearer|DPoP)( [a-z_]{1,8}=(\"[ -~]{0,20}\"|[a-z]{1,5})(, ?[a-z_]{1,8}=\"[^\"\\\\]{0,9}\"){0,3})?",
                "Bearer error_description=\"resource_metadata=[a-z\\\\\"]{0,9}\", resource_metadata=\"[a-z]{0,9}\"",
            ], 0..4)) {
            let fields: Vec<HeaderValue> =
                fields.iter().filter_map(|field| HeaderValue::from_bytes(field.as_bytes()).ok()).collect();
            let out = rewrite(&fields, StatusCode::UNAUTHORIZED, Some(OURS));
            prop_assert_eq!(as_clients_read(&out), Some(OURS.to_owned()));
            prop_assert!(out.iter().all(|field| field.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t')));
            // Every field of ours is one challenge, and once it has its form it keeps it.
            for field in &out {
                prop_assert_eq!(parse(field.to_str().expect("ASCII")).map(|list| list.len()), Ok(1));
            }
            let again = rewrite(&out, StatusCode::UNAUTHORIZED, Some(OURS));
            prop_assert_eq!(rewrite(&again, StatusCode::UNAUTHORIZED, Some(OURS)), again);
        }

        #[test]
        fn parameters_survive_the_way(values in prop::collection::vec("[ -~]{0,30}", 1..5)) {
            let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            let parameters: Vec<String> =
                values.iter().enumerate().map(|(index, value)| format!("p{index}={}", quoted(value))).collect();
            let field = HeaderValue::try_from(format!("Bearer {}", parameters.join(","))).expect("a value");
            let out = rewrite(&[field], StatusCode::UNAUTHORIZED, Some(OURS));
            let read = parse(out[0].to_str().expect("ASCII")).expect("challenges");
            for (index, value) in values.iter().enumerate() {
                prop_assert_eq!(read[0].get(&format!("p{index}")), Some(value.as_str()));
            }
        }
    }
}
