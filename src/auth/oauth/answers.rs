//! The documents and the facade's endpoints, as HTTP answers.
//!
//! All of them are public and meant for any page: `Access-Control-Allow-Origin: *`, and no credentials of a browser's own
//! (SECURITY §2.3). The facade holds nothing between requests, sets no cookies, has no client of its own, and logs nothing
//! of what goes through it; it is pure but for one parameter (`swap`).

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};

use super::places::{Endpoint, Places, Wanted};
use super::swap::swap;
use super::{Effect, Oauth};
use crate::upstream::{Fetched, pick};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Documents change when the upstream's do.
const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// What clients send from pages.
const ALLOWED: HeaderValue = HeaderValue::from_static("mcp-protocol-version, content-type, authorization");
/// What the authorization server needs of a request.
static UP: [HeaderName; 4] =
    [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, HeaderName::from_static("dpop")];
/// And what the client needs of its answer.
static DOWN: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::WWW_AUTHENTICATE,
    header::RETRY_AFTER,
    header::LOCATION,
    HeaderName::from_static("dpop-nonce"),
];

/// A request that goes on to the authorization server.
#[derive(Debug)]
pub struct Relayed<'a> {
    /// The host that the client asked for.
    pub host: Option<&'a str>,
    /// To which endpoint.
    pub endpoint: Endpoint,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Oauth {
    /// Says yes to a page that asks whether it may ask, and which methods there are.
    #[must_use]
    pub fn permission(wanted: Wanted) -> Response<Bytes> {
        let mut answer = answer(StatusCode::NO_CONTENT, Bytes::new());
        let headers = answer.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        headers.insert(header::ALLOW, HeaderValue::from_static(methods(wanted)));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods(wanted)));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        answer
    }

    /// Whether what is wanted can be asked for so.
    #[must_use]
    pub fn takes(wanted: Wanted, method: &Method) -> bool {
        methods(wanted).split(", ").any(|known| known == method.as_str())
    }

    /// 405.
    #[must_use]
    pub fn wrong_method(wanted: Wanted) -> Response<Bytes> {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this takes other methods");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods(wanted)));
        answer
    }

    /// The document for a client that asked for `host`; `None` where there is none of ours, and whatever else serves this path may.
    pub async fn document(&self, wanted: Wanted, host: Option<&str>) -> Option<Response<Bytes>> {
        let places = self.shared.names.of(host)?;
        let protection = match self.protection().await {
            Ok(protection) => protection,
            Err(problem) => return Some(unavailable(&problem.to_string())),
        };
        let effect = protection.resource.as_ref().map(|resource| self.effect(places, resource));
        let text = match wanted {
            Wanted::Resource | Wanted::RootResource => {
                let resource = protection.resource.as_ref()?;
                // On the server's own host the document of the origin is the server's, if it has one.
                let is_servers = wanted == Wanted::RootResource && places.is_home_of(&resource.name);
                match (&protection.root, effect) {
                    (Some(root), _) if is_servers => root.clone(),
                    (_, Some(Effect::Exact)) => resource.renamed(&places.stream, None),
                    (_, Some(Effect::Facade)) => resource.renamed(&places.stream, Some(&[places.facade()])),
                    _ => resource.text.clone(),
                }
            }
            Wanted::ServerResource => protection.resource.as_ref()?.text.clone(),
            Wanted::AuthorizationServer | Wanted::Facade => {
                let server = match self.shared.learning.server().await {
                    Ok(server) => server?,
                    Err(problem) => return Some(unavailable(&problem.to_string())),
                };
                match (effect, wanted) {
                    (Some(Effect::Facade), Wanted::Facade) => server.facade(&places.facade(), places),
                    (Some(Effect::Facade), _) => server.facade(&places.origin, places),
                    (_, Wanted::Facade) => return None,
                    _ => server.mirrored(),
                }
            }
            Wanted::Endpoint(_) => return None,
        };
        let mut answer = answer(StatusCode::OK, text);
        answer.headers_mut().insert(header::CACHE_CONTROL, MINUTES);
        Some(answer)
    }

    /// Sends a browser on to the real authorization endpoint, with the upstream's `resource`.
    pub async fn authorize(&self, host: Option<&str>, query: Option<&str>) -> Response<Bytes> {
        let (places, name) = match self.facade(host).await {
            Ok(known) => known,
            Err(refused) => return refused,
        };
        let Ok(query) = swap(query.unwrap_or_default(), &places.stream, &name) else { return invalid_target(places) };
        let mut url = match self.real(Endpoint::Authorize).await {
            Ok(url) => url,
            Err(refused) => return refused,
        };
        let query = url.query().filter(|own| !own.is_empty()).map(|own| format!("{own}&{query}")).unwrap_or(query);
        url.set_query(Some(&query));
        let Ok(location) = HeaderValue::try_from(String::from(url)) else {
            return error(StatusCode::BAD_REQUEST, "invalid_request", "the query cannot be passed on");
        };
        let mut answer = answer(StatusCode::FOUND, Bytes::new());
        answer.headers_mut().insert(header::LOCATION, location);
        answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        answer
    }

    /// Passes a request on to the authorization server, with the upstream's `resource` where tokens are asked for.
    pub async fn relay(&self, request: Relayed<'_>) -> Response<Bytes> {
        let (places, name) = match self.facade(request.host).await {
            Ok(known) => known,
            Err(refused) => return refused,
        };
        let body = match request.endpoint {
            Endpoint::Token => {
                let Ok(form) = std::str::from_utf8(&request.body) else {
                    return error(StatusCode::BAD_REQUEST, "invalid_request", "the form is not text");
                };
                match swap(form, &places.stream, &name) {
                    Ok(form) => form.into(),
                    Err(_) => return invalid_target(places),
                }
            }
            Endpoint::Authorize | Endpoint::Register | Endpoint::Revoke => request.body,
        };
        let url = match self.real(request.endpoint).await {
            Ok(url) => self.shared.learning.reachable(url),
            Err(refused) => return refused,
        };
        match self.shared.learning.fetcher().post(&url, pick(request.headers, &UP), body).await {
            Ok(fetched) => passed_on(fetched),
            Err(fault) => unavailable(&fault.to_string()),
        }
    }

    /// The places, and the upstream's own name for itself.
    async fn facade(&self, host: Option<&str>) -> Result<(&Places, String), Response<Bytes>> {
        let places = self.shared.names.of(host).ok_or_else(nowhere)?;
        let protection = self.protection().await.map_err(|problem| unavailable(&problem.to_string()))?;
        let resource = protection.resource.as_ref().ok_or_else(nowhere)?;
        Ok((places, resource.name.clone()))
    }

    /// The real endpoint behind one of the facade.
    async fn real(&self, endpoint: Endpoint) -> Result<crate::upstream::Url, Response<Bytes>> {
        let server = self.shared.learning.server().await.map_err(|problem| unavailable(&problem.to_string()))?;
        server.and_then(|server| server.endpoint(endpoint)).ok_or_else(nowhere)
    }
}

