//! The transports: what comes from outside is parsed, given to the service, and what the service
//! answers is rendered. `service` is the only part that asks the engine, and the only one that
//! checks what a caller may do; `operations` is the table of everything that can be asked.
//!
//! HTTP, WebSocket, gRPC and broker know nothing of each other. What they share stands here: `routes`
//! (above them), `listen` and `connection` (sockets), `middleware` and `query` (requests),
//! `requests`, `json` and `problem` (bodies and answers).

pub(crate) mod auth;
pub(crate) mod broker;
pub(crate) mod caller;
pub(crate) mod connection;
mod grpc;
mod http;
pub(crate) mod json;
pub(crate) mod listen;
#[cfg(test)]
mod matrix;
pub(crate) mod metrics;
mod middleware;
mod operations;
pub(crate) mod problem;
mod proxy;
mod query;
mod requests;
pub(crate) mod routes;
pub(crate) mod service;
mod websocket;

use std::sync::Arc;

use self::auth::Authenticator;
use self::metrics::Metrics;
use self::service::Service;
use crate::config::Network;

/// State shared by all handlers.
pub(crate) struct Ingress {
    pub(crate) service: Arc<Service>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) settings: Settings,
}

pub(crate) type Shared = Arc<Ingress>;

/// Options of the transports.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Lower case.
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    /// Whose forwarding headers count.
    pub(crate) proxies: Vec<Network>,
    pub(crate) max_body_bytes: usize,
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// The transports: a folder or a file each.
    const TRANSPORTS: [&str; 4] = ["http", "websocket", "grpc", "broker"];

    fn sources(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                sources(&entry.unwrap().path(), found);
            }
        } else {
            found.push(path.to_owned());
        }
    }

    /// Metrics get a snapshot; sockets and bodies know nothing of the engine.
    #[test]
    fn only_the_service_has_the_engine() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ingress");
        let mut files = Vec::new();
        sources(&root, &mut files);
        let service = root.join("service");
        for file in files.iter().filter(|file| !file.starts_with(&service)) {
            let code = std::fs::read_to_string(file).unwrap();
            let code = code.split("#[cfg(test)]").next().unwrap();
            for word in ["engine::Engine", "Engine,", "Engine}", ".engine"] {
                assert!(!code.contains(word), "{}: `{word}`", file.display());
            }
        }
    }

    /// Otherwise an operation could be reached without a check.
    #[test]
    fn transports_ask_the_service_only_and_check_no_role() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ingress");
        for transport in TRANSPORTS {
            let (folder, file) = (root.join(transport), root.join(format!("{transport}.rs")));
            let mut files = Vec::new();
            sources(if folder.is_dir() { &folder } else { &file }, &mut files);
            for file in files {
                let code = std::fs::read_to_string(&file).unwrap();
                let others = TRANSPORTS.into_iter().filter(|other| *other != transport);
                let others = others.map(|other| format!("ingress::{other}"));
                let never =
                    ["engine::Engine", ".engine", "store::Store", "live::Hub", "Role", "Scope"];
                for word in never.into_iter().map(str::to_owned).chain(others) {
                    assert!(!code.contains(&word), "{}: `{word}`", file.display());
                }
            }
        }
    }
}
