//! The configuration from files, variables and flags, and what it says about mistakes.

use std::time::Duration;

use super::*;

fn sources(file: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    if !file.is_empty() {
        std::fs::write(directory.path().join("crux.yaml"), file).unwrap();
    }
    let sources = Sources { directory: directory.path().to_owned(), ..Default::default() };
    (directory, sources)
}

fn read(file: &str) -> Result<Config, String> {
    let (directory, sources) = sources(file);
    load(&sources)
        .map_err(|error| error.to_string().replace(&format!("{}/", directory.path().display()), ""))
}

fn read_env(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let (_directory, mut sources) = sources(file);
    sources.environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&sources).map_err(|error| error.to_string())
}

/// The example file of the gateway whose interfaces this project keeps, as it stands there.
const GATEWAY: &str = "
server:
  port: 8080
  environment: development

rabbitmq:
  url: amqp://guest:guest@localhost:5672/
  exchange: workflow_exchange
  max_retries: 3
  retry_delay: 5s

services:
  auth:
    host: localhost
    port: 50051
  image:
    host: localhost
    port: 8000
  # ... other services
";

#[test]
fn the_gateways_file_loads_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.yaml"), GATEWAY).unwrap();
    let config =
        load(&Sources { directory: directory.path().to_owned(), ..Default::default() }).unwrap();
    assert_eq!(config.server.port, 8080);
    assert_eq!(config.services["image"].address().as_deref(), Some("http://localhost:8000/"));
    let rabbitmq = config.rabbitmq.unwrap();
    assert_eq!(
        (rabbitmq.max_retries, rabbitmq.retry_delay),
        (3, DurationSetting(Duration::from_secs(5)))
    );
    assert_eq!(
        (rabbitmq.url.as_str(), rabbitmq.exchange.as_str()),
        ("amqp://guest:guest@localhost:5672/", "workflow_exchange")
    );
}

#[test]
fn settings_of_streams_that_make_no_sense_are_named() {
    assert_eq!(read("bus: redis").unwrap().bus, BusKind::Redis);
    for (key, value) in [
        ("stream_length", 0),
        ("max_unconfirmed", 0),
        ("max_queued", 1_000_001),
        ("prefetch", 10_001),
    ] {
        let error = read(&format!("redis: {{ {key}: {value} }}")).unwrap_err();
        assert!(
            error.contains(&format!("redis.{key}: must be at least 1, and at most")),
            "{error}"
        );
    }
}

#[test]
fn settings_of_the_broker_that_make_no_sense_are_named() {
    assert_eq!(read("bus: rabbitmq").unwrap().bus, BusKind::Rabbitmq);
    let error = read("bus: kafka").unwrap_err();
    assert!(
        error.starts_with(
            "crux.yaml:1:6: bus: there is no `kafka`; there are `local`, `rabbitmq` and `redis`"
        ),
        "{error}"
    );
    let error = read("rabbitmq: { url: 'http://guest:hunter2@localhost/' }").unwrap_err();
    assert!(
        error.contains("rabbitmq.url: not an address like amqp://") && !error.contains("hunter2"),
        "{error}"
    );
    let error = read("rabbitmq: { exchange: '' }").unwrap_err();
    assert!(error.contains("rabbitmq.exchange: `` is not a valid name"), "{error}");
    let error = read("rabbitmq: { max_unconfirmed: 0 }").unwrap_err();
    assert!(error.contains("rabbitmq.max_unconfirmed: must be at least 1"), "{error}");
}

#[test]
fn without_a_file_everything_has_a_default() {
    let config = read("").unwrap();
    assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8080));
    assert_eq!(config.limits.max_body_size, ByteSize(1 << 20));
}

#[test]
fn crux_yaml_comes_before_config_yaml() {
    let (directory, sources) = sources("server: { port: 1 }");
    std::fs::write(directory.path().join("config.yaml"), "server: { port: 2 }").unwrap();
    assert_eq!(load(&sources).unwrap().server.port, 1);
}

