//! Redis, for whoever keeps something there: the store and the bus. How a server or a cluster is
//! reached ([`link`], which sends, [`slots`], who has what, and [`server`], one connection;
//! [`address`]), what its errors mean, and what it keeps when it dies ([`durability`]).

pub(crate) mod address;
pub(crate) mod durability;
mod error;
pub(crate) mod link;
mod script;
mod server;
mod slots;

pub(crate) use crate::redis_client::error::Error;
pub(crate) use crate::redis_client::link::{Address, Call, Link};
pub(crate) use crate::redis_client::script::Script;
pub(crate) use crate::redis_client::server::tcp;
