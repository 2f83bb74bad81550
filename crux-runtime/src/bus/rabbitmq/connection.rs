//! Connections to the broker: one for publishing and one for consuming, because a broker short of
//! memory or disk blocks connections that publish, and results must still come in. Each is
//! reconnected indefinitely, with exponential backoff and jitter.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use super::Options;

/// How long a connection and what is declared on it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds after which a silent peer is asked whether it lives; it is given up after twice that.
const HEARTBEAT_S: u16 = 15;

/// Why connecting failed or the connection was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A declaration on the broker differs from ours: a person has to act.
    #[error("{0}")]
    Conflict(String),
    /// The broker closed the channel because of what was sent.
    #[error("RabbitMQ refused what was sent: {0}")]
    Refused(String),
    /// Whatever passes by itself, or with the broker's coming back.
    #[error("{0}")]
    Lost(String),
}

/// The address that an URL means. The error says what is wrong with it, without repeating it: it
/// may hold a password.
pub(crate) fn address(url: &str) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = url.parse().map_err(|error| {
        format!("not an address like amqp://user:password@host:5672/vhost: {error}")
    })?;
    if uri.scheme == AMQPScheme::AMQPS {
        return Err("amqps is not supported: put a TLS proxy on this machine in between".to_owned());
    }
    // A path of nothing but the slash is what most clients take for the default virtual host, whose
    // name is `/`.
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    Ok(uri)
}

/// `localhost:5672`, for people.
pub(super) fn shown(url: &str) -> String {
    address(url).map_or_else(
        |_| "its address".to_owned(),
        |uri| format!("{}:{}", uri.authority.host, uri.authority.port),
    )
}

/// Connects; `role` is shown in the broker's list of connections.
pub(super) async fn connect(options: &Options, role: &str) -> Result<Connection, Problem> {
    let mut uri =
        address(&options.url).map_err(|text| Problem::Conflict(format!("rabbitmq.url: {text}")))?;
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_S));
    let name = format!("crux {} {role}", env!("CARGO_PKG_VERSION"));
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let unreachable = |text: &str| {
        Problem::Lost(format!("RabbitMQ at {} cannot be reached: {text}", shown(&options.url)))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect_uri(uri, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(unreachable(&text(&error))),
        Err(_) => Err(unreachable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Classifies an error of an established connection.
pub(super) fn problem(error: &lapin::Error) -> Problem {
    match error.kind() {
        ErrorKind::ProtocolError(said)
            if *said.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) =>
        {
            Problem::Refused(said.get_message().to_string())
        }
        _ => Problem::Lost(format!("the connection to RabbitMQ is lost: {}", text(error))),
    }
}

/// The broker's own words where it said any, else the innermost cause.
pub(super) fn text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_slash_is_the_default_virtual_host() {
        for url in [
            "amqp://guest:guest@localhost:5672/",
            "amqp://guest:guest@localhost:5672",
            "amqp://localhost/%2f",
        ] {
            assert_eq!(address(url).unwrap().vhost, "/", "{url}");
        }
        assert_eq!(address("amqp://localhost:1/shop").unwrap().vhost, "shop");
    }

    #[test]
    fn an_address_of_something_else_is_refused_and_not_repeated() {
        for url in ["http://a:hunter2@localhost/", "hunter2", "amqps://a:hunter2@localhost/"] {
            let error = address(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
