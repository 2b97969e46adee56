//! The files and secrets of the configuration, made into the client's options.
//!
//! Every file is read and checked here first: the client finds a bad one only while connecting, and then does not say
//! which. A credentials file is read again at each reconnect, so a renewed one is used without a restart; an nkey seed
//! cannot be, because the client wants the public key once and for all.

use std::path::{Path, PathBuf};

use nats::rustls::pki_types::pem::PemObject;
use nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use nats::rustls::{ClientConfig, RootCertStore};

use crate::config::{Nats, SignIn};

/// A file of the configuration that cannot be used.
#[derive(Debug)]
pub(super) struct BadFile {
    pub(super) path: PathBuf,
    pub(super) why: String,
}

/// The client's options as far as they come from the configuration.
///
/// Without an authority of our own the client loads the system's at each start, also when no TLS will be spoken. That
/// takes a few milliseconds, and giving it none instead would keep it away for ever from a server that begins to demand
/// TLS while the service runs.
pub(super) fn options(config: &Nats) -> Result<nats::Options, BadFile> {
    let mut options = signed_in(&config.sign_in)?;
    if let Some(path) = &config.ca {
        check_authorities(path)?;
        options = options.add_root_certificate(path);
    }
    if let Some((certificate, key)) = &config.client_certificate {
        check_client_certificate(certificate, key)?;
        options = options.client_cert(certificate, key);
    }
    Ok(options)
}

fn signed_in(sign_in: &SignIn) -> Result<nats::Options, BadFile> {
    Ok(match sign_in {
        SignIn::Nothing => nats::Options::new(),
        SignIn::UserPassword { user, password } => nats::Options::with_user_pass(user, password),
        SignIn::Token(token) => nats::Options::with_token(token),
        SignIn::Credentials(path) => {
            check_credentials(path)?;
            nats::Options::with_credentials(path)
        }
        SignIn::NKey(path) => with_nkey(path)?,
    })
}

fn check_credentials(path: &Path) -> Result<(), BadFile> {
    let text = read(path)?;
    if !text.ends_with('\n') {
        return Err(bad(path, "the last line has no line break at its end"));
    }
    nats::Options::with_static_credentials(&text).map_err(|error| bad(path, error)).map(drop)
}

fn with_nkey(path: &Path) -> Result<nats::Options, BadFile> {
    let text = read(path)?;
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    let seed = seed.ok_or_else(|| bad(path, "it holds no user seed, a line that starts with SU"))?;
    let pair = nkeys::KeyPair::from_seed(seed).map_err(|error| bad(path, error))?;
    let public_key = pair.public_key();
    // The signature of a user's seed cannot fail; were it to, the server would refuse the empty one.
    Ok(nats::Options::with_nkey(&public_key, move |nonce| pair.sign(nonce).unwrap_or_default()))
}

fn check_authorities(path: &Path) -> Result<(), BadFile> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| bad(path, error))?;
    }
    Ok(())
}

fn check_client_certificate(certificate: &Path, key: &Path) -> Result<(), BadFile> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error))?;
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    config.with_client_auth_cert(chain, private).map_err(|error| bad(certificate, error)).map(drop)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(certificates) if certificates.is_empty() => Err(bad(path, "it holds no certificate in PEM form")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(path, error)),
    }
}

fn read(path: &Path) -> Result<String, BadFile> {
    std::fs::read_to_string(path).map_err(|error| bad(path, error))
}

fn bad(path: &Path, why: impl ToString) -> BadFile {
    BadFile { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(sign_in: SignIn) -> String {
        signed_in(&sign_in).map(drop).unwrap_err().why
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("a file that can be written");
        file
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let bad = signed_in(&SignIn::Credentials("/nowhere/service.creds".into())).map(drop).unwrap_err();
        assert_eq!(bad.path, Path::new("/nowhere/service.creds"));
        assert!(bad.why.contains("No such file"), "{}", bad.why);
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let nonsense = file("nonsense\n");
        assert!(why(SignIn::Credentials(nonsense.path().into())).contains("JWT"));
        assert!(why(SignIn::NKey(nonsense.path().into())).contains("SU"));
        assert!(check_authorities(nonsense.path()).unwrap_err().why.contains("no certificate"));
        let broken = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        check_authorities(broken.path()).unwrap_err();
        check_client_certificate(broken.path(), broken.path()).unwrap_err();
    }

    #[test]
    fn a_seed_is_found_among_comments() {
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let file = file(&format!("# the service's own key\n{seed}\n"));
        with_nkey(file.path()).expect("a seed in the file");
    }
}
