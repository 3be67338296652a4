//! What an engine refuses, as errors that say what to do.

use std::error::Error as _;
use std::io::ErrorKind;

use bollard::errors::Error as Refusal;

use crate::error::{Error, Kind};

/// Why an engine cannot be asked at all.
pub(super) fn unreached(refusal: Refusal) -> Error {
    let io = io_kind(&refusal);
    match (&refusal, io) {
        (_, Some(ErrorKind::PermissionDenied)) => Error::new(Kind::Permission, "the container engine may not be asked")
            .cause("its socket is not open to this user")
            .hint("sudo usermod -aG docker $USER, then log in again (that group is root's equal)\nor once: sudo gsk …"),
        (Refusal::SocketNotFoundError(_), _) | (_, Some(ErrorKind::NotFound)) => {
            Error::missing("there is no container engine").cause("there is no such socket").hint(START)
        }
        (_, Some(ErrorKind::ConnectionRefused)) => {
            Error::missing("there is no container engine").cause("nothing listens there").hint(START)
        }
        _ => Error::new(Kind::Unreachable, "the container engine cannot be asked").cause(chain(&refusal)).hint(START),
    }
}

const START: &str = "sudo systemctl start docker; or install one: sudo apt install docker.io";

/// What an engine that answers refused; `what` failed.
pub(super) fn of(what: impl Into<String>, refusal: Refusal) -> Error {
    let text = words(&refusal);
    let lower = text.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let error = |kind| Error::new(kind, what.into()).cause(&text);
    if has("no space left on device") {
        return error(Kind::Capacity).hint("make room where the engine keeps its data: docker system df; df -h");
    }
    if has("could not select device driver") || has("nvidia-container") || has("unresolvable cdi") {
        return error(Kind::Missing)
            .hint("the engine cannot give a container a GPU: nvidia-smi; sudo nvidia-ctk runtime configure --runtime=docker\nor go without where that is possible: --gpu none");
    }
    if has("port is already allocated") || has("address already in use") {
        return error(Kind::Capacity).hint("choose another port; who holds it: sudo ss -lntup");
    }
    if has("bind source path does not exist") {
        return error(Kind::Usage).hint("make the folder first, or leave the mount out");
    }
    if has("is already in use by container") {
        return error(Kind::Capacity).hint("another gsk starts it just now: look again");
    }
    match (&refusal, io_kind(&refusal)) {
        (Refusal::DockerResponseServerError { status_code: 401 | 403, .. }, _) => error(Kind::Permission),
        (Refusal::RequestTimeoutError, _) | (_, Some(_)) => error(Kind::Unreachable),
        _ => error(Kind::Failed),
    }
}

/// Why an image could not be had.
pub(super) fn pull(image: &str, refusal: Refusal) -> Error {
    let text = words(&refusal);
    let lower = text.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let error = |kind| Error::new(kind, format!("the image {image} is not here and cannot be pulled")).cause(&text);
    let registry = image.split('/').next().filter(|first| first.contains(['.', ':'])).unwrap_or("docker.io");
    if has(&["no space left on device"]) {
        return error(Kind::Capacity).hint("make room where the engine keeps its data: docker system df; df -h");
    }
    if has(&["unauthorized", "authentication required", "denied"]) {
        return error(Kind::Permission).hint(format!("docker login {registry}; docker pull {image}; then again"));
    }
    if has(&["manifest unknown", "not found: manifest", "invalid reference format", "name unknown", "no such image"]) {
        return error(Kind::Usage).hint("another tag: --tag; or another image: --image");
    }
    error(Kind::Unreachable).hint(format!(
        "can the engine reach {registry}? Where there is no way, bring it: docker save {image} | gzip > image.tar.gz, and here: docker load -i image.tar.gz"
    ))
}

/// Whether there is no such thing.
pub(super) fn absent(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::DockerResponseServerError { status_code: 404, .. })
}

/// Whether it is so already: stopped, or being removed.
pub(super) fn done(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::DockerResponseServerError { status_code: 304 | 404 | 409, .. })
}

/// The engine's own words, without what the library puts around them.
fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::DockerResponseServerError { message, .. } => message.trim().into(),
        Refusal::DockerStreamError { error } => error.trim().into(),
        other => chain(other),
    }
}

/// An error and what it comes from.
fn chain(refusal: &Refusal) -> String {
    let mut text = refusal.to_string();
    let mut source = refusal.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        source = error.source();
    }
    text
}

/// The kind of the system's error that it comes from.
fn io_kind(refusal: &Refusal) -> Option<ErrorKind> {
    if let Refusal::IOError { err } = refusal {
        return Some(err.kind());
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(refusal);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_words_become_kinds_with_a_hint() {
        let server =
            |status_code, message: &str| Refusal::DockerResponseServerError { status_code, message: message.into() };
        let cases = [
            (500, "write /x: no space left on device", Kind::Capacity),
            (500, "could not select device driver \"\" with capabilities: [[gpu]]", Kind::Missing),
            (500, "Bind for 127.0.0.1:8080 failed: port is already allocated", Kind::Capacity),
            (400, "invalid mount config for type \"bind\": bind source path does not exist: /x", Kind::Usage),
            (409, "The container name \"/a\" is already in use by container \"b\"", Kind::Capacity),
        ];
        for (status, text, kind) in cases {
            let error = of("it failed", server(status, text));
            assert_eq!((error.kind, error.hint.is_some(), error.cause.as_deref()), (kind, true, Some(text)));
        }
        assert_eq!(of("x", server(500, "odd")).kind, Kind::Failed);

        let cases = [
            ("Get \"https://r/v2/\": dial tcp: lookup r: no such host", Kind::Unreachable, "docker load"),
            ("unauthorized: authentication required", Kind::Permission, "docker login r.io"),
            ("manifest for r.io/a:1 not found: manifest unknown", Kind::Usage, "--tag"),
            ("write /x: no space left on device", Kind::Capacity, "df -h"),
        ];
        for (text, kind, hint) in cases {
            let error = pull("r.io/a:1", server(500, text));
            assert_eq!(error.kind, kind, "{text}");
            assert!(error.hint.unwrap().contains(hint), "{text}");
        }
    }

    #[test]
    fn a_socket_that_is_closed_to_us_is_told_from_one_that_is_not_there() {
        let io = |kind: ErrorKind| unreached(Refusal::IOError { err: kind.into() }).kind;
        assert_eq!(io(ErrorKind::PermissionDenied), Kind::Permission);
        assert_eq!(io(ErrorKind::ConnectionRefused), Kind::Missing);
        assert_eq!(unreached(Refusal::SocketNotFoundError("x".into())).kind, Kind::Missing);
        assert_eq!(io(ErrorKind::TimedOut), Kind::Unreachable);
    }
}
