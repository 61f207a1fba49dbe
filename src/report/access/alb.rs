//! An AWS Application Load Balancer's own lines: fields separated by spaces, in a fixed order, more of them every year.
//!
//! Source: "Access logs for your Application Load Balancer", Access log entries, Syntax. Both addresses carry a port.

use std::borrow::Cow;

use super::text::{self, Field, Fields};
use super::{Access, Kind, time};

/// Fields between the client and the status: target, and three times.
const BEFORE_STATUS: usize = 4;
/// Fields between the status and the request: target's status, bytes received and sent.
const BEFORE_REQUEST: usize = 3;
/// Fields between the user-agent and the time at which the request came.
const BEFORE_CREATION: usize = 7;

pub(super) fn parse(line: &[u8]) -> Option<Access<'_>> {
    let mut fields = Fields(line);
    let _type = fields.next()?;
    // Before all else, because it is what a line of another format does not have there.
    let at = field_time(fields.next()?)?;
    let _balancer = fields.next()?;
    let address = without_port(text::text(fields.next()?.bytes()));
    let status = text::status(fields.nth(BEFORE_STATUS)?.bytes())?;
    let Field::Quoted(request) = fields.nth(BEFORE_REQUEST)? else { return None };
    let (method, path) = text::request(request);
    let user_agent = text::optional(fields.next()?.bytes());
    let created = fields.nth(BEFORE_CREATION).and_then(field_time);
    let duration = created.and_then(|created| time::between(created, at));
    Some(Access { kind: Kind::Alb, at, method, path, status, user_agent, address, duration })
}

fn field_time(field: Field<'_>) -> Option<jiff::Timestamp> {
    let Field::Bare(bytes @ [b'0'..=b'9', ..]) = field else { return None };
    time::rfc3339(std::str::from_utf8(bytes).ok()?)
}

/// The address of `address:port`; an address of IPv6 may stand in brackets.
pub(super) fn without_port(client: Cow<'_, str>) -> Cow<'_, str> {
    let end = match client.rsplit_once(':') {
        Some((address, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => address.len(),
        _ => client.len(),
    };
    let within = |text: &str| text.get(..end).unwrap_or_default().trim_matches(['[', ']']).len();
    let length = within(&client);
    let start = usize::from(client.starts_with('['));
    match client {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..start + length).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(start..start + length).unwrap_or_default().to_owned()),
    }
}
