//! Logs in by SCRAM (RFC 5802): neither side sends the password, and both prove that they know it.

use arrow_cast::base64::{BASE64_STANDARD, Engine};
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// A server may ask for so many rounds at most: it should not keep this side busy for minutes.
const ITERATIONS_MAX: usize = 1_000_000;
const GARBLED: &str = "the broker's answer is not one of SCRAM";

/// A login that has begun.
pub(super) struct Scram<'a> {
    digest: MessageDigest,
    password: &'a str,
    /// the first message, without what comes before the name
    first: String,
    nonce: String,
}

/// The last message, and how the server proves itself after it.
pub(super) struct Last {
    pub message: String,
    signature: Vec<u8>,
}

impl<'a> Scram<'a> {
    /// Begins to log in; nobody has used the nonce before.
    pub fn new(digest: MessageDigest, user: &str, password: &'a str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { digest, password, first: format!("n={user},r={nonce}"), nonce }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// What follows the server's first message.
    ///
    /// # Errors
    /// If that is none of SCRAM, or the server did not make it for this login.
    pub fn last(&self, challenge: &[u8]) -> Result<Last, String> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| GARBLED)?;
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name)).ok_or(GARBLED);
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) {
            return Err(GARBLED.into());
        }
        let salt = BASE64_STANDARD.decode(field("s=")?).map_err(|_| GARBLED)?;
        let iterations: usize = field("i=")?.parse().map_err(|_| GARBLED)?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(format!("the broker asks for {iterations} rounds of SCRAM, and {ITERATIONS_MAX} is the most"));
        }
        let unproven = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{unproven}", self.first);
        let (proof, signature) = self.prove(&salt, iterations, all.as_bytes()).map_err(|e| e.to_string())?;
        Ok(Last { message: format!("{unproven},p={}", BASE64_STANDARD.encode(proof)), signature })
    }

    /// The client's proof, and what will be the server's.
    fn prove(&self, salt: &[u8], iterations: usize, all: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
        let mac = |key: &[u8], text: &[u8]| Signer::new(self.digest, &*PKey::hmac(key)?)?.sign_oneshot_to_vec(text);
        let mut salted = vec![0; self.digest.size()];
        pbkdf2_hmac(self.password.as_bytes(), salt, iterations, self.digest, &mut salted)?;
        let key = mac(&salted, b"Client Key")?;
        let signature = mac(&hash(self.digest, &key)?, all)?;
        let proof = key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        Ok((proof, mac(&mac(&salted, b"Server Key")?, all)?))
    }
}

impl Last {
    /// Whether the server has proven that it knows the password, too.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let signature = answer.strip_prefix(b"v=").and_then(|answer| BASE64_STANDARD.decode(answer).ok());
        signature.is_some_and(|signature| signature == self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_in_as_the_rfc_has_it() {
        // Goal: the messages are those of RFC 7677's example, and only the right answer is taken.
        let scram = Scram::new(MessageDigest::sha256(), "user", "pencil", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let Ok(last) = scram.last(challenge.as_bytes()) else { panic!("the challenge is a good one") };
        let expected =
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last.message, expected);
        assert!(last.is_answered_by(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        for wrong in [&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8="[..], b"v=", b"", b"e=invalid-proof"] {
            assert!(!last.is_answered_by(wrong));
        }
        for wrong in ["r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=rOprNGfwEbeRWgbNEkqO,s=,i=0", "e=other-error", "\u{0}"] {
            assert!(scram.last(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
