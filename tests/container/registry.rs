//! Pulling, from a registry that is a thread of the test: the distribution specification's four questions.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::engine::{Place, Wants, free, page};
use crate::schema;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is found under a path: type, digest, bytes.
type Shelf = HashMap<String, (&'static str, String, Vec<u8>)>;

fn digest(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    format!("sha256:{}", &String::from_utf8(output.stdout).unwrap()[..64])
}

/// Serves an image of one layer as `stand/in:1`, and says at which port.
fn serve(place: &Place) -> (u16, String) {
    let at = |name: &str| place.dir.path().join(name);
    let layer = fs::read(at("root.tar")).unwrap();
    let layer_digest = digest(&at("root.tar"));
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["sh", "/stand/nsight.sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    });
    fs::write(at("config"), config.to_string()).unwrap();
    let config = fs::read(at("config")).unwrap();
    let config_digest = digest(&at("config"));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
    });
    fs::write(at("manifest"), manifest.to_string()).unwrap();
    let manifest = fs::read(at("manifest")).unwrap();
    let manifest_digest = digest(&at("manifest"));
    let blob = "application/octet-stream";
    let shelf: Shelf = [
        ("/v2/".into(), ("text/plain", String::new(), Vec::new())),
        ("/v2/stand/in/manifests/1".into(), (MANIFEST, manifest_digest.clone(), manifest.clone())),
        (format!("/v2/stand/in/manifests/{manifest_digest}"), (MANIFEST, manifest_digest.clone(), manifest)),
        (format!("/v2/stand/in/blobs/{config_digest}"), (blob, config_digest, config)),
        (format!("/v2/stand/in/blobs/{layer_digest}"), (blob, layer_digest, layer)),
    ]
    .into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shelf = Arc::new(shelf);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shelf = shelf.clone();
            std::thread::spawn(move || answer(stream, &shelf));
        }
    });
    (port, manifest_digest)
}

fn answer(mut stream: TcpStream, shelf: &Shelf) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let words: Vec<&str> = request.split(' ').collect();
    // One that goes away needs no answer.
    let _ = match shelf.get(words[1]) {
        None => {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
        }
        Some((kind, digest, bytes)) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            let body: &[u8] = if words[0] == "HEAD" { &[] } else { bytes };
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body))
        }
    };
}

#[test]
fn an_image_is_pulled_where_it_is_not_here() {
    let Some(place) = Place::enter("registry::an_image_is_pulled_where_it_is_not_here", Wants::default()) else {
        return;
    };
    let (registry, digest) = serve(&place);
    let (http, turn) = (free(), free());
    let (image, http_word, turn_word) = (format!("127.0.0.1:{registry}/stand/in"), http.to_string(), turn.to_string());
    let start = |tag: &str| {
        let words =
            ["nsight", "start", "--image", &image, "--tag", tag, "--port", &http_word, "--turn-port", &turn_word];
        place.gsk(&[&words[..], &["--username", "", "--json"]].concat())
    };
    start("2").refused(2, &[&format!("the image {image}:2 is not here"), "manifest unknown", "--tag"]);
    let started = start("1");
    assert_eq!(started.code, 0, "{started:?}");
    let line = format!("note: pulling {image}:1\nnote: pulling {image}:1: it is here\n");
    assert!(started.err.contains(&line), "plain lines without a terminal: {}", started.err);
    let document = started.json();
    schema::streams(&document);
    assert_eq!(document["streams"][0]["digest"], digest);
    assert_eq!(page(http, "/", None).0, 200);
    place.gsk(&["nsight", "stop"]);
    place.docker(&["rmi", &format!("{image}:1")]);
}

/// The same bars as for a pull by hand.
#[test]
fn layers_have_bars_on_a_terminal() {
    let Some(place) = Place::enter("registry::layers_have_bars_on_a_terminal", Wants::default()) else { return };
    let (registry, _) = serve(&place);
    let image = format!("127.0.0.1:{registry}/stand/in:1");
    let line = format!(
        "{} nsight start --image {image} --port {} --turn-port {} --username ''",
        crate::engine::GSK,
        free(),
        free()
    );
    let mut script = Command::new("script");
    let plain = place.command(&[]);
    script.args(["-qec", &line, "/dev/null"]).current_dir(place.home());
    script.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    let shown = script.stdin(std::process::Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("█") && shown.contains("MiB") && shown.contains("ready after"), "{shown:?}");
}
