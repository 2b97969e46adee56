//! The files and secrets of the configuration, made into the client's options.
//!
//! Every file is read and checked here, at each attempt to connect: the client finds a bad one only while connecting, and
//! then does not say which. So a renewed one is used without a restart. The client's own reconnects, in the first seconds
//! of an outage, still go by what it was opened with; only a credentials file is read again by those, too.

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

/// How the lines around a part of a credentials file begin and end.
const FRAME: &str = "---";

/// The parts of a JWT, with dots between them.
const JWT_PARTS: usize = 3;

/// Where the client finds no authority, and no reason to fail.
const NO_AUTHORITIES: &str = "/dev/null";

/// The variable that names the system's authorities, where it is set.
const SYSTEM_AUTHORITIES: &str = "SSL_CERT_FILE";

/// The client's options as far as they come from the configuration; [`with_authorities`] adds whom to trust.
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

/// The same, trusting the system's authorities where the configuration names none.
///
/// The client loads them also when no TLS will be spoken, and does not connect where it cannot. So where they cannot be
/// had it is given none, unless they are needed.
pub(super) fn with_authorities(
    options: nats::Options,
    config: &Nats,
    with_tls: bool,
) -> Result<nats::Options, BadFile> {
    if config.ca.is_some() {
        return Ok(options);
    }
    let why = match rustls_native_certs::load_native_certs() {
        Ok(found) if !found.is_empty() => return Ok(options),
        Ok(_) => "it holds no certificate of an authority in PEM form".to_owned(),
        Err(error) => error.to_string(),
    };
    if !with_tls {
        return Ok(options.add_root_certificate(NO_AUTHORITIES));
    }
    Err(match std::env::var_os(SYSTEM_AUTHORITIES).map(PathBuf::from) {
        Some(path) => BadFile { path, why: format!("{SYSTEM_AUTHORITIES} names it, and TLS is spoken: {why}") },
        None => {
            let path = PathBuf::from("the system's authorities");
            BadFile { path, why: format!("TLS is spoken and NATS_CA names no others: {why}") }
        }
    })
}

fn signed_in(sign_in: &SignIn) -> Result<nats::Options, BadFile> {
    Ok(match sign_in {
        SignIn::Nothing => nats::Options::new(),
        SignIn::UserPassword { user, password } => nats::Options::with_user_pass(user, password),
        SignIn::Token(token) => nats::Options::with_token(token),
        SignIn::Credentials(path) => with_credentials(path)?,
        SignIn::NKey(path) => with_nkey(path)?,
    })
}

/// The JWT and the key of a credentials file, as tolerantly as other tools read it.
///
/// The client's own reader wants a line break after the last line and nothing around a line. Editors and secret stores
/// take the one away and put the other there.
fn credentials(path: &Path) -> Result<(String, nkeys::KeyPair), BadFile> {
    let text = read(path)?;
    let is_frame = |line: &&str| line.len() > FRAME.len() && line.starts_with(FRAME) && line.ends_with(FRAME);
    let mut lines = text.lines().map(str::trim);
    let _begin = lines.by_ref().find(is_frame);
    let jwt: String = lines.by_ref().take_while(|line| !is_frame(line)).collect();
    if jwt.split('.').filter(|part| !part.is_empty()).count() != JWT_PARTS {
        return Err(bad(path, "it holds no user JWT between lines of dashes"));
    }
    Ok((jwt, key_pair(path, lines)?))
}

/// The pair of the first line that is a user's seed.
fn key_pair<'a>(path: &Path, mut lines: impl Iterator<Item = &'a str>) -> Result<nkeys::KeyPair, BadFile> {
    let seed = lines.find(|line| line.starts_with("SU"));
    let seed = seed.ok_or_else(|| bad(path, "it holds no user seed, a line that starts with SU"))?;
    nkeys::KeyPair::from_seed(seed).map_err(|error| bad(path, error))
}

/// The client asks for JWT and signature at each connect, and the file is read each time: it may be renewed.
fn with_credentials(path: &Path) -> Result<nats::Options, BadFile> {
    credentials(path)?;
    let (for_jwt, for_signature) = (path.to_owned(), path.to_owned());
    let jwt = move || credentials(&for_jwt).map(|(jwt, _)| jwt).map_err(|bad| std::io::Error::other(bad.why));
    // Where the file went bad since the JWT was read, the server refuses the empty signature.
    let sign = move |nonce: &[u8]| {
        let signed = credentials(&for_signature).ok().and_then(|(_, pair)| pair.sign(nonce).ok());
        signed.unwrap_or_default()
    };
    Ok(nats::Options::with_jwt(jwt, sign))
}

fn with_nkey(path: &Path) -> Result<nats::Options, BadFile> {
    let text = read(path)?;
    let pair = key_pair(path, text.lines().map(str::trim))?;
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

/// The text of a file, without the mark that some editors put before it.
fn read(path: &Path) -> Result<String, BadFile> {
    let text = std::fs::read_to_string(path).map_err(|error| bad(path, error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
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

    /// A credentials file whose last line had no line break, as a secret store hands it out, was refused with 78; it is
    /// fine for every other tool.
    #[test]
    fn credentials_are_read_as_other_tools_read_them() {
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let whole = format!(
            "-----BEGIN NATS USER JWT-----\naaa.bbb.c-_c\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        for text in [
            whole.clone(),
            whole.trim_end().to_owned(),
            whole.replace('\n', "\r\n"),
            format!("\u{feff}{}", whole.replace('\n', "  \r\n   ")),
            format!("\n# of the team\n{whole}"),
            whole.replace("aaa.bbb", "aaa.\nbbb"),
        ] {
            let file = file(&text);
            let (jwt, pair) = credentials(file.path()).unwrap_or_else(|bad| panic!("{text:?}: {}", bad.why));
            assert_eq!((jwt.as_str(), pair.seed().expect("a seed")), ("aaa.bbb.c-_c", seed.clone()), "{text:?}");
        }
        for (text, words) in [
            (whole.replace("aaa.", ""), "no user JWT"),
            (whole.replace(&seed, "SA"), "no user seed"),
            (whole.replace(&seed, &seed[..20]), ""),
            (seed.clone(), "no user JWT"),
            (String::new(), "no user JWT"),
        ] {
            let bad = credentials(file(&text).path()).map(drop).unwrap_err();
            assert!(bad.why.contains(words) && !bad.why.contains(&seed), "{text:?}: {}", bad.why);
        }
        let marked = file(&format!("\u{feff}{seed}"));
        with_nkey(marked.path()).expect("a seed behind an editor's mark");
    }

    #[test]
    fn a_seed_is_found_among_comments() {
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        let file = file(&format!("# the service's own key\n{seed}\n"));
        with_nkey(file.path()).expect("a seed in the file");
    }
}
