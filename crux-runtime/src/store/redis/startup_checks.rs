//! Checks before a store is used: its format, and whether the server's settings are durable.

use crate::redis_client as server;
use crate::redis_client::RedisClient;
use crate::redis_client::durability::Durability;
use crate::store::Error;
use crate::store::redis::error::unreadable;
use crate::store::redis::keys::Keys;

/// The format that this binary reads and writes.
const FORMAT: u32 = 1;

pub(super) async fn check_format(
    link: &RedisClient,
    keys: &Keys,
    place: &str,
) -> Result<(), Error> {
    let key = format!("{}:format", keys.registry());
    let (mut set, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
    set.arg(&key).arg(FORMAT);
    link.ask(set).await?;
    get.arg(&key);
    let found: u32 = redis::from_redis_value(link.ask(get).await?)
        .map_err(|_| unreadable("the format of the store"))?;
    if found > FORMAT {
        return Err(Error::Newer {
            path: format!("the store in Redis at {place}"),
            found,
            known: FORMAT,
        });
    }
    Ok(())
}

/// Whether this user may publish to the channels by which nodes notify each other. Redis gives new
/// users none.
pub(super) async fn check_channels(link: &RedisClient, keys: &Keys) -> Result<(), Error> {
    match link.tell(&keys.inbox(0), b"").await {
        Err(server::Error::Broken(text)) if text.contains("channel") => {
            let prefix = keys.registry().trim_end_matches(":{0}");
            Err(Error::Broken(format!(
                "{text}: give the user the channels of this store, `ACL SETUSER … &{prefix}:*`"
            )))
        }
        result => Ok(result.map(drop)?),
    }
}

pub(super) fn say_durability(
    durability: Durability,
    place: &str,
    required: bool,
) -> Result<(), Error> {
    if required && !durability.dangers.is_empty() {
        return Err(Error::NotDurable {
            place: place.to_owned(),
            why: durability.dangers.join("; "),
        });
    }
    durability.say(place);
    Ok(())
}
