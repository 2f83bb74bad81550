//! The configuration in force, with secrets masked.

use serde_json::Value;

use super::{BusKind, Config, StoreKind};
use crate::definition::secrets::{MASK, is_secret};

impl Config {
    /// As JSON with the shape of the file. Passwords, also inside addresses, and texts of `config`
    /// whose name speaks of a secret, are masked.
    pub fn masked(&self) -> Value {
        let mut value = serde_json::to_value(self.with_defaults()).unwrap_or(Value::Null);
        mask_addresses(&mut value);
        if let Some(password) = value.pointer_mut("/redis/password") {
            *password = Value::from(MASK);
        }
        if let Some(texts) = value.get_mut("config").and_then(Value::as_object_mut) {
            for (_, text) in texts.iter_mut().filter(|(name, _)| is_secret(name)) {
                *text = Value::from(MASK);
            }
        }
        value
    }
}

impl Config {
    /// Sections that are used although they are not written, and defaults of services.
    fn with_defaults(&self) -> Self {
        let mut whole = self.clone();
        if whole.store.kind == StoreKind::Redis || whole.bus == BusKind::Redis {
            whole.redis.get_or_insert_default();
        }
        if whole.bus == BusKind::Rabbitmq {
            whole.rabbitmq.get_or_insert_default();
        }
        for service in whole.services.values_mut().filter(|service| service.is_pushed_to()) {
            service.concurrency.get_or_insert(crate::bus::http::DEFAULT_CONCURRENCY);
        }
        whole
    }
}

/// `amqp://user:password@host` anywhere.
fn mask_addresses(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(masked) = mask_address(text) {
                *text = masked;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_addresses),
        Value::Object(fields) => fields.values_mut().for_each(mask_addresses),
        _ => {}
    }
}

fn mask_address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (login, host) = authority.rsplit_once('@')?;
    let user = login.split(':').next()?;
    let tail = rest.get(authority.len()..)?;
    Some(format!("{scheme}://{user}:{MASK}@{host}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut config = Config::default();
        config.config.insert("STRIPE_KEY".to_owned(), "sk_live_1".to_owned());
        config.config.insert("CITY".to_owned(), "Ghent".to_owned());
        config.rabbitmq = Some(super::super::Rabbitmq {
            url: "amqp://guest:hunter2@localhost:5672/vhost".to_owned(),
            ..Default::default()
        });
        config.redis = Some(super::super::Redis {
            url: Some("redis://:hunter2@localhost:6379/0".to_owned()),
            password: Some("hunter2".to_owned()),
            ..Default::default()
        });
        let shown = config.masked().to_string();
        assert!(!shown.contains("sk_live_1") && !shown.contains("hunter2"), "{shown}");
        assert!(
            shown.contains("amqp://guest:***@localhost:5672/vhost") && shown.contains("Ghent"),
            "{shown}"
        );
        assert!(shown.contains("redis://:***@localhost:6379/0"), "{shown}");
    }
}
