//! The durability of the server, according to its settings. Redis persists nothing by default, so
//! the settings are checked when the store is opened: a response whose data a crash loses is worth
//! nothing.

use redis::Value;
use tracing::{info, warn};

use crate::redis_client::client::RedisClient;

/// How durable an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Durability {
    /// What a crash of the server loses of what was answered.
    pub loses: String,
    /// What should not be so, and what to do about it.
    pub dangers: Vec<String>,
}

impl Durability {
    pub async fn look(client: &RedisClient) -> Self {
        let (info, config) = (redis::cmd("INFO"), {
            let mut config = redis::cmd("CONFIG");
            config.arg("GET").arg("*");
            config
        });
        let mut found = Self { loses: String::new(), dangers: Vec::new() };
        let infos = match client.ask_masters(info).await {
            Ok(infos) => infos,
            Err(error) => return Self::unknown(&error),
        };
        // Hosted servers may not show their settings; what `INFO` says is known of all.
        let configs = match client.ask_masters(config).await {
            Ok(configs) => configs,
            Err(error) => {
                found.dangers.push(format!(
                    "the settings cannot be read ({error}): `appendfsync` is not known"
                ));
                Vec::new()
            }
        };
        for (master, info) in &infos {
            let config =
                configs.iter().find(|(other, _)| other == master).map(|(_, config)| config);
            let Ok(info) = redis::from_redis_value::<String>(info.clone()) else { continue };
            let one = check_setting(
                |key| setting(&info, key),
                |key| config.and_then(|config| configured(config, key)),
            );
            let place = if master.is_empty() { String::new() } else { format!("{master}: ") };
            found.dangers.extend(one.dangers.into_iter().map(|danger| format!("{place}{danger}")));
            if found.loses.is_empty() || one.loses != NOTHING {
                found.loses = one.loses;
            }
        }
        found
    }

    /// Says it in the log.
    pub fn say(&self, place: &str) {
        for danger in &self.dangers {
            warn!(place, "Redis is not configured to keep workflows: {danger}");
        }
        info!(place, "a crash of Redis loses {} of what was answered", self.loses);
    }

    fn unknown(error: &redis::RedisError) -> Self {
        Self {
            loses: "an unknown part".to_owned(),
            dangers: vec![format!("the server does not say how it is set ({error})")],
        }
    }
}

const NOTHING: &str = "nothing";

fn check_setting(
    info: impl Fn(&str) -> Option<String>,
    config: impl Fn(&str) -> Option<String>,
) -> Durability {
    let mut dangers = Vec::new();
    let loses = match (info("aof_enabled").as_deref(), config("appendfsync").as_deref()) {
        (Some("0"), _) => {
            dangers.push("`appendonly` is `no`: a crash loses everything since the last snapshot; set `appendonly yes`".to_owned());
            "everything since the last snapshot"
        }
        (_, Some("always")) => NOTHING,
        (_, Some("everysec")) => "the last 2 seconds at most",
        (_, Some("no")) => {
            dangers.push(
                "`appendfsync` is `no`: a crash of the machine loses about 30 seconds; set `appendfsync always`, or `everysec`".to_owned(),
            );
            "what the operating system had not written, about the last 30 seconds"
        }
        _ => "an unknown part",
    };
    if config("no-appendfsync-on-rewrite").as_deref() == Some("yes") {
        dangers.push("`no-appendfsync-on-rewrite` is `yes`: while the log is rewritten nothing is synced; set it to `no`".to_owned());
    }
    if let Some(policy) = info("maxmemory_policy").filter(|policy| policy != "noeviction") {
        dangers.push(format!("`maxmemory-policy` is `{policy}`: workflows are thrown away when memory is short; set it to `noeviction`"));
    }
    Durability { loses: loses.to_owned(), dangers }
}

/// A line of `INFO`.
pub(crate) fn setting(info: &str, key: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// A value of `CONFIG GET`, which is a list of keys and values or a map.
fn configured(config: &Value, key: &str) -> Option<String> {
    let pairs: Vec<(String, String)> = redis::from_redis_value(config.clone()).ok()?;
    pairs.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &'static [(&str, &str)]) -> Durability {
        let get = |key: &str| {
            settings.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        };
        check_setting(get, get)
    }

    #[test]
    fn each_mode_has_its_loss_and_dangerous_settings_are_named() {
        let safe = of(&[
            ("aof_enabled", "1"),
            ("appendfsync", "always"),
            ("maxmemory_policy", "noeviction"),
        ]);
        assert_eq!((safe.loses.as_str(), safe.dangers.len()), ("nothing", 0));
        let usual = of(&[
            ("aof_enabled", "1"),
            ("appendfsync", "everysec"),
            ("maxmemory_policy", "noeviction"),
        ]);
        assert_eq!((usual.loses.as_str(), usual.dangers.len()), ("the last 2 seconds at most", 0));
        let bad = of(&[
            ("aof_enabled", "0"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "yes"),
            ("maxmemory_policy", "allkeys-lru"),
        ]);
        assert_eq!(bad.dangers.len(), 3, "{bad:?}");
        assert!(bad.loses.contains("everything"), "{bad:?}");
    }
}
