//! Signatures of deliveries, by Standard Webhooks (https://www.standardwebhooks.com): an HMAC over the id, the time in
//! seconds and the body, so that neither an old nor a changed delivery is accepted. Comes in: secrets and a delivery.
//! Goes out: the header. Deliberately absent: verification, which receivers do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::Secret;

/// Prefix of the secret of an endpoint.
pub(super) const PREFIX: &str = "whsec_";

/// A new secret.
pub(super) fn new_secret() -> Result<Secret, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(format!("{PREFIX}{}", STANDARD.encode(bytes))))
}

/// The header `webhook-signature`: one signature for each secret; `None` if no secret is readable.
pub(super) fn signature(secrets: &[Secret], id: &str, at_s: u64, body: &[u8]) -> Option<String> {
    let signed = secrets.iter().filter_map(|secret| {
        let key = STANDARD.decode(secret.expose().strip_prefix(PREFIX)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{at_s}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    let signed = signed.collect::<Vec<_>>();
    (!signed.is_empty()).then(|| signed.join(" "))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the published example of Standard Webhooks.

    use super::*;

    #[test]
    fn the_published_example_is_signed_as_published() {
        let secrets = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn every_secret_signs_and_malformed_ones_do_not() {
        let secrets = [new_secret().unwrap(), new_secret().unwrap(), Secret::new("none")];
        let signed = signature(&secrets, "a", 1, b"").unwrap();
        assert_eq!(signed.split(' ').count(), 2);
        assert_eq!(signature(&secrets[2..], "a", 1, b""), None);
        assert_ne!(signature(&secrets, "b", 1, b""), Some(signed.clone()));
        assert_ne!(signature(&secrets, "a", 2, b""), Some(signed.clone()));
        assert_ne!(signature(&secrets, "a", 1, b"x"), Some(signed));
    }
}
