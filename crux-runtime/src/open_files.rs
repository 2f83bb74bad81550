//! The limit of open files, which includes sockets. A part is reserved for store, brokers and
//! services, so that a flood of clients cannot use it up.

use tracing::{info, warn};

/// For the store, brokers, services and whatever step structs open.
const RESERVED: u64 = 256;
/// With fewer a server is of little use; then the system's limit decides.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the limit of open files as far as the process may, and says how many of the wanted
/// connections fit into it. A warning only if `wanted` is not the `default`, which nobody asked for.
pub(crate) fn admit(wanted: usize, default: usize) -> usize {
    let Some(limit) = raise() else { return wanted };
    let fit =
        usize::try_from(limit.saturating_sub(RESERVED).max(CONNECTIONS_MIN)).unwrap_or(usize::MAX);
    if fit >= wanted {
        return wanted;
    }
    if wanted == default {
        info!(
            limit,
            admitted = fit,
            "the limit of open files admits fewer connections than the default"
        );
    } else {
        warn!(
            limit,
            wanted,
            admitted = fit,
            "the limit of open files admits fewer connections than `server.max_connections`; raise it (`ulimit -n`, \
             `LimitNOFILE=`), or lower the setting"
        );
    }
    fit
}

/// How many files the process may have open, after raising that to what the system lets it; `None`:
/// as many as it likes, or that is not known.
#[cfg(unix)]
pub(crate) fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            info!(?current, ?maximum, %error, "the limit of open files cannot be raised");
            current
        }
    }
}

#[cfg(not(unix))]
pub(crate) fn raise() -> Option<u64> {
    None
}
