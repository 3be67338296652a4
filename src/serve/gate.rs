//! Who may talk to a worker: Host, Origin and token.
//!
//! Host keeps a name that somebody else's DNS points here (rebinding) from being ours; Origin keeps other sites' pages
//! from using a browser's cookie; the token keeps everybody else out where we listen beyond loopback.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use subtle::ConstantTimeEq;

use crate::error::{Error, Kind, Result};

/// What a worker lets in.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Whether we listen beyond loopback: then this machine's own name is ours too.
    pub beyond_loopback: bool,
    pub host: String,
    pub allow_host: Vec<String>,
    pub allow_origin: Vec<String>,
    token: Option<Token>,
    cookie: String,
}

#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Takes a token: 16 to 256 characters of A-Z, a-z, 0-9 and `-._~`, so that it fits a link, a cookie and a header as it is.
    pub fn new(text: &str) -> Result<Token> {
        let text = text.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if !(16..=256).contains(&text.len()) || !text.chars().all(fits) {
            return Err(Error::usage("the token is not usable")
                .cause("it must have 16 to 256 characters of A-Z, a-z, 0-9 and -._~")
                .hint("make one: openssl rand -hex 16"));
        }
        Ok(Token(text.into()))
    }

    /// 128 random bits.
    pub fn random() -> Result<Token> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::failed("no random numbers").cause(error))?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Host,
    Origin,
    Token,
}

impl Refusal {
    /// The words for the answer's body, with what helps.
    pub fn error(self) -> Error {
        match self {
            Refusal::Host => Error::new(Kind::Permission, "this Host is not ours")
                .hint("open the worker by its IP address, or start it with --allow-host NAME"),
            Refusal::Origin => Error::new(Kind::Permission, "pages of this Origin may not use this worker")
                .hint("start the worker with --allow-origin ORIGIN"),
            Refusal::Token => Error::new(Kind::Permission, "a token is needed")
                .hint("open the whole link that gsk serve printed, or send Authorization: Bearer TOKEN"),
        }
    }
}

impl Gate {
    pub fn new(port: u16, beyond_loopback: bool, token: Option<Token>) -> Gate {
        Gate {
            beyond_loopback,
            host: crate::output::host().to_ascii_lowercase(),
            allow_host: Vec::new(),
            allow_origin: Vec::new(),
            token,
            // Cookies do not tell ports apart: each worker of a host has its own.
            cookie: format!("gsk-{port}"),
        }
    }

