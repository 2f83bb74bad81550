//! `crux key new`: a key for a client, and what the configuration has to say of it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Failure, out};
use crate::config::{CLIENT_ID_FORM, Role, is_client_id};
use crate::ingress::auth::key;

/// Make keys for clients
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crux key new shop\n  crux key new image --roles complete --json"
)]
pub(super) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    New(New),
}

/// Print a fresh key, and the lines of the configuration that let it in
///
/// The key is shown this once and kept nowhere: the configuration has its SHA-256 only.
#[derive(Args)]
#[command(after_help = "Examples:\n  crux key new shop\n  crux key new image --roles complete")]
struct New {
    /// The client's id: it becomes the owner of what the client starts
    client_id: String,
    /// What the client may do: some of start, read, complete, operate, admin
    #[arg(long, value_delimiter = ',', default_value = "start,read", value_name = "A,B")]
    roles: Vec<Role>,
}

impl Key {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let KeyCommand::New(New { client_id, roles }) = self.command;
        if !is_client_id(&client_id) {
            let text = format!("`{client_id}` is not a client id: use {CLIENT_ID_FORM}");
            return Err(Failure::usage(text));
        }
        let key = key::generate(&client_id).map_err(|error| {
            Failure::refused(format!("the system gives no random numbers: {error}"))
        })?;
        let hash = key::hex(&key::digest(&key));
        let roles: Vec<&str> = roles.into_iter().map(Role::word).collect();
        if common.json {
            let answer = json!({
                "client_id": client_id, "key": key, "key_sha256": hash, "roles": roles,
            });
            return out::print_line(answer);
        }
        out::print_line(format_args!(
            "{key}\n\nThe client sends it as `Authorization: Bearer {key_shown}`. Keep it now, it is not shown again; the configuration has:\n\nauth:\n  clients:\n    {client_id}:\n      key_sha256: {hash}\n      roles: [{roles}]",
            key_shown = "KEY",
            roles = roles.join(", ")
        ))
    }
}
