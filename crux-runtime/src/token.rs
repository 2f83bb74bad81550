//! Tokens that the server signs itself: one to follow an instance without a key, one to report
//! about a task. They say in plain what they are good for, and nothing has to be stored to know
//! them again. Nodes with the same secret take each other's.

use std::fmt;

use ring::hmac;

use crate::id::{InstanceId, StepId};

/// Of a token to follow.
const FOLLOW: &str = "cruxf_";
/// Of a token to report.
const REPORT: &str = "cruxc_";
const MAC_LEN: usize = 32;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granted {
    Follow { instance: InstanceId, expires_s: u64 },
    Report { instance: InstanceId, step: StepId, attempt: u32 },
}

/// Why a token is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Invalid,
    Expired,
}

/// Makes tokens and knows them again.
pub struct TokenSigner(hmac::Key);

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner(***)")
    }
}

impl TokenSigner {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// With a secret of this process alone.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::new(&secret))
    }

    /// Good for following the instance until then, in seconds since 1970.
    pub(crate) fn follow(&self, instance: InstanceId, expires_s: u64) -> String {
        self.sign(FOLLOW, &[&instance.0, &expires_s.to_be_bytes()])
    }

    /// Good for reporting about that attempt, as long as there is something to report.
    pub(crate) fn report(&self, instance: InstanceId, step: StepId, attempt: u32) -> String {
        self.sign(REPORT, &[&instance.0, &step.0, &attempt.to_be_bytes()])
    }

    /// Whether a credential has the form of one of them.
    pub(crate) fn is_token(text: &str) -> bool {
        text.starts_with(FOLLOW) || text.starts_with(REPORT)
    }

    pub(crate) fn read(&self, token: &str, now_s: u64) -> Result<Granted, Refusal> {
        let (said, mac) = token.rsplit_once('_').ok_or(Refusal::Invalid)?;
        let mac: [u8; MAC_LEN] = bytes(mac).ok_or(Refusal::Invalid)?;
        hmac::verify(&self.0, said.as_bytes(), &mac).map_err(|_| Refusal::Invalid)?;
        if let Some(said) = said.strip_prefix(FOLLOW) {
            let said: [u8; 24] = bytes(said).ok_or(Refusal::Invalid)?;
            let (instance, expires) = said.split_first_chunk().ok_or(Refusal::Invalid)?;
            let expires = expires.try_into().map_err(|_| Refusal::Invalid)?;
            let expires_s = u64::from_be_bytes(expires);
            if expires_s <= now_s {
                return Err(Refusal::Expired);
            }
            return Ok(Granted::Follow { instance: InstanceId(*instance), expires_s });
        }
        let said = said.strip_prefix(REPORT).ok_or(Refusal::Invalid)?;
        let said: [u8; 36] = bytes(said).ok_or(Refusal::Invalid)?;
        let (instance, rest) = said.split_first_chunk().ok_or(Refusal::Invalid)?;
        let (step, attempt) = rest.split_first_chunk().ok_or(Refusal::Invalid)?;
        let attempt = attempt.try_into().map_err(|_| Refusal::Invalid)?;
        let (instance, step) = (InstanceId(*instance), StepId(*step));
        Ok(Granted::Report { instance, step, attempt: u32::from_be_bytes(attempt) })
    }

    fn sign(&self, prefix: &str, parts: &[&[u8]]) -> String {
        let mut token = prefix.to_owned();
        parts.iter().for_each(|part| push_hex(&mut token, part));
        let mac = hmac::sign(&self.0, token.as_bytes());
        token.push('_');
        push_hex(&mut token, mac.as_ref());
        token
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(half)).copied().map_or('0', char::from));
        }
    }
}

/// Lower-case digits only: a token is written in one way.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = digits.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Time;

    fn instance() -> InstanceId {
        InstanceId::new(Time(1), [7; 10], None)
    }

    #[test]
    fn a_token_says_what_it_is_good_for_and_until_when() {
        let signer = TokenSigner::new(b"secret");
        let (instance, step) = (instance(), instance().step("pay"));
        let follow = signer.follow(instance, 100);
        assert_eq!(signer.read(&follow, 99), Ok(Granted::Follow { instance, expires_s: 100 }));
        assert_eq!(signer.read(&follow, 100), Err(Refusal::Expired));
        let report = signer.report(instance, step, 3);
        assert_eq!(
            signer.read(&report, u64::MAX),
            Ok(Granted::Report { instance, step, attempt: 3 })
        );
        assert!(TokenSigner::is_token(&follow) && TokenSigner::is_token(&report));
    }

    #[test]
    fn no_character_of_a_token_can_be_changed_and_none_is_good_elsewhere() {
        let signer = TokenSigner::new(b"secret");
        for token in [signer.follow(instance(), 100), signer.report(instance(), StepId([1; 16]), 3)]
        {
            assert_eq!(TokenSigner::new(b"other").read(&token, 1), Err(Refusal::Invalid));
            for n in 0..token.len() {
                for other in ["0", "1", "A", "_"] {
                    let wrong = format!("{}{other}{}", &token[..n], &token[n + 1..]);
                    let is_same = wrong == token;
                    assert_eq!(signer.read(&wrong, 1).is_ok(), is_same, "{wrong}");
                }
                assert_eq!(signer.read(&token[..n], 1), Err(Refusal::Invalid));
            }
            let swapped = token.replacen("cruxf_", "cruxc_", 1);
            assert!(swapped == token || signer.read(&swapped, 1).is_err());
        }
        for other in ["", "cruxf_", "cruxf__", "cruxc_00_00", "é"] {
            assert_eq!(signer.read(other, 1), Err(Refusal::Invalid), "{other}");
        }
    }
}
