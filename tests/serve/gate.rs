//! Who is let in, over real connections.

use std::net::TcpStream;

use crate::gsk::{Gsk, SOON, run};
use crate::http::{get, request};
use crate::viewer::Viewer;

const TOKEN: &str = "a-token-of-this-test-0123456789";
const SMALL: [&str; 2] = ["--size", "320x180"];

fn upgrade(gsk: &Gsk, headers: &[(&'static str, &str)]) -> Result<Viewer, u16> {
    Viewer::over(TcpStream::connect(gsk.addr).unwrap(), "/ws", headers)
}

#[test]
fn other_hosts_and_origins_are_turned_away() {
    let gsk = Gsk::start(&[&SMALL[..], &["--allow-origin", "https://portal.example.org"]].concat());
    let code = |method: &str, path: &str, headers: &[(&str, &str)]| request(gsk.addr, method, path, headers).code;
    for path in ["/", "/status", "/healthz", "/stream.mp4", "/nothing"] {
        let answer = request(gsk.addr, "GET", path, &[("Host", "evil.example.com")]);
        assert_eq!(answer.code, 403, "{path}");
        assert!(answer.text().contains("--allow-host"), "{path}");
    }
    assert_eq!(code("GET", "/status", &[("Host", "localhost:1")]), 200, "tunnels change the port");
    let evil = ("Origin", "http://evil.example.com");
    assert_eq!(code("POST", "/auth", &[evil]), 403);
    assert_eq!(code("POST", "/auth", &[]), 204);
    assert_eq!(upgrade(&gsk, &[evil]).err(), Some(403));
    assert_eq!(upgrade(&gsk, &[("Origin", "null")]).err(), Some(403));
    assert_eq!(upgrade(&gsk, &[("Origin", &format!("http://{}", gsk.addr))]).err(), None);
    assert_eq!(upgrade(&gsk, &[("Origin", "https://portal.example.org")]).err(), None);
    assert_eq!(gsk.status()["frames_ok"], 0, "nobody who was turned away started anything");
}

#[test]
fn with_a_token_nobody_else_is_let_in_and_it_is_shown_nowhere() {
    let words = [&SMALL[..], &["-v", "-v"]].concat();
    let gsk = Gsk::with(&words, |command| _ = command.env("GSK_TOKEN", TOKEN));
    assert_eq!(gsk.link, format!("http://{}/#token={TOKEN}", gsk.addr));
    let with = |path: &str, headers: &[(&str, &str)]| request(gsk.addr, "GET", path, headers).code;
    let bearer = format!("Bearer {TOKEN}");
    for path in ["/status", "/metrics", "/stream.mp4", "/stream.h264", "/stream.mjpg", "/frame.jpg", "/auth"] {
        let answer = get(gsk.addr, path);
        assert_eq!((answer.code, answer.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert_eq!(with(path, &[("Authorization", "Bearer a-token-of-this-test-0123456788")]), 401, "{path}");
    }
    assert_eq!(with(&format!("/status?token={TOKEN}"), &[]), 401, "addresses end up in logs");
    assert_eq!(with("/status", &[("Authorization", &bearer)]), 200);
    assert_eq!((with("/", &[]), with("/healthz", &[])), (200, 200), "the page is there to take the token");
    assert_eq!(upgrade(&gsk, &[]).err(), Some(401));
    assert_eq!(upgrade(&gsk, &[("Authorization", &bearer)]).err(), None);

    // What the page does: it posts the token once, and has a cookie from then on.
    assert_eq!(request(gsk.addr, "POST", "/auth", &[]).code, 401);
    let signed_in = request(gsk.addr, "POST", "/auth", &[("Authorization", &bearer)]);
    assert_eq!(signed_in.code, 204);
    let cookie = signed_in.header("set-cookie").unwrap().to_string();
    let (pair, flags) = cookie.split_once(';').unwrap();
    assert_eq!(pair, format!("gsk-{}={TOKEN}", gsk.addr.port()));
    assert_eq!(flags, " Path=/; HttpOnly; SameSite=Strict");
    assert_eq!((with("/status", &[("Cookie", pair)]), with("/auth", &[("Cookie", pair)])), (200, 204));
    assert_eq!(upgrade(&gsk, &[("Cookie", pair)]).err(), None);
    assert_eq!(upgrade(&gsk, &[("Cookie", pair), ("Origin", "http://evil.example.com")]).err(), Some(403));
    let mut viewer = upgrade(&gsk, &[("Cookie", pair)]).unwrap();
    assert!(viewer.unit().key);

    let status = request(gsk.addr, "GET", "/status", &[("Authorization", &bearer)]).text();
    assert!(!status.contains(TOKEN) && !gsk.err().contains(TOKEN), "{status}\n{}", gsk.err());
    assert!(gsk.err().contains("refused GET /status"), "the log was at its most talkative: {}", gsk.err());
    assert_eq!(gsk.out().matches(TOKEN).count(), 1);
    let (code, out, err) = run(&["serve", "--print-config"], |command| _ = command.env("GSK_TOKEN", TOKEN));
    assert!(code == 0 && out.contains("token") && !(out + &err).contains(TOKEN));
}

#[test]
fn beyond_loopback_a_token_is_made_and_told_once() {
    let gsk = Gsk::start(&[&SMALL[..], &["--listen", "0.0.0.0:0"]].concat());
    let token = gsk.link.split_once("#token=").unwrap().1.to_string();
    assert!(token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit()), "{token}");
    assert_eq!(get(gsk.addr, "/status").code, 401);
    let bearer = format!("Bearer {token}");
    let status = request(gsk.addr, "GET", "/status", &[("Authorization", &bearer)]);
    assert_eq!(status.code, 200);
    let text = status.text() + &gsk.err() + &gsk.out();
    assert_eq!(text.matches(&token).count(), 1, "in the link only");
    let name = gsk::output::host();
    assert_eq!(request(gsk.addr, "GET", "/healthz", &[("Host", &name)]).code, 200, "this machine's own name");
}

#[test]
fn a_token_file_is_read_and_a_weak_token_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let gsk = Gsk::start(&[&SMALL[..], &["--token-file", path]].concat());
    assert!(gsk.link.ends_with(&format!("#token={TOKEN}")));
    assert_eq!(get(gsk.addr, "/status").code, 401);
    drop(gsk);
    std::fs::write(file.path(), "short\n").unwrap();
    let (code, out, err) = run(&["serve", "--listen", "0", "--token-file", path], |_| {});
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("16 to 256 characters") && err.contains("hint: "), "{err}");
}

#[test]
fn where_input_is_for_nobody_viewers_cannot_steer() {
    let keep = "exec 3<&0; cat <&3 > inputs & while :; do head -c 12288 /dev/urandom; sleep 0.05; done";
    for (whose, steers) in [("all", true), ("none", false)] {
        let gsk = Gsk::start(&["--size", "64x64", "--input", whose, "--", "sh", "-c", keep]);
        let mut viewer = Viewer::join(gsk.addr, "/ws");
        assert_eq!(viewer.said("hello")["input"], steers);
        viewer.say(r#"{"type":"input","view":5,"event":"key","key":"a","down":true}"#);
        viewer.say(r#"{"type":"ping","t":1}"#);
        viewer.said("pong");
        let inputs = || std::fs::read_to_string(gsk.dir.path().join("inputs")).unwrap_or_default();
        if steers {
            crate::gsk::until(SOON, "the event", || inputs().contains("\"key\"").then_some(()));
        } else {
            // What was said before the answered ping has been dealt with; the program reads at once.
            viewer.units(std::time::Duration::from_millis(300));
            assert_eq!(inputs(), "");
        }
    }
}
