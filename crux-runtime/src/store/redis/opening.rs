//! What is looked at before a store is used: the address, the format, and whether the server keeps what it confirms.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use tracing::{info, warn};

use super::durability::Durability;
use super::error::unreadable;
use super::keys::Keys;
use super::link::Link;
use crate::store::Error;

/// The format that this binary reads and writes.
const FORMAT: u32 = 1;

pub(super) fn address(url: &str, username: Option<&str>, password: Option<&str>) -> Result<ConnectionInfo, Error> {
    let info = url.into_connection_info().map_err(|error| Error::Broken(format!("`redis.url`: {error}")))?;
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

pub(super) async fn check_format(link: &Link, keys: &Keys, place: &str) -> Result<(), Error> {
    let key = format!("{}:format", keys.registry());
    let (mut set, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
    set.arg(&key).arg(FORMAT);
    link.ask(set).await?;
    get.arg(&key);
    let found: u32 = redis::from_redis_value(link.ask(get).await?).map_err(|_| unreadable("the format of the store"))?;
    if found > FORMAT {
        return Err(Error::Newer { path: format!("the store in Redis at {place}"), found, known: FORMAT });
    }
    Ok(())
}

/// Whether this user may publish to the channels by which nodes hear of each other. Redis gives new users none.
pub(super) async fn check_channels(link: &Link, keys: &Keys) -> Result<(), Error> {
    match link.tell(&keys.inbox(0), b"").await {
        Err(Error::Broken(text)) if text.contains("channel") => {
            let prefix = keys.registry().trim_end_matches(":{0}");
            Err(Error::Broken(format!("{text}: give the user the channels of this store, `ACL SETUSER … &{prefix}:*`")))
        }
        result => result.map(drop),
    }
}

pub(super) fn say_durability(durability: Durability, place: &str, required: bool) -> Result<(), Error> {
    let Durability { loses, dangers } = durability;
    if required && !dangers.is_empty() {
        return Err(Error::NotDurable { place: place.to_owned(), why: dangers.join("; ") });
    }
    for danger in dangers {
        warn!(place, "Redis is not set for keeping workflows: {danger}");
    }
    info!(place, "a crash of Redis loses {loses} of what was answered");
    Ok(())
}