#[test]
fn a_misspelt_key_stops_the_start_and_is_named() {
    let error = read("server:\n  port: 1\n  environmnt: x\n").unwrap_err();
    assert_eq!(
        error,
        "crux.yaml:3:3: server.environmnt: there is no such setting; did you mean `environment`?"
    );
    let error = read("sever:\n  port: 1\n").unwrap_err();
    assert_eq!(error, "crux.yaml:1:1: sever: there is no such setting; did you mean `server`?");
    let error = read("services:\n  image:\n    steps: [a]\n    adress: here\n").unwrap_err();
    assert!(error.starts_with("crux.yaml:4:5: services.image.adress: there is no such setting; there are `host`, `port`"), "{error}");
}

#[test]
fn an_old_name_is_answered_with_the_new_one() {
    let error = read("services:\n  image:\n    at_once: 4\n").unwrap_err();
    assert_eq!(error, "crux.yaml:3:5: services.image.at_once: is now `services.image.concurrency`");
}

#[test]
fn impossible_values_are_named_with_their_place() {
    let error = read("server:\n  port: 99999\n").unwrap_err();
    assert!(error.starts_with("crux.yaml:2:9: server.port: expected an integer from 0 to 65535, found the number 99999"), "{error}");
    let error = read("server:\n  shutdown: 5\n").unwrap_err();
    assert!(error.contains("server.shutdown: `5` is not a valid duration"), "{error}");
    let error = read("server:\n  host: 0.0.0.0\n").unwrap_err();
    assert!(
        error.contains("server.host: `0.0.0.0` is not on this machine's loopback interface"),
        "{error}"
    );
    let error = read(
        "services:\n  a: { url: 'http://x/', steps: [s] }\n  b: { url: 'http://y/', steps: [s] }\n",
    )
    .unwrap_err();
    assert!(
        error.contains("crux.yaml:3:33: services.b.steps: `s` is already given to services.a"),
        "{error}"
    );
    let error = read("services:\n  a: { steps: [s] }\n").unwrap_err();
    assert!(error.contains("services.a: has `steps` and no address"), "{error}");
    let error = read("server: { origins: ['localhost:1'] }").unwrap_err();
    assert!(error.contains("`localhost:1` is not an origin"), "{error}");
}

#[test]
fn a_syntax_error_shows_its_line() {
    let error = read("server:\n  port: [1\n").unwrap_err();
    assert!(error.starts_with("crux.yaml: ") && error.contains("line"), "{error}");
    let error = read("server: { port: 1 }\nserver: { port: 2 }\n").unwrap_err();
    assert!(error.contains("duplicate"), "{error}");
    assert_eq!(read("- a\n").unwrap_err(), "crux.yaml: expected keys and values, like `server:`");
}

#[test]
fn an_empty_section_is_no_section() {
    assert!(read("services:\nrabbitmq:\nserver:\n  port: 5\n").unwrap().services.is_empty());
    assert_eq!(read("# nothing\n").unwrap().server.port, 8080);
}

