//! What every HTTP request passes through, first and last: the checks of `Host` and `Origin`, the
//! [`Caller`] that the authenticator finds, with its correlation id, the log, the metrics, and the problem documents of what was
//! refused on the way.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::field::Empty;
use tracing::{Instrument, debug, error, info, info_span};

use super::auth::credential;
use super::caller::Caller;
use super::listen::Peer;
use super::operations::Operation;
use super::problem::{self, Kind, Problem};
use super::proxy::client_address;
use super::service::Service;
use super::{Ingress, Settings, Shared};

/// Of a request that no route takes, in metrics and in the log.
const NO_ROUTE: &str = "none";
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Set by proxies: the server's address is then not the one that it checks.
const FORWARDED: [&str; 10] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// Taken out of the request, for it is made once and not copied.
impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        parts.extensions.remove::<Caller>().ok_or_else(|| {
            Problem::new(Kind::Internal, "the request has no caller: it passed by the middleware")
        })
    }
}

pub(super) async fn request(
    State(ingress): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let correlation_id = correlation_id(request.headers());
    let method = request.method().clone();
    let speaks_grpc = speaks_grpc(request.headers());
    let route =
        request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let span = info_span!("request", correlation_id, client_id = Empty, %method, route);
    let has_auth = ingress.authenticator.is_required();
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    let address = client_address(&ingress.settings.proxies, peer, request.headers());
    let checked = check(&ingress.settings, has_auth, request.headers(), request.uri());
    let origin = checked.as_ref().ok().cloned().flatten();
    let mut response = match checked {
        Ok(_) if method == Method::OPTIONS && origin.is_some() => preflight(),
        Ok(_) => match caller(&ingress, &mut request, &correlation_id, &route, address).await {
            Ok(caller) => {
                if has_auth {
                    span.record("client_id", caller.client_id());
                }
                request.extensions_mut().insert(caller);
                next.run(request).instrument(span.clone()).await
            }
            Err(problem) => problem.into_response(),
        },
        Err(problem) => {
            ingress.metrics.refused_by_middleware();
            problem.into_response()
        }
    };
    let _entered = span.entered();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        log(&problem);
        let retry = response.headers().clone();
        response = match speaks_grpc {
            true => problem.render_grpc(&correlation_id),
            false => problem.render(&correlation_id),
        };
        for (name, value) in &retry {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&correlation_id) {
        headers.insert(CORRELATION, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("X-Correlation-Id, Idempotent-Replay, Location"),
        );
    }
    let elapsed = began.elapsed();
    let status = problem::grpc::http_status(&response);
    ingress.metrics.answered(&method, &route, status, elapsed);
    debug!(
        status = status.as_u16(),
        elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// Who sends the request, and may send it: nothing of its body is read for a client that may not.
async fn caller(
    ingress: &Ingress,
    request: &mut Request,
    correlation_id: &str,
    route: &str,
    address: Option<IpAddr>,
) -> Result<Caller, Problem> {
    let token = match has_token(route) {
        true => credential::take_token(request.uri_mut()),
        false => None,
    };
    let authenticator = &ingress.authenticator;
    let credential = match authenticator.is_required() {
        true => credential::of_request(request.headers(), token)
            .map_err(|problem| authenticator.refuse(problem, address))?,
        false => None,
    };
    let traceparent = traceparent(request.headers());
    let permissions = authenticator.authenticate(credential.as_deref(), address).await?;
    let caller = Caller::new(permissions, correlation_id.to_owned(), traceparent).at(address);
    let method = match *request.method() {
        Method::HEAD => Method::GET.as_str(),
        _ => request.method().as_str(),
    };
    if route != NO_ROUTE
        && let Some(operation) = Operation::of_route(method, route)
    {
        Service::admit(&caller, operation)?;
    }
    Ok(caller)
}

/// Whether a credential may stand in the address: what browsers request without custom headers.
fn has_token(route: &str) -> bool {
    let follows = [Operation::Connect, Operation::Follow];
    Operation::of_route("GET", route).is_some_and(|operation| follows.contains(&operation))
}

/// A call of gRPC is answered as one, also if no method takes it.
pub(super) fn speaks_grpc(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    given.is_some_and(|given| given.starts_with(b"application/grpc"))
}

/// Of a request that was refused.
pub(super) fn log(problem: &Problem) {
    let (word, status, _) = problem.kind.about();
    if status >= 500 {
        error!(problem = word, status, detail = problem.detail, "a request failed");
    } else if problem.kind == Kind::TooManyAttempts {
        // Who tries keys must not fill the disk: the first ones are there.
        debug!(problem = word, status, "a request was refused");
    } else {
        // The client's fault, and as frequent as clients like.
        info!(problem = word, status, detail = problem.detail, "a request was refused");
    }
}

/// The client's own, if it can stand in a header and a log line; else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(CORRELATION)
        .or_else(|| headers.get(REQUEST_ID))
        .and_then(|value| value.to_str().ok());
    let is_fit = |text: &&str| {
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given.filter(is_fit).map_or_else(random_id, str::to_owned)
}

/// W3C trace context of the request; empty if there is none that is well-formed.
fn traceparent(headers: &HeaderMap) -> String {
    well_formed(
        headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default(),
    )
}

/// The trace context itself, or nothing.
pub(super) fn well_formed(given: &str) -> String {
    let is_hex = |part: Option<&str>, len: usize| {
        part.is_some_and(|part| {
            part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let mut parts = given.split('-');
    let is_fit = [2, 32, 16, 2].into_iter().all(|len| is_hex(parts.next(), len));
    if is_fit && parts.next().is_none() { given.to_owned() } else { String::new() }
}

/// Unique among all that this process and others make at the same time, as far as logs are
/// concerned.
fn random_id() -> String {
    static PROCESS: LazyLock<u64> =
        LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:012x}-{:x}", *PROCESS >> 16, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the request may come in; the origin, if it is a page of another origin that may.
fn check(
    settings: &Settings,
    has_auth: bool,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Option<HeaderValue>, Problem> {
    let forwarded = FORWARDED.iter().find(|name| headers.contains_key(**name));
    if let Some(name) = forwarded.filter(|_| !has_auth) {
        let text = format!(
            "the header `{name}` says that a proxy stands before this server, which authenticates no client: call it directly"
        );
        return Err(Problem::new(Kind::ForwardedRefused, text));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let given = hosts.next().and_then(|value| value.to_str().ok());
    if hosts.next().is_some() {
        return Err(Problem::new(
            Kind::HostNotAllowed,
            "the request has more than one Host header",
        ));
    }
    // A request line may name the server too: both names have to be this server's.
    let named = uri.authority().map(|authority| authority.as_str());
    let Some(host) = named.or(given) else {
        return Err(Problem::new(Kind::HostNotAllowed, "the request has no Host header"));
    };
    // Without a credential a page that has got itself another name can do nothing.
    let is_any = has_auth && settings.hosts.is_empty();
    for host in given.into_iter().chain(named).filter(|_| !is_any) {
        let name = host_name(host).to_ascii_lowercase();
        if !is_loopback(&name) && !settings.hosts.contains(&name) {
            let shown: String = name.chars().take(80).collect();
            let text = format!(
                "`{shown}` is not a name of this server: use localhost, or add the name to `server.hosts`"
            );
            return Err(Problem::new(Kind::HostNotAllowed, text));
        }
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    if settings.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)) {
        return Ok(Some(origin.clone()));
    }
    // The server's own pages.
    if text.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host)) {
        return Ok(None);
    }
    let shown: String = text.chars().take(80).collect();
    Err(Problem::new(
        Kind::OriginNotAllowed,
        format!("the origin `{shown}` is not allowed: add it to `server.origins`"),
    ))
}

/// Without the port.
fn host_name(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &host[1..=end];
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A browser asks whether a page of an allowed origin may send what it is about to send.
fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    let allowed = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, X-Api-Key, X-Correlation-Id, X-Request-Id";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            hosts: vec!["crux.internal".to_owned()],
            origins: vec!["http://localhost:5173".to_owned()],
            proxies: Vec::new(),
            max_body_bytes: 1,
        }
    }

    fn checked(given: &[(&'static str, &str)]) -> Result<bool, Kind> {
        checked_by(&settings(), false, given)
    }

    fn checked_by(
        settings: &Settings,
        has_auth: bool,
        given: &[(&'static str, &str)],
    ) -> Result<bool, Kind> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        check(settings, has_auth, &headers, &Uri::from_static("/"))
            .map(|origin| origin.is_some())
            .map_err(|problem| problem.kind)
    }

    #[test]
    fn only_names_of_this_server_are_answered() {
        for host in [
            "localhost:8080",
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "LOCALHOST",
            "crux.internal:80",
            "demo.localhost:1",
        ] {
            assert_eq!(checked(&[("host", host)]), Ok(false), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "192.168.1.5:8080",
            "",
            "127.0.0.1.nip.io",
        ] {
            assert_eq!(checked(&[("host", host)]), Err(Kind::HostNotAllowed), "{host}");
        }
        assert_eq!(checked(&[]), Err(Kind::HostNotAllowed));
    }

    #[test]
    fn two_names_together_are_refused() {
        assert_eq!(
            checked(&[("host", "localhost"), ("host", "localhost")]),
            Err(Kind::HostNotAllowed)
        );
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let asked = |uri: &'static str| {
            check(&settings(), false, &headers, &Uri::from_static(uri))
                .map_err(|problem| problem.kind)
        };
        assert_eq!(asked("http://evil.example/health"), Err(Kind::HostNotAllowed));
        assert_eq!(asked("http://127.0.0.1:8080/health"), Ok(None));
    }

    #[test]
    fn only_pages_of_known_origins_may_talk() {
        let from = |origin: &str| checked(&[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8080"), Ok(false));
        assert_eq!(from("http://localhost:5173"), Ok(true));
        for origin in [
            "http://evil.example",
            "http://localhost:9999",
            "null",
            "http://localhost:8080.evil.example",
        ] {
            assert_eq!(from(origin), Err(Kind::OriginNotAllowed), "{origin}");
        }
    }

    #[test]
    fn forwarded_requests_are_refused() {
        for name in FORWARDED {
            assert_eq!(
                checked(&[("host", "localhost"), (name, "1.2.3.4")]),
                Err(Kind::ForwardedRefused),
                "{name}"
            );
        }
    }

    #[test]
    fn with_auth_every_name_will_do_unless_some_are_listed_and_origins_are_checked_all_the_same() {
        let mut any = settings();
        any.hosts.clear();
        let host = ("host", "crux.example");
        assert_eq!(checked_by(&any, true, &[host]), Ok(false));
        assert_eq!(checked_by(&any, true, &[host, ("x-forwarded-for", "1.2.3.4")]), Ok(false));
        assert_eq!(checked_by(&any, false, &[host]), Err(Kind::HostNotAllowed));
        assert_eq!(checked_by(&settings(), true, &[host]), Err(Kind::HostNotAllowed));
        let evil = ("origin", "http://evil.example");
        assert_eq!(checked_by(&any, true, &[host, evil]), Err(Kind::OriginNotAllowed));
    }

    #[test]
    fn only_a_trace_context_is_kept() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(well_formed(good), good);
        for wrong in ["", "00", &good[1..], &format!("{good}-00"), &good.to_uppercase()] {
            assert_eq!(well_formed(wrong), "", "{wrong}");
        }
    }

    #[test]
    fn a_correlation_id_that_cannot_stand_in_a_log_is_replaced() {
        let of = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION, given.parse().unwrap());
            correlation_id(&headers)
        };
        assert_eq!(of("req-1"), "req-1");
        assert_ne!(of("a b"), "a b");
        assert_ne!(of(&"x".repeat(500)).len(), 500);
        assert_ne!(correlation_id(&HeaderMap::new()), correlation_id(&HeaderMap::new()));
    }
}
