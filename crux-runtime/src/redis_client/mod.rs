//! Access to Redis, shared by the store and the bus: the client of a server or a cluster ([`client`],
//! with [`slots`] and one [`server`] per connection; [`address`]), what its errors mean, and what the
//! server keeps when it dies ([`durability`]).

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod durability;
mod error;
mod script;
mod server;
mod slots;

pub(crate) use crate::redis_client::client::{Address, Call, RedisClient};
pub(crate) use crate::redis_client::error::Error;
pub(crate) use crate::redis_client::script::Script;
pub(crate) use crate::redis_client::server::tcp;