#[test]
fn variables_overlay_the_file() {
    let file = "server: { port: 1 }\nservices: { image: { host: a, port: 1 } }\n";
    let config = read_env(
        file,
        &[
            ("CRUX_SERVER__PORT", "9090"),
            ("CRUX_SERVICES__IMAGE__HOST", "12345"),
            ("CRUX_SERVER__ORIGINS", "['http://localhost:5173']"),
            ("CRUX_CONFIG__Rate", "1.50"),
            ("CRUX_URL", "not a setting"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.port, 9090);
    assert_eq!(config.services["image"].host.as_deref(), Some("12345"), "a text stays a text");
    assert_eq!(config.server.origins, ["http://localhost:5173"]);
    assert_eq!(config.config["Rate"], "1.50");
}

#[test]
fn a_wrong_variable_is_named() {
    let error = read_env("", &[("CRUX_SERVER__PROT", "1")]).unwrap_err();
    assert_eq!(
        error,
        "CRUX_SERVER__PROT: server.prot: there is no such setting; did you mean `port`?"
    );
    let error = read_env("", &[("CRUX_SERVER__PORT", "many")]).unwrap_err();
    assert_eq!(
        error,
        "CRUX_SERVER__PORT: server.port: expected an integer from 0 to 65535, found the string \"many\""
    );
    let error = read_env("server: { port: 1 }", &[("CRUX_SERVER__PORT__X", "1")]).unwrap_err();
    assert_eq!(
        error,
        "CRUX_SERVER__PORT__X: server.port.x: is inside a setting that is a single value"
    );
}

#[test]
fn flags_come_last() {
    let (_directory, mut sources) = sources("server: { port: 1 }");
    sources.environment = vec![("CRUX_SERVER__PORT".to_owned(), "2".to_owned())];
    sources.flags = vec![("--port", "server.port", "3".to_owned())];
    assert_eq!(load(&sources).unwrap().server.port, 3);
}

#[test]
fn a_named_file_must_be_there() {
    let (_directory, mut sources) = sources("");
    sources.file = Some("nowhere/crux.yaml".into());
    assert!(
        load(&sources).unwrap_err().to_string().starts_with("nowhere/crux.yaml: cannot be read: ")
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_no_settings() {
    let links = [
        ("CRUX_SERVICE_HOST", "10.96.0.10"),
        ("CRUX_SERVICE_PORT", "8080"),
        ("CRUX_SERVICE_PORT_HTTP", "8080"),
        ("CRUX_PORT", "tcp://10.96.0.10:8080"),
        ("CRUX_PORT_8080_TCP", "tcp://10.96.0.10:8080"),
        ("CRUX_PORT_8080_TCP_PROTO", "tcp"),
        ("CRUX_PORT_8080_TCP_PORT", "8080"),
        ("CRUX_PORT_8080_TCP_ADDR", "10.96.0.10"),
        // Of a service called `crux-server`.
        ("CRUX_SERVER_SERVICE_HOST", "10.96.0.11"),
        ("CRUX_SERVER_PORT", "tcp://10.96.0.11:8080"),
    ];
    let config =
        read_env("", &[links.as_slice(), &[("CRUX_SERVER__PORT", "9090")]].concat()).unwrap();
    assert_eq!((config.server.port, config.passed_over.len()), (9090, links.len()));
    for (name, value) in
        [("CRUX_PORT", "9090"), ("CRUX_SERVICES_HOST", "x"), ("CRUX_PORT_X_TCP", "1")]
    {
        assert!(read_env("", &[(name, value)]).is_err(), "{name}");
    }
}

#[test]
fn a_misspelt_variable_is_named() {
    let error = |name: &str| read_env("server: { port: 1 }", &[(name, "9090")]).unwrap_err();
    assert_eq!(
        error("CRUX_SEVER__PORT"),
        "CRUX_SEVER__PORT: sever: there is no such setting; did you mean `server`?"
    );
    assert!(
        error("CRUX_SERVER__PROT").starts_with("CRUX_SERVER__PROT: server.prot: "),
        "{}",
        error("CRUX_SERVER__PROT")
    );
    assert_eq!(
        error("CRUX_SERVER_PORT"),
        "CRUX_SERVER_PORT: server_port: there is no such setting; did you mean `CRUX_SERVER__PORT`, with two underscores?"
    );
}

#[test]
fn what_is_in_force_is_shown_also_where_nobody_wrote_it() {
    let config = read("bus: redis\nservices: { a: { url: 'http://localhost:1/', steps: [x] }, auth: { host: localhost } }").unwrap();
    let shown = config.masked();
    assert_eq!(shown["services"]["a"]["concurrency"], crate::bus::http::DEFAULT_CONCURRENCY);
    assert!(shown["services"]["auth"].get("concurrency").is_none(), "{shown}");
    assert!(shown["redis"]["prefix"].is_string() && shown.get("rabbitmq").is_none(), "{shown}");
    let rabbitmq = read("bus: rabbitmq").unwrap().masked();
    assert!(rabbitmq["rabbitmq"]["prefetch"].is_number(), "{rabbitmq}");
}

#[test]
fn with_auth_any_address_will_do() {
    let error = read("server: { host: 0.0.0.0 }").unwrap_err();
    assert!(error.contains("without `auth`") && error.contains("crux key new"), "{error}");
    let hash = "0f".repeat(32);
    let clients =
        format!("auth: {{ clients: {{ shop: {{ key_sha256: '{hash}', roles: [start] }} }} }}");
    let config = read(&format!("server: {{ host: 0.0.0.0 }}\n{clients}")).unwrap();
    assert_eq!(
        config.auth.as_ref().unwrap().clients["shop"].key_sha256.as_ref().unwrap().0,
        [15; 32]
    );
    let (shown, debug) = (config.masked().to_string(), format!("{config:?}"));
    assert!(shown.contains("shop") && !shown.contains("0f0f"), "{shown}");
    assert!(debug.contains("shop") && !debug.contains("15, 15"), "{debug}");
}

#[test]
fn clients_that_make_no_sense_are_named_and_no_key_is_quoted() {
    let hash = "0f".repeat(32);
    let key = "crux_shop_0123456789012345678901234567890123456789";
    for (client, error) in [
        ("{ roles: [start] }".to_owned(), "auth.clients.shop: has no key: add `key_sha256`"),
        (
            format!("{{ key_sha256: '{key}', roles: [start] }}"),
            "auth.clients.shop.key_sha256: this is a key, and its SHA-256",
        ),
        (
            format!("{{ keys: ['{key}'], roles: [start] }}"),
            "auth.clients.shop.keys[0]: this is a key, and its SHA-256",
        ),
        (
            "{ key_sha256: 123, roles: [start] }".to_owned(),
            "auth.clients.shop.key_sha256: not a SHA-256",
        ),
        (
            format!("{{ key_sha256: '{hash}' }}"),
            "auth.clients.shop.roles: may do nothing: give it some of `start`, `read`",
        ),
        (
            format!("{{ key_sha256: '{hash}', roles: [write] }}"),
            "there is no `write`; there are `start`, `read`",
        ),
        (
            format!("{{ key_sha256: '{hash}', roles: [start], scope: {{ workflow: [a] }} }}"),
            "auth.clients.shop.scope.workflow: there is no such setting; did you mean `workflows`?",
        ),
        (
            format!(
                "{{ key_sha256: '{hash}', roles: [start], keys: ['{hash}', '{hash}', '{hash}', '{hash}'] }}"
            ),
            "auth.clients.shop.keys: a client has at most 4 keys, not 5",
        ),
    ] {
        let said = read(&format!("auth: {{ clients: {{ shop: {client} }} }}")).unwrap_err();
        assert!(said.contains(error) && !said.contains(key) && !said.contains(&hash), "{said}");
    }
    let said = read("auth: { clients: { 'a b': { roles: [start] } } }").unwrap_err();
    assert!(said.contains("`a b` is not a client id: use 1 to 64 letters"), "{said}");
    let secret = "0123456789abcdef0123456789abcdef";
    let jwt = "{ issuer: i, audience: [a], jwks_file: keys.json }";
    let config = read(&format!("auth: {{ jwt: {jwt}, tokens: {{ secret: {secret} }} }}")).unwrap();
    let shown = format!("{} {config:?}", config.masked());
    assert!(shown.contains("keys.json") && !shown.contains(secret), "{shown}");
    for (auth, error) in [
        ("jwt: { audience: [a], jwks_file: f }", "auth.jwt.issuer: must be set"),
        ("jwt: { issuer: i, jwks_file: f }", "auth.jwt.audience: must be set"),
        ("jwt: { issuer: i, audience: [a] }", "auth.jwt.jwks_file: must be set"),
        (
            "jwt: { issuer: i, audience: [a], jwks_url: 'https://id/' }",
            "auth.jwt.jwks_url: must be http:// on the loopback interface",
        ),
        (
            "jwt: { issuer: i, audience: [a], jwks_file: f, leeway: 1h }",
            "auth.jwt.leeway: must be at most 5m",
        ),
        ("anonymous: [start]", "there is no `start`; there is `follow`"),
        ("tokens: { secret: 5 }", "auth.tokens.secret: a secret is a string"),
    ] {
        let said = read(&format!("auth: {{ {auth} }}")).unwrap_err();
        assert!(said.contains(error), "{said}");
    }
    let said = read("server: { behind_proxy: [10.0.0.0/8] }").unwrap_err();
    assert!(said.contains("server.behind_proxy: needs `auth`"), "{said}");
    let said = read("server: { behind_proxy: [10.0.0.0/99] }").unwrap_err();
    assert!(said.contains("`10.0.0.0/99` is not an address or a network"), "{said}");
    let said = read("auth: { clients: {} }").unwrap_err();
    assert!(said.contains("auth: nobody could call this server"), "{said}");
}
