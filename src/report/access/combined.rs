//! nginx and Apache: `address - user [time] "request" status bytes "referer" "user-agent" …`.
//!
//! Sources: nginx, `ngx_http_log_module` (`combined`, `escape=default`: `"`, `\` and all outside of 32 to 126 as `\xHH`);
//! Apache, `mod_log_config` (`%h %l %u %t \"%r\" %>s %b`, escapes like C; `vhost_combined` puts `%v:%p` before it).
//!
//! The trap: the user's name is text from outside and may hold spaces and brackets, but never a quote, so the time is
//! the last thing in brackets before the first quote.

use std::net::IpAddr;

use super::text::{self, Field, Fields};
use super::{Access, Kind, time};

pub(super) fn parse(line: &[u8]) -> Option<Access<'_>> {
    let (before, rest) = line.split_at(memchr::memchr(b'"', line)?);
    let opening = memchr::memrchr(b'[', before)?;
    let (who, dated) = before.split_at(opening);
    let dated = dated.get(1..)?;
    let at = time::common(dated.get(..memchr::memchr(b']', dated)?)?)?;

    let mut fields = Fields(rest);
    let (method, path) = text::request(fields.next()?.bytes());
    let status = text::status(fields.next()?.bytes())?;
    // The referer is the first in quotes, the user-agent the second; the common format has neither.
    let mut quoted = fields.filter_map(|field| match field {
        Field::Quoted(quoted) => Some(quoted),
        Field::Bare(_) => None,
    });
    let user_agent = quoted.nth(1).and_then(text::optional);
    let address = text::text(address(who)?);
    Some(Access { kind: Kind::Combined, at, method, path, status, user_agent, address, duration: None })
}

/// The first field, unless it is a host's name with the client's address behind it.
fn address(who: &[u8]) -> Option<&[u8]> {
    let is_ip = |field: &[u8]| std::str::from_utf8(field).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
    let mut fields = who.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let first = fields.next()?;
    let second = fields.next().filter(|second| !is_ip(first) && is_ip(second));
    Some(second.unwrap_or(first))
}