    /// Judges a request. The page itself, its check and the probes are open: they tell nothing, and the page must be
    /// there to take the token from the link.
    pub fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if !one(headers, &header::HOST).is_some_and(|host| self.knows(host)) {
            return Err(Refusal::Host);
        }
        let path = uri.path();
        let changes = !method.is_safe() || path == "/ws";
        if changes && !self.same_origin(headers) {
            return Err(Refusal::Origin);
        }
        let open = method.is_safe() && matches!(path, "/" | "/healthz" | "/readyz");
        if open || self.admits(headers) { Ok(()) } else { Err(Refusal::Token) }
    }

    fn knows(&self, host: &str) -> bool {
        let name = host_name(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let local = name == "localhost" || name.ends_with(".localhost");
        let own = self.beyond_loopback && name == self.host;
        local || own || bare.parse::<IpAddr>().is_ok() || self.allow_host.contains(&name)
    }

    /// Programs send no Origin, and no cookie that they did not ask for.
    fn same_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str().map(str::to_ascii_lowercase) else { return false };
        let own = one(headers, &header::HOST).is_some_and(|host| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        });
        own || self.allow_origin.contains(&origin)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let credentials = one(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        if credentials.is_some_and(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && token.is(given)) {
            return true;
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && token.is(value))
    }

    /// The link to open: the token, where there is one, in the fragment, which browsers send nowhere.
    pub fn link(&self, address: SocketAddr) -> String {
        let host = match address.ip() {
            ip if ip.is_unspecified() => self.host.clone(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let fragment = self.token.as_ref().map_or_else(String::new, |token| format!("#token={}", token.reveal()));
        format!("http://{host}:{}/{fragment}", address.port())
    }

    /// The `Set-Cookie` that a person's browser keeps in the token's place, if there is a token.
    pub fn set_cookie(&self) -> Option<String> {
        let token = self.token.as_ref()?.reveal();
        Some(format!("{}={token}; Path=/; HttpOnly; SameSite=Strict", self.cookie))
    }
}

/// A header that must not come twice.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// `Host` without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn gate(token: bool) -> Gate {
        let mut gate = Gate::new(5000, true, token.then(|| Token::new(TOKEN).unwrap()));
        gate.host = "render7".into();
        gate.allow_host = vec!["demo.example.org".into()];
        gate.allow_origin = vec!["https://portal.example.org".into()];
        gate
    }

    fn judge(gate: &Gate, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| _ = map.append(name, value.parse().unwrap()));
        gate.judge(&method, &path.parse().unwrap(), &map)
    }

    #[test]
    fn hosts() {
        for (host, known) in [
            ("localhost:5000", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9", true),
            ("[::1]:5000", true),
            ("[2001:db8::7]", true),
            ("10.1.2.3:5000", true),
            ("render7:5000", true),
            ("demo.example.org", true),
            ("demo.example.org:443", true),
            ("evil.example.com", false),
            ("localhost.evil.example.com", false),
            ("127.0.0.1.evil.example.com:5000", false),
            ("demo.example.org:80:80", false),
            ("", false),
        ] {
            let judged = judge(&gate(false), Method::GET, "/status", &[(header::HOST, host)]);
            assert_eq!(judged, if known { Ok(()) } else { Err(Refusal::Host) }, "{host}");
        }
        assert_eq!(judge(&gate(false), Method::GET, "/", &[]), Err(Refusal::Host));
        let twice = [(header::HOST, "localhost"), (header::HOST, "evil.example.com")];
        assert_eq!(judge(&gate(false), Method::GET, "/", &twice), Err(Refusal::Host));
        let mut local = gate(false);
        local.beyond_loopback = false;
        assert_eq!(judge(&local, Method::GET, "/", &[(header::HOST, "render7")]), Err(Refusal::Host));
    }

    #[test]
    fn origins() {
        for (method, path, origin, judged) in [
            (Method::GET, "/ws", "http://127.0.0.1:5000", Ok(())),
            (Method::GET, "/ws", "https://127.0.0.1:5000", Ok(())),
            (Method::GET, "/ws", "http://127.0.0.1:5001", Err(Refusal::Origin)),
            (Method::GET, "/ws", "http://evil.example.com", Err(Refusal::Origin)),
            (Method::GET, "/ws", "null", Err(Refusal::Origin)),
            (Method::GET, "/ws", "https://portal.example.org", Ok(())),
            (Method::POST, "/auth", "http://evil.example.com", Err(Refusal::Origin)),
            (Method::GET, "/status", "http://evil.example.com", Ok(())),
        ] {
            let headers = [(header::HOST, "127.0.0.1:5000"), (header::ORIGIN, origin)];
            assert_eq!(judge(&gate(false), method, path, &headers), judged, "{path} {origin}");
        }
    }

    #[test]
    fn tokens() {
        let bearer = format!("Bearer {TOKEN}");
        let cookie = format!("a=b; gsk-5000={TOKEN}");
        let other = format!("gsk-5001={TOKEN}");
        for (path, credential, judged) in [
            ("/status", None, Err(Refusal::Token)),
            ("/ws", None, Err(Refusal::Token)),
            ("/", None, Ok(())),
            ("/healthz", None, Ok(())),
            ("/metrics", Some((header::AUTHORIZATION, bearer.as_str())), Ok(())),
            ("/metrics", Some((header::AUTHORIZATION, "Bearer wrong")), Err(Refusal::Token)),
            ("/metrics", Some((header::AUTHORIZATION, TOKEN)), Err(Refusal::Token)),
            ("/ws", Some((header::COOKIE, cookie.as_str())), Ok(())),
            ("/ws", Some((header::COOKIE, other.as_str())), Err(Refusal::Token)),
        ] {
            let mut headers = vec![(header::HOST, "127.0.0.1:5000")];
            headers.extend(credential.clone());
            assert_eq!(judge(&gate(true), Method::GET, path, &headers), judged, "{path} {credential:?}");
        }
        assert_eq!(judge(&gate(true), Method::POST, "/", &[(header::HOST, "localhost")]), Err(Refusal::Token));
    }

    #[test]
    fn tokens_are_strong_and_hidden() {
        let token = Token::random().unwrap();
        assert_eq!(token.reveal().len(), 32);
        assert_ne!(token.reveal(), Token::random().unwrap().reveal());
        assert_eq!(format!("{token:?}"), "Token(hidden)");
        for bad in ["short", "with a space in it", "0123456789abcdef;", &"x".repeat(257)] {
            assert!(Token::new(bad).is_err(), "{bad}");
        }
    }
}
