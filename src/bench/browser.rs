//! A headless Chromium, driven over its DevTools protocol.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::child::Guarded;
use crate::error::{Error, Result};

/// How long it may take to start, and to answer.
const START: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(20);

/// The names that it goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Nothing is fetched that was not asked for, and nothing is shown.
const FLAGS: &str = "--headless --disable-gpu --no-first-run --mute-audio --disable-quic --disable-background-networking \
                     --disable-component-update --disable-sync --remote-debugging-port=0";

/// The program, by the path that was given or the names it goes by.
///
/// # Errors
/// [`Kind::Missing`](crate::error::Kind::Missing) where there is none.
pub fn find(asked: Option<&Path>) -> Result<PathBuf> {
    let runs = |path: &PathBuf| path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if let Some(asked) = asked {
        let path = asked.to_path_buf();
        return Some(path).filter(runs).ok_or_else(|| Error::usage(format!("'{}' is no program", asked.display())));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let all = NAMES.iter().flat_map(|name| std::env::split_paths(&folders).map(move |folder| folder.join(name)));
    all.into_iter().find(runs).ok_or_else(|| {
        Error::missing("there is no Chromium on this host")
            .hint("install it: apt install chromium\nor name it: --browser FILE")
    })
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("gsk-glass-{}-{:08x}", std::process::id(), random()?));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::io("cannot make a folder for the browser", error))?;
        Ok(Folder(path))
    }
}

fn random() -> Result<u32> {
    getrandom::u32().map_err(|error| Error::failed("no random numbers").cause(error))
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over lies in the folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running browser, and one page of it. It and what it starts end with this value.
pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    number: u64,
    session: Option<String>,
    // In this order: the folder goes when nothing writes to it any more.
    _guarded: Guarded,
    _profile: Folder,
}

impl Browser {
    pub async fn start(program: &Path) -> Result<Browser> {
        let profile = Folder::new()?;
        let mut argv: Vec<OsString> = vec![program.into()];
        argv.extend(FLAGS.split_ascii_whitespace().map(OsString::from));
        if rustix::process::geteuid().is_root() {
            // It does not start for root otherwise. All that it opens is the worker's own page.
            argv.push("--no-sandbox".into());
        }
        let mut folder = OsString::from("--user-data-dir=");
        folder.push(&profile.0);
        argv.extend([folder, "about:blank".into()]);
        let (guarded, _, stdout, stderr) = Guarded::spawn(&argv)?;
        std::thread::spawn(move || std::io::copy(&mut BufReader::new(stdout), &mut std::io::sink()));
        let (tell, address) = mpsc::channel();
        // It is read to its end, so that the browser never waits for us.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                if let Some(at) = line.find("ws://") {
                    let _ = tell.send(line[at..].trim().to_string());
                }
            }
        });
        let address = tokio::task::spawn_blocking(move || address.recv_timeout(START)).await;
        let failed = |cause: String| Error::failed(format!("{} does not start", program.display())).cause(cause);
        let address =
            address.ok().and_then(std::result::Result::ok).ok_or_else(|| failed("it opens no DevTools".into()))?;
        let request = address.into_client_request().map_err(|error| failed(error.to_string()))?;
        let place = request.uri().authority().map_or_else(String::new, ToString::to_string);
        let opening = async {
            let stream = TcpStream::connect(place).await.map_err(|error| failed(error.to_string()))?;
            let opened = tokio_tungstenite::client_async(request, stream).await;
            opened.map(|(socket, _)| socket).map_err(|error| failed(error.to_string()))
        };
        let socket = timeout(ANSWER, opening).await.map_err(|_| failed("its DevTools do not answer".into()))??;
        Ok(Browser { socket, number: 0, session: None, _guarded: guarded, _profile: profile })
    }

    /// Opens a page in the place of the last one; `script` runs in it before its own.
    pub async fn open(&mut self, url: &str, script: &str) -> Result<()> {
        self.session = None;
        let created = self.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": created["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach).await?;
        self.session = attached["sessionId"].as_str().map(str::to_string);
        self.call("Page.enable", json!({})).await?;
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await?;
        self.call("Page.navigate", json!({ "url": url })).await?;
        Ok(())
    }

    /// Closes the page.
    pub async fn close(&mut self) -> Result<()> {
        self.call("Page.close", json!({})).await?;
        self.session = None;
        Ok(())
    }

    /// What an expression is worth in the page.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked).await?;
        match answer.get("exceptionDetails") {
            Some(details) => {
                Err(Error::failed("the page failed").cause(details["text"].as_str().unwrap_or("no reason")))
            }
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let gone = |why: String| Error::failed(format!("the browser did not answer {method}")).cause(why);
        self.number += 1;
        let number = self.number;
        let mut message = json!({ "id": number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        let talk = async {
            self.socket.send(Message::text(message.to_string())).await.map_err(|error| gone(error.to_string()))?;
            loop {
                let text = match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(gone(error.to_string())),
                    None => return Err(gone("it ended".into())),
                };
                // What is no answer to this call are events, which nobody asked for.
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                if answer["id"] == number {
                    return match answer.get("error") {
                        Some(error) => Err(gone(error["message"].as_str().unwrap_or("it refused").into())),
                        None => Ok(answer["result"].clone()),
                    };
                }
            }
        };
        timeout(ANSWER, talk).await.map_err(|_| gone(format!("within {} s", ANSWER.as_secs())))?
    }
}
