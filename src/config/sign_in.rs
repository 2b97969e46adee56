//! Which of the ways of signing in was meant. There may be one: with two, which of them NATS saw would be anyone's guess.

use std::path::PathBuf;

use super::typed::Typed;
use super::value::{file, secret};
use super::{ConfigError, SignIn};

const WAYS: &str = "one way of signing in: NATS_CREDS, NATS_NKEY, NATS_USER with NATS_PASSWORD, NATS_TOKEN, or a user \
                    or token in NATS_URL";

/// The one way of signing in that was given, if any.
pub(super) fn sign_in(typed: &Typed, in_url: Option<SignIn>) -> Result<SignIn, ConfigError> {
    let ways = [
        in_url.map(|way| ("NATS_URL", way)),
        credentials(typed)?.map(|way| ("NATS_CREDS", way)),
        nkey(typed)?.map(|way| ("NATS_NKEY", way)),
        user_password(typed)?.map(|way| ("NATS_USER", way)),
        token(typed)?.map(|way| ("NATS_TOKEN", way)),
    ];
    let mut given: Vec<(&'static str, SignIn)> = ways.into_iter().flatten().collect();
    match given.len() {
        0 | 1 => Ok(given.pop().map_or(SignIn::Nothing, |(_, way)| way)),
        _ => Err(ConfigError::together(&given.iter().map(|(option, _)| *option).collect::<Vec<_>>(), WAYS)),
    }
}

/// The service's own certificate and key, which go with any way of signing in.
pub(super) fn client_certificate(typed: &Typed) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (&typed.nats_cert, &typed.nats_key) {
        (Some(cert), Some(key)) => Ok(Some((file("NATS_CERT", cert)?, file("NATS_KEY", key)?))),
        (Some(_), None) => Err(ConfigError::alone("NATS_CERT", "NATS_KEY")),
        (None, Some(_)) => Err(ConfigError::alone("NATS_KEY", "NATS_CERT")),
        (None, None) => Ok(None),
    }
}

fn credentials(typed: &Typed) -> Result<Option<SignIn>, ConfigError> {
    typed.nats_creds.as_deref().map(|path| file("NATS_CREDS", path).map(SignIn::Credentials)).transpose()
}

fn nkey(typed: &Typed) -> Result<Option<SignIn>, ConfigError> {
    typed.nats_nkey.as_deref().map(|path| file("NATS_NKEY", path).map(SignIn::NKey)).transpose()
}

fn user_password(typed: &Typed) -> Result<Option<SignIn>, ConfigError> {
    match (&typed.nats_user, &typed.nats_password) {
        (Some(user), Some(password)) => Ok(Some(SignIn::UserPassword {
            user: secret("NATS_USER", user)?,
            password: secret("NATS_PASSWORD", password)?,
        })),
        (Some(_), None) => Err(ConfigError::alone("NATS_USER", "NATS_PASSWORD")),
        (None, Some(_)) => Err(ConfigError::alone("NATS_PASSWORD", "NATS_USER")),
        (None, None) => Ok(None),
    }
}

fn token(typed: &Typed) -> Result<Option<SignIn>, ConfigError> {
    typed.nats_token.as_deref().map(|token| secret("NATS_TOKEN", token).map(SignIn::Token)).transpose()
}
