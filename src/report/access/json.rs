//! JSON lines: Caddy's, and those that exports make of an Application Load Balancer's.
//!
//! Sources: Caddy, directive `log` (keys, time and duration formats; `client_ip` since 2.7, `remote_ip` before, and
//! `remote_addr` with a port before 2.5); the columns of Athena's table for ALB logs (`client_ip`, `request_verb`,
//! `request_url`). Other tools keep `client:port` and `request` whole.
//!
//! The trap: a value of another type than expected must not make the line foreign, so every value is read as what it is.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::alb::without_port;
use super::{Access, Kind, text, time};

/// The members of a line that are looked at.
#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    ts: Value<'a>,
    #[serde(borrow, default)]
    request: Value<'a>,
    #[serde(borrow, default)]
    status: Value<'a>,
    #[serde(borrow, default)]
    duration: Value<'a>,
    #[serde(borrow, default)]
    time: Value<'a>,
    #[serde(borrow, default)]
    timestamp: Value<'a>,
    #[serde(borrow, default)]
    client_ip: Value<'a>,
    #[serde(borrow, default, rename = "client:port")]
    client_port: Value<'a>,
    #[serde(borrow, default)]
    client: Value<'a>,
    #[serde(borrow, default, alias = "request_method")]
    request_verb: Value<'a>,
    #[serde(borrow, default)]
    request_url: Value<'a>,
    #[serde(borrow, default)]
    elb_status_code: Value<'a>,
    #[serde(borrow, default)]
    user_agent: Value<'a>,
    #[serde(borrow, default)]
    request_creation_time: Value<'a>,
}

/// A value as it stands there.
#[derive(Debug, Default)]
enum Value<'a> {
    #[default]
    None,
    Text(Cow<'a, str>),
    Whole(i64),
    Number(f64),
    /// An object, read as Caddy's `request`.
    Request(Box<Request<'a>>),
    /// The first text of a list.
    First(Cow<'a, str>),
}

/// Caddy's `request`; its `headers` are an object too, and `User-Agent` is a member of that.
#[derive(Debug, serde::Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    client_ip: Value<'a>,
    #[serde(borrow, default)]
    remote_ip: Value<'a>,
    #[serde(borrow, default)]
    remote_addr: Value<'a>,
    #[serde(borrow, default)]
    method: Value<'a>,
    #[serde(borrow, default)]
    uri: Value<'a>,
    #[serde(borrow, default)]
    headers: Value<'a>,
    #[serde(borrow, default, rename = "User-Agent")]
    user_agent: Value<'a>,
}

pub(super) fn parse(line: &[u8]) -> Option<Access<'_>> {
    let mut entry: Entry<'_> = serde_json::from_slice(line).ok()?;
    match std::mem::take(&mut entry.request) {
        Value::Request(request) => caddy(*request, entry),
        request => balancer(request, entry),
    }
}

fn caddy<'a>(request: Request<'a>, entry: Entry<'a>) -> Option<Access<'a>> {
    let at = match entry.ts {
        Value::Number(number) => time::since_1970(number),
        Value::Whole(number) => time::whole_since_1970(number),
        Value::Text(text) => time::caddy(&text),
        _ => None,
    }?;
    let duration = match entry.duration {
        Value::Number(seconds) => time::seconds(seconds),
        // Seconds are written with their fraction; what is whole was written with `duration_format nano`.
        Value::Whole(nanoseconds) => u64::try_from(nanoseconds).ok().map(Duration::from_nanos),
        Value::Text(text) => time::go_duration(&text),
        _ => None,
    };
    let user_agent = match request.headers {
        Value::Request(headers) => headers.user_agent.text(),
        _ => None,
    };
    let address = request.client_ip.text().or_else(|| request.remote_ip.text());
    Some(Access {
        kind: Kind::Caddy,
        at,
        method: request.method.text().map(text::clean)?,
        path: request.uri.text().map(text::path)?,
        status: entry.status.status()?,
        user_agent: user_agent.map(text::clean),
        address: address.or_else(|| request.remote_addr.text().map(without_port)).map(text::clean)?,
        duration,
    })
}

fn balancer<'a>(request: Value<'a>, entry: Entry<'a>) -> Option<Access<'a>> {
    let status = entry.elb_status_code.status()?;
    let at = entry.time.time().or_else(|| entry.timestamp.time())?;
    let (method, path) = match (entry.request_verb.text(), entry.request_url.text()) {
        (Some(verb), Some(url)) => (text::clean(verb), text::path(url)),
        _ => request_line(request.text()?),
    };
    // `client` may have no port, and an address of IPv6 has colons of its own.
    let client = entry.client.text().map(|client| if is_ip(&client) { client } else { without_port(client) });
    let client = entry.client_port.text().map(without_port).or(client);
    Some(Access {
        kind: Kind::AlbJson,
        at,
        method,
        path,
        status,
        user_agent: entry.user_agent.text().map(text::clean),
        address: entry.client_ip.text().or(client).map(text::clean)?,
        duration: entry.request_creation_time.time().and_then(|created| time::between(created, at)),
    })
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn request_line(line: Cow<'_, str>) -> (Cow<'_, str>, Cow<'_, str>) {
    match line {
        Cow::Borrowed(line) => text::request(line.as_bytes()),
        Cow::Owned(line) => {
            let (method, path) = text::request(line.as_bytes());
            (Cow::Owned(method.into_owned()), Cow::Owned(path.into_owned()))
        }
    }
}

impl<'a> Value<'a> {
    /// A text that says something.
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Text(text) | Value::First(text) if !text.is_empty() && text != "-" => Some(text),
            _ => None,
        }
    }

    fn status(self) -> Option<u16> {
        match self {
            Value::Whole(status) => u16::try_from(status).ok().filter(|status| *status < 1000),
            Value::Text(text) => text::status(text.as_bytes()),
            _ => None,
        }
    }

    fn time(&self) -> Option<Timestamp> {
        match self {
            Value::Text(text) => time::rfc3339(text),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue(std::marker::PhantomData))
    }
}

struct AnyValue<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for AnyValue<'a> {
    type Value = Value<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value<'a>, E> {
        Ok(Value::None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'a>, E> {
        Ok(Value::None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'a>, E> {
        Ok(Value::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'a>, E> {
        Ok(i64::try_from(number).map_or(Value::None, Value::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'a>, E> {
        Ok(Value::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'a>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'a>, A::Error> {
        let first = list.next_element::<Value<'a>>()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.and_then(Value::text).map_or(Value::None, Value::First))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'a>, A::Error> {
        Request::deserialize(MapAccessDeserializer::new(map)).map(|request| Value::Request(Box::new(request)))
    }
}
