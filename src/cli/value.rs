//! Values that flags, variables and files share, in the words that people write them in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Target;
use crate::error::{Error, Result};

/// serde by a type's own text, for optional fields.
pub mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}

/// An address and port to listen on, `[ADDR:]PORT`; a port alone means loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Listen> {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let wrong = |hint: &str| Error::usage(format!("'{text}' is not [ADDR:]PORT")).hint(hint);
        if let Ok(port) = text.parse() {
            return Ok(Listen(SocketAddr::new(loopback, port)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Listen(address));
        }
        if text.matches(':').count() > 1 && !text.starts_with('[') {
            return Err(wrong("an IPv6 address stands in brackets, and the port behind them: [::1]:5000"));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Err(wrong(&format!("add the port: {}", SocketAddr::new(address, 5000))));
        }
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some(("localhost", Ok(port))) => Ok(Listen(SocketAddr::new(loopback, port))),
            Some(("" | "*", Ok(port))) => Err(wrong(&format!("every address is 0.0.0.0:{port}"))),
            Some((_, Ok(_))) => Err(wrong("write an IP address, not a name, such as 0.0.0.0:5000")),
            _ => Err(wrong("write a port from 0 to 65535, such as 5000 or 0.0.0.0:5000")),
        }
    }
}

/// Bits per second, 100 k to 200 M; written `4M`, `800k` or `4000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bitrate(pub u32);

impl FromStr for Bitrate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bitrate> {
        let (number, unit) = match text.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1e3),
            None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |number| (number, 1e6)),
        };
        // Rust would read "inf" and "1e6" too; a rate is written in digits.
        let digits = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let rate = number.parse::<f64>().ok().filter(|_| digits).map(|n| (n * unit).round());
        match rate {
            None => {
                Err(Error::usage(format!("'{text}' is not a bit rate"))
                    .hint("write bits per second, such as 4M or 800k"))
            }
            Some(rate) if !(1e5..=2e8).contains(&rate) => Err(Error::usage(format!("{text} is outside 100k to 200M"))),
            Some(rate) => Ok(Bitrate(rate as u32)),
        }
    }
}

/// A span of time, written `30s`, `1.5s`, `250ms` or `2m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Span> {
        let wrong = |cause: String| {
            Error::usage(format!("'{text}' is not a span of time"))
                .cause(cause)
                .hint("write it with its unit: 30s, 1.5s, 250ms")
        };
        // Whole numbers are all that the library reads.
        if let Some(seconds) = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok()) {
            return Duration::try_from_secs_f64(seconds).map(Span).map_err(|error| wrong(error.to_string()));
        }
        humantime::parse_duration(text).map(Span).map_err(|error| wrong(error.to_string()))
    }
}

/// Frames per second, 1 to 240, whole or not.
pub fn fps(text: &str) -> Result<f64> {
    let rate = text.parse::<f64>().map_err(|_| Error::usage(format!("'{text}' is not a number")))?;
    let inside = (1.0..=240.0).contains(&rate);
    if inside { Ok(rate) } else { Err(Error::usage(format!("{text} is outside 1 to 240"))) }
}

/// Seconds between two looks, 0.1 to 3600.
pub fn interval(text: &str) -> Result<f64> {
    let seconds = text.parse::<f64>().map_err(|_| Error::usage(format!("'{text}' is not a number of seconds")))?;
    let inside = (0.1..=3600.0).contains(&seconds);
    if inside { Ok(seconds) } else { Err(Error::usage(format!("{text} is outside 0.1 to 3600"))) }
}

/// The address of a worker; kept as it was written.
pub fn worker(text: &str) -> Result<String> {
    text.parse::<Target>().map(|_| text.into())
}

/// A host name or an IP address, an IPv6 one with brackets or without.
pub fn name_or_address(text: &str) -> Result<String> {
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => host(text),
    }
}

/// A name for an instance: it stands in file names, URLs and metrics as it is.
pub fn instance_id(text: &str) -> Result<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text.into());
    }
    Err(Error::usage(format!("'{text}' is not a name")).hint("use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"))
}

/// A host name as the Host header has it, without a port; in lower case.
pub fn host(text: &str) -> Result<String> {
    let fits =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if text.len() <= 253 && text.split('.').all(fits) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Error::usage(format!("'{text}' is not a host name")).hint("write the name alone, such as gpu1.example.org"))
}

/// An origin as browsers send it; in lower case.
pub fn origin(text: &str) -> Result<String> {
    let lower = text.to_ascii_lowercase();
    let authority = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if authority.is_some_and(|a| (1..=260).contains(&a.len()) && a.chars().all(fits)) {
        return Ok(lower);
    }
    Err(Error::usage(format!("'{text}' is not an origin"))
        .hint("write scheme, host and port only, such as https://example.org"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("5000", Ok("127.0.0.1:5000")),
            ("0", Ok("127.0.0.1:0")),
            ("0.0.0.0:81", Ok("0.0.0.0:81")),
            ("[::1]:5000", Ok("[::1]:5000")),
            ("localhost:7", Ok("127.0.0.1:7")),
            ("::1:5000", Err("in brackets")),
            ("::", Err("in brackets")),
            ("[::1]", Err("add the port: [::1]:5000")),
            ("10.0.0.1", Err("add the port: 10.0.0.1:5000")),
            (":5000", Err("0.0.0.0:5000")),
            ("gpu1:5000", Err("not a name")),
            ("70000", Err("0 to 65535")),
            ("", Err("0 to 65535")),
            ("-1", Err("0 to 65535")),
        ];
        for (text, expected) in cases {
            match (text.parse::<Listen>(), expected) {
                (Ok(listen), Ok(expected)) => assert_eq!(listen.to_string(), expected, "{text}"),
                (Err(error), Err(hint)) => assert!(error.hint.as_deref().unwrap().contains(hint), "{text}: {error:?}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn bit_rates() {
        for (text, rate) in
            [("4M", 4_000_000), ("2.5m", 2_500_000), ("800k", 800_000), ("100000", 100_000), ("200M", 200_000_000)]
        {
            assert_eq!(text.parse::<Bitrate>().unwrap().0, rate, "{text}");
        }
        for text in ["", "M", "99k", "201M", "-4M", "inf", "nan", "4G", "4 M", "1e6"] {
            assert!(text.parse::<Bitrate>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_names_hosts_origins() {
        assert_eq!(fps("29.97").unwrap(), 29.97);
        for text in ["0", "0.5", "241", "nan", "inf", "fast"] {
            assert!(fps(text).is_err(), "{text}");
        }
        assert!(instance_id("omega-0").is_ok());
        for text in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(instance_id(text).is_err(), "{text}");
        }
        assert_eq!(interval("0.5").unwrap(), 0.5);
        for text in ["0", "3601", "nan", "often"] {
            assert!(interval(text).is_err(), "{text}");
        }
        assert_eq!(name_or_address("[::1]").unwrap(), "::1");
        assert_eq!(name_or_address("10.0.0.1").unwrap(), "10.0.0.1");
        assert!(name_or_address("http://gpu1").is_err() && worker("https://gpu1").is_err());
        assert_eq!(host("GPU1.example.org").unwrap(), "gpu1.example.org");
        for text in ["", "a:80", "http://a", "a..b", "a/b", "*"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert_eq!(origin("https://Example.org:8443").unwrap(), "https://example.org:8443");
        for text in ["example.org", "https://", "https://a/b", "https://u@a", "*", "null"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
