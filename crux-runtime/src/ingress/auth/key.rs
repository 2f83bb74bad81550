//! Keys of clients: `crux_CLIENT_SECRETCHECK`. The prefix is for scanners that look for secrets,
//! the client's id says whose key was found, 32 random characters are the secret (190 bits), and
//! six are a checksum, so that a damaged key is distinguished from a wrong one. The server keeps
//! the SHA-256: of a secret that is random, a fast hash gives nothing away.

use std::fmt;

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "crux_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SECRET_LEN: usize = 32;
const CHECKSUM_LEN: usize = 6;

pub(crate) type Digest = [u8; 32];

/// A key as a client sends it, of the right form. Never shown.
pub(crate) struct ApiKey<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) digest: Digest,
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Why a text is no key. Says nothing about which keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is something else.
    Form,
    /// Characters are missing or wrong.
    Checksum,
}

impl<'a> ApiKey<'a> {
    /// Whether a credential is meant to be one.
    pub(crate) fn is_key(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    pub(crate) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let rest = text.strip_prefix(PREFIX).ok_or(Malformed::Form)?;
        let (client_id, tail) = rest.rsplit_once('_').ok_or(Malformed::Form)?;
        if !crate::config::is_client_id(client_id) {
            return Err(Malformed::Form);
        }
        let is_whole = tail.len() == SECRET_LEN + CHECKSUM_LEN
            && tail.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let check = text.len().saturating_sub(CHECKSUM_LEN);
        match (text.get(..check), text.get(check..)) {
            (Some(before), Some(after)) if is_whole && checksum(before) == after => {
                Ok(Self { client_id, digest: digest(text) })
            }
            _ => Err(Malformed::Checksum),
        }
    }
}

pub(crate) fn digest(key: &str) -> Digest {
    Sha256::digest(key.as_bytes()).into()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A fresh key for a client.
pub(crate) fn generate(client_id: &str) -> Result<String, getrandom::Error> {
    let mut key = format!("{PREFIX}{client_id}_");
    let whole = key.len() + SECRET_LEN;
    while key.len() < whole {
        let mut random = [0; 64];
        getrandom::fill(&mut random)?;
        // Four of 256 values would make the first characters likelier than the others.
        let fair = random.iter().filter(|byte| usize::from(**byte) < 4 * ALPHABET.len());
        key.extend(fair.take(whole - key.len()).map(|byte| character(usize::from(*byte))));
    }
    let checksum = checksum(&key);
    key.push_str(&checksum);
    Ok(key)
}

fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut rest =
        digest.iter().take(5).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let size = ALPHABET.len() as u64;
    let mut checksum = String::with_capacity(CHECKSUM_LEN);
    for _ in 0..CHECKSUM_LEN {
        checksum.push(character(usize::try_from(rest % size).unwrap_or(0)));
        rest /= size;
    }
    checksum
}

fn character(number: usize) -> char {
    ALPHABET.get(number % ALPHABET.len()).copied().map_or('0', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_key_is_read_again_and_no_other_is_like_it() {
        for client_id in ["shop", "a_b-c.d"] {
            let key = generate(client_id).unwrap();
            let read = ApiKey::parse(&key).unwrap();
            assert_eq!((read.client_id, read.digest), (client_id, digest(&key)));
            assert_ne!(key, generate(client_id).unwrap());
            assert!(!format!("{read:?}").contains(&key[10..]));
        }
    }

    #[test]
    fn a_damaged_key_is_distinguished_from_a_wrong_one() {
        let key = generate("shop").unwrap();
        for n in "crux_shop_".len()..key.len() {
            let other = if key.as_bytes()[n] == b'x' { "y" } else { "x" };
            let damaged = format!("{}{other}{}", &key[..n], &key[n + 1..]);
            assert_eq!(ApiKey::parse(&damaged).unwrap_err(), Malformed::Checksum, "{n}");
            assert!(ApiKey::parse(&key[..n]).is_err());
        }
        for other in ["", "crux_", "crux__x", "hunter2", "crux_sh op_x", "crux_é_x"] {
            assert_eq!(ApiKey::parse(other).unwrap_err(), Malformed::Form, "{other}");
        }
    }
}