fn methods(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Endpoint(Endpoint::Token | Endpoint::Register | Endpoint::Revoke) => "POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

fn passed_on(fetched: Fetched) -> Response<Bytes> {
    // A redirect of an endpoint that takes POSTs leads a client's secrets astray.
    let status = if fetched.status.is_redirection() { StatusCode::BAD_GATEWAY } else { fetched.status };
    let mut answer = answer(status, fetched.body);
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer.headers_mut().extend(pick(&fetched.headers, &DOWN));
    if fetched.status.is_redirection() {
        answer.headers_mut().remove(header::LOCATION);
    }
    answer
}

fn invalid_target(places: &Places) -> Response<Bytes> {
    let text = format!("resource names another server; clients of this one ask for {}", places.stream);
    error(StatusCode::BAD_REQUEST, "invalid_target", &text)
}

/// 404: the upstream has no such thing.
fn nowhere() -> Response<Bytes> {
    error(StatusCode::NOT_FOUND, "invalid_request", "the authorization server of the upstream offers nothing like this")
}

fn unavailable(problem: &str) -> Response<Bytes> {
    // Where the upstream is and why it fails are the operator's business.
    tracing::debug!(problem, "what a client of OAuth asked for cannot be had");
    let text = "the server behind this proxy, or its authorization server, does not answer; try again";
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

fn error(status: StatusCode, code: &str, text: &str) -> Response<Bytes> {
    answer(status, serde_json::json!({"error": code, "error_description": text}).to_string().into())
}

fn answer(status: StatusCode, text: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("WWW-Authenticate, Retry-After"));
    answer
}
