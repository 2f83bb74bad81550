//! The address of a server, as it is configured.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::Error;

/// `username` and `password`, if they are said, count instead of those in the URL.
pub(crate) fn address(
    url: &str,
    username: Option<&str>,
    password: Option<&str>,
) -> Result<ConnectionInfo, Error> {
    let info = url
        .into_connection_info()
        .map_err(|error| Error::Broken(format!("`redis.url`: {error}")))?;
    match info.addr() {
        ConnectionAddr::TcpTls { .. } => {
            Err(Error::Broken("`redis.url`: this binary is built without TLS; put a proxy in between, or use redis://".to_owned()))
        }
        _ => {
            let mut settings = info.redis_settings().clone();
            if let Some(username) = username {
                settings = settings.set_username(username);
            }
            if let Some(password) = password {
                settings = settings.set_password(password);
            }
            Ok(info.set_redis_settings(settings))
        }
    }
}
