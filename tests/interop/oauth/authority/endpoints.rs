//! The authorization server's endpoints, with the checks that a real one makes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use reqwest::Url;
use ring::digest;
use serde_json::{Value, json};

use super::super::http::{Body, json as document, plain};
use super::books::{Books, Code, Grant, Registered, scope};

type Fields = HashMap<String, String>;

/// Answers a request.
pub(super) async fn answer(books: Arc<Mutex<Books>>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return plain(StatusCode::BAD_REQUEST, "the body did not arrive");
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/.well-known/oauth-authorization-server") => metadata(&books),
        (&Method::POST, "/register") => register(&mut books, &body),
        (&Method::GET, "/authorize") => authorize(&mut books, &fields(head.uri.query().unwrap_or_default())),
        (&Method::POST, "/token") => token(&mut books, &fields(&body)),
        (&Method::POST, "/introspect") => {
            let told =
                fields(&body).get("token").map_or_else(|| json!({ "active": false }), |one| books.introspect(one));
            document(StatusCode::OK, &told)
        }
        _ => plain(StatusCode::NOT_FOUND, "not found"),
    }
}

/// RFC 8414.
fn metadata(books: &Books) -> Response<Body> {
    let issuer = &books.issuer;
    let told = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
    });
    document(StatusCode::OK, &told)
}

/// RFC 7591.
fn register(books: &mut Books, body: &str) -> Response<Body> {
    let Ok(mut asked) = serde_json::from_str::<Value>(body) else {
        return refusal("invalid_client_metadata", "the body is no JSON");
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let redirect_uris: Vec<String> = asked["redirect_uris"].as_array().into_iter().flatten().filter_map(text).collect();
    let Some(name) = text(&asked["client_name"]).filter(|_| !redirect_uris.is_empty()) else {
        return refusal("invalid_client_metadata", "a name and a redirect URI are needed");
    };
    asked["client_id"] = json!(books.register(Registered { name, redirect_uris }));
    asked["token_endpoint_auth_method"] = json!("none");
    document(StatusCode::CREATED, &asked)
}

/// The login page: everybody is logged in at once and sent back.
fn authorize(books: &mut Books, asked: &Fields) -> Response<Body> {
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let (client_id, redirect_uri) = (field("client_id"), field("redirect_uri"));
    let known = books.clients.get(&client_id).is_some_and(|client| client.redirect_uris.contains(&redirect_uri));
    if !known {
        // RFC 6749 §4.1.2.1: nobody is sent to an address that was not registered.
        return plain(StatusCode::BAD_REQUEST, "unknown client or redirect URI");
    }
    books.note_request(&client_id);
    let result = if field("response_type") != "code" {
        Err("unsupported_response_type")
    } else if field("code_challenge_method") != "S256" || field("code_challenge").is_empty() {
        Err("invalid_request")
    } else {
        audience(books, asked.get("resource"))
    };
    let mut back = Url::parse(&redirect_uri).expect("clients of these tests register URLs");
    match result {
        Err(error) => {
            back.query_pairs_mut().append_pair("error", error);
        }
        Ok(audience) => {
            let grant = Grant { client_id, audience, scope: scope(asked.get("scope")) };
            let code = books.add_code(Code { grant, redirect_uri, challenge: field("code_challenge") });
            back.query_pairs_mut().append_pair("code", &code);
        }
    }
    if let Some(state) = asked.get("state") {
        back.query_pairs_mut().append_pair("state", state);
    }
    let mut response = plain(StatusCode::FOUND, "back to the client");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(back.as_str()).expect("a URL"));
    response
}

/// Who a token for `resource` is for.
fn audience(books: &Books, resource: Option<&String>) -> Result<String, &'static str> {
    let policy = books.policy();
    match resource {
        None => Ok(policy.default_audience.clone()),
        Some(resource) if policy.resources.is_empty() || policy.resources.contains(resource) => Ok(resource.clone()),
        // RFC 8707 §2.
        Some(_) => Err("invalid_target"),
    }
}

fn token(books: &mut Books, asked: &Fields) -> Response<Body> {
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let client_id = field("client_id");
    if !books.clients.contains_key(&client_id) {
        return refusal("invalid_client", "unknown client");
    }
    books.note_request(&client_id);
    if let Some(resource) = asked.get("resource")
        && audience(books, Some(resource)).is_err()
    {
        return refusal("invalid_target", "no tokens are issued for this resource");
    }
    match field("grant_type").as_str() {
        "authorization_code" => {
            let verifier = field("code_verifier");
            books.secrets.push(verifier.clone());
            match books.codes.remove(&field("code")) {
                Some(code) if is_due(&code, asked, &verifier) => document(StatusCode::OK, &books.log_in(code.grant)),
                _ => refusal("invalid_grant", "unknown code, or not this client's, or a wrong verifier"),
            }
        }
        "refresh_token" => match books.renew(&client_id, &field("refresh_token")) {
            Some(tokens) => document(StatusCode::OK, &tokens),
            None => refusal("invalid_grant", "unknown refresh token"),
        },
        _ => refusal("unsupported_grant_type", "code and refresh_token only"),
    }
}

/// Whether the one who brings `code` is the one who asked for it (RFC 7636 §4.6).
fn is_due(code: &Code, asked: &Fields, verifier: &str) -> bool {
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    let same = |name: &str, wanted: &str| asked.get(name).is_none_or(|value| value == wanted);
    challenge == code.challenge
        && same("client_id", &code.grant.client_id)
        // TypeScript 1.8 names no redirect URI here.
        && same("redirect_uri", &code.redirect_uri)
        && same("resource", &code.grant.audience)
}

fn refusal(error: &str, description: &str) -> Response<Body> {
    document(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": description }))
}

fn fields(query: &str) -> Fields {
    let url = Url::parse(&format!("http://authority/?{query}")).expect("a base with any query");
    url.query_pairs().into_owned().collect()
}
