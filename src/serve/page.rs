//! The viewer page: one document with everything in it, under a policy that lets nothing else in.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("web/page.html");
const STYLE: &str = include_str!("web/style.css");
const WORKER: &str = include_str!("web/worker.js");
/// The page's own scripts, in order.
const APP: [&str; 3] = [include_str!("web/players.js"), include_str!("web/input.js"), include_str!("web/app.js")];

/// The page of an instance. The nonce, new with each answer, is what lets the page's own scripts and style run.
pub fn page(instance: &str) -> Result<Response, getrandom::Error> {
    let nonce = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' blob:; worker-src blob:; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    );
    let html = PAGE
        .replace("{{title}}", &escape(instance))
        .replace("<!--style-->", &format!("<style nonce=\"{nonce}\">{STYLE}</style>"))
        .replace("<!--worker-->", &format!("<script type=\"text/plain\" id=\"worker\" nonce=\"{nonce}\">{WORKER}</script>"))
        .replace("<!--app-->", &format!("<script nonce=\"{nonce}\">{}</script>", APP.concat()));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &policy),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, html).into_response())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_and_names_are_escaped() {
        let filled = |mark: &str| PAGE.matches(mark).count();
        assert_eq!([filled("<!--style-->"), filled("<!--worker-->"), filled("<!--app-->")], [1, 1, 1]);
        assert_eq!(escape("<b>&\""), "&lt;b&gt;&amp;&quot;");
    }

    #[test]
    fn no_script_ends_its_own_element() {
        for script in APP.iter().chain([&WORKER]) {
            assert!(!script.contains("</script"));
        }
        assert!(!STYLE.contains("</style"));
    }
}
