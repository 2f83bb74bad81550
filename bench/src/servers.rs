//! Servers for the bench, from the test kit: on free ports, with separate data, stopped with the
//! bench. Nothing is installed for them.

use std::path::Path;

use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, IntoConnectionInfo};

use crate::Outcome;

pub use crux_test_kit::rabbit::Broker;
pub use crux_test_kit::redis::Redis;
use crux_test_kit::{rabbit, redis};

/// Where the servers' data is made from now on: on the disk that is to be measured.
pub fn keep_data_in(directory: &Path) -> Outcome<()> {
    tempfile::env::override_temp_dir(directory)
        .map_err(|other| format!("temporary files are in {} already", other.display()).into())
}

/// Takes some seconds.
pub fn rabbitmq() -> Outcome<Broker> {
    if !rabbit::is_installed() {
        return Err(missing("RabbitMQ", "rabbitmq-server"));
    }
    std::panic::catch_unwind(Broker::start).map_err(|_| "RabbitMQ did not start".into())
}

/// With its log on, synced as `appendfsync` says.
pub fn redis(appendfsync: &str) -> Outcome<Redis> {
    if !redis::is_installed() {
        return Err(missing("Redis", "redis-server"));
    }
    let settings = [("appendonly", "yes"), ("appendfsync", appendfsync)];
    std::panic::catch_unwind(|| Redis::start_with(&settings))
        .map_err(|_| "Redis did not start".into())
}

/// A client that sends small packets immediately: without that each waits for the answer to the one
/// before.
pub fn client(url: &str) -> Outcome<Client> {
    let info =
        url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(Client::open(info)?)
}

fn missing(server: &str, package: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{server} is not installed here; on Debian, as root: apt-get install --no-install-recommends {package}").into()
}
