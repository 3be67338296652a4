//! Takes out of a text what says who and where somebody is: pure, and the same stand-in for the same thing throughout.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4};

use serde_json::Value;

/// What is to be taken out, beside what is known by its form: network addresses, mail addresses, UUIDs, what follows `token=`.
#[derive(Clone, Debug, Default)]
pub struct Private {
    pub secrets: Vec<String>,
    pub homes: Vec<String>,
    pub users: Vec<String>,
    pub hosts: Vec<String>,
}

/// Names that say nothing of anybody.
const COMMON: [&str; 4] = ["root", "nobody", "localhost", "localhost.localdomain"];

#[derive(Debug)]
pub struct Redactor {
    /// To be replaced wherever they stand, the longest first.
    literals: Vec<(String, &'static str)>,
    /// To be replaced as whole words, in lower case, the longest first.
    names: Vec<(String, &'static str)>,
    /// UUIDs and addresses in lower case, and what stands for each.
    known: BTreeMap<String, String>,
}

impl Redactor {
    pub fn new(private: Private) -> Redactor {
        let longest_first = |list: &mut Vec<(String, &'static str)>| {
            list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
            list.dedup();
        };
        let secrets = private.secrets.into_iter().filter(|secret| secret.len() >= 3).map(|secret| (secret, "<secret>"));
        let homes = private.homes.into_iter().map(|home| (home.trim_end_matches('/').to_owned(), "~"));
        let mut literals: Vec<_> = secrets.chain(homes.filter(|(home, _)| home.len() > 1 && home != "/root")).collect();
        longest_first(&mut literals);
        // A host is also known by the first part of its name.
        let short = private.hosts.iter().filter_map(|host| host.split_once('.').map(|(short, _)| short.to_owned()));
        let hosts = private.hosts.iter().cloned().chain(short).map(|host| (host, "<host>"));
        let users = private.users.into_iter().map(|user| (user, "<user>"));
        let mut names: Vec<_> = hosts.chain(users).map(|(name, to)| (name.to_ascii_lowercase(), to)).collect();
        names.retain(|(name, _)| !COMMON.contains(&name.as_str()) && name.bytes().any(|byte| !byte.is_ascii_digit()));
        longest_first(&mut names);
        Redactor { literals, names, known: BTreeMap::new() }
    }

    pub fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.literals {
            text = text.replace(from, to);
        }
        for (name, to) in &self.names {
            text = replace_word(&text, name, to);
        }
        self.words(&text)
    }

    /// Every text in a document; its keys are ours.
    pub fn json(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(all) => all.iter_mut().for_each(|value| self.json(value)),
            Value::Object(map) => map.values_mut().for_each(|value| self.json(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What is known by its form, or by what stands before it.
    fn words(&mut self, text: &str) -> String {
        let part = |c: char| c.is_alphanumeric() || "._-:@%+".contains(c);
        let mut out = String::with_capacity(text.len());
        let (mut rest, mut before) = (text, String::new());
        while let Some(start) = rest.find(part) {
            let between = &rest[..start];
            let end = rest[start..].find(|c| !part(c)).map_or(rest.len(), |length| start + length);
            let word = &rest[start..end];
            out += between;
            let last = before.to_ascii_lowercase();
            let secret = between == "=" && ["token", "password", "secret"].iter().any(|key| last.ends_with(key))
                || between == " " && last == "bearer";
            let home = between == "/" && ["home", "users"].contains(&last.as_str());
            out += &match (secret, home) {
                (true, _) => "<secret>".to_owned(),
                (_, true) => "<user>".to_owned(),
                _ => self.word(word),
            };
            before = word.to_owned();
            rest = &rest[end..];
        }
        out + rest
    }

    fn word(&mut self, whole: &str) -> String {
        // A sentence may end behind it; an address of IPv6 may end so itself.
        for word in [whole, whole.trim_end_matches(['.', ':', '-'])] {
            if let Some(instead) = self.uuid(word).or_else(|| self.address(word)) {
                return instead + &whole[word.len()..];
            }
        }
        whole.to_owned()
    }

    /// `GPU-…`, `MIG-…`, or a UUID alone.
    fn uuid(&mut self, word: &str) -> Option<String> {
        let lower = word.to_ascii_lowercase();
        let of_gpu = lower.starts_with("gpu-") || lower.starts_with("mig-");
        let digits = if of_gpu { lower[4..].trim_start_matches("gpu-") } else { &lower };
        let count = digits.bytes().filter(u8::is_ascii_hexdigit).count();
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let groups = digits.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
        let prefix = lower.len() - digits.len();
        match hex && (groups || of_gpu && count >= 6) {
            true => Some(format!("{}{}", &word[..prefix], self.stand_in("uuid", digits))),
            false => None,
        }
    }

    /// An address of the network or of a person.
    fn address(&mut self, word: &str) -> Option<String> {
        if word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()) {
            return Some("<address>".into());
        }
        if word.split(':').map(str::len).eq([2; 6]) && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        {
            return Some(self.stand_in("mac", &word.to_ascii_lowercase()));
        }
        let (ip, port) = match (word.parse::<SocketAddrV4>(), word.split('%').next()?.parse::<IpAddr>()) {
            (Ok(socket), _) => (IpAddr::V4(*socket.ip()), format!(":{}", socket.port())),
            // Two colons are in many a text.
            (_, Ok(IpAddr::V6(ip))) if ip == Ipv6Addr::UNSPECIFIED => return None,
            (_, Ok(ip)) => (ip, String::new()),
            _ => return None,
        };
        let plain = ip.is_loopback() || ip.is_unspecified();
        (!plain).then(|| self.stand_in("ip", &ip.to_string()) + &port)
    }

    /// The same for the same; for the beginning of something known as well.
    fn stand_in(&mut self, kind: &str, what: &str) -> String {
        if let Some((_, instead)) = self.known.iter().find(|(known, _)| known.starts_with(what)) {
            return instead.clone();
        }
        let number = self.known.values().filter(|name| name.starts_with(kind)).count() + 1;
        self.known.entry(what.to_owned()).or_insert(format!("{kind}{number}")).clone()
    }
}

/// Replaces `name`, which is in lower case, where no letter, digit or `_` is next to it.
fn replace_word(text: &str, name: &str, to: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _) in lower.match_indices(name) {
        let end = at + name.len();
        if at < done || joins(text[..at].chars().next_back()) || joins(text[end..].chars().next()) {
            continue;
        }
        out += &text[done..at];
        out += to;
        done = end;
    }
    out + &text[done..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let list = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        Redactor::new(Private {
            secrets: list(&["hunter22", "hunter22-and-more", ""]),
            homes: list(&["/home/ann/", "/data/people/ann", "/", "/root"]),
            users: list(&["ann", "bob.smith", "root", "1000", ""]),
            hosts: list(&["Box7.example.org", "localhost"]),
        })
    }

    #[test]
    fn who_and_where_is_taken_out() {
        for (from, to) in [
            ("/home/ann/lib:/data/people/ann/x", "~/lib:~/x"),
            ("/home/carol/lib", "/home/<user>/lib"),
            ("/root/x of root", "/root/x of root"),
            ("ann, Ann's banner and joann_ann", "<user>, <user>'s banner and joann_ann"),
            ("by bob.smith.", "by <user>."),
            ("on BOX7 and box7.example.org, not box77", "on <host> and <host>, not box77"),
            ("http://127.0.0.1:5000/#token=abcDEF_1", "http://127.0.0.1:5000/#token=<secret>"),
            ("Authorization: Bearer abc.def-1", "Authorization: Bearer <secret>"),
            ("GSK_TOKEN=anything", "GSK_TOKEN=<secret>"),
            ("is hunter22-and-more, hunter22x", "is <secret>, <secret>x"),
            ("(buildd@lcy02-amd64-9)", "(<address>)"),
            ("http://u:p4ss@10.1.2.3/x", "http://<address>/x"),
            ("0.0.0.0:5000 ::1 [::]:80 a::", "0.0.0.0:5000 ::1 [::]:80 ip1"),
            ("NVML 12.550.54.14, driver 550.54.14", "NVML 12.550.54.14, driver 550.54.14"),
            ("00000000:01:00.0 at 12:30:15", "00000000:01:00.0 at 12:30:15"),
            ("GPU 0 (NVIDIA H200), GPU-0", "GPU 0 (NVIDIA H200), GPU-0"),
        ] {
            assert_eq!(redactor().text(from), to, "{from}");
        }
    }

    #[test]
    fn the_same_has_the_same_stand_in() {
        let mut all = redactor();
        let gpu = "8932f937-d72c-4106-c12f-20bd9faed9f6";
        assert_eq!(all.text(&format!("GPU-{gpu} at 10.0.0.7:5000.")), "GPU-uuid1 at ip1:5000.");
        assert_eq!(all.text("GPU-11111111-d72c-4106-c12f-20bd9faed9f6, fe80::1%eth0"), "GPU-uuid2, ip2");
        assert_eq!(all.text(&format!("MIG-GPU-{gpu}/1/0={}", gpu.to_uppercase())), "MIG-GPU-uuid1/1/0=uuid1");
        assert_eq!(all.text("GPU-8932F937 10.0.0.7 aa:bb:cc:dd:ee:0f"), "GPU-uuid1 ip1 mac1");
        let mut document = serde_json::json!({ "ann": ["ann", 7, null, { "x": "10.0.0.7" }] });
        all.json(&mut document);
        assert_eq!(document, serde_json::json!({ "ann": ["<user>", 7, null, { "x": "ip1" }] }));
    }
}
