//! Where a request may carry a credential, and the one that it carries. What was found in the
//! address is taken out of it, so that nothing behind can log it.

use axum::http::{HeaderMap, HeaderName, Uri, header};

use super::refused;
use crate::ingress::problem::Problem;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Browsers can set no header of a WebSocket, but its subprotocols: `crux.bearer.TOKEN` beside
/// `crux`, which is the one that the server speaks.
const SUBPROTOCOL: &str = "crux.bearer.";
const PARAMETER: &str = "token";

/// The credential of a request; `None`: there is none. Two are refused, for nobody could say which
/// of them counts.
pub(crate) fn of_request(
    headers: &HeaderMap,
    token: Option<String>,
) -> Result<Option<String>, Problem> {
    let text = |value: &axum::http::HeaderValue| {
        value.to_str().map(str::trim).map(str::to_owned).map_err(|_| {
            refused("the credential is not plain text: send a key or a token as it was given")
        })
    };
    let mut found = Vec::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        found.push(bearer(&text(value)?)?);
    }
    for value in headers.get_all(API_KEY) {
        found.push(text(value)?);
    }
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let offered = text(value)?;
        let tokens = offered.split(',').filter_map(|one| one.trim().strip_prefix(SUBPROTOCOL));
        found.extend(tokens.map(str::to_owned));
    }
    found.extend(token);
    match found.pop() {
        Some(_) if !found.is_empty() => Err(refused(
            "the request has more than one credential: send one, by `Authorization: Bearer`, `X-Api-Key`, subprotocol or `?token=`",
        )),
        credential => Ok(credential),
    }
}

fn bearer(text: &str) -> Result<String, Problem> {
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(credential.trim().to_owned())
        }
        _ => Err(refused(
            "the header Authorization is not understood: write `Bearer` and the key or token",
        )),
    }
}

/// Takes `?token=` out of an address.
pub(crate) fn take_token(uri: &mut Uri) -> Option<String> {
    let query = uri.query()?;
    let is_token = |pair: &&str| pair.split('=').next() == Some(PARAMETER);
    let token = query.split('&').find(is_token)?;
    let token = token.split_once('=').map_or("", |(_, token)| token).to_owned();
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let path = match rest.as_slice() {
        [] => uri.path().to_owned(),
        rest => format!("{}?{}", uri.path(), rest.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    // A part of what was valid is valid.
    parts.path_and_query = path.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Some(token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::problem::Kind;

    fn of(headers: &[(&'static str, &str)], token: Option<&str>) -> Result<Option<String>, Kind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        of_request(&map, token.map(str::to_owned)).map_err(|problem| problem.kind)
    }

    #[test]
    fn each_place_may_have_it() {
        let key = Ok(Some("K".to_owned()));
        assert_eq!(of(&[], None), Ok(None));
        assert_eq!(of(&[("authorization", "Bearer K")], None), key);
        assert_eq!(of(&[("authorization", "bearer   K ")], None), key);
        assert_eq!(of(&[("x-api-key", "K")], None), key);
        assert_eq!(of(&[("sec-websocket-protocol", "crux, crux.bearer.K")], None), key);
        assert_eq!(of(&[("sec-websocket-protocol", "crux")], None), Ok(None));
        assert_eq!(of(&[], Some("K")), key);
    }

    #[test]
    fn two_credentials_and_other_schemes_are_refused() {
        let refused = Err(Kind::Unauthenticated);
        assert_eq!(of(&[("authorization", "Bearer K"), ("x-api-key", "K")], None), refused);
        assert_eq!(
            of(&[("authorization", "Bearer K"), ("authorization", "Bearer L")], None),
            refused
        );
        assert_eq!(of(&[("x-api-key", "K")], Some("K")), refused);
        for other in ["Basic YTpi", "K", "Bearer", ""] {
            assert_eq!(of(&[("authorization", other)], None), refused, "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_out_of_the_address() {
        for (given, left, token) in [
            ("/ws?token=K", "/ws", Some("K")),
            ("/ws?workflow_id=1&token=K&after=2", "/ws?workflow_id=1&after=2", Some("K")),
            ("/ws?token=K&token=L", "/ws", Some("K")),
            ("/ws?token=", "/ws", None),
            ("/ws?tokens=K", "/ws?tokens=K", None),
            ("http://localhost:1/ws?token=K", "http://localhost:1/ws", Some("K")),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            assert_eq!(take_token(&mut uri).as_deref(), token, "{given}");
            assert_eq!(uri.to_string(), left);
        }
    }
}
