//! The addresses of the NATS servers, and whoever signs in by them.
//!
//! A user, password or token in a URL is taken out here: the client hands them on as they are written, `%40` and all, and
//! what stays in a URL ends up in the status line and the log.

use std::ffi::OsStr;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::{ConfigError, SignIn};

/// Servers of one cluster that make sense to name; the others are learnt from them.
const URL_LEN_MAX: usize = 32;

const ALLOWED: &str = "1 to 32 addresses separated by commas, such as nats://host:4222, tls://host or host:4222, all with \
                       the same user:password@ or token@, or none";

/// The servers, without secrets, and the way of signing in that their URLs hold.
pub(super) fn servers(option: &'static str, given: &OsStr) -> Result<(Vec<String>, Option<SignIn>), ConfigError> {
    // What does not parse is not shown in part either: it is unclear where the secret in it would end.
    let refused = || match given.to_str() {
        Some(text) if !text.contains('@') => ConfigError::value(option, given, ALLOWED),
        _ => ConfigError::secret(option, "holds an address that is none (not shown: it may hold a secret)", ALLOWED),
    };
    let parsed: Option<Vec<Server>> = given.to_str().map(|text| text.split(',').map(server).collect()).unwrap_or(None);
    let servers = parsed.filter(|servers| servers.len() <= URL_LEN_MAX).ok_or_else(refused)?;
    let (urls, mut sign_ins): (Vec<String>, Vec<Option<SignIn>>) =
        servers.into_iter().map(|server| (server.url, server.sign_in)).unzip();
    sign_ins.retain(Option::is_some);
    sign_ins.dedup();
    match sign_ins.len() {
        0 | 1 => Ok((urls, sign_ins.pop().flatten())),
        _ => Err(ConfigError::secret(option, "holds different users, passwords or tokens", ALLOWED)),
    }
}

struct Server {
    url: String,
    sign_in: Option<SignIn>,
}

fn server(text: &str) -> Option<Server> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    // The last `@`, since a password that was not encoded may have one; hosts have none.
    let (user_info, address) = match rest.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, rest),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    if !matches!(scheme, "nats" | "tls") || !sound_address(address) {
        return None;
    }
    let sign_in = match user_info {
        Some(user_info) => Some(sign_in(user_info)?),
        None => None,
    };
    Some(Server { url: format!("{scheme}://{address}"), sign_in })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn sound_address(address: &str) -> bool {
    let (host_sound, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let host = address.split(':').next().unwrap_or_default();
            (sound_host(host), address.strip_prefix(host).unwrap_or_default())
        }
    };
    host_sound && (port.is_empty() || port.strip_prefix(':').is_some_and(sound_port))
}

fn sound_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn sound_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `user:password`, or a token alone, as every NATS client reads it.
fn sign_in(user_info: &str) -> Option<SignIn> {
    match user_info.split_once(':') {
        Some((user, password)) => Some(SignIn::UserPassword { user: decode(user)?, password: decode(password)? }),
        None => Some(SignIn::Token(decode(user_info)?)),
    }
}

fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.is_empty() && !decoded.chars().any(char::is_control)).then(|| decoded.into_owned())
}
