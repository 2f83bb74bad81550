//! HTTP addresses in settings and flags: which are valid, and what is wrong with the others.

use hyper::Uri;

/// An address that something can be posted to; the error is the reason why not.
pub(crate) fn http(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("https is not supported: put a proxy on this machine in between".to_owned());
        }
        _ => return Err("it has to begin with `http://`".to_owned()),
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err("it names no host".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("it must not hold a user name or password".to_owned());
    }
    // A port that is not a 16-bit number reads as none, and then means 80.
    let port = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(format!(
            "`{}` is not a port: it is a number from 1 to 65535",
            port.trim_start_matches(':')
        ));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::http;

    #[test]
    fn a_port_is_what_was_written_or_none() {
        for (url, port) in [
            ("http://image", None),
            ("http://image:8000/tasks", Some(8000)),
            ("http://[::1]:65535/", Some(65535)),
        ] {
            assert_eq!(http(url).map(|uri| uri.port_u16()), Ok(port), "{url}");
        }
        for port in ["99999", "65536", "0", "", "-1", "8o"] {
            let refused = http(&format!("http://image:{port}/tasks"));
            assert!(refused.is_err(), "{port:?}: {refused:?}");
        }
        assert_eq!(
            http("http://image:99999/").unwrap_err(),
            "`99999` is not a port: it is a number from 1 to 65535"
        );
    }
}
